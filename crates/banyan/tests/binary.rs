//! The binary as a user runs it: what it prints, what it writes, how it exits.
//!
//! Clips are real ones and the judge is ffmpeg; where it is not installed, those tests say so and
//! pass. Events of a running `watch` are awaited through a FIFO in place of its events file.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const LOOPBACK: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const CLIP_480P: &str = "bbb_480p24_30s_h264_aac.mp4";
const CLIP_1080P: &str = "bbb_1080p60_2s_h264_aac.mp4";
/// After this long something that was waited for never comes.
const NEVER: Duration = Duration::from_secs(60);

// ---- Bad usage --------------------------------------------------------------------------------

#[test]
fn what_cannot_be_asked_for_is_refused_with_exit_code_2() {
    let cases: [(&[&str], &str); 14] = [
        (&["publish", "rtmps://127.0.0.1/app/key"], "not in this version"),
        (&["publish", "rtmp://127.0.0.1"], "needs an app"),
        (&["publish", "srt://127.0.0.1:9000?passphrase=short"], "10 to 79 bytes"),
        (&["publish", "http://127.0.0.1/a.ts"], "is no input"),
        (&["publish", "-", "--stripes", "12"], "power of two"),
        (&["publish", "-", "--upload", "0"], "--upload"),
        (&["publish", "-", "--overlay", "peercast", "--stripes", "4"], "single tree"),
        (&["watch", "http://example.org"], "banyan:"),
        (&["watch", "banyan:abcd"], "64 hexadecimal"),
        (&["watch", NOBODY_TO_ASK, "--output", "out.ts"], "--bootstrap"),
        (&["list"], "not in this version"),
        (&["publish", "-", "--loop"], "files only"),
        (&["publish", "-", "--ladder", "auto", "--layering", "single"], "leave --layering out"),
        (&["publish", "-", "--ladder", "off", "--layering", "ladder"], "--ladder auto"),
    ];
    for (arguments, expected) in cases {
        let scene = Scene::new();
        let output = scene.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
        assert_eq!(scene.files(), [""; 0], "{arguments:?}");
    }
}

