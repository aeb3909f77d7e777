//! One connection's part of the data plane. Runs in the connection's own task.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use banyan_wire::PeerId;
use futures::channel::mpsc;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, FullyNegotiatedInbound,
    FullyNegotiatedOutbound, SubstreamProtocol,
};
use tokio::time::{Instant, Sleep};

use super::protocol::{Accept, Open};
use super::queue::SendQueue;
use super::reader::{Batch, End, Reader};
use super::writer::Writer;
use super::{Counters, Lane, Report};

/// Queued bytes are reported when they cross a multiple of this.
const QUEUE_STEP: usize = 32 * 1024;
/// Most full batches read before other connections have their turn.
const BATCH_BUDGET: usize = 8;
/// An unkept connection counts as idle only after this long without a frame.
const ACTIVE_FOR: Duration = Duration::from_secs(2);
/// How long a connection that is to be closed may take to write what is queued.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// From the last byte written to the close: QUIC forgets what is in flight when it closes. A guess
/// at one round trip of a long path.
const LINGER: Duration = Duration::from_millis(200);

/// Why the connection is to be closed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// It was asked to, and everything that could be written has been.
    Drained,
    /// A substream failed, or was refused: messages are lost.
    Broken,
    /// Frames can no longer be told apart.
    LostSync,
}

/// The handler of one connection.
#[derive(Debug)]
pub(crate) struct Handler {
    peer: PeerId,
    queue: Arc<SendQueue>,
    inbox: mpsc::Sender<Report>,
    counters: Arc<Counters>,
    writers: [Writer; 2],
    readers: [Option<Reader>; 2],
    batch: Batch,
    /// On their way to the inbox; never more than one poll produces.
    reports: VecDeque<Report>,
    /// Queued bytes as last reported.
    reported_bytes: usize,
    active_until: Instant,
    has_queued: bool,
    closing: Option<Closing>,
    close: Option<Close>,
    is_over: bool,
}

#[derive(Debug)]
struct Closing {
    due: Pin<Box<Sleep>>,
    is_lingering: bool,
}

impl Handler {
    pub(crate) fn new(
        peer: PeerId,
        queue: Arc<SendQueue>,
        inbox: mpsc::Sender<Report>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            peer,
            queue,
            inbox,
            counters,
            writers: Lane::BOTH.map(Writer::new),
            readers: [None, None],
            batch: Batch::default(),
            reports: VecDeque::new(),
            reported_bytes: 0,
            active_until: Instant::now() + ACTIVE_FOR,
            has_queued: false,
            closing: None,
            close: None,
            is_over: false,
        }
    }

    /// Writes what it can; returns a lane whose substream is to be opened.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Option<Lane> {
        let before = self.queue.level();
        let mut wanted = None;
        for (writer, lane) in self.writers.iter_mut().zip(Lane::BOTH) {
            let has_waiting = before.has_waiting[lane.index()];
            if wanted.is_none() && writer.wants_substream(has_waiting) {
                wanted = Some(lane);
            }
            if (has_waiting || !writer.is_flushed())
                && let Err(error) = writer.poll(cx, &self.queue, &self.counters)
            {
                tracing::debug!(peer = %format_args!("{:.8}", self.peer), %error, "write failed");
                self.close.get_or_insert(Close::Broken);
            }
        }
        self.report_queue();
        wanted
    }

    fn report_queue(&mut self) {
        let bytes = self.queue.level().bytes;
        let dropped = self.queue.take_dropped();
        self.has_queued = bytes > 0;
        let is_emptied = bytes == 0 && self.reported_bytes > 0;
        if dropped == 0 && !is_emptied && bytes / QUEUE_STEP == self.reported_bytes / QUEUE_STEP {
            return;
        }
        Counters::add(&self.counters.dropped, dropped as usize);
        self.reported_bytes = bytes;
        // While the inbox is full, one report grows instead of many piling up.
        if let Some(Report::Queue { queued_bytes, dropped_messages, .. }) =
            self.reports.iter_mut().find(|report| matches!(report, Report::Queue { .. }))
        {
            *queued_bytes = bytes;
            *dropped_messages = dropped_messages.saturating_add(dropped);
            return;
        }
        self.reports.push_back(Report::Queue {
            peer: self.peer,
            queued_bytes: bytes,
            dropped_messages: dropped,
        });
    }

    /// Reads what is there, as long as the inbox takes it.
    fn poll_read(&mut self, cx: &mut Context<'_>) {
        let mut budget = BATCH_BUDGET;
        loop {
            match self.inbox.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
            if let Some(report) = self.reports.pop_front() {
                if self.inbox.start_send(report).is_err() {
                    return;
                }
                continue;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return;
            }
            budget -= 1;
            for slot in &mut self.readers {
                let Some(reader) = slot else { continue };
                if let Poll::Ready(end) = reader.poll(cx, &mut self.batch, &self.counters) {
                    *slot = None;
                    if end == End::LostSync {
                        self.close.get_or_insert(Close::LostSync);
                    }
                }
            }
            let is_full = self.batch.is_full();
            let (messages, undecodable) = self.batch.take();
            if !messages.is_empty() {
                self.active_until = Instant::now() + ACTIVE_FOR;
                self.reports.push_back(Report::Received { peer: self.peer, messages });
            }
            if let Some(error) = undecodable {
                self.reports.push_back(Report::Undecodable { peer: self.peer, error });
            }
            if !is_full && self.reports.is_empty() {
                return;
            }
        }
    }

    /// Decides when a connection that is to be closed has been waited for long enough.
    fn poll_close_request(&mut self, cx: &mut Context<'_>) {
        let level = self.queue.level();
        if !level.is_closing {
            return;
        }
        let closing = self.closing.get_or_insert_with(|| Closing {
            due: Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)),
            is_lingering: false,
        });
        let is_flushed = level.bytes == 0 && self.writers.iter().all(Writer::is_flushed);
        if is_flushed && !closing.is_lingering {
            if !self.writers.iter().any(Writer::is_open) {
                self.close.get_or_insert(Close::Drained);
                return;
            }
            closing.is_lingering = true;
            closing.due.as_mut().reset(Instant::now() + LINGER);
        }
        if closing.due.as_mut().poll(cx).is_ready() {
            self.close.get_or_insert(Close::Drained);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Close;
    type InboundProtocol = Accept;
    type OutboundProtocol = Open;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        SubstreamProtocol::new(Accept, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.queue.is_kept() || self.has_queued || Instant::now() < self.active_until
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Open, Lane, Close>> {
        self.queue.register(cx.waker());
        if self.is_over {
            return Poll::Pending;
        }
        if let Some(lane) = self.poll_write(cx) {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Open(lane), lane),
            });
        }
        self.poll_read(cx);
        self.poll_close_request(cx);
        // What was received before the end comes first.
        if self.reports.is_empty()
            && let Some(close) = self.close.take()
        {
            self.is_over = true;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(close));
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Accept, Open, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => {
                // One that replaces another has lost what was still in that one; its sender knows.
                self.readers[lane.index()] = Some(Reader::new(lane, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info: lane,
            }) => self.writers[lane.index()].on_substream(protocol),
            ConnectionEvent::DialUpgradeError(error) => {
                tracing::debug!(
                    peer = %format_args!("{:.8}", self.peer),
                    lane = ?error.info,
                    error = ?error.error,
                    "substream refused"
                );
                self.close.get_or_insert(Close::Broken);
            }
            _ => {}
        }
    }
}
