//! SplitStream as FreePastry 2.x runs it, which is not as the paper has it: no spare capacity
//! group.
//!
//! ```text
//!   subscription ──▶ room?  ─ yes ─▶ taken
//!        │             └ no, own stripe or root ─▶ a child with a shorter prefix is dropped for it
//!        ▼ refused
//!   searches the stripe's tree: children that share the digit, a parent that does, the others
//!        ▼ nobody left
//!   a leaf's parent drops that leaf for it; a root drops a child of another stripe
//! ```
//!
//! Whoever was dropped subscribes anew. Each node knows its whole path to the root, tells its
//! children of every change and takes nobody in who is on it. Loops still form while such news
//! travels: the code lives with that, and so does this.
//!
//! Departure: the liveness of nodes is the transport's word, as it is the word of Pastry's own
//! messages there. Departure: a node that is asked as the closest to a key takes the root's place
//! at once if its lease allows, and not at its next maintenance.

use crate::node::Index;

use super::SOURCE;
use super::links::Cx;
use super::message::{Group, Message, Search};
use super::scribe::Member;
use super::tree::Quest;

/// Subscribes to all wanted stripes.
pub(crate) fn start(member: &mut Member, cx: &mut Cx<'_>) {
    for stripe in member.stripes() {
        if member.wants >> stripe & 1 == 1 {
            member.tree_mut(stripe).is_member = true;
            subscribe(member, cx, stripe, 0);
        }
    }
}

/// Handles a message of the protocol. Others are nobody's here.
pub(crate) fn on_message(member: &mut Member, cx: &mut Cx<'_>, from: Index, message: Message) {
    match message {
        Message::Subscribe(search) => on_subscribe(member, cx, search),
        Message::Refresh { group } => on_refresh(member, cx, from, group),
        Message::Accept { group, path } => on_accept(member, cx, from, group, path),
        Message::Path { group, path } => on_path(member, cx, from, group, path),
        Message::Orphaned { group, .. } => {
            if member.tree(group).parent == Some(from) {
                member.detach(cx, group);
                renew(member, cx, group);
            }
        }
        Message::Exhausted { stripes } => {
            for stripe in member.stripes().filter(|stripe| stripes >> stripe & 1 == 1) {
                fail(member, cx, stripe);
            }
        }
        Message::Swap { group, orphan } => on_swap(member, cx, from, group, orphan),
        Message::Join { .. }
        | Message::Leave { .. }
        | Message::Bye
        | Message::Beat { .. }
        | Message::Spare(_)
        | Message::Adopt { .. }
        | Message::Place(_)
        | Message::Locate { .. }
        | Message::Root { .. }
        | Message::Inject { .. }
        | Message::Data { .. }
        | Message::Exchange { .. } => {}
    }
}

/// Handles a quest whose time is up.
pub(crate) fn on_due(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    match member.tree(group).quest {
        Quest::Subscribing { .. } => fail(member, cx, group),
        Quest::Waiting { .. } => subscribe(member, cx, group, MAX_TRIES),
        Quest::Idle | Quest::Joining { .. } | Quest::Seeking | Quest::Placing { .. } => {}
    }
}

/// Handles what could not be delivered.
pub(crate) fn on_undelivered(member: &mut Member, cx: &mut Cx<'_>, message: Message) {
    if let Message::Subscribe(search) = message {
        if search.visited.is_empty() {
            route(member, cx, search);
        } else {
            pass_on(member, cx, search);
        }
    }
}

/// Handles the loss of parents.
pub(crate) fn on_lost(member: &mut Member, cx: &mut Cx<'_>, orphaned: &[Group]) {
    for &group in orphaned {
        renew(member, cx, group);
    }
}

/// Asks all parents to confirm: the upward re-subscription of every 180 s.
pub(crate) fn refresh(member: &mut Member, cx: &mut Cx<'_>) {
    for group in member.stripes() {
        if let Some(parent) = member.tree(group).parent {
            member.send(cx, parent, Message::Refresh { group });
        }
    }
}

