//! RTMP: a server that takes one publisher at a time.
//!
//! Decides who may publish, how long a connection may take to say what it wants, and what those are
//! told that are refused. The protocol itself is rtmp-runtime's, without a socket; this file is the
//! only one that names it. It gives FLV, which `banyan-media` reads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtmp_runtime::amf0::{Amf0Value, Command};
use rtmp_runtime::chunk::{ChunkWriter, Message};
use rtmp_runtime::message::msg_type;
use rtmp_runtime::server::{DEFAULT_CHUNK_SIZE, ServerConfig, ServerEvent, ServerSession};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::error::Outcome;
use crate::input::cutter::Format;
use crate::input::live::{READ, accept, listen};
use crate::input::options::Rtmp;
use crate::input::session::{BUSY, Door, Session};
use crate::input::{Item, Reading};

/// Connections at once: one that publishes, and some that are being told why they may not.
const MAX_CONNECTIONS: usize = 16;
/// Time from the connection to the wish to publish. Encoders take a few round trips.
const OPENING: Duration = Duration::from_secs(10);
/// Time an answer of a few bytes may take to be sent, and a refusal to be read.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of messages that are not whole: the longest picture and a frame of sound.
const MAX_IN_PROGRESS: usize = banyan_media::MAX_ACCESS_UNIT + (1 << 20);
/// Bytes a refused encoder may still send before it is cut off.
const MAX_DRAINED: u64 = 1 << 20;

/// Listens for publishers.
pub(super) async fn rtmp(rtmp: &Rtmp, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let listener = listen("rtmp", &rtmp.address).await?;
    let door = Door::open(reading, items);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let options = Arc::new(rtmp.clone());
    tokio::spawn(async move {
        while let Some((stream, name)) = accept(&listener, &door).await {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                door.refuse(name, "too many connections are open");
                continue;
            };
            let connection = Connection::new(stream, name, door.clone(), Arc::clone(&options));
            tokio::spawn(async move {
                connection.run().await;
                drop(place);
            });
        }
    });
    Ok(())
}

struct Connection {
    stream: TcpStream,
    name: String,
    door: Door,
    options: Arc<Rtmp>,
    protocol: ServerSession,
    buffer: BytesMut,
}

