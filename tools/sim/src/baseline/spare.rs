//! The spare capacity group: where orphans find a parent when their stripe's tree has none.
//!
//! An anycast goes through the group's tree, depth first. A member takes the orphan in for a stripe
//! that it receives itself, if that closes no cycle, while it has room (SOSP'03, 4.4). One anycast
//! asks for all stripes lacked.
//!
//! Where the members that could are all below the orphan, it searches the stripe's tree for a leaf
//! that is not and takes its place; the leaf, who has nobody below, then asks the group.
//! Departure: an orphan without children and without room of its own does not ask for that; it
//! would only pass its want on to the leaf.

use banyan_core::Instant;

use crate::node::Index;

use super::links::Cx;
use super::message::{Group, Message, Search};
use super::paper::{Paper, seek_or_wait, wait};
use super::scribe::Member;
use super::tree::Quest;

impl Paper {
    /// Sends one anycast for all stripes that wait for it. It waits a moment for those whose JOIN
    /// is still unanswered: batches made up to 8 times fewer anycasts (SOSP'03).
    pub(super) fn seek(&mut self, member: &mut Member, cx: &mut Cx<'_>) {
        if self.anycast.is_some() {
            return;
        }
        let stripes = member.stripes_where(|tree| tree.quest == Quest::Seeking);
        if stripes == 0 {
            self.seeking_since = None;
            return;
        }
        let timings = member.plan.config.timings;
        let since = *self.seeking_since.get_or_insert(cx.now);
        let is_open = member.stripes_where(|tree| matches!(tree.quest, Quest::Joining { .. })) != 0;
        if is_open && cx.now.since(since) < timings.batch {
            member.wake_by(since + timings.batch);
            return;
        }
        self.childless = member.stripes_where(|tree| tree.children.is_empty());
        self.seeking_since = None;
        let until = cx.now + timings.anycast;
        self.anycast = Some(until);
        member.wake_by(until);
        self.on_spare(member, cx, Box::new(Search::new(member.me, stripes, self.childless)));
    }

    /// When an anycast is given up or sent.
    pub(crate) fn due(&self, member: &Member) -> Option<Instant> {
        let batch = member.plan.config.timings.batch;
        self.anycast.or_else(|| self.seeking_since.map(|since| since + batch))
    }

    /// Gives up an anycast that nobody answers. The next one is sent at once.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.anycast.is_some_and(|until| until <= now) {
            self.anycast = None;
        }
    }

    /// Handles a step of an anycast: on towards the group, or through it.
    pub(super) fn on_spare(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        mut search: Box<Search>,
    ) {
        let spare = member.spare();
        if !member.tree(spare).is_in() {
            self.pass_on_spare(member, cx, search);
            return;
        }
        let mut children: Vec<Index> = member.children(spare);
        member.dice.shuffle(&mut children);
        if search.enter(member.me, children) && member.tree(spare).is_member {
            take_in(member, cx, &mut search);
            if search.stripes == 0 {
                return;
            }
        }
        self.pass_on_spare(member, cx, search);
    }

    /// Hands an anycast to whoever is next; where there is nobody, tells the orphan.
    pub(super) fn pass_on_spare(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        mut search: Box<Search>,
    ) {
        let spare = member.spare();
        let tree = member.tree(spare);
        // Outside the tree, or in it without a parent for now, the route leads to the group's root.
        let up = if tree.is_root { None } else { tree.parent.or_else(|| member.next_hop(spare)) };
        match search.next(up) {
            Some(next) if next == member.me => self.on_spare(member, cx, search),
            Some(next) => member.send(cx, next, Message::Spare(search)),
            None if search.orphan == member.me => self.on_exhausted(member, cx, search.stripes),
            None => {
                let stripes = search.stripes;
                member.send(cx, search.orphan, Message::Exhausted { stripes });
            }
        }
    }

    /// Handles having been taken in.
    pub(super) fn on_adopt(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        from: Index,
        stripes: Vec<(Group, Vec<Index>)>,
        is_done: bool,
    ) {
        if is_done {
            self.anycast = None;
        }
        for (stripe, path) in stripes {
            let tree = member.tree(stripe);
            let is_lacked = tree.is_needed() && !tree.is_attached();
            // It said to have no children: whoever came since might be above the new parent.
            let is_as_told = tree.children.is_empty() || self.childless >> stripe & 1 == 0;
            let is_loop = tree.has_child(from) || path.contains(&member.me);
            if is_lacked && is_as_told && !is_loop {
                member.attach(cx, stripe, from, path);
            } else {
                member.send(cx, from, Message::Leave { group: stripe });
            }
        }
    }

    /// Handles an anycast's failure. Some of the stripes may have found a parent meanwhile.
    pub(super) fn on_exhausted(&mut self, member: &mut Member, cx: &mut Cx<'_>, stripes: u64) {
        self.anycast = None;
        for stripe in member.stripes().filter(|stripe| stripes >> stripe & 1 == 1) {
            let tree = member.tree(stripe);
            match tree.quest {
                Quest::Seeking if !tree.children.is_empty() || !member.is_full() => {
                    let until = cx.now + member.plan.config.timings.anycast;
                    member.tree_mut(stripe).quest = Quest::Placing { until };
                    member.wake_by(until);
                    let childless = u64::from(member.tree(stripe).children.is_empty()) << stripe;
                    let search = Search::new(member.me, 1 << stripe, childless);
                    match member.next_hop(stripe) {
                        Some(hop) => member.send(cx, hop, Message::Place(Box::new(search))),
                        None => member.become_root(cx, stripe),
                    }
                }
                Quest::Seeking | Quest::Placing { .. } => wait(member, cx, stripe),
                Quest::Idle
                | Quest::Joining { .. }
                | Quest::Subscribing { .. }
                | Quest::Waiting { .. } => {}
            }
        }
    }

    /// Handles a search for a leaf.
    pub(super) fn on_place(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        mut search: Box<Search>,
    ) {
        let (stripe, orphan) = (search.stripe(), search.orphan);
        let tree = member.tree(stripe);
        if tree.is_in() && orphan != member.me {
            let mut children: Vec<Index> = member.children(stripe);
            member.dice.shuffle(&mut children);
            let is_leaf =
                search.enter(member.me, children) && member.tree(stripe).children.is_empty();
            if let Some(parent) = member.tree(stripe).parent
                && is_leaf
                && parent != orphan
                && !is_cyclic(member, stripe, &search)
            {
                member.send(cx, parent, Message::Swap { group: stripe, orphan });
                member.detach(cx, stripe);
                member.set_path(cx, stripe, Vec::new());
                seek_or_wait(member, cx, stripe);
                return;
            }
        }
        self.pass_on_place(member, cx, search);
    }

    /// Hands a search for a leaf on.
    pub(super) fn pass_on_place(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        mut search: Box<Search>,
    ) {
        let stripe = search.stripe();
        let tree = member.tree(stripe);
        let up = if tree.is_root { None } else { tree.parent.or_else(|| member.next_hop(stripe)) };
        match search.next(up) {
            Some(next) if next == member.me => self.on_place(member, cx, search),
            Some(next) if next != search.orphan => member.send(cx, next, Message::Place(search)),
            Some(_) | None => {
                let stripes = search.stripes;
                member.send(cx, search.orphan, Message::Exhausted { stripes });
            }
        }
    }
}

