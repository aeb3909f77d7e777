//! SplitStream as SOSP'03 has it: push-down, orphans, spare capacity.
//!
//! ```text
//!   JOIN ──▶ adopted, always ──▶ too many? ── a victim is turned out ──▶ tries a sibling
//!                                                                  refused: │ one level down
//!                                                               nobody left ▼
//!                                                    anycast to the spare capacity group
//! ```
//!
//! The search itself is in [`super::spare`]. A path to the root is kept as [`Member::may_be_below`]
//! needs it.

use banyan_core::Instant;

use crate::node::Index;

use super::SOURCE;
use super::links::Cx;
use super::message::{Group, Message};
use super::scribe::Member;
use super::tree::Quest;

/// The policy's own state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paper {
    /// Until when an answer to the anycast under way is awaited.
    pub(super) anycast: Option<Instant>,
    /// The stripes that anycast said to have no children in.
    pub(super) childless: u64,
    /// When the first of the stripes that wait for an anycast began to.
    pub(super) seeking_since: Option<Instant>,
}

impl Paper {
    /// Joins all wanted stripes and, as every node with room, the spare capacity group.
    pub(crate) fn start(&mut self, member: &mut Member, cx: &mut Cx<'_>) {
        for stripe in member.stripes() {
            if member.wants >> stripe & 1 == 1 {
                member.tree_mut(stripe).is_member = true;
                member.join(cx, stripe);
            }
        }
    }

    /// Handles a message of the protocol. Others are nobody's here.
    pub(crate) fn on_message(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        from: Index,
        message: Message,
    ) {
        match message {
            Message::Join { group } => on_join(member, cx, from, group),
            Message::Accept { group, path } => on_accept(member, cx, from, group, path),
            Message::Orphaned { group, siblings } => {
                on_orphaned(member, cx, from, group, &siblings);
            }
            Message::Path { group, path } => on_path(member, cx, from, group, path),
            Message::Spare(search) => self.on_spare(member, cx, search),
            Message::Adopt { stripes, is_done } => {
                self.on_adopt(member, cx, from, stripes, is_done);
            }
            Message::Exhausted { stripes } => self.on_exhausted(member, cx, stripes),
            Message::Place(search) => self.on_place(member, cx, search),
            Message::Swap { group, orphan } => on_swap(member, cx, from, group, orphan),
            Message::Leave { .. }
            | Message::Bye
            | Message::Beat { .. }
            | Message::Subscribe(_)
            | Message::Refresh { .. }
            | Message::Locate { .. }
            | Message::Root { .. }
            | Message::Inject { .. }
            | Message::Data { .. }
            | Message::Exchange { .. } => {}
        }
    }

    /// Handles a quest whose time is up.
    pub(crate) fn on_due(&mut self, member: &mut Member, cx: &mut Cx<'_>, group: Group) {
        match member.tree(group).quest {
            Quest::Joining { .. } | Quest::Waiting { .. } => member.join(cx, group),
            Quest::Placing { .. } => wait(member, cx, group),
            Quest::Idle | Quest::Seeking | Quest::Subscribing { .. } => {}
        }
    }

    /// Handles what could not be delivered because `peer` cannot be reached.
    pub(crate) fn on_undelivered(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        peer: Index,
        message: Message,
    ) {
        if let Message::Join { group } = message {
            if member.tree(group).quest.is_asking(peer) {
                member.join(cx, group);
            }
        } else if let Message::Spare(search) = message {
            self.pass_on_spare(member, cx, search);
        } else if let Message::Place(search) = message {
            self.pass_on_place(member, cx, search);
        }
    }

    /// Handles the loss of parents as Scribe does: with another JOIN along the route.
    pub(crate) fn on_lost(&mut self, member: &mut Member, cx: &mut Cx<'_>, orphaned: &[Group]) {
        for &group in orphaned {
            if member.tree(group).is_needed() {
                member.join(cx, group);
            }
        }
    }