const NOBODY_TO_ASK: &str =
    "banyan:0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn an_upload_of_zero_is_refused_for_publishing_though_the_file_is_good() {
    let scene = Scene::new();
    let output = scene.run(&["publish", &clip(CLIP_480P), "--upload", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert_one_line(&output, "an upload of 0 reaches nobody");
}

// ---- Failures ---------------------------------------------------------------------------------

#[test]
fn files_that_are_no_programme_are_refused_in_one_line() {
    let scene = Scene::new();
    fs::write(scene.path("notes.ts"), "dear diary, this is no transport stream\n".repeat(200))
        .unwrap();
    let mut matroska = vec![0x1a, 0x45, 0xdf, 0xa3, 0x9f, 0x42, 0x86, 0x81, 0x01];
    matroska.resize(4096, 0);
    fs::write(scene.path("film.mkv"), matroska).unwrap();
    fs::write(scene.path("empty.ts"), "").unwrap();
    for (file, expected) in [
        ("notes.ts", "notes.ts"),
        ("film.mkv", "atroska"),
        ("empty.ts", "empty"),
        ("missing.ts", "cannot read missing.ts"),
    ] {
        let output = scene.run(&["publish", file, "--listen", LOOPBACK, "--events", "ev.jsonl"]);
        assert_eq!(output.status.code(), Some(1), "{file}: {}", stderr(&output));
        assert_one_line(&output, expected);
        assert!(output.stdout.is_empty(), "{file}: no URI of what cannot be sent");
    }
}

#[test]
fn a_file_whose_pictures_are_not_carried_is_refused_in_one_line() {
    if !has_ffmpeg() {
        return;
    }
    let scene = Scene::new();
    for film in ["film.ts", "film.mkv"] {
        let codecs = ["-frames:v", "10", "-c:v", "mpeg2video", "-c:a", "mp2"];
        ffmpeg(&[&["-i", &clip(CLIP_1080P)], &codecs[..], &[&scene.text(film)]].concat());
        let output = scene.run(&["publish", film, "--listen", LOOPBACK]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_one_line(&output, "mpeg-2 video");
        assert!(stderr(&output).contains("convert with: ffmpeg"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_publisher_that_is_not_there_is_named_and_no_file_is_left() {
    let scene = Scene::new();
    let port = free_udp_port();
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let via = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}");
    let uri = format!("{NOBODY_TO_ASK}?via={via}");
    let output = scene.run(&["watch", &uri, "--output", "out.ts"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot reach /ip4/127.0.0.1/udp/"), "{}", stderr(&output));
    assert_one_line(&output, "is the publisher running");
    assert_eq!(scene.files(), [""; 0]);
}

#[test]
fn taken_ports_are_named_together_with_the_option_to_change() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_http = taken.local_addr().unwrap().to_string();
    let output = scene.run(&["publish", &clip(CLIP_1080P), "--http", &taken_http]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_one_line(&output, "--http");
    assert!(stderr(&output).contains(&taken_http));

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port());
    let tcp = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    for listen in [quic, tcp] {
        let output = scene.run(&["publish", &clip(CLIP_1080P), "--listen", &listen]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_one_line(&output, "--listen");
        assert!(stderr(&output).contains(&listen), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    let taken_udp = udp.local_addr().unwrap();
    for input in [
        format!("tcp://{taken_http}"),
        format!("rtmp://{taken_http}/live"),
        format!("udp://{taken_udp}"),
        format!("srt://{taken_udp}"),
    ] {
        let output = scene.run(&["publish", &input, "--listen", LOOPBACK]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_one_line(&output, "the port is taken");
    }
    assert_eq!(scene.files(), [""; 0]);
}

// ---- Broadcasts -------------------------------------------------------------------------------

#[test]
fn a_short_live_clip_arrives_picture_for_picture() {
    a_live_clip_arrives_picture_for_picture(CLIP_1080P, None);
}

#[test]
fn six_seconds_of_a_live_clip_arrive_picture_for_picture() {
    a_live_clip_arrives_picture_for_picture(CLIP_480P, Some("6"));
}

fn a_live_clip_arrives_picture_for_picture(name: &str, seconds: Option<&str>) {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let source = match seconds {
        None => clip(name),
        Some(seconds) => {
            let cut = scene.text("cut.mp4");
            ffmpeg(&["-i", &clip(name), "-t", seconds, "-c", "copy", &cut]);
            cut
        }
    };
    let mut live = Live::start(&scene, &[]);
    encode(&source, &live.input);
    let status = live.finish();
    assert!(status.success(), "watch: {status}");

    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    let (sent, shown) = (pictures(&source), pictures(&scene.text("out.ts")));
    assert_eq!(shown.len(), sent.len(), "pictures");
    assert!(sent == shown, "the pictures differ");
    let summary = live.event("summary");
    assert_eq!(summary["generations_missed"], 0, "{summary}");
    assert_eq!(summary["generations_full"], summary["generations_played"], "{summary}");
}

#[test]
fn live_matroska_of_other_codecs_arrives_picture_for_picture() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let source = scene.text("source.mkv");
    let codecs = ["-c:v", "libx265", "-x265-params", "log-level=none:keyint=25:open-gop=1"];
    let sound = ["-ac", "2", "-c:a", "libopus", "-t", "4", &source];
    let input = ["-i", &clip(CLIP_480P), "-vf", "scale=320:-2"];
    ffmpeg(&[&input[..], &codecs, &sound].concat());
    let mut live = Live::start(&scene, &[]);
    ffmpeg(&["-re", "-i", &source, "-c", "copy", "-f", "matroska", &live.input]);
    let status = live.finish();
    assert!(status.success(), "watch: {status}");
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    assert!(pictures(&scene.text("out.ts")) == pictures(&source), "the pictures differ");
}

#[test]
fn a_file_of_sound_alone_is_broadcast() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let source = scene.text("sound.mp4");
    ffmpeg(&["-i", &clip(CLIP_480P), "-vn", "-c", "copy", "-t", "6", &source]);
    let mut publisher = scene.spawn(&["publish", "sound.mp4", "--listen", LOOPBACK]);
    let uri = publisher.line();
    let mut viewer = scene.watch(&uri, &["--output", "out.ts"]);
    assert!(viewer.wait().success());
    assert!(publisher.wait().success());
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    let length = fs::metadata(scene.path("out.ts")).unwrap().len();
    assert!(length > 10_000, "{length} bytes are no seconds of sound");
}

#[test]
fn a_file_is_broadcast_at_its_own_pace_and_both_ends_say_when_it_is_over() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let arguments = ["publish", &clip(CLIP_480P), "--duration", "6s", "--listen", LOOPBACK];
    let mut publisher = scene.spawn(&arguments);
    let uri = publisher.line();
    let mut viewer = scene.watch(&uri, &["--output", "out.ts"]);
    assert!(viewer.wait().success());
    assert!(publisher.wait().success());
    assert_eq!(publisher.rest(), "", "the URI is all there is on stdout");
    // It came in the middle, and so plays from the next random access picture on.
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    let (sent, shown) = (pictures(&clip(CLIP_480P)), pictures(&scene.text("out.ts")));
    assert!(!shown.is_empty());
    assert!(sent.windows(shown.len()).any(|run| run == shown), "not a stretch of the clip");
}

#[test]
fn ctrl_c_ends_a_viewer_well_and_leaves_a_whole_file() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let mut publisher = scene.spawn(&["publish", &clip(CLIP_480P), "--loop", "--listen", LOOPBACK]);
    let uri = publisher.line();
    let mut viewer = scene.watch(&uri, &["--output", "out.ts"]);
    for _ in 0..4 {
        viewer.await_event("generation");
    }
    viewer.interrupt();
    let status = viewer.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    publisher.interrupt();
    let status = publisher.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(publisher.rest(), "", "the publisher prints one line");

    let length = fs::metadata(scene.path("out.ts")).unwrap().len();
    assert!(length > 0 && length.is_multiple_of(188), "{length} bytes are no whole packets");
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
}

#[test]
fn a_running_viewer_shows_its_picture_its_state_and_its_metrics() {
    let _alone = alone();
    let scene = Scene::new();
    let mut publisher = scene.spawn(&[
        "publish",
        &clip(CLIP_480P),
        "--loop",
        "--title",
        "a face",
        "--listen",
        LOOPBACK,
    ]);
    let uri = publisher.line();
    let http = format!("127.0.0.1:{}", free_tcp_port());
    let mut viewer = scene.watch(&uri, &["--http", &http]);
    viewer.await_event("joined");
    for _ in 0..3 {
        viewer.await_event("generation");
    }

    let (head, body) = get(&http, "/live.ts", 188 * 200);
    assert!(head.contains(" 200 OK") && head.contains("video/mp2t"), "{head}");
    assert!(body.chunks_exact(188).all(|packet| packet[0] == 0x47), "whole packets, in order");

    let (head, body) = get(&http, "/api/state", usize::MAX);
    assert!(head.contains(" 200 OK") && head.contains("application/json"), "{head}");
    let state: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(state["role"], "viewer");
    assert_eq!(state["title"], "a face");
    assert_eq!(state["stripes"].as_array().map(Vec::len), Some(16));
    assert!(state["stripes"].as_array().unwrap().iter().all(|tree| tree["rooted"] == true));
    assert!(uri.contains(state["broadcast"].as_str().unwrap()));
    assert!(state["playback"]["generations_played"].as_u64() > Some(0), "{state}");
    assert_eq!(state["playback"]["generations_missed"], 0);

    let (head, body) = get(&http, "/metrics", usize::MAX);
    assert!(head.contains(" 200 OK") && head.contains("openmetrics"), "{head}");
    let metrics = String::from_utf8(body).unwrap();
    assert!(metrics.contains("banyan_stripes_rooted 16"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");

    let (head, _) = get(&http, "/nowhere", usize::MAX);
    assert!(head.contains(" 404 "), "{head}");
    for process in [&mut viewer, &mut publisher] {
        process.interrupt();
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn an_encoder_that_comes_back_is_played_on() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new();
    let source = clip(CLIP_1080P);
    let mut live = Live::start(&scene, &[]);
    encode(&source, &live.input);
    encode(&source, &live.input);
    let status = live.finish();
    assert!(status.success(), "watch: {status}");
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    let (once, shown) = (pictures(&source), pictures(&scene.text("out.ts")));
    assert_eq!(shown.len(), 2 * once.len(), "pictures");
    assert!(shown == [once.clone(), once].concat(), "both runs, picture for picture");
}

#[test]
fn a_low_rendition_made_on_the_way_is_what_a_newcomer_begins_with() {
    if !has_ffmpeg() {
        return;
    }
    let _alone = alone();
    let (scene, late) = (Scene::new(), Scene::new());
    // A key every six seconds: the low rendition begins with the second, and has one twice a second.
    let source = scene.text("source.ts");
    let encoding = "-t 16 -c:v libx264 -preset ultrafast -g 144 -sc_threshold 0 -c:a copy";
    let mut arguments = vec!["-i".to_owned(), clip(CLIP_480P)];
    arguments.extend(encoding.split_whitespace().map(str::to_owned));
    arguments.push(source.clone());
    ffmpeg(&arguments.iter().map(String::as_str).collect::<Vec<_>>());

    let mut live = Live::start(&scene, &["--ladder", "auto"]);
    let uri = live.uri.clone();
    let input = live.input.clone();
    let sender = std::thread::spawn({
        let source = source.clone();
        move || encode(&source, &input)
    });
    // Seven seconds of it are played.
    for _ in 0..14 {
        let event = live.viewer.await_event("generation");
        assert_eq!(event["rendition"], "full", "{event}");
    }
    let mut newcomer = late.watch(&uri, &["--output", "out.ts"]);
    let first = newcomer.await_event("generation");
    assert_eq!((&first["rendition"], &first["layers"]), (&"low".into(), &2.into()), "{first}");
    sender.join().unwrap();
    let status = live.finish();
    assert!(status.success(), "watch: {status}");
    assert!(newcomer.wait().success());

    // Who was there from the start saw the full pictures, one by one.
    assert_eq!(decode_errors(&scene.text("out.ts")), "");
    let (sent, shown) = (pictures(&source), pictures(&scene.text("out.ts")));
    assert!(sent == shown, "{} pictures of {}", shown.len(), sent.len());
    assert_eq!(decode_errors(&late.text("out.ts")), "");
    let renditions: Vec<String> =
        std::iter::from_fn(|| newcomer.next_event(NEVER).filter(|event| event["t"].is_number()))
            .filter(|event| event["event"] == "generation")
            .map(|event| event["rendition"].to_string())
            .collect();
    assert_eq!(renditions.last().map(String::as_str), Some("\"full\""), "{renditions:?}");
}

// ---- A live broadcast -------------------------------------------------------------------------

/// A publisher that waits for an encoder, and a viewer that has joined already.
struct Live<'a> {
    scene: &'a Scene,
    publisher: Process,
    uri: String,
    viewer: Process,
    /// Where the encoder is to send.
    input: String,
    seen: Vec<Value>,
}

impl<'a> Live<'a> {
    fn start(scene: &'a Scene, options: &[&str]) -> Self {
        let input = format!("tcp://127.0.0.1:{}", free_tcp_port());
        let arguments = [&["publish", &input, "--listen", LOOPBACK], options].concat();
        let publisher = scene.spawn(&arguments);
        let uri = publisher.line();
        let viewer = scene.watch(&uri, &["--output", "out.ts"]);
        viewer.await_event("joined");
        Self { scene, publisher, uri, viewer, input, seen: Vec::new() }
    }

    /// Waits until the viewer has played what was cut last, ends the broadcast as its user would,
    /// and waits for the viewer to notice.
    fn finish(&mut self) -> ExitStatus {
        // The input's end is not the broadcast's: the cutter sends what it has after a second of
        // silence. Nothing tells of that but the picture: it is over when no generation follows.
        while let Some(event) = self.viewer.next_event(Duration::from_secs(4)) {
            self.seen.push(event);
        }
        self.publisher.interrupt();
        assert_eq!(self.publisher.wait().code(), Some(0), "publish");
        assert_eq!(self.publisher.rest(), "", "the URI is all there is on stdout");
        let status = self.viewer.wait();
        while let Some(event) = self.viewer.next_event(NEVER) {
            self.seen.push(event);
        }
        assert!(self.scene.path("out.ts").exists(), "nothing was played");
        status
    }

    fn event(&self, name: &str) -> &Value {
        self.seen.iter().find(|event| event["event"] == name).expect(name)
    }
}

/// Runs an encoder that sends `clip` in real time.
fn encode(clip: &str, input: &str) {
    ffmpeg(&["-re", "-i", clip, "-c", "copy", "-f", "mpegts", input]);
}

// ---- Processes --------------------------------------------------------------------------------

/// A folder of its own, in which the binary runs.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banyan"));
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_LOG");
        command
    }

    /// Runs to the end.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        output.recv_timeout(NEVER).expect("it ends").unwrap()
    }

    fn spawn(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Process { child, stdout: lines_of(stdout), events: None }
    }

    /// Starts a viewer whose events can be awaited.
    fn watch(&self, uri: &str, options: &[&str]) -> Process {
        let fifo = self.path("ev.jsonl");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let own = ["watch", uri, "--listen", LOOPBACK, "--events", "ev.jsonl"];
        let mut viewer = self.spawn(&[&own, options].concat());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(fs::File::open(fifo).unwrap()).lines() {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        viewer.events = Some(events);
        viewer
    }
}

struct Process {
    child: Child,
    stdout: Receiver<String>,
    events: Option<Receiver<Value>>,
}

impl Process {
    /// The next line of its stdout.
    fn line(&self) -> String {
        self.stdout.recv_timeout(NEVER).expect("a line on stdout")
    }

    /// What it printed besides, once it has ended.
    fn rest(&self) -> String {
        self.stdout.iter().collect::<Vec<_>>().join("\n")
    }

    /// Its next event; `None` if there is none for so long, or none any more.
    fn next_event(&self, patience: Duration) -> Option<Value> {
        self.events.as_ref().unwrap().recv_timeout(patience).ok()
    }

    fn await_event(&self, name: &str) -> Value {
        loop {
            let event = self.next_event(NEVER).expect(name);
            if event["event"] == name {
                return event;
            }
        }
    }

    fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + NEVER;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            // The standard library can wait for a child, or look at it, but not both.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines_of(reader: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Keeps broadcasts from running at the same time: they stream in real time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_one_line(output: &Output, expected: &str) {
    let text = stderr(output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "one line on stderr:\n{text}");
    assert!(lines[0].starts_with("banyan: ") && lines[0].contains(expected), "{text}");
}

fn clip(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(name);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks for a page; reads the body to its end, or to `limit`.
fn get(address: &str, path: &str, limit: usize) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    // HTTP/1.0: the body comes as it is, and the connection ends with it.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head.filter(|head| bytes.len() - head >= limit) {
            let body = bytes[head..head + limit].to_vec();
            return (String::from_utf8_lossy(&bytes[..head]).into_owned(), body);
        }
        match stream.read(&mut buffer).unwrap() {
            0 => {
                let head = head.expect("an answer");
                let body = bytes.split_off(head);
                return (String::from_utf8_lossy(&bytes).into_owned(), body);
            }
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

// ---- The judge --------------------------------------------------------------------------------

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("SKIPPED: ffmpeg is not installed");
    }
    found
}

fn ffmpeg(arguments: &[&str]) -> Output {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-nostdin", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    output
}

/// What ffmpeg has to say against a file.
fn decode_errors(path: &str) -> String {
    stderr(&ffmpeg(&["-i", path, "-f", "null", "-"]))
}

/// The hash of every picture, in order. Timestamps are left out: they are the container's.
fn pictures(path: &str) -> Vec<String> {
    let output = ffmpeg(&["-i", path, "-map", "0:v", "-f", "framemd5", "-"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}
