//! The command line, as DESIGN.md §8 lays it out: names, units, defaults.
//!
//! Decides what can be asked for. Whether it can be done is found out by the commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use banyan_coding::redundancy::Ratio;
use banyan_net::Multiaddr;
use banyan_wire::{BroadcastUri, Overlay, StripeCount};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::input::Input;

/// Live streaming from a home uplink to any number of viewers, with no server in the middle.
#[derive(Debug, Parser)]
#[command(name = "banyan", version, propagate_version = true)]
pub struct Cli {
    /// Format of the log on stderr; RUST_LOG sets what is logged (default: warn)
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole broadcast on this machine: a source and many viewers over real connections
    Demo(Demo),
    /// Broadcast a live stream or a file; prints the broadcast's URI
    Publish(Publish),
    /// Watch a broadcast
    Watch(Watch),
    /// Help others to find each other, and lend upload to broadcasts
    Relay(Relay),
    /// List the broadcasts in the directory (not in this version)
    List(List),
}

/// What `publish`, `watch` and `relay` share.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Listen here: /ip4/ADDRESS/udp/PORT/quic-v1 or /ip4/ADDRESS/tcp/PORT (repeatable; default:
    /// QUIC and TCP on all interfaces, at ports the system chooses)
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<Multiaddr>,
    /// A peer to start from, ending in /p2p/PEER (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    pub bootstrap: Vec<Multiaddr>,
    /// An address at which others reach this node, such as a forwarded port (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    pub external: Vec<Multiaddr>,
    /// Keep this node's identity in FILE; made if it does not exist (default: a new one each time)
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Write what happens to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Make random choices from this seed (for tests)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// How many viewers
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub viewers: u32,
    /// A .ts or .mp4 file to broadcast instead of the clip that is built in
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Serve one viewer's picture, state and metrics here
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Stop after this long (default: when the clip ends)
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// K, a power of two from 1 to 64
    #[arg(long, default_value = "16", value_parser = stripes)]
    pub stripes: StripeCount,
    /// Make identities and random choices from this seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Options of `publish`.
#[derive(Args, Clone, Debug)]
pub struct Publish {
    /// FILE (.ts, .mp4, .mkv, .webm), - (stdin), or where to listen for an encoder: rtmp://HOST:PORT/APP/KEY,
    /// srt://HOST:PORT?passphrase=…&pbkeylen=…&streamid=…&latency=MILLISECONDS (all optional),
    /// udp://HOST:PORT?localaddr=INTERFACE (a multicast group is joined) or tcp://HOST:PORT
    #[arg(value_parser = input)]
    pub input: Input,
    /// Title of the broadcast
    #[arg(long, default_value = "", value_parser = title)]
    pub title: String,
    /// K, a power of two from 1 to 64 (default: 16; 1 with --overlay peercast)
    #[arg(long, value_parser = stripes)]
    pub stripes: Option<StripeCount>,
    /// Who decides who serves whom: splitstream or peercast
    #[arg(long, default_value = "splitstream", value_parser = overlay)]
    pub overlay: Overlay,
    /// Where a low rendition comes from, which viewers see who get too little for the full one: auto
    /// (ffmpeg makes it), input (any second picture of the input, other programmes included) or off
    /// (default: a second, smaller picture of the programme, if there is one)
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub ladder: Option<LadderArg>,
    /// How layers are made: ladder (sound and the low rendition are protected best), priority (sound
    /// and key pictures are protected better) or single (default: ladder where there is a low
    /// rendition, else priority)
    #[arg(long, value_enum)]
    pub layering: Option<LayeringArg>,
    /// Bytes sent for each byte of programme: auto follows what viewers receive, up to 1.35 (1.55
    /// with a low rendition); a number, such as 1.6, is another bound; fixed asks nobody
    #[arg(long, value_name = "RATIO", default_value = "auto", value_parser = redundancy)]
    pub redundancy: RedundancyArg,
    /// Upload this node may use (default: estimated; starts from a guess of 20Mbit and follows what
    /// the connections achieve)
    #[arg(long, value_name = "RATE", value_parser = bitrate)]
    pub upload: Option<u64>,
    /// Keep the broadcast's key in FILE, so that its URI stays the same; made if it does not exist
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Serve picture, state and metrics here
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Start a file over when it ends
    #[arg(long = "loop")]
    pub repeat: bool,
    /// Stop after this long
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Options shared by all nodes
    #[command(flatten)]
    pub common: Common,
}

