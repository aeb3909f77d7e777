//! ffmpeg as the judge: what we mux decodes without a word, to the very pictures of the source.
//!
//! Where there is no `ffmpeg` on the path, these tests say so and pass.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use banyan_media::Event;
use common::{
    CLIPS, demux, ffmpeg, frame_hashes, is_missing, mux, of_track, read_mp4, sort_events, write,
};

#[test]
fn a_muxed_file_decodes_to_the_pictures_of_the_file() {
    if is_missing("a_muxed_file_decodes_to_the_pictures_of_the_file") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for clip in CLIPS {
        let (tracks, units) = read_mp4(clip);
        let path = write(directory.path(), "muxed.ts", &mux(&tracks, &units));
        ffmpeg(&["-xerror", "-i", &path, "-f", "null", "-"]);
        assert_eq!(frame_hashes(&path, "0:v"), frame_hashes(clip, "0:v"), "{clip}");
        // Both start with the encoder's silence; how much of it is cut off differs by container.
        let sound = frame_hashes(&path, "0:a");
        let source = frame_hashes(clip, "0:a");
        assert!(sound.ends_with(&source[source.len() / 2..]), "{clip}");
    }
}

#[test]
fn a_stream_from_ffmpeg_is_carried_bit_by_bit() {
    if is_missing("a_stream_from_ffmpeg_is_carried_bit_by_bit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for clip in CLIPS {
        let source = ffmpeg(&["-i", clip, "-c", "copy", "-f", "mpegts", "-"]);
        let (tracks, mut units) = sort_events(demux(&source, 4096));
        let (_, from_file) = read_mp4(clip);
        for track in &tracks {
            assert_eq!(of_track(&units, track).len(), of_track(&from_file, track).len());
        }
        units.sort_by_key(|unit| (unit.dts, unit.track));
        let path = write(directory.path(), "again.ts", &mux(&tracks, &units));
        ffmpeg(&["-xerror", "-i", &path, "-f", "null", "-"]);
        assert_eq!(frame_hashes(&path, "0:v"), frame_hashes(clip, "0:v"), "{clip}");
    }
}

#[test]
fn other_codecs_of_sound_are_carried_bit_by_bit() {
    if is_missing("other_codecs_of_sound_are_carried_bit_by_bit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for codec in ["mp2", "ac3", "libmp3lame"] {
        let encode =
            ["-i", CLIPS[1], "-c:v", "copy", "-ac", "2", "-c:a", codec, "-f", "mpegts", "-"];
        let source = ffmpeg(&encode);
        let path = write(directory.path(), "source.ts", &source);
        let (tracks, mut units) = sort_events(demux(&source, 1000));
        assert_eq!((tracks.len(), tracks[1].sample_rate, tracks[1].channels), (2, 48_000, 2));
        units.sort_by_key(|unit| (unit.dts, unit.track));
        let again = write(directory.path(), "again.ts", &mux(&tracks, &units));
        assert_eq!(frame_hashes(&again, "0:a"), frame_hashes(&path, "0:a"), "{codec}");
    }
}

#[test]
fn other_kinds_of_mp4_file_are_read() {
    if is_missing("other_kinds_of_mp4_file_are_read") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (codec, name) in
        [("ac3", "a.mp4"), ("libmp3lame", "a.mp4"), ("aac", "a.mov"), ("libmp3lame", "a.mov")]
    {
        let source = path(name);
        ffmpeg(&["-y", "-i", CLIPS[1], "-c:v", "copy", "-ac", "2", "-c:a", codec, &source]);
        let (tracks, units) = read_mp4(&source);
        assert_eq!((tracks.len(), tracks[1].sample_rate, tracks[1].channels), (2, 48_000, 2));
        let stream = mux(&tracks, &units);
        assert_eq!(sort_events(demux(&stream, 1316)).0, tracks);
        let again = write(directory.path(), "again.ts", &stream);
        assert_eq!(frame_hashes(&again, "0:v"), frame_hashes(&source, "0:v"), "{codec} in {name}");
        let (sound, expected) = (frame_hashes(&again, "0:a"), frame_hashes(&source, "0:a"));
        assert!(sound.ends_with(&expected[expected.len() / 2..]), "{codec} in {name}");
    }
}

#[test]
fn interlaced_fields_stay_together() {
    if is_missing("interlaced_fields_stay_together") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let encode = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=25:duration=2",
        "-c:v",
        "libx264",
        "-x264-params",
        "interlaced=1:bframes=2:keyint=25",
        "-f",
        "mpegts",
        "-",
    ];
    let source = ffmpeg(&encode);
    let path = write(directory.path(), "source.ts", &source);
    let (tracks, units) = sort_events(demux(&source, 1000));
    assert_eq!((units.len(), tracks[0].width, tracks[0].height), (50, 320, 240));
    let again = write(directory.path(), "again.ts", &mux(&tracks, &units));
    assert_eq!(frame_hashes(&again, "0:v"), frame_hashes(&path, "0:v"));
}

#[test]
fn a_looped_live_stream_never_stops_the_clock() {
    if is_missing("a_looped_live_stream_never_stops_the_clock") {
        return;
    }
    // As an encoder that is restarted: the same stream twice, its clock from the start.
    let source = ffmpeg(&["-i", CLIPS[1], "-c", "copy", "-f", "mpegts", "-"]);
    let events = demux(&[source.as_slice(), &source].concat(), 1316);
    let jumps = events.iter().filter(|event| **event == Event::Discontinuity).count();
    let (tracks, units) = sort_events(events);
    assert_eq!(jumps, 1);
    for track in &tracks {
        let units = of_track(&units, track);
        assert!(units.windows(2).all(|pair| (1..9000).contains(&(pair[1].dts - pair[0].dts))));
    }
}

#[test]
fn a_codec_that_is_not_carried_is_named() {
    if is_missing("a_codec_that_is_not_carried_is_named") {
        return;
    }
    let encode =
        ["-i", CLIPS[1], "-frames:v", "10", "-c:v", "mpeg2video", "-an", "-f", "mpegts", "-"];
    let mut demuxer = banyan_media::TsDemuxer::new();
    let error = demuxer.push(&ffmpeg(&encode)).unwrap_err();
    assert!(
        error.to_string().starts_with("the programme's video is mpeg-2 video, which this version")
    );
}
