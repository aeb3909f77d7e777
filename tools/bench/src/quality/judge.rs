//! How well a viewer's picture agrees with the pristine one, picture by picture.
//!
//! Decides what is compared: at each picture of the clip, what a screen would show at that moment,
//! which is the last picture that was decoded, scaled to full size, and black before the first. The
//! comparison is ffmpeg's (`psnr`, `ssim`).
//!
//! ```text
//!   viewer's stream ─▶ decode ─▶ scale ─┬─▶ times: pictures shown, freezes
//!                                       └─▶ hold over black, at the clip's rate ─┐
//!   pictures.y4m ─────────────────────────────────────────────────▶ psnr, ssim ◀─┘
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use banyan_media::DELAY;
use banyan_wire::MediaTime;

use super::clip::Pictures;
use super::ffmpeg::{self, words};

/// What a picture that is the same bit by bit counts, in dB: black ones are.
const SAME: f64 = 60.0;
/// Times within the judge are this much later, in ticks, so that none is below zero.
const SHIFT: i64 = MediaTime::HZ;
/// The largest value of a sample.
const PEAK: f64 = 255.0;

/// A stream to be judged: a file, and the `pts` of the clip's first picture in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown {
    pub(crate) file: String,
    pub(crate) origin: i64,
}

/// How well it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Score {
    /// Of the mean squared error over all pictures, in dB; nothing without a picture.
    pub(crate) psnr: Option<f64>,
    /// Mean over the pictures, in dB.
    pub(crate) psnr_of_pictures: Option<f64>,
    pub(crate) ssim: Option<f64>,
    /// Pictures shown per second.
    pub(crate) per_second: f64,
    /// Longest time the same picture stood beyond its own, in seconds; before the first one, too.
    pub(crate) freeze: f64,
    /// Lines in which the decoder complained.
    pub(crate) complaints: f64,
}

impl Score {
    /// What a viewer sees who gets no picture.
    pub(crate) fn nothing(pictures: &Pictures) -> Self {
        Self { freeze: pictures.seconds(), ..Self::default() }
    }

    /// The mean of several; the longest freeze. One without a picture counts for the rate and the
    /// freeze only.
    pub(crate) fn mean(scores: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = scores.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self {
            psnr: mean(&|score| score.psnr),
            psnr_of_pictures: mean(&|score| score.psnr_of_pictures),
            ssim: mean(&|score| score.ssim),
            per_second: mean(&|score| Some(score.per_second)).unwrap_or(0.0),
            freeze: scores.iter().map(|score| score.freeze).fold(0.0, f64::max),
            complaints: mean(&|score| Some(score.complaints)).unwrap_or(0.0),
        }
    }
}

/// Judges streams that are shown on one screen: one, or the descriptions of polyphase. `name` is for
/// files of its own.
pub(crate) fn judge(
    directory: &Path,
    reference: &str,
    pictures: &Pictures,
    shown: &[Shown],
    name: &str,
) -> Result<Score> {
    if shown.is_empty() {
        return Ok(Score::nothing(pictures));
    }
    let file = |what: &str| format!("{name}.{what}");
    let mut arguments = words("-copyts -reinit_filter 0");
    for stream in shown {
        arguments.extend(["-threads", "1", "-i", &stream.file].map(str::to_owned));
    }
    arguments.extend(["-i", reference, "-filter_complex"].map(str::to_owned));
    arguments.push(graph(pictures, shown, &file("psnr"), &file("ssim")));
    arguments.extend(words(&format!(
        "-map [times] -vsync passthrough -enc_time_base 1:{} -f framecrc {} \
         -map [p] -f null - -map [s] -f null -",
        MediaTime::HZ,
        file("times")
    )));
    let complaints = ffmpeg::run(directory, &arguments)?.len() as f64;
    let read = |what| fs::read_to_string(directory.join(file(what))).context("what ffmpeg found");
    let (errors, likeness, times) = (read("psnr")?, read("ssim")?, read("times")?);
    for what in ["psnr", "ssim", "times"] {
        fs::remove_file(directory.join(file(what)))?;
    }
    let errors = values(&errors, "mse_avg:");
    let likeness = values(&likeness, "All:");
    let count = f64::from(pictures.count);
    ensure!(
        errors.len() == pictures.count as usize && likeness.len() == errors.len(),
        "ffmpeg compared {} of {} pictures",
        errors.len(),
        pictures.count
    );
    let decibels = |error: f64| (10.0 * (PEAK * PEAK / error).log10()).min(SAME);
    let mut score = on_time(&times, pictures);
    score.psnr = Some(decibels(errors.iter().sum::<f64>() / count));
    score.psnr_of_pictures = Some(errors.iter().copied().map(decibels).sum::<f64>() / count);
    score.ssim = Some(likeness.iter().sum::<f64>() / count);
    score.complaints = complaints;
    Ok(score)
}