    /// Does what follows from this call's changes: enters the spare capacity group or leaves it,
    /// and seeks there for all stripes lacked at once.
    pub(crate) fn settle(&mut self, member: &mut Member, cx: &mut Cx<'_>) {
        let spare = member.spare();
        let has_room = !member.is_full();
        if has_room != member.tree(spare).is_member {
            member.tree_mut(spare).is_member = has_room;
            if !has_room {
                member.prune(cx, spare);
            } else if !member.tree(spare).is_attached() && member.tree(spare).quest == Quest::Idle {
                member.join(cx, spare);
            }
        }
        self.seek(member, cx);
    }
}

/// Handles a JOIN: the child is adopted first, always, and if that is one too many, one is turned
/// out (SOSP'03, 4.3 and figure 5).
fn on_join(member: &mut Member, cx: &mut Cx<'_>, child: Index, group: Group) {
    let spare = member.spare();
    if member.me == SOURCE {
        refuse(member, cx, group, child);
        return;
    }
    if member.next_hop(group).is_none() {
        // Whoever asks the closest node takes it for the root, and is right.
        member.become_root(cx, group);
    } else if is_above(member, group, child) {
        // Departure: the paper does not say what happens to a JOIN that would close a loop. It is
        // sent on along the route, or a root that lost its place could be shut in by its own tree.
        let hop = member.next_hop(group).filter(|&hop| hop != child);
        member.send(cx, child, Message::Orphaned { group, siblings: hop.into_iter().collect() });
        return;
    }
    let has_room = group == spare || !member.is_full() || member.tree(group).has_child(child);
    if !has_room {
        let (stripe, victim) = victim(member, child, group);
        if (stripe, victim) == (group, child) {
            refuse(member, cx, group, child);
            return;
        }
        member.drop_child(cx, stripe, victim);
        refuse(member, cx, stripe, victim);
        member.prune(cx, stripe);
    }
    member.adopt(cx, group, child);
    member.accept(cx, group, child);
    if !member.tree(group).is_attached() && member.tree(group).quest == Quest::Idle {
        member.join(cx, group);
    }
}

/// Whether the node is known to be above: on a list, not only by its prefix. A JOIN comes along a
/// route, where prefixes grow, and would be turned away for nothing.
fn is_above(member: &Member, group: Group, other: Index) -> bool {
    let tree = member.tree(group);
    tree.parent == Some(other) || tree.path.contains(&other)
}

/// Says no, and names the siblings among which the orphan may try.
fn refuse(member: &mut Member, cx: &mut Cx<'_>, group: Group, child: Index) {
    let siblings = member.native_children(group, child);
    member.send(cx, child, Message::Orphaned { group, siblings });
}

/// Whom a full node turns out for a newcomer, perhaps the newcomer.
///
/// First one in a stripe whose key does not begin as the node's does: the newcomer, if it is such a
/// one, or one at random. Else, over all children, one whose key has the shortest prefix in common
/// with its stripe's; again the newcomer if it is among them (SOSP'03, 4.3).
fn victim(member: &mut Member, child: Index, group: Group) -> (Group, Index) {
    let is_own = |stripe: Group| stripe == member.own || member.tree(stripe).is_root;
    if !is_own(group) {
        return (group, child);
    }
    let all = member.stripes().flat_map(|stripe| {
        member.tree(stripe).children.iter().map(move |child| (stripe, child.index))
    });
    let all: Vec<(Group, Index)> = all.collect();
    let foreign: Vec<(Group, Index)> =
        all.iter().copied().filter(|&(stripe, _)| !is_own(stripe)).collect();
    if !foreign.is_empty() {
        return member.dice.pick(&foreign).unwrap_or((group, child));
    }
    let newcomer = (group, child);
    let matched = |&(stripe, index): &(Group, Index)| member.prefix(index, stripe);
    let shortest = all.iter().chain([&newcomer]).map(matched).min().unwrap_or(0);
    if matched(&newcomer) == shortest {
        return newcomer;
    }
    let candidates: Vec<(Group, Index)> =
        all.iter().copied().filter(|edge| matched(edge) == shortest).collect();
    member.dice.pick(&candidates).unwrap_or(newcomer)
}

