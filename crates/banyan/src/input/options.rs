//! What an input's URL asks for.
//!
//! Decides which parts and options each scheme has, and what is said of wrong ones. Options of
//! senders that mean nothing to a receiver, such as ffmpeg's `pkt_size`, are passed over.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A passphrase or key: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where datagrams are received: `udp://HOST:PORT[?localaddr=ADDRESS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// HOST:PORT; a multicast address is a group to join.
    pub address: String,
    /// Address of the interface on which a group is joined (default: the system's choice).
    pub interface: Option<IpAddr>,
}

/// Where SRT callers are expected: `srt://HOST:PORT[?passphrase=…&pbkeylen=…&streamid=…&latency=…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srt {
    /// HOST:PORT.
    pub address: String,
    /// What callers must encrypt with, 10 to 79 bytes; callers without encryption if there is none.
    pub passphrase: Option<Secret>,
    /// Length of the key that is proposed to callers that have no wish: 16 (default) or 32 bytes.
    pub key_len: u8,
    /// The stream id callers must name; any if there is none.
    pub stream_id: Option<Secret>,
    /// How long a lost datagram is waited for; a caller that asks for longer is given that.
    pub latency: Duration,
}

/// Where RTMP publishers are expected: `rtmp://HOST[:PORT]/APP[/KEY]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtmp {
    /// HOST:PORT.
    pub address: String,
    /// The app publishers must name.
    pub app: String,
    /// The stream key publishers must name; any if there is none.
    pub key: Option<Secret>,
}

/// Default of SRT implementations.
const DEFAULT_LATENCY: Duration = Duration::from_millis(120);
/// Longer than any path needs; and a value in microseconds, as ffmpeg has it, is seldom shorter.
const MAX_LATENCY_MILLIS: u64 = 8000;
/// The port OBS and others take where none is given.
const RTMP_PORT: u16 = 1935;

impl Udp {
    pub(super) fn read(rest: &str) -> Result<Self, String> {
        // VLC and ffmpeg write a receiver's address with an @.
        let rest = rest.strip_prefix('@').unwrap_or(rest);
        let (address, options) = split(rest);
        let address = with_port("udp", address, "udp://127.0.0.1:9000")?;
        let mut interface = None;
        for (name, value) in options {
            if name == "localaddr" {
                let parsed = value.parse().map_err(|_| {
                    format!("localaddr is the IP address of an interface, not {value}")
                })?;
                interface = Some(parsed);
            }
        }
        Ok(Self { address, interface })
    }
}

impl Srt {
    pub(super) fn read(rest: &str) -> Result<Self, String> {
        let (address, options) = split(rest);
        let mut srt = Self {
            address: with_port("srt", address, "srt://0.0.0.0:9000")?,
            passphrase: None,
            key_len: 16,
            stream_id: None,
            latency: DEFAULT_LATENCY,
        };
        for (name, value) in options {
            match name.as_str() {
                "passphrase" if (10..=79).contains(&value.len()) && !value.contains('\0') => {
                    srt.passphrase = Some(Secret(value));
                }
                "passphrase" => return Err("a passphrase of SRT has 10 to 79 bytes".to_owned()),
                "pbkeylen" => {
                    srt.key_len = match value.as_str() {
                        "0" | "16" => 16,
                        "32" => 32,
                        _ => return Err("pbkeylen is 16 or 32 here".to_owned()),
                    }
                }
                "streamid" => srt.stream_id = Some(Secret(value)),
                "latency" => {
                    let millis = value.parse().ok().filter(|millis| *millis <= MAX_LATENCY_MILLIS);
                    srt.latency = Duration::from_millis(millis.ok_or_else(|| {
                        format!("latency is in milliseconds here, at most {MAX_LATENCY_MILLIS}")
                    })?);
                }
                "mode" if value != "listener" => {
                    return Err(format!(
                        "mode={value} is not in this version: banyan listens, and the encoder is \
                         the caller"
                    ));
                }
                _ => {}
            }
        }
        Ok(srt)
    }
}

