//! Parts of a bench that run in processes of their own, so that one peer's cost can be told from
//! the others'.
//!
//! ```text
//!   bench ── Ask, a line of JSON ──▶ stdin of `banyan-bench role <JSON>`
//!         ◀── Say, a line of JSON ── stdout
//! ```
//!
//! Decides how a bench and its processes talk. What a role does is left to the benches. A role ends
//! when its stdin does, so none outlives its bench.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::meter::{self, Memory};
use crate::report;
use crate::{memory, relay};

/// How long a role may take to get ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// What a process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// A part of the `relay` bench.
    Relay(relay::Role),
    /// A part of the `memory` bench.
    Memory(memory::Role),
}

/// What a bench tells its processes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Start to stream.
    Begin,
    /// Say what was used so far.
    Mark,
    /// Receivers have everything up to this tick; saturated sources wait for it.
    Credit(u64),
}

/// What processes tell their bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    /// In place; others reach it here.
    Ready(Vec<String>),
    /// The answer to [`Ask::Mark`].
    Sample(Sample),
    /// Ticks all receivers have whole.
    Progress(u64),
}

/// Counters of a process since its start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Memory.
    pub(crate) memory: Memory,
    /// Payload bytes handed on to children.
    pub(crate) sent: u64,
    /// Bytes on the streams that carried them, frames and headers included.
    pub(crate) framed: u64,
    /// Payload bytes received.
    pub(crate) received: u64,
    /// Chunks that were not handed on because a queue was full.
    pub(crate) lost: u64,
    /// Children there are.
    pub(crate) children: u64,
    /// Payload bytes held.
    pub(crate) stored: u64,
    /// Connections there are.
    pub(crate) connections: u64,
}

impl Sample {
    /// Processor time and memory of this process; the rest is the role's.
    pub(crate) fn now() -> Result<Self> {
        Ok(Self { cpu: meter::process_cpu(), memory: meter::memory()?, ..Self::default() })
    }
}

/// Runs the role that `text` describes, to the end of stdin.
pub(crate) async fn run(text: &str) -> Result<()> {
    match serde_json::from_str(text).context("reading the role")? {
        Role::Relay(role) => relay::run(role).await,
        Role::Memory(role) => memory::run(role).await,
    }
}

/// Tells the bench something.
pub(crate) fn say(say: &Say) -> Result<()> {
    report::line(&serde_json::to_string(say)?);
    Ok(())
}

/// What the bench asks for, from stdin.
#[derive(Debug)]
pub(crate) struct Asks(Lines<BufReader<Stdin>>);

impl Asks {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    /// The next one; `None` once the bench is gone.
    pub(crate) async fn next(&mut self) -> Result<Option<Ask>> {
        let line = self.0.next_line().await?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }
}

/// A process that plays a role. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a process and waits until it is ready; returns where it is reached.
    pub(crate) async fn start(role: &Role) -> Result<(Self, Vec<String>)> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .arg("role")
            .arg(serde_json::to_string(role)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a role")?;
        let stdin = child.stdin.take().context("a role without stdin")?;
        let stdout = child.stdout.take().context("a role without stdout")?;
        let mut process = Self { child, stdin, stdout: BufReader::new(stdout).lines() };
        let ready = tokio::time::timeout(READY_TIMEOUT, process.hear()).await;
        match ready.with_context(|| format!("not ready in time: {role:?}"))?? {
            Say::Ready(addresses) => Ok((process, addresses)),
            Say::Sample(_) | Say::Progress(_) => bail!("a role that speaks out of turn: {role:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<()> {
        let line = serde_json::to_string(&ask)? + "\n";
        self.stdin.write_all(line.as_bytes()).await.context("a role is gone")?;
        Ok(self.stdin.flush().await?)
    }

    /// What it says next.
    pub(crate) async fn hear(&mut self) -> Result<Say> {
        let line = self.stdout.next_line().await?.context("a role has ended early")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Its counters at this moment.
    pub(crate) async fn mark(&mut self) -> Result<Sample> {
        self.ask(Ask::Mark).await?;
        loop {
            if let Say::Sample(sample) = self.hear().await? {
                return Ok(sample);
            }
        }
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.stdin);
        if tokio::time::timeout(Duration::from_secs(2), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}
