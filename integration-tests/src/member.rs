//! One member of a broadcast, and the task that listens to it.
//!
//! Decides what is kept of what a member says: everything it played, every breach it reported.

use anyhow::{Context as _, Result};
use banyan_coding::Layer;
use banyan_core::{Event, Playout, Snapshot, Violation};
use banyan_net::{JoinRequest, Membership, NodeHandle};
use banyan_wire::{GenerationId, PeerId, SignedManifest, StripeId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{LOOK, within};

/// What a member has said so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Generations at their deadline, in order.
    pub played: Vec<Playout>,
    /// Breaches of the protocol by others.
    pub violations: Vec<(PeerId, Violation)>,
    /// Parents it was given, in order.
    pub parents: Vec<(StripeId, PeerId)>,
    /// Whether it has heard of the end, and played up to it.
    pub has_ended: bool,
}

/// A node that takes part in the broadcast.
#[derive(Debug)]
pub struct Member {
    /// Its node.
    pub node: NodeHandle,
    /// Its name.
    pub peer: PeerId,
    log: watch::Receiver<Log>,
    asks: mpsc::UnboundedSender<Ask>,
}

#[derive(Debug)]
enum Ask {
    Snapshot(oneshot::Sender<Snapshot>),
    Publish { layers: Vec<Layer>, is_random_access: bool, reply: oneshot::Sender<GenerationId> },
    Manifest(Box<SignedManifest>),
}

impl Member {
    /// Joins a broadcast.
    ///
    /// # Errors
    /// Where the node does not join.
    pub async fn start(node: NodeHandle, request: JoinRequest) -> Result<Self> {
        let membership = node.join(request).await?;
        Ok(Self::new(node, membership))
    }

    /// Looks at its state until that passes `test`.
    ///
    /// # Errors
    /// Where the node has stopped.
    ///
    /// # Panics
    /// If that does not come about.
    pub async fn until(&self, what: &str, test: impl Fn(&Snapshot) -> bool) -> Result<()> {
        within(what, async {
            let mut look = tokio::time::interval(LOOK);
            while !test(&self.snapshot().await?) {
                look.tick().await;
            }
            Ok(())
        })
        .await
    }

    fn new(node: NodeHandle, membership: Membership) -> Self {
        let (sender, log) = watch::channel(Log::default());
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(listen(membership, sender, asked));
        Self { peer: node.local_peer(), node, log, asks }
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    /// Waits until what it has said passes `test`.
    ///
    /// # Panics
    /// If that does not come about.
    pub async fn said(&self, what: &str, test: impl Fn(&Log) -> bool) {
        let mut log = self.log.clone();
        let result = within(what, log.wait_for(|log| test(log))).await.map(drop);
        assert!(result.is_ok(), "the member stopped before {what}");
    }

    /// Its state at this moment.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Snapshot(reply)).context("the member has stopped")?;
        answer.await.context("the member has stopped")
    }

    pub(crate) async fn publish(
        &self,
        layers: Vec<Layer>,
        is_random_access: bool,
    ) -> Result<GenerationId> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Publish { layers, is_random_access, reply }).context("stopped")?;
        answer.await.context("the source refused a generation")
    }

    pub(crate) fn set_manifest(&self, manifest: SignedManifest) -> Result<()> {
        self.asks.send(Ask::Manifest(Box::new(manifest))).context("the member has stopped")
    }
}

async fn listen(
    mut membership: Membership,
    log: watch::Sender<Log>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
) {
    loop {
        tokio::select! {
            event = membership.next_event() => match event {
                Some(Event::Generation(playout)) => log.send_modify(|log| log.played.push(playout)),
                Some(Event::Violation { peer, violation }) => {
                    log.send_modify(|log| log.violations.push((peer, violation)));
                }
                Some(Event::Parent { stripe, parent: Some(parent) }) => {
                    log.send_modify(|log| log.parents.push((stripe, parent)));
                }
                Some(Event::Ended) => log.send_modify(|log| log.has_ended = true),
                Some(_) => {}
                None => return,
            },
            ask = asks.recv() => match ask {
                Some(Ask::Snapshot(reply)) => {
                    let Ok(snapshot) = membership.snapshot().await else { return };
                    // Whoever asked may have stopped waiting.
                    drop(reply.send(snapshot));
                }
                Some(Ask::Publish { layers, is_random_access, reply }) => {
                    let Ok(id) = membership.publish(layers, is_random_access).await else { return };
                    let _ = reply.send(id);
                }
                Some(Ask::Manifest(manifest)) => {
                    if membership.set_manifest(*manifest).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}