/// Where a low rendition comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LadderArg {
    /// It is made of the full one, by ffmpeg.
    Auto,
    /// The input has it.
    Input,
    /// There is none.
    Off,
}

/// How much redundancy a source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedundancyArg {
    /// What the audience needs, within the layering's own budget.
    Auto,
    /// What the audience needs, within this budget.
    Budget(Ratio),
    /// The measured constants, whoever watches.
    Fixed,
}

/// Which layering a source uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayeringArg {
    /// Sound and the low rendition survive more losses than the full one. Without a low rendition:
    /// as priority.
    Ladder,
    /// Sound and key pictures survive more losses than the rest.
    Priority,
    /// Everything in one layer.
    Single,
}

/// Options of `watch`.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// The broadcast: banyan:ID?via=MULTIADDR
    #[arg(value_parser = uri)]
    pub uri: BroadcastUri,
    /// Upload this node may use for other viewers; 0 serves nobody (default: estimated; starts from
    /// a guess of 5Mbit and follows what the connections achieve)
    #[arg(long, value_name = "RATE", value_parser = bitrate)]
    pub upload: Option<u64>,
    /// Record to FILE: MP4 where it ends in .mp4, else an MPEG transport stream; - is stdout
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Serve picture, state and metrics here (default: 127.0.0.1:8080, unless --output is given)
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Stop after this long
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// From a generation's fastest arrival to its playout
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub delay: Duration,
    /// Options shared by all nodes
    #[command(flatten)]
    pub common: Common,
}

/// Options of `relay`.
#[derive(Args, Clone, Debug)]
pub struct Relay {
    /// Upload this node may use, for all broadcasts together (default: estimated; starts from a
    /// guess of 100Mbit and follows what the connections achieve)
    #[arg(long, value_name = "RATE", value_parser = bitrate)]
    pub upload: Option<u64>,
    /// A broadcast to lend upload to (repeatable)
    #[arg(long, value_name = "URI", value_parser = uri)]
    pub join: Vec<BroadcastUri>,
    /// Stop after this long
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Options shared by all nodes
    #[command(flatten)]
    pub common: Common,
}

/// Options of `list`.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// A peer to start from, ending in /p2p/PEER (repeatable)
    #[arg(long, value_name = "MULTIADDR")]
    pub bootstrap: Vec<Multiaddr>,
}

/// Upload as asked for, or a guess to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    /// In bits per second.
    pub(crate) rate: u64,
    pub(crate) is_estimated: bool,
}

impl Upload {
    /// What a broadcaster's uplink is guessed to be: five times a 720p programme with its redundancy.
    const PUBLISH: u64 = 20_000_000;
    /// What a viewer's uplink is guessed to be: a slow home link's.
    const WATCH: u64 = 5_000_000;
    /// What a relay's uplink is guessed to be: a rented machine's.
    const RELAY: u64 = 100_000_000;

    fn or_guess(given: Option<u64>, guess: u64) -> Self {
        Self { rate: given.unwrap_or(guess), is_estimated: given.is_none() }
    }
}

impl Publish {
    pub(crate) fn upload(&self) -> Upload {
        Upload::or_guess(self.upload, Upload::PUBLISH)
    }
}

impl Watch {
    pub(crate) fn upload(&self) -> Upload {
        Upload::or_guess(self.upload, Upload::WATCH)
    }
}

impl Relay {
    pub(crate) fn upload(&self) -> Upload {
        Upload::or_guess(self.upload, Upload::RELAY)
    }
}

fn uri(text: &str) -> Result<BroadcastUri, String> {
    text.parse().map_err(|error: banyan_wire::DecodeError| error.to_string())
}

fn input(text: &str) -> Result<Input, String> {
    text.parse()
}

fn title(text: &str) -> Result<String, String> {
    if text.len() > banyan_wire::MAX_TITLE {
        return Err(format!("a title has at most {} bytes", banyan_wire::MAX_TITLE));
    }
    Ok(text.to_owned())
}

fn stripes(text: &str) -> Result<StripeCount, String> {
    let count = text.parse().ok().and_then(StripeCount::new);
    count.ok_or_else(|| "the number of stripes is a power of two from 1 to 64".to_owned())
}

