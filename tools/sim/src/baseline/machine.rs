//! One node: what happens goes to the part it is for, and what follows from it is told.

use std::sync::Arc;

use banyan_core::Instant;

use crate::node::{Action, Gauges, Happening, Index, Node};

use super::data::Feed;
use super::links::Cx;
use super::message::{Group, Message};
use super::paper::Paper;
use super::scribe::{Member, NEVER};
use super::{Blueprint, Kind, SOURCE, freepastry};

/// A node of a baseline.
#[derive(Clone, Debug)]
pub struct Baseline {
    pub(super) member: Member,
    policy: Policy,
    /// The source only.
    feed: Option<Feed>,
    beat_at: Instant,
    exchange_at: Instant,
    violations: u64,
}

#[derive(Clone, Debug)]
enum Policy {
    Paper(Paper),
    Freepastry,
}

impl Baseline {
    /// A node that is not in the world yet.
    pub(super) fn new(plan: &Arc<Blueprint>, index: Index, wants: u64, capacity: u32) -> Self {
        let config = &plan.config;
        let policy = match config.kind {
            Kind::Paper => Policy::Paper(Paper::default()),
            Kind::Freepastry => Policy::Freepastry,
        };
        Self {
            member: Member::new(plan, index, wants, capacity),
            policy,
            feed: (index == SOURCE).then(|| Feed::new(config.stripes)),
            beat_at: NEVER,
            exchange_at: NEVER,
            violations: 0,
        }
    }

    fn on_start(&mut self, cx: &mut Cx<'_>, contacts: &[Index]) {
        let Self { member, policy, feed, .. } = self;
        for &contact in contacts {
            member.routing.insert(contact);
        }
        cx.actions.push(Action::Wants { stripes: member.wants, roles: member.role() });
        let timings = member.plan.config.timings;
        self.exchange_at = cx.now + member.spread(timings.exchange / 2);
        member.wake_by(self.exchange_at);
        if let Some(feed) = feed {
            feed.locate(member, cx);
            return;
        }
        self.beat_at = cx.now + member.spread(timings.beat / 2);
        member.wake_by(self.beat_at);
        if cx.now > Instant::ZERO + member.plan.config.settled {
            member.announce(cx);
        }
        match policy {
            Policy::Paper(paper) => paper.start(member, cx),
            Policy::Freepastry => freepastry::start(member, cx),
        }
    }

    fn on_received(&mut self, cx: &mut Cx<'_>, from: Index, message: Message) {
        let member = &mut self.member;
        match message {
            Message::Data { stripe, number } => member.on_data(cx, from, stripe, number),
            Message::Inject { stripe, number, hops } => member.on_inject(cx, stripe, number, hops),
            Message::Locate { stripe, hops } => member.on_locate(cx, stripe, hops),
            Message::Root { stripe } => match &mut self.feed {
                Some(feed) => feed.on_root(member, cx, from, stripe),
                None => self.violations += 1,
            },
            Message::Beat { parent, child } => member.on_beat(cx, from, parent, child),
            Message::Leave { group } => self.on_leave(cx, from, group),
            Message::Bye => self.lose(cx, from),
            Message::Exchange { is_request, contacts } => {
                if member.on_exchange(cx, from, is_request, &contacts) {
                    self.yield_roots(cx);
                }
            }
            message @ (Message::Join { .. }
            | Message::Accept { .. }
            | Message::Orphaned { .. }
            | Message::Path { .. }
            | Message::Spare(_)
            | Message::Adopt { .. }
            | Message::Exhausted { .. }
            | Message::Place(_)
            | Message::Swap { .. }
            | Message::Subscribe(_)
            | Message::Refresh { .. }) => match &mut self.policy {
                Policy::Paper(paper) => paper.on_message(member, cx, from, message),
                Policy::Freepastry => freepastry::on_message(member, cx, from, message),
            },
        }
    }

    fn on_leave(&mut self, cx: &mut Cx<'_>, from: Index, group: Group) {
        if from == SOURCE {
            self.member.be_fed(group, false);
        } else if self.member.drop_child(cx, group, from) {
            self.member.prune(cx, group);
        }
    }

    /// Gives up the roots that others have come closer to.
    fn yield_roots(&mut self, cx: &mut Cx<'_>) {
        for group in self.member.usurped() {
            self.member.resign(group);
            match &self.policy {
                Policy::Paper(_) if self.member.tree(group).is_needed() => {
                    self.member.join(cx, group);
                }
                Policy::Paper(_) => {}
                Policy::Freepastry => freepastry::renew(&mut self.member, cx, group),
            }
        }
    }

    /// Does without a peer that is dead or gone.
    fn lose(&mut self, cx: &mut Cx<'_>, peer: Index) {
        let Self { member, policy, feed, .. } = self;
        if member.routing.remove(cx.now, peer) {
            member.mend_neighbourhood(cx);
        }
        if let Some(feed) = feed {
            feed.on_gone(member, cx, peer);
        }
        let orphaned = member.lose(cx, peer);
        match policy {
            Policy::Paper(paper) => paper.on_lost(member, cx, &orphaned),
            Policy::Freepastry => freepastry::on_lost(member, cx, &orphaned),
        }
    }