/// Takes an orphan in where there is room. Test 1: this node receives the stripe. Test 2: the
/// orphan is not on its path to the root.
fn take_in(member: &mut Member, cx: &mut Cx<'_>, search: &mut Search) {
    if search.orphan == member.me {
        return;
    }
    let mut taken = Vec::new();
    for stripe in member.stripes().filter(|stripe| search.stripes >> stripe & 1 == 1) {
        if member.is_full() {
            break;
        }
        if member.tree(stripe).is_attached()
            && !member.tree(stripe).has_child(search.orphan)
            && !is_cyclic(member, stripe, search)
        {
            member.adopt(cx, stripe, search.orphan);
            taken.push(stripe);
        }
    }
    if taken.is_empty() {
        return;
    }
    search.stripes &= taken.iter().fold(u64::MAX, |set, stripe| set & !(1 << stripe));
    let is_done = search.stripes == 0;
    let orphan = search.orphan;
    let stripes = taken.into_iter().map(|stripe| (stripe, member.path_to_tell(stripe, orphan)));
    let stripes = stripes.collect();
    member.send(cx, orphan, Message::Adopt { stripes, is_done });
}

/// Whether taking the orphan in could close a cycle. Who has no children has nobody below it.
fn is_cyclic(member: &Member, stripe: Group, search: &Search) -> bool {
    if search.childless >> stripe & 1 == 1 {
        return member.tree(stripe).parent == Some(search.orphan);
    }
    member.may_be_below(stripe, search.orphan)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::Lone;
    use super::*;

    const ORPHAN: Index = 150;

    fn asked(lone: &mut Lone, stripes: u64, childless: u64) -> Search {
        let mut search = Search::new(ORPHAN, stripes, childless);
        lone.with(|member, cx| take_in(member, cx, &mut search));
        search
    }

    #[test]
    fn a_member_takes_in_for_the_stripes_it_receives_while_it_has_room() {
        let mut lone = Lone::new(Config::default(), 2);
        for stripe in [2, 3, 4] {
            lone.with(|member, cx| member.attach(cx, stripe, 9, Vec::new()));
        }
        let search = asked(&mut lone, 0b11110, u64::MAX);
        assert_eq!(search.stripes, 0b10010);
        assert_eq!(lone.said(), [(ORPHAN, "adopt")]);
        assert_eq!(lone.member.check(), Ok(()));
    }

    #[test]
    fn nobody_takes_in_who_is_above() {
        let mut lone = Lone::new(Config::default(), 2);
        lone.with(|member, cx| member.attach(cx, 2, 9, vec![9, ORPHAN]));
        assert_eq!(asked(&mut lone, 0b100, 0).stripes, 0b100);
        // It says that it has no children, so the list is out of date.
        assert_eq!(asked(&mut lone, 0b100, 0b100).stripes, 0);
    }

    #[test]
    fn who_shares_more_with_the_stripe_may_be_above_unseen() {
        let mut lone = Lone::new(Config::default(), 2);
        let stripe = (lone.member.own + 3) % 16;
        let native = lone.sharing(stripe, 1, 0);
        lone.with(|member, cx| member.attach(cx, stripe, 9, Vec::new()));
        assert!(lone.member.may_be_below(stripe, native));
        let foreign = lone.sharing(stripe, 0, 30);
        assert!(!lone.member.may_be_below(stripe, foreign));
    }
}