/// Sets out anew after a parent is gone, if anybody here needs one.
pub(crate) fn renew(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    member.set_path(cx, group, Vec::new());
    if member.tree(group).is_needed() {
        subscribe(member, cx, group, 0);
    }
}

fn subscribe(member: &mut Member, cx: &mut Cx<'_>, group: Group, tries: u8) {
    let until = cx.now + member.plan.config.timings.subscribe;
    member.tree_mut(group).quest = Quest::Subscribing { until, tries };
    member.wake_by(until);
    if member.next_hop(group).is_some() || member.is_leased(cx, group) {
        route(member, cx, Box::new(Search::new(member.me, 1 << group, 0)));
    } else {
        member.become_root(cx, group);
    }
}

/// After five tries a fixed second, as the code has it.
fn fail(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    let Quest::Subscribing { tries, .. } = member.tree(group).quest else { return };
    if tries < MAX_TRIES {
        subscribe(member, cx, group, tries + 1);
    } else {
        let until = cx.now + member.plan.config.timings.retry;
        member.tree_mut(group).quest = Quest::Waiting { until };
        member.wake_by(until);
    }
}

/// Sends a subscription on towards the root. At a node that follows nobody yet it is lost; the
/// subscriber's time-out repeats it.
fn route(member: &mut Member, cx: &mut Cx<'_>, search: Box<Search>) {
    if let Some(hop) = member.next_hop(search.stripe()) {
        member.send(cx, hop, Message::Subscribe(search));
    }
}

fn on_subscribe(member: &mut Member, cx: &mut Cx<'_>, search: Box<Search>) {
    let (group, newcomer) = (search.stripe(), search.orphan);
    let is_routed = search.visited.is_empty();
    if member.me == SOURCE || newcomer == member.me {
        pass_on(member, cx, search);
        return;
    }
    if is_routed && !member.tree(group).is_root && member.next_hop(group).is_none() {
        if member.is_leased(cx, group) {
            return;
        }
        member.become_root(cx, group);
    } else if !is_routed && !member.tree(group).is_in() {
        pass_on(member, cx, search);
        return;
    }
    let is_loop = member.may_be_below(group, newcomer);
    if member.tree(group).has_child(newcomer) {
        member.accept(cx, group, newcomer);
    } else if is_loop && is_routed && member.next_hop(group).is_some_and(|hop| hop != newcomer) {
        // Departure: not certain that the code does so. Without, a root that lost its place can be
        // shut in by its own tree for good.
        route(member, cx, search);
    } else if is_loop || !make_room(member, cx, group, newcomer) {
        expand(member, cx, search);
    } else {
        take(member, cx, group, newcomer);
    }
}

fn take(member: &mut Member, cx: &mut Cx<'_>, group: Group, newcomer: Index) {
    member.adopt(cx, group, newcomer);
    member.accept(cx, group, newcomer);
    if !member.tree(group).is_attached() && member.tree(group).quest == Quest::Idle {
        subscribe(member, cx, group, 0);
    }
}

/// Drops a child for a newcomer where the policy says so. Returns whether there is room now.
fn make_room(member: &mut Member, cx: &mut Cx<'_>, group: Group, newcomer: Index) -> bool {
    if !member.is_full() {
        return true;
    }
    let own = member.own;
    if group != own && !member.tree(group).is_root {
        return false;
    }
    // Even where the node is the root of another stripe, its own stripe's children are looked at.
    let children: Vec<Index> = member.children(own);
    if children.is_empty() {
        return drop_foreign(member, cx);
    }
    let shared = member.prefix(newcomer, group);
    let shorter: Vec<Index> =
        children.into_iter().filter(|&child| member.prefix(child, own) < shared).collect();
    match member.dice.pick(&shorter) {
        Some(victim) => {
            turn_out(member, cx, own, victim);
            true
        }
        None => false,
    }
}