fn on_accept(member: &mut Member, cx: &mut Cx<'_>, from: Index, group: Group, path: Vec<Index>) {
    let tree = member.tree(group);
    let is_awaited = match tree.quest {
        Quest::Joining { candidate, .. } => candidate == from,
        Quest::Placing { .. } => true,
        Quest::Idle | Quest::Seeking | Quest::Subscribing { .. } | Quest::Waiting { .. } => false,
    };
    if tree.parent == Some(from) {
        on_path(member, cx, from, group, path);
    } else if !is_awaited || tree.is_attached() {
        member.send(cx, from, Message::Leave { group });
    } else if tree.has_child(from) || path.contains(&member.me) {
        member.send(cx, from, Message::Leave { group });
        seek_or_wait(member, cx, group);
    } else {
        member.attach(cx, group, from, path);
    }
}

/// Handles word of the ancestors. Who finds itself among them has closed a loop and opens it again.
fn on_path(member: &mut Member, cx: &mut Cx<'_>, from: Index, group: Group, path: Vec<Index>) {
    if member.tree(group).parent != Some(from) {
        return;
    }
    if path.contains(&member.me) {
        member.leave_parent(cx, group);
        member.set_path(cx, group, Vec::new());
        seek_or_wait(member, cx, group);
    } else {
        member.set_path(cx, group, path);
    }
}

/// Handles having been turned out, or not let in. The orphan tries one of its former siblings that
/// share a prefix with the stripe, then one of that one's children, and so on down; where there is
/// none, the spare capacity group (SOSP'03, 4.3).
fn on_orphaned(
    member: &mut Member,
    cx: &mut Cx<'_>,
    from: Index,
    group: Group,
    siblings: &[Index],
) {
    let tree = member.tree(group);
    if tree.parent == Some(from) {
        member.detach(cx, group);
        member.set_path(cx, group, Vec::new());
    } else if !tree.quest.is_asking(from) {
        return;
    }
    if !member.tree(group).is_needed() {
        member.tree_mut(group).quest = Quest::Idle;
        return;
    }
    let eligible: Vec<Index> = siblings
        .iter()
        .copied()
        .filter(|&sibling| sibling != member.me && !member.tree(group).has_child(sibling))
        .collect();
    match member.dice.pick(&eligible) {
        Some(sibling) => member.ask(cx, group, sibling),
        None => seek_or_wait(member, cx, group),
    }
}

/// Leaves a stripe to the next anycast. The spare capacity group itself can only be tried again.
pub(super) fn seek_or_wait(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    if group == member.spare() {
        wait(member, cx, group);
    } else {
        member.tree_mut(group).quest = Quest::Seeking;
    }
}

/// Tries again later, as the code of 2003 does: after 5 s x (1 + random).
pub(super) fn wait(member: &mut Member, cx: &mut Cx<'_>, group: Group) {
    let pause = member.plan.config.timings.retry;
    let until = cx.now + member.spread(pause);
    member.tree_mut(group).quest = Quest::Waiting { until };
    member.wake_by(until);
}