/// The filters: see the drawing above.
fn graph(pictures: &Pictures, shown: &[Shown], psnr: &str, ssim: &str) -> String {
    let Pictures { width, height, rate: (rate, per), count } = pictures;
    let mut graph = String::new();
    let mut names = String::new();
    #[expect(clippy::cast_possible_truncation, reason = "half a picture's time in ticks")]
    let half = (pictures.period() / 2.0).round() as i64;
    for (index, stream) in shown.iter().enumerate() {
        // Half a picture early, so that rounded times do not make one late.
        let back = stream.origin + DELAY + half - SHIFT;
        graph += &format!(
            "[{index}:v:0]scale={width}:{height}:flags=bicubic,format=yuv420p,\
             setpts=PTS-({back})[v{index}];"
        );
        names += &format!("[v{index}]");
    }
    let together = match shown.len() {
        1 => "null".to_owned(),
        several => format!("interleave=nb_inputs={several}"),
    };
    let (pictures_at, shift) = (shown.len(), SHIFT / MediaTime::HZ);
    graph
        + &format!(
            "{names}{together},split[times][shown];\
         color=c=black:s={width}x{height}:r={rate}/{per},trim=end_frame={count},format=yuv420p,\
         setpts=PTS+{shift}/TB[black];\
         [black][shown]overlay=format=yuv420:eof_action=repeat,trim=end_frame={count},\
         split[a1][a2];\
         [{pictures_at}:v]setpts=PTS+{shift}/TB,split[b1][b2];\
         [a1][b1]psnr=stats_file={psnr}[p];[a2][b2]ssim=stats_file={ssim}[s]"
        )
}

/// The numbers that follow `name`, one a line.
fn values(text: &str, name: &str) -> Vec<f64> {
    let value =
        |line: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    text.lines().filter_map(value).collect()
}

/// How many pictures were shown, and the longest freeze, of ffmpeg's list of frames.
fn on_time(list: &str, pictures: &Pictures) -> Score {
    let period = pictures.period();
    let end = f64::from(pictures.count);
    // Stream, dts, pts, …; as positions in the clip.
    let mut slots: Vec<f64> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(',').nth(2)?.trim().parse::<i64>().ok())
        .map(|pts| ((pts - SHIFT) as f64 / period + 0.5).round())
        .filter(|slot| (0.0..end).contains(slot))
        .collect();
    slots.sort_by(f64::total_cmp);
    slots.dedup_by(|one, other| one.total_cmp(other).is_eq());
    let Some((first, last)) = slots.first().zip(slots.last()) else {
        return Score::nothing(pictures);
    };
    let steps = slots.windows(2).map(|pair| pair[1] - pair[0] - 1.0);
    let longest = steps.chain([*first, end - last - 1.0]).fold(0.0, f64::max);
    Score {
        per_second: slots.len() as f64 / pictures.seconds(),
        freeze: longest / pictures.per_second(),
        ..Score::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(count: u32) -> Pictures {
        Pictures { width: 64, height: 48, rate: (25, 1), count }
    }

    fn list(slots: &[i64]) -> String {
        let line = |slot: &i64| format!("0, 0, {}, 3600, 10, 0x1\n", SHIFT - 1800 + slot * 3600);
        slots.iter().map(line).collect::<String>() + "#comment\n"
    }

    #[test]
    fn every_picture_on_time_is_the_full_rate_and_no_freeze() {
        let all: Vec<i64> = (0..50).collect();
        let score = on_time(&list(&all), &pictures(50));
        assert!((score.per_second - 25.0).abs() < 1e-9 && score.freeze.abs() < 1e-9, "{score:?}");
    }

    #[test]
    fn a_freeze_is_found_at_the_start_between_and_at_the_end() {
        for (slots, frozen) in [(vec![10, 11, 12], 10), (vec![0, 11], 10), (vec![0, 1, 2], 10)] {
            let score = on_time(&list(&slots), &pictures(13));
            let expected = f64::from(frozen) / 25.0;
            assert!((score.freeze - expected).abs() < 1e-9, "{slots:?}: {score:?}");
        }
    }

    #[test]
    fn a_picture_twice_counts_once_and_one_outside_does_not() {
        let score = on_time(&list(&[0, 0, 1, 60]), &pictures(50));
        assert!((score.per_second - 1.0).abs() < 1e-9, "{score:?}");
        assert_eq!(on_time("#nothing\n", &pictures(50)), Score::nothing(&pictures(50)));
    }

    #[test]
    fn figures_of_ffmpeg_are_read() {
        let text = "n:1 mse_avg:0.47 mse_y:0.53 psnr_avg:51.45\nn:2 mse_avg:1.5 psnr_avg:inf\n";
        assert_eq!(values(text, "mse_avg:"), [0.47, 1.5]);
    }
}