fn overlay(text: &str) -> Result<Overlay, String> {
    match text {
        "splitstream" => Ok(Overlay::SplitStream),
        "peercast" => Ok(Overlay::PeerCast),
        "zigzag" | "coopnet" | "p2pcast" | "donet" | "coolstreaming" => {
            Err(format!("{text} is not in this version: use splitstream or peercast"))
        }
        _ => Err("an overlay is splitstream or peercast".to_owned()),
    }
}

/// Reads a bit rate: a number with bit, kbit, Mbit or Gbit, or none (bits per second).
fn bitrate(text: &str) -> Result<u64, String> {
    let wrong = || "a rate looks like 800kbit, 5Mbit or 1.5Gbit (per second)".to_owned();
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "bit" => 1.0,
        "k" | "kbit" => 1e3,
        "m" | "mbit" => 1e6,
        "g" | "gbit" => 1e9,
        _ => return Err(wrong()),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if !(0.0..=1e13).contains(&rate) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let rate = rate as u64;
    Ok(rate)
}

/// Reads a budget of redundancy.
fn redundancy(text: &str) -> Result<RedundancyArg, String> {
    let wrong = || {
        "redundancy is auto, fixed, or how many bytes may be sent for each byte of programme: 1 to 4, \
         such as 1.35"
            .to_owned()
    };
    match text {
        "auto" => return Ok(RedundancyArg::Auto),
        "fixed" => return Ok(RedundancyArg::Fixed),
        _ => {}
    }
    let ratio = text.parse::<f64>().map_err(|_| wrong())?;
    if !(1.0..=4.0).contains(&ratio) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let permille = (ratio * 1000.0).round() as u32;
    Ok(RedundancyArg::Budget(Ratio::from_permille(permille)))
}

/// Reads a duration: a number with ms, s, m or h, or none (seconds).
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration looks like 500ms, 60s, 10m or 2h".to_owned();
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if !(0.001..=1e9).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_unit() {
        assert_eq!(bitrate("20Mbit"), Ok(20_000_000));
        assert_eq!(bitrate("1.5Gbit"), Ok(1_500_000_000));
        assert_eq!(bitrate("800 kbit"), Ok(800_000));
        assert_eq!(bitrate("0"), Ok(0));
        for wrong in ["", "fast", "5MB", "-1Mbit", "NaNMbit", "1e99Gbit"] {
            assert!(bitrate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "soon", "0s", "-1s", "1d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redundancy_is_a_word_or_a_ratio() {
        let budget = |permille| Ok(RedundancyArg::Budget(Ratio::from_permille(permille)));
        assert_eq!(redundancy("auto"), Ok(RedundancyArg::Auto));
        assert_eq!(redundancy("fixed"), Ok(RedundancyArg::Fixed));
        assert_eq!(redundancy("1.3"), budget(1300));
        assert_eq!(redundancy("4"), budget(4000));
        for wrong in ["", "much", "0.9", "-1", "4.1", "NaN", "inf", "130%"] {
            assert!(redundancy(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn overlays_of_later_versions_say_so() {
        assert!(overlay("zigzag").expect_err("not yet").contains("not in this version"));
        assert!(overlay("chord").is_err());
    }

    #[test]
    fn an_upload_that_is_not_given_is_estimated_from_the_guess_that_help_states() {
        use clap::CommandFactory as _;
        let upload = |arguments: &[&str]| {
            let parsed =
                Cli::try_parse_from([&["banyan"], arguments].concat()).expect("good usage");
            match parsed.command {
                Command::Publish(options) => options.upload(),
                Command::Watch(options) => options.upload(),
                Command::Relay(options) => options.upload(),
                Command::Demo(_) | Command::List(_) => unreachable!("not asked for"),
            }
        };
        let uri = format!("banyan:{}", "01".repeat(32));
        let commands: [&[&str]; 3] = [&["publish", "-"], &["watch", &uri], &["relay"]];
        for arguments in commands {
            let guess = upload(arguments);
            assert!(guess.is_estimated);
            let mut command = Cli::command();
            let help = command
                .find_subcommand_mut(arguments[0])
                .expect("it was parsed")
                .render_long_help()
                .to_string();
            assert!(help.contains(&format!("guess of {}Mbit", guess.rate / 1_000_000)), "{help}");
            let given = upload(&[arguments, &["--upload", "3Mbit"]].concat());
            assert_eq!(given, Upload { rate: 3_000_000, is_estimated: false });
            let none = upload(&[arguments, &["--upload", "0"]].concat());
            assert_eq!(none, Upload { rate: 0, is_estimated: false });
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