/// Drops a random child of a random other stripe, rather not of one this node is the root of.
fn drop_foreign(member: &mut Member, cx: &mut Cx<'_>) -> bool {
    let with_children = member
        .stripes()
        .filter(|&stripe| stripe != member.own && !member.tree(stripe).children.is_empty());
    let (rooted, plain): (Vec<Group>, Vec<Group>) =
        with_children.partition(|&stripe| member.tree(stripe).is_root);
    let Some(stripe) = member.dice.pick(&plain).or_else(|| member.dice.pick(&rooted)) else {
        return false;
    };
    let children: Vec<Index> = member.children(stripe);
    if let Some(victim) = member.dice.pick(&children) {
        turn_out(member, cx, stripe, victim);
    }
    true
}

fn turn_out(member: &mut Member, cx: &mut Cx<'_>, group: Group, child: Index) {
    if member.drop_child(cx, group, child) {
        member.send(cx, child, Message::Orphaned { group, siblings: Vec::new() });
        member.prune(cx, group);
    }
}

/// Enters this node's children and parent into the lists, then goes on.
fn expand(member: &mut Member, cx: &mut Cx<'_>, mut search: Box<Search>) {
    let group = search.stripe();
    if !search.visited.contains(&member.me) {
        search.visited.push(member.me);
        let mut children: Vec<Index> = member.children(group);
        member.dice.shuffle(&mut children);
        let (good, bad): (Vec<Index>, Vec<Index>) =
            children.into_iter().partition(|&child| member.prefix(child, group) > 0);
        let parent = member.tree(group).parent;
        let (near, far) = match parent {
            Some(parent) if member.prefix(parent, group) > 0 => (Some(parent), None),
            other => (None, other),
        };
        let Search { orphan, visited, to_visit, .. } = &mut *search;
        let is_new = |node: &Index, to_visit: &[Index]| {
            node != orphan && !visited.contains(node) && !to_visit.contains(node)
        };
        // The next one is the last in the list.
        for node in near.into_iter().chain(good) {
            if is_new(&node, to_visit) {
                to_visit.push(node);
            }
        }
        for node in far.into_iter().chain(bad) {
            if is_new(&node, to_visit) {
                to_visit.insert(0, node);
            }
        }
    }
    pass_on(member, cx, search);
}

/// Hands a subscription to the next in its list, or ends it here.
fn pass_on(member: &mut Member, cx: &mut Cx<'_>, mut search: Box<Search>) {
    let (group, newcomer) = (search.stripe(), search.orphan);
    if let Some(next) = search.to_visit.pop() {
        member.send(cx, next, Message::Subscribe(search));
        return;
    }
    let tree = member.tree(group);
    let (is_leaf, is_root, parent) = (tree.children.is_empty(), tree.is_root, tree.parent);
    let is_blocked = newcomer == member.me || member.may_be_below(group, newcomer);
    match parent {
        Some(parent) if is_leaf && !is_blocked => {
            member.send(cx, parent, Message::Swap { group, orphan: newcomer });
        }
        None if is_root && !is_blocked && drop_foreign(member, cx) => {
            take(member, cx, group, newcomer);
        }
        Some(_) | None => {
            member.send(cx, newcomer, Message::Exhausted { stripes: search.stripes });
        }
    }
}

/// Handles a leaf's word that a newcomer has nowhere to go: it is dropped for it.
fn on_swap(member: &mut Member, cx: &mut Cx<'_>, leaf: Index, group: Group, newcomer: Index) {
    if member.may_be_below(group, newcomer) || !member.tree(group).has_child(leaf) {
        member.send(cx, newcomer, Message::Exhausted { stripes: 1 << group });
    } else {
        member.drop_child(cx, group, leaf);
        member.send(cx, leaf, Message::Orphaned { group, siblings: Vec::new() });
        take(member, cx, group, newcomer);
    }
}

/// Handles a child's wish to be confirmed; a stranger's is a subscription.
fn on_refresh(member: &mut Member, cx: &mut Cx<'_>, from: Index, group: Group) {
    on_subscribe(member, cx, Box::new(Search::new(from, 1 << group, 0)));
}