/// Handles a leaf that gives its place to an orphan.
fn on_swap(member: &mut Member, cx: &mut Cx<'_>, leaf: Index, group: Group, orphan: Index) {
    if is_above(member, group, orphan) || !member.drop_child(cx, group, leaf) {
        return;
    }
    member.adopt(cx, group, orphan);
    member.accept(cx, group, orphan);
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::Lone;
    use super::*;

    /// Children in a stripe that share so many digits with it.
    fn filled(lone: &mut Lone, stripe: Group, digits: &[u32]) -> Vec<Index> {
        let mut children: Vec<Index> = Vec::new();
        for &digits in digits {
            let like =
                children.iter().filter(|&&child| lone.member.prefix(child, stripe) == digits);
            let child = lone.sharing(stripe, digits, like.count());
            lone.with(|member, cx| on_join(member, cx, child, stripe));
            children.push(child);
        }
        lone.said();
        children
    }

    const fn other_than(own: Group) -> Group {
        (own + 3) % 16
    }

    #[test]
    fn a_full_node_keeps_no_newcomer_for_a_foreign_stripe() {
        let mut lone = Lone::new(Config::default(), 2);
        let own = lone.member.own;
        filled(&mut lone, own, &[0, 0]);
        lone.with(|member, cx| on_join(member, cx, 150, other_than(own)));
        assert_eq!(lone.said(), [(150, "orphaned")]);
        assert_eq!(lone.member.children(own).len(), 2);
    }

    #[test]
    fn a_newcomer_for_the_own_stripe_turns_a_foreign_child_out() {
        let mut lone = Lone::new(Config::default(), 2);
        let own = lone.member.own;
        filled(&mut lone, own, &[1]);
        let foreign = filled(&mut lone, other_than(own), &[0])[0];
        let newcomer = lone.sharing(own, 0, 5);
        lone.with(|member, cx| on_join(member, cx, newcomer, own));
        let said = lone.said();
        assert!(said.contains(&(foreign, "orphaned")) && said.contains(&(newcomer, "accept")));
        assert_eq!(lone.member.check(), Ok(()));
    }

    #[test]
    fn among_own_children_the_shortest_prefix_goes() {
        let mut lone = Lone::new(Config::default(), 2);
        let own = lone.member.own;
        let short = filled(&mut lone, own, &[1, 0])[1];
        let longer = lone.sharing(own, 1, 3);
        lone.with(|member, cx| on_join(member, cx, longer, own));
        assert!(lone.said().contains(&(short, "orphaned")));
        let another = lone.sharing(own, 0, 7);
        lone.with(|member, cx| on_join(member, cx, another, own));
        assert_eq!(lone.said(), [(another, "orphaned")]);
    }

    #[test]
    fn an_orphan_tries_a_sibling_first() {
        let mut lone = Lone::new(Config::default(), 2);
        let stripe = other_than(lone.member.own);
        lone.member.tree_mut(stripe).is_member = true;
        lone.with(|member, cx| member.ask(cx, stripe, 9));
        lone.said();
        let sibling = lone.sharing(stripe, 1, 0);
        lone.with(|member, cx| on_orphaned(member, cx, 9, stripe, &[sibling]));
        assert_eq!(lone.said(), [(sibling, "join")]);
        lone.with(|member, cx| on_orphaned(member, cx, sibling, stripe, &[]));
        assert_eq!(lone.member.tree(stripe).quest, Quest::Seeking);
    }

    #[test]
    fn a_late_accept_is_answered_with_leave() {
        let mut lone = Lone::new(Config::default(), 2);
        lone.member.tree_mut(4).is_member = true;
        lone.with(|member, cx| member.ask(cx, 4, 9));
        lone.with(|member, cx| on_accept(member, cx, 9, 4, Vec::new()));
        lone.said();
        lone.with(|member, cx| on_accept(member, cx, 10, 4, Vec::new()));
        assert_eq!(lone.said(), [(10, "leave")]);
        assert_eq!(lone.member.tree(4).parent, Some(9));
    }

    #[test]
    fn who_finds_itself_among_its_ancestors_leaves() {
        let mut lone = Lone::new(Config::default(), 2);
        lone.member.tree_mut(4).is_member = true;
        lone.with(|member, cx| member.attach(cx, 4, 9, Vec::new()));
        lone.with(|member, cx| on_path(member, cx, 9, 4, vec![9, 12, 1]));
        assert_eq!(lone.said(), [(9, "leave")]);
        assert_eq!(lone.member.tree(4).parent, None);
    }
}
