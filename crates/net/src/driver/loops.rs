//! The loop: what wakes the driver, in which order it is served, and when it sleeps.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use banyan_core::Input;
use futures::Stream as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{identify, ping};
use tokio::time::{Instant, Sleep};

use super::{Command, Driver};
use crate::directory::Directory;
use crate::link::Report;
use crate::swarm::BehaviourEvent;
use crate::{address, identity};

/// Reports handled in a row before the swarm and the application have their turn.
const REPORT_BUDGET: usize = 64;
/// Answers to machines handled in a row; a machine that asks again and again must not stop the
/// rest.
const ANSWER_BUDGET: usize = 64;
/// The sleep of a node that has nothing to do.
const LONG: Duration = Duration::from_secs(3600);

/// Why the driver woke.
enum Wake {
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Report(Report),
    Command(Option<Command>),
    Timer,
    Answers,
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut reports_in_a_row = 0;
        loop {
            let wake = poll_fn(|cx| self.poll_wake(cx, sleep.as_mut(), reports_in_a_row)).await;
            let now = Instant::now();
            reports_in_a_row = match &wake {
                Wake::Report(_) => (reports_in_a_row + 1) % REPORT_BUDGET,
                Wake::Swarm(_) | Wake::Command(_) | Wake::Timer | Wake::Answers => 0,
            };
            match wake {
                Wake::Swarm(event) => self.on_swarm_event(now, *event),
                Wake::Report(report) => self.on_report(now, report),
                Wake::Command(Some(command)) => self.on_command(now, command),
                // Nobody is left to ask for anything.
                Wake::Command(None) => return,
                Wake::Timer | Wake::Answers => {}
            }
            self.settle(now);
            self.host.swarm.link().flush();
            if self.members.is_empty()
                && let Some(reply) = self.shutdown.take()
            {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
                return;
            }
            self.arm(sleep.as_mut());
        }
    }

    /// Chunks first, as long as others have their turn: they are what is in a hurry.
    fn poll_wake(
        &mut self,
        cx: &mut Context<'_>,
        sleep: Pin<&mut Sleep>,
        reports_in_a_row: usize,
    ) -> Poll<Wake> {
        let is_reports_turn = reports_in_a_row + 1 < REPORT_BUDGET;
        if is_reports_turn
            && let Poll::Ready(Some(report)) = Pin::new(&mut self.inbox).poll_next(cx)
        {
            return Poll::Ready(Wake::Report(report));
        }
        if !self.host.answers.is_empty() {
            return Poll::Ready(Wake::Answers);
        }
        if let Poll::Ready(event) = self.host.swarm.poll_event(cx) {
            return Poll::Ready(Wake::Swarm(Box::new(event)));
        }
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        if sleep.poll(cx).is_ready() {
            return Poll::Ready(Wake::Timer);
        }
        if !is_reports_turn
            && let Poll::Ready(Some(report)) = Pin::new(&mut self.inbox).poll_next(cx)
        {
            return Poll::Ready(Wake::Report(report));
        }
        Poll::Pending
    }

    /// Does what has become due and tells machines what they asked for.
    fn settle(&mut self, now: Instant) {
        for _ in 0..ANSWER_BUDGET {
            let Some((tag, input)) = self.host.answers.pop_front() else { break };
            self.tell(now, tag, input);
        }
        let at = self.host.clock.to_core(now);
        for member in self.members.values_mut() {
            if member.due.is_some_and(|due| due <= at) {
                member.peer.handle_timeout(at);
                super::drain(&mut self.host, member, now);
                member.due = member.peer.poll_timeout();
            }
        }
        for (peer, addresses) in self.host.bootstrap.take_due(now) {
            if let Err(error) = self.host.dial(peer, addresses) {
                // Whoever dials it already reports how that ends.
                if !matches!(error, libp2p::swarm::DialError::DialPeerConditionFalse(_)) {
                    self.on_unreachable(now, peer, &error);
                } else if identity::to_libp2p(&peer)
                    .is_some_and(|name| self.host.swarm.is_connected(&name))
                {
                    self.host.bootstrap.on_connected(&peer);
                }
            }
        }
        self.run_errands(now);
        self.finish_leaving(now);
    }

    /// Sets the sleep to what is due first. A deadline that moved back leaves it as it is: waking
    /// once for nothing costs less than moving it with every chunk.
    fn arm(&self, sleep: Pin<&mut Sleep>) {
        let clock = self.host.clock;
        let members = self.members.values();
        let due = members
            .flat_map(|member| {
                [
                    member.due.map(|due| clock.to_tokio(due)),
                    member.errands.due,
                    member.leaving.as_ref().map(|leaving| leaving.until),
                ]
            })
            .flatten()
            .chain(self.host.bootstrap.poll_timeout())
            .min();
        let due = due.unwrap_or_else(|| Instant::now() + LONG);
        if due < sleep.deadline() || sleep.is_elapsed() {
            sleep.reset(due);
        }
    }

    /// Handles what is in the inbox by now.
    pub(super) fn drain_inbox(&mut self, now: Instant) {
        for _ in 0..REPORT_BUDGET * 4 {
            let Ok(report) = self.inbox.try_recv() else { return };
            self.on_report(now, report);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_swarm_event(&mut self, now: Instant, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => {
                let found = self.host.directory.on_event(self.host.swarm.kad(), event);
                for found in found {
                    self.on_found(now, found);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => {
                self.on_identify(now, event);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(now, event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                let Some(peer) = identity::from_libp2p(&peer_id) else { return };
                tracing::debug!(
                    peer = %format_args!("{peer:.8}"),
                    address = %endpoint.get_remote_address(),
                    is_dialer = endpoint.is_dialer(),
                    "connected"
                );
                self.on_connection(peer);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, cause, .. } => {
                let Some(peer) = identity::from_libp2p(&peer_id) else { return };
                tracing::debug!(
                    peer = %format_args!("{peer:.8}"),
                    cause = cause.map(tracing::field::display),
                    left = num_established,
                    "disconnected"
                );
                self.on_connection_closed(now, peer, num_established == 0);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                let Some(peer) = identity::from_libp2p(&peer_id) else { return };
                tracing::debug!(peer = %format_args!("{peer:.8}"), %error, "dial failed");
                if !self.host.swarm.is_connected(&peer_id) {
                    self.host.swarm.kad().remove_peer(&peer_id);
                    self.on_unreachable(now, peer, &error);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listen_address(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_expired_address(&address),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                if let Err(error) = reason {
                    tracing::warn!(%error, "stopped listening");
                }
                for address in addresses {
                    self.on_expired_address(&address);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener"),
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(%error, address = %send_back_addr, "connection refused");
            }
            // Nothing follows from the others.
            _ => {}
        }
    }

    fn on_identify(&mut self, now: Instant, event: identify::Event) {
        if let identify::Event::Received { peer_id, info, .. } = event {
            // Who shares this machine may tell addresses that lead nowhere else.
            let is_local = address::is_loopback(&info.observed_addr);
            let kad = self.host.swarm.kad();
            let had_peers = Directory::has_peers(kad);
            let is_inserted = Directory::on_identified(kad, peer_id, &info, is_local);
            let is_bootstrap = identity::from_libp2p(&peer_id)
                .is_some_and(|peer| self.host.bootstrap.contains(&peer));
            if is_inserted && (!had_peers || is_bootstrap) {
                self.renew_errands(now);
            }
        }
    }

    fn on_ping(&mut self, now: Instant, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                if let Some(peer) = identity::from_libp2p(&event.peer) {
                    self.tell_knowing(now, &peer, || Input::RoundTrip { peer, rtt });
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error @ (ping::Failure::Timeout | ping::Failure::Other { .. })) => {
                tracing::debug!(peer = %event.peer, %error, "closing a dead connection");
                self.host.swarm.active().close_connection(event.connection);
            }
        }
    }
}