    /// Takes back what could not be sent.
    fn on_undelivered(&mut self, cx: &mut Cx<'_>, peer: Index, messages: Vec<(Index, Message)>) {
        let member = &mut self.member;
        for (_, message) in messages {
            if let Message::Locate { stripe, hops } = message {
                member.on_locate(cx, stripe, hops);
            } else if let Message::Inject { stripe, number, hops } = message {
                member.on_inject(cx, stripe, number, hops);
            } else {
                match &mut self.policy {
                    Policy::Paper(paper) => paper.on_undelivered(member, cx, peer, message),
                    Policy::Freepastry => freepastry::on_undelivered(member, cx, message),
                }
            }
        }
    }

    fn on_disconnected(&mut self, cx: &mut Cx<'_>, peer: Index) {
        let undelivered = self.member.links.on_gone(peer);
        let config = &self.member.plan.config;
        let is_heard = config.hears_transport || config.kind == Kind::Freepastry;
        if is_heard && self.member.links.is_held(peer) {
            self.lose(cx, peer);
        }
        self.on_undelivered(cx, peer, undelivered);
    }

    fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        let Self { member, policy, feed, .. } = self;
        member.wake = NEVER;
        let timings = member.plan.config.timings;
        if self.exchange_at <= cx.now {
            self.exchange_at = cx.now + timings.exchange;
            member.exchange(cx);
        }
        if self.beat_at <= cx.now {
            self.beat_at = cx.now + timings.beat;
            match policy {
                Policy::Paper(_) => {
                    member.beat(cx);
                    member.drop_silent_children(cx);
                }
                Policy::Freepastry => freepastry::refresh(member, cx),
            }
        }
        if let Some(feed) = feed {
            feed.locate(member, cx);
        }
        let (silent, next) = member.silent_parents(cx.now);
        for &group in &silent {
            member.leave_parent(cx, group);
        }
        if let Policy::Paper(paper) = policy {
            paper.on_timeout(cx.now);
            paper.on_lost(member, cx, &silent);
        }
        for group in member.groups() {
            if member.tree(group).due().is_some_and(|due| due <= cx.now) {
                match policy {
                    Policy::Paper(paper) => paper.on_due(member, cx, group),
                    Policy::Freepastry => freepastry::on_due(member, cx, group),
                }
            }
        }
        let quests = member.groups().filter_map(|group| member.tree(group).due()).min();
        let policy = match policy {
            Policy::Paper(paper) => paper.due(member),
            Policy::Freepastry => None,
        };
        for due in [Some(self.exchange_at), Some(self.beat_at), next, quests, policy] {
            member.wake_by(due.unwrap_or(NEVER));
        }
    }

    fn on_farewell(&mut self, cx: &mut Cx<'_>) {
        for peer in self.member.links.held() {
            self.member.send(cx, peer, Message::Bye);
        }
    }
}

impl Node for Baseline {
    type Message = Message;

    fn handle(
        &mut self,
        now: Instant,
        happening: Happening<Message>,
        actions: &mut Vec<Action<Message>>,
    ) {
        let mut cx = Cx { now, actions };
        let cx = &mut cx;
        let is_packet =
            matches!(&happening, Happening::Received { message: Message::Data { .. }, .. });
        match happening {
            Happening::Start { contacts } => self.on_start(cx, &contacts),
            Happening::Connected { peer } => self.member.links.on_connected(cx, peer),
            Happening::ConnectFailed { peer } => {
                let undelivered = self.member.links.on_gone(peer);
                self.lose(cx, peer);
                self.on_undelivered(cx, peer, undelivered);
            }
            Happening::Disconnected { peer } => self.on_disconnected(cx, peer),
            Happening::Received { from, message } => self.on_received(cx, from, message),
            Happening::Timeout => self.on_timeout(cx),
            Happening::Publish { number } => {
                if let Some(feed) = &self.feed {
                    feed.publish(&mut self.member, cx, number);
                }
            }
            Happening::Leave => self.on_farewell(cx),
            Happening::RoundTrip { .. } | Happening::SendQueue { .. } => {}
        }
        if let Policy::Paper(paper) = &mut self.policy
            && self.feed.is_none()
            && !is_packet
        {
            paper.settle(&mut self.member, cx);
        }
        self.member.report(cx);
    }

    fn wake_at(&self) -> Option<Instant> {
        (self.member.wake < NEVER).then_some(self.member.wake)
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            contacts: u32::try_from(self.member.routing.contacts().len()).unwrap_or(u32::MAX),
            capacity: self.member.capacity,
            violations: self.violations,
            ..Gauges::default()
        }
    }

    fn check(&self) -> Result<(), String> {
        self.member.check()
    }
}