/// A refusal: what our user reads, and what the encoder is sent.
struct Refusal {
    reason: String,
    answer: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, name: String, door: Door, options: Arc<Rtmp>) -> Self {
        let config = ServerConfig::default().with_max_in_progress_bytes(MAX_IN_PROGRESS);
        let protocol = ServerSession::new(config);
        Self { stream, name, door, options, protocol, buffer: BytesMut::new() }
    }

    async fn run(mut self) {
        match timeout(OPENING, self.open()).await {
            Err(_) => {
                let seconds = OPENING.as_secs();
                self.door
                    .refuse(&self.name, format_args!("it did not ask to publish in {seconds} s"));
            }
            Ok(Ok(None)) => {}
            Ok(Ok(Some((session, first)))) => self.publish(session, first).await,
            Ok(Err(Refusal { reason, answer })) => {
                self.door.refuse(&self.name, reason);
                // To be closed with bytes unread would take the answer away from the encoder.
                drop(timeout(ANSWER, self.say_goodbye(&answer)).await);
            }
        }
    }

    /// Answers until the encoder may publish: gives the media that came with the wish. `None` if it
    /// has gone without one.
    async fn open(&mut self) -> Result<Option<(Session, Vec<Bytes>)>, Refusal> {
        loop {
            let Ok(events) = self.read().await? else { return Ok(None) };
            let Events { reply, events } = events;
            let mut session = None;
            let mut media = Vec::new();
            for event in events {
                match event {
                    ServerEvent::Connected { app } => self.check_app(&app)?,
                    ServerEvent::Publish { stream_key, stream_id, .. } => {
                        session = Some(self.admit(&stream_key, stream_id).await?);
                    }
                    ServerEvent::Media { flv } => media.push(Bytes::from(flv)),
                    ServerEvent::Eof => return Ok(None),
                    ServerEvent::Unsupported { .. } | _ => {}
                }
            }
            // Only now: an encoder that is refused must not be told before that all is well.
            if self.stream.write_all(&reply).await.is_err() {
                if let Some(session) = session {
                    session.end().await;
                }
                return Ok(None);
            }
            if let Some(session) = session {
                return Ok(Some((session, media)));
            }
        }
    }

    fn check_app(&self, app: &str) -> Result<(), Refusal> {
        if app.trim_end_matches('/') == self.options.app {
            return Ok(());
        }
        // Nothing has been answered yet, so chunks have the length of the beginning.
        let description = "There is no such app here.";
        Err(Refusal {
            reason: format!(
                "its app is \"{}\", and the input's is \"{}\"",
                printable(app),
                self.options.app
            ),
            answer: error("_error", 1.0, 0, "NetConnection.Connect.Rejected", description),
        })
    }

    async fn admit(&self, key: &str, stream_id: u32) -> Result<Session, Refusal> {
        let is_ours = self
            .options
            .key
            .as_ref()
            .is_none_or(|ours| bool::from(ours.bytes().ct_eq(key.as_bytes())));
        let bad_name = "NetStream.Publish.BadName";
        if !is_ours {
            return Err(Refusal {
                reason: "its stream key is not the one that was given here".to_owned(),
                answer: error("onStatus", 0.0, stream_id, bad_name, "The stream key is wrong."),
            });
        }
        self.door.enter(self.name.clone(), Format::Flv).await.ok_or_else(|| Refusal {
            reason: BUSY.to_owned(),
            answer: error("onStatus", 0.0, stream_id, bad_name, "Another encoder is publishing."),
        })
    }

    async fn publish(mut self, mut session: Session, first: Vec<Bytes>) {
        for media in first {
            if session.send(media).await.is_err() {
                return;
            }
        }
        loop {
            let read = tokio::select! {
                read = self.read() => read,
                () = session.cut_off() => return session.end().await,
            };
            let Events { reply, events } = match read {
                Ok(Ok(events)) => events,
                Ok(Err(_)) => return session.end().await,
                Err(Refusal { reason, .. }) => {
                    session.end().await;
                    return self.door.refuse(&self.name, reason);
                }
            };
            let mut is_over = false;
            for event in events {
                if let ServerEvent::Media { flv } = event {
                    if session.send(Bytes::from(flv)).await.is_err() {
                        return;
                    }
                } else {
                    is_over |= event == ServerEvent::Eof;
                }
            }
            if is_over {
                return session.end().await;
            }
            let written = timeout(ANSWER, self.stream.write_all(&reply)).await;
            if !matches!(written, Ok(Ok(()))) {
                return session.end().await;
            }
        }
    }

    /// Reads once; the inner error says that the connection has ended.
    async fn read(&mut self) -> Result<io::Result<Events>, Refusal> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Ok(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Ok(Err(error)),
            Ok(_) => match self.protocol.handle_data(&self.buffer.split()) {
                Ok((reply, events)) => Ok(Ok(Events { reply, events })),
                Err(error) => Err(Refusal {
                    reason: format!("what it sends is no RTMP: {error}"),
                    answer: Vec::new(),
                }),
            },
        }
    }

    async fn say_goodbye(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        self.stream.shutdown().await?;
        let mut rest = (&mut self.stream).take(MAX_DRAINED);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
    }
}

struct Events {
    reply: Vec<u8>,
    events: Vec<ServerEvent>,
}

/// A command that says no.
fn error(name: &str, transaction: f64, stream_id: u32, code: &str, description: &str) -> Vec<u8> {
    let text = |name: &str, value: &str| (name.to_owned(), Amf0Value::String(value.to_owned()));
    let command = Command {
        name: name.to_owned(),
        transaction_id: transaction,
        arguments: vec![
            Amf0Value::Null,
            Amf0Value::Object(vec![
                text("level", "error"),
                text("code", code),
                text("description", description),
            ]),
        ],
    };
    let mut writer = ChunkWriter::new();
    if name == "onStatus" {
        // By now the session has set its own length.
        writer.set_chunk_size(DEFAULT_CHUNK_SIZE);
    }
    let message = command.to_body().map(|payload| Message {
        chunk_stream_id: 3,
        timestamp: 0,
        message_type_id: msg_type::COMMAND_AMF0,
        message_stream_id: stream_id,
        payload,
    });
    message.and_then(|message| writer.write(&message)).unwrap_or_default()
}

/// A stranger's text, short enough and fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_commands_that_other_implementations_read() {
        let mut assembler = rtmp_runtime::chunk::ChunkAssembler::new();
        let bytes = error("_error", 1.0, 0, "NetConnection.Connect.Rejected", "No such app.");
        let messages = assembler.push(&bytes).expect("well formed");
        let command = Command::parse(&messages[0].payload).expect("a command");
        assert_eq!(
            (command.name.as_str(), command.transaction_id.to_bits()),
            ("_error", 1f64.to_bits())
        );
        assert_eq!(command.arguments.len(), 2);
    }

    #[test]
    fn a_strangers_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!(printable(&"x".repeat(1000)).len(), 40);
    }
}
