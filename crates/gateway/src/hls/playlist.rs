//! Playlists: the text of RFC 8216bis.
//!
//! Decides what they say. Delta updates are not offered: a playlist lists some 16 s, and a skip is
//! allowed only past six target durations, which are more.

use std::fmt::Write as _;
use std::time::Duration;

use banyan_wire::MediaTime;

use super::window::{MAX_SEGMENT, Segment, Window, duration};

/// How far players in low latency stay behind the newest part, at least: parts come two at a time,
/// and three part targets are asked for.
const MIN_PART_HOLD_BACK: Duration = Duration::from_millis(1000);

/// Parts are listed this far back: three target durations, as RFC 8216bis asks for.
const PARTS_LISTED: Duration = MAX_SEGMENT.saturating_mul(3);

/// The playlist of the one variant there is.
pub(super) fn media(window: &Window) -> String {
    let target = window.part_target();
    let hold_back = (target * 3).max(MIN_PART_HOLD_BACK);
    let first = window.listed().next();
    let sequence = first.map_or(0, |segment| segment.sequence);
    let discontinuities =
        first.map_or(0, |segment| segment.discontinuities - u64::from(segment.is_discontinuous));
    let mut out = format!(
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-TARGETDURATION:{}\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.3}\n\
         #EXT-X-PART-INF:PART-TARGET={:.3}\n\
         #EXT-X-MEDIA-SEQUENCE:{sequence}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n",
        MAX_SEGMENT.as_secs(),
        hold_back.as_secs_f64(),
        target.as_secs_f64(),
    );
    let mut left: Duration = window.listed().map(|segment| duration(segment.duration())).sum();
    let mut init = None;
    for segment in window.listed() {
        if segment.is_discontinuous {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if init != Some(segment.init_number) {
            init = Some(segment.init_number);
            line(&mut out, format_args!("#EXT-X-MAP:URI=\"init-{}.mp4\"", segment.init_number));
        }
        let date = humantime::format_rfc3339_millis(segment.date);
        line(&mut out, format_args!("#EXT-X-PROGRAM-DATE-TIME:{date}"));
        put_segment(&mut out, window, segment, left <= PARTS_LISTED);
        left = left.saturating_sub(duration(segment.duration()));
    }
    match window.next_part() {
        Some((sequence, part)) => line(
            &mut out,
            format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{sequence}.{part}.m4s\""),
        ),
        None => out.push_str("#EXT-X-ENDLIST\n"),
    }
    out
}

fn put_segment(out: &mut String, window: &Window, segment: &Segment, has_parts: bool) {
    let sequence = segment.sequence;
    let is_complete = window.is_complete(segment);
    if has_parts || !is_complete {
        for (part, at) in segment.parts.iter().zip(0u64..) {
            let independent = if part.is_independent { ",INDEPENDENT=YES" } else { "" };
            let seconds = duration(part.duration).as_secs_f64();
            line(
                out,
                format_args!(
                    "#EXT-X-PART:DURATION={seconds:.5},URI=\"{sequence}.{at}.m4s\"{independent}"
                ),
            );
        }
    }
    if is_complete {
        let seconds = duration(segment.duration()).as_secs_f64();
        line(out, format_args!("#EXTINF:{seconds:.5},\n{sequence}.m4s"));
    }
}

/// The playlist of playlists: what players want to know before they load anything.
pub(super) fn multivariant(window: &Window) -> String {
    let rate = |bytes: usize, ticks: i64| {
        let bits = u128::from(u64::try_from(bytes).unwrap_or(u64::MAX)) * 8;
        bits * MediaTime::HZ.unsigned_abs() as u128 / u128::from(ticks.unsigned_abs().max(1))
    };
    let peak = window.listed().map(|segment| rate(segment.len(), segment.duration())).max();
    let bytes = window.listed().map(Segment::len).sum();
    let ticks: i64 = window.listed().map(Segment::duration).sum();
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}",
        peak.unwrap_or(0).max(1),
        rate(bytes, ticks).max(1),
    );
    if let Some(newest) = window.listed().next_back() {
        // Names of codecs are letters, digits and dots.
        put(&mut out, format_args!(",CODECS=\"{}\"", newest.init.codecs));
        let (width, height) = (newest.init.width, newest.init.height);
        if width > 0 && height > 0 {
            put(&mut out, format_args!(",RESOLUTION={width}x{height}"));
        }
        let pictures: usize = window.listed().map(Segment::pictures).sum();
        if pictures > 0 {
            let pictures = f64::from(u32::try_from(pictures).unwrap_or(u32::MAX));
            let seconds = duration(ticks).as_secs_f64();
            put(&mut out, format_args!(",FRAME-RATE={:.3}", pictures / seconds.max(0.001)));
        }
    }
    out.push_str("\nlive/media.m3u8\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = out.write_fmt(text);
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    put(out, text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::window;
    use super::*;

    #[test]
    fn a_playlist_says_what_there_is_and_what_is_next() {
        let expected = "\
            #EXTM3U\n\
            #EXT-X-VERSION:6\n\
            #EXT-X-TARGETDURATION:4\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.000\n\
            #EXT-X-PART-INF:PART-TARGET=0.280\n\
            #EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-DISCONTINUITY-SEQUENCE:0\n\
            #EXT-X-MAP:URI=\"init-0.mp4\"\n\
            #EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n\
            #EXT-X-PART:DURATION=0.25000,URI=\"0.0.m4s\",INDEPENDENT=YES\n\
            #EXT-X-PART:DURATION=0.25000,URI=\"0.1.m4s\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"0.2.m4s\"\n";
        assert_eq!(media(&window(1)), expected);
        let later = media(&window(6));
        assert!(later.contains("URI=\"0.7.m4s\"\n#EXTINF:2.00000,\n0.m4s\n"), "{later}");
        assert!(later.contains("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:02.000Z\n"), "{later}");
        assert!(later.ends_with("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1.4.m4s\"\n"), "{later}");
    }

    #[test]
    fn at_the_end_there_is_no_hint_but_an_end() {
        let mut window = window(5);
        window.end();
        let text = media(&window);
        assert!(text.ends_with("#EXTINF:0.50000,\n1.m4s\n#EXT-X-ENDLIST\n"), "{text}");
        assert!(!text.contains("HINT"));
    }

    #[test]
    fn old_segments_are_listed_without_their_parts() {
        let text = media(&window(400));
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:92\n"), "{text}");
        assert!(text.contains("\n93.m4s\n") && !text.contains("\"93.0.m4s\""), "{text}");
        assert!(text.contains("\"94.0.m4s\""), "{text}");
    }

    #[test]
    fn the_variant_is_described() {
        let expected = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH=32000,\
            AVERAGE-BANDWIDTH=32000,CODECS=\"avc1.64001e,mp4a.40.2\",RESOLUTION=854x480,\
            FRAME-RATE=24.000\nlive/media.m3u8\n";
        assert_eq!(multivariant(&window(8)), expected);
    }
}