fn on_accept(member: &mut Member, cx: &mut Cx<'_>, from: Index, group: Group, path: Vec<Index>) {
    let tree = member.tree(group);
    if tree.parent == Some(from) {
        on_path(member, cx, from, group, path);
        return;
    }
    let is_looking = matches!(tree.quest, Quest::Subscribing { .. } | Quest::Waiting { .. });
    if !is_looking || tree.has_child(from) || path.contains(&member.me) {
        member.send(cx, from, Message::Leave { group });
    } else {
        member.attach(cx, group, from, path);
        drop_ancestors(member, cx, group);
    }
}

fn on_path(member: &mut Member, cx: &mut Cx<'_>, from: Index, group: Group, path: Vec<Index>) {
    if member.tree(group).parent != Some(from) {
        return;
    }
    if path.contains(&member.me) {
        member.leave_parent(cx, group);
        renew(member, cx, group);
    } else {
        member.set_path(cx, group, path);
        drop_ancestors(member, cx, group);
    }
}

/// Drops children that are above this node as well.
fn drop_ancestors(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    let tree = member.tree(group);
    let children = tree.children.iter().map(|child| child.index);
    let above: Vec<Index> = children.filter(|child| tree.path.contains(child)).collect();
    for child in above {
        turn_out(member, cx, group, child);
    }
}

/// Tries with the full time-out before the fixed second.
const MAX_TRIES: u8 = 5;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::Lone;
    use super::*;

    fn subscribed(lone: &mut Lone, stripe: Group, newcomer: Index) -> Vec<(Index, &'static str)> {
        let search = Box::new(Search::new(newcomer, 1 << stripe, 0));
        lone.with(|member, cx| on_subscribe(member, cx, search));
        lone.said()
    }

    #[test]
    fn a_full_node_refuses_for_a_foreign_stripe_and_the_search_goes_on() {
        let mut lone = Lone::new(Config::freepastry(), 1);
        let stripe = (lone.member.own + 3) % 16;
        let child = lone.sharing(stripe, 1, 0);
        subscribed(&mut lone, stripe, child);
        let newcomer = lone.sharing(stripe, 0, 2);
        assert_eq!(subscribed(&mut lone, stripe, newcomer), [(child, "subscribe")]);
    }

    #[test]
    fn only_a_strictly_shorter_prefix_is_dropped() {
        let mut lone = Lone::new(Config::freepastry(), 1);
        let own = lone.member.own;
        lone.member.tree_mut(own).is_member = true;
        let child = lone.sharing(own, 0, 0);
        subscribed(&mut lone, own, child);
        let equal = lone.sharing(own, 0, 1);
        assert_eq!(subscribed(&mut lone, own, equal), [(child, "subscribe")]);
        let longer = lone.sharing(own, 1, 0);
        let said = subscribed(&mut lone, own, longer);
        assert_eq!(said, [(child, "orphaned"), (longer, "accept")]);
    }

    #[test]
    fn without_own_children_a_foreign_one_is_dropped() {
        let mut lone = Lone::new(Config::freepastry(), 1);
        let own = lone.member.own;
        let foreign = lone.sharing((own + 3) % 16, 0, 0);
        subscribed(&mut lone, (own + 3) % 16, foreign);
        let newcomer = lone.sharing(own, 0, 4);
        let said = subscribed(&mut lone, own, newcomer);
        assert!(said.contains(&(foreign, "orphaned")) && said.contains(&(newcomer, "accept")));
    }

    #[test]
    fn a_search_that_ends_at_a_leaf_takes_its_place() {
        let mut lone = Lone::new(Config::freepastry(), 0);
        lone.member.tree_mut(2).is_member = true;
        lone.with(|member, cx| member.attach(cx, 2, 9, vec![9]));
        let mut search = Search::new(150, 1 << 2, 0);
        search.visited = vec![9];
        lone.with(|member, cx| on_subscribe(member, cx, Box::new(search)));
        assert_eq!(lone.said(), [(9, "swap")]);
    }
}