impl Rtmp {
    pub(super) fn read(rest: &str) -> Result<Self, String> {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        // As encoders split it: what is behind the last slash is the key.
        let (app, key) = match path.rsplit_once('/') {
            Some((app, key)) => (app, Some(Secret(key.to_owned()))),
            None => (path, None),
        };
        if host.is_empty() || app.is_empty() {
            return Err("rtmp:// needs an app, and should have a key: \
                        rtmp://127.0.0.1:1935/live/KEY"
                .to_owned());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let address = if has_port { host.to_owned() } else { format!("{host}:{RTMP_PORT}") };
        let address = with_port("rtmp", &address, "rtmp://127.0.0.1:1935/live/KEY")?;
        Ok(Self { address, app: app.to_owned(), key })
    }
}

/// HOST:PORT, as `tcp://` has it.
pub(super) fn tcp(rest: &str) -> Result<String, String> {
    with_port("tcp", split(rest).0, "tcp://127.0.0.1:9000")
}

/// The address and the options of what follows a scheme.
fn split(rest: &str) -> (&str, Vec<(String, String)>) {
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let address = address.split('/').next().unwrap_or_default();
    let options = form_urlencoded::parse(query.as_bytes());
    (address, options.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

/// Checks that an address has a port. Without a host, all interfaces are meant.
fn with_port(scheme: &str, address: &str, example: &str) -> Result<String, String> {
    match address.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => Ok(match host {
            "" => format!("0.0.0.0:{port}"),
            _ => address.to_owned(),
        }),
        _ => Err(format!("{scheme}:// needs a host and a port: {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srt_takes_the_options_of_other_programs() {
        let found = Srt::read(
            ":9000?mode=listener&passphrase=correct%20horse&pbkeylen=32&streamid=me&latency=200\
             &pkt_size=1316",
        );
        let expected = Srt {
            address: "0.0.0.0:9000".to_owned(),
            passphrase: Some(Secret("correct horse".to_owned())),
            key_len: 32,
            stream_id: Some(Secret("me".to_owned())),
            latency: Duration::from_millis(200),
        };
        assert_eq!(found, Ok(expected));
        for (wrong, expected) in [
            ("host", "srt:// needs a host and a port"),
            ("h:1?passphrase=short", "10 to 79"),
            ("h:1?pbkeylen=24", "16 or 32"),
            ("h:1?latency=120000", "milliseconds"),
            ("h:1?mode=caller", "banyan listens"),
        ] {
            let error = Srt::read(wrong).expect_err(wrong);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rtmp_splits_app_and_key_as_encoders_do() {
        let read = |rest| {
            Rtmp::read(rest).map(|found| (found.address, found.app, found.key.map(|key| key.0)))
        };
        let is = |address: &str, app: &str, key: Option<&str>| {
            Ok((address.to_owned(), app.to_owned(), key.map(str::to_owned)))
        };
        assert_eq!(read("127.0.0.1/live/abc"), is("127.0.0.1:1935", "live", Some("abc")));
        assert_eq!(read(":1936/live/"), is("0.0.0.0:1936", "live", None));
        assert_eq!(read("[::1]/a/b/c"), is("[::1]:1935", "a/b", Some("c")));
        assert!(read("127.0.0.1").is_err() && read("127.0.0.1:x/live").is_err());
    }

    #[test]
    fn udp_takes_a_group_and_an_interface() {
        let found = Udp::read("@239.1.2.3:5000?localaddr=10.0.0.1&pkt_size=1316");
        let interface = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(found, Ok(Udp { address: "239.1.2.3:5000".to_owned(), interface }));
        assert!(Udp::read("9000").is_err() && Udp::read("h:1?localaddr=eth0").is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let found = Srt::read("h:1?passphrase=correct%20horse&streamid=me");
        assert!(!format!("{found:?}").contains("horse"));
        assert!(!format!("{:?}", Rtmp::read("h/live/abc")).contains("abc"));
    }
}
