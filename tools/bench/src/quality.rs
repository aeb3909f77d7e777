//! `quality`: what a viewer sees of the descriptions that arrive, for several ways of making them.
//!
//! ```text
//!   clip ─▶ scheme: layers, code, losses ─▶ viewer: what can be shown ─▶ judge: PSNR, SSIM, freezes
//! ```
//!
//! Decides which schemes are compared under which losses, and the goals of the ladder. Nothing is
//! modelled: streams are encoded, coded, lost, rebuilt, muxed and decoded. Streams that come out the
//! same are judged once.

mod clip;
mod ffmpeg;
mod judge;
mod scheme;
mod viewer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use banyan_coding::thresholds;
use banyan_media::{Layering, low_track};
use banyan_wire::StripeCount;

use self::clip::{Clip, Encoded, Origin, POLYPHASE_SHARE, Settings};
use self::judge::{Score, Shown};
use self::scheme::{Coded, Pattern};
use self::viewer::Rules;
use crate::meter;
use crate::report::{Column, Report};
use crate::units::{Bitrate, megabytes, ratio};

/// K of the schemes with a code, and of striping.
const STRIPES: StripeCount = StripeCount::DEFAULT;
/// A moving picture is to be had from this share of the descriptions.
const MOVING_FROM: f64 = 0.4;
/// The full picture is to be had from this share.
const FULL_FROM: f64 = 0.8125;
/// What the ladder may send, as a multiple of the source's stream.
const MOST_BYTES: f64 = 1.55;
/// Share of a clip's pictures that makes the full rate.
const FULL_RATE: f64 = 0.999;

/// Settings of the bench.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A clip with pictures and sound, anything ffmpeg reads; may be given more than once. Beside
    /// them, one of fast motion and noise is always made.
    #[arg(value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// Seconds of each clip.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=600))]
    seconds: u32,
    /// Rate of the full pictures.
    #[arg(long, default_value = "1.5Mbit")]
    rate: Bitrate,
    /// Rate of the low pictures, in per cent of the full ones'.
    #[arg(long, default_value_t = 7.0, value_parser = percentage)]
    low: f64,
    /// Draws of what is lost.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Also the loss of each description with these probabilities, in per cent.
    #[arg(long, value_delimiter = ',', default_value = "5,20,40",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    loss: Vec<u8>,
    /// K of the temporal polyphase descriptions.
    #[arg(long, value_delimiter = ',', default_value = "2,4,8",
          value_parser = clap::value_parser!(u8).range(2..=16))]
    polyphase: Vec<u8>,
    /// Streams judged at the same time; as many as there are cores by default.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
}

/// One way of sending a clip.
struct Scheme<'a> {
    name: String,
    /// One, or a stream for each description of polyphase.
    streams: Vec<(&'a Encoded, Coded)>,
    rules: Rules,
    descriptions: u8,
    /// Which are lost where a number of descriptions arrives.
    some: fn(u8) -> Pattern,
    bytes: u64,
}

/// One line of the table before it is judged: what is shown for each seed.
struct Case {
    scheme: usize,
    pattern: Pattern,
    shown: Vec<Vec<Shown>>,
}

/// Encodes, loses and judges.
pub(crate) fn measure(options: &Options) -> Result<Report> {
    let began = Instant::now();
    ffmpeg::check()?;
    let directory = tempfile::tempdir().context("making a directory for the clips")?;
    let title = format!(
        "quality: {} s at {} and {} of sound, {} draws; K = {}",
        options.seconds,
        options.rate,
        clip::SOUND,
        options.seeds,
        STRIPES.value()
    );
    let columns = [
        Column { name: "PSNR dB", decimals: 1 },
        Column { name: "of pictures", decimals: 1 },
        Column { name: "SSIM", decimals: 3 },
        Column { name: "pictures/s", decimals: 1 },
        Column { name: "freeze s", decimals: 2 },
        Column { name: "complaints", decimals: 0 },
        Column { name: "bytes x", decimals: 3 },
    ];
    let mut report = Report::new(title, &columns);
    let files = options.clips.iter().cloned().map(Origin::File);
    let mut worst = Worst::default();
    let settings = Settings {
        seconds: options.seconds,
        rate: options.rate,
        low: options.rate.times(options.low / 100.0),
        polyphase: options.polyphase.clone(),
    };
    for origin in files.chain([Origin::Camera]) {
        let clip = Clip::make(&origin, directory.path(), &settings)?;
        measure_clip(&clip, options, &mut report, &mut worst)?;
        fs::remove_dir_all(&clip.directory).context("removing a clip")?;
    }
    let k = STRIPES.value();
    report.goal(
        "descriptions of 16 for the full frame rate",
        worst.moving_from,
        MOVING_FROM * f64::from(k),
    );
    report.goal(
        "descriptions of 16 for the full picture",
        worst.full_from,
        FULL_FROM * f64::from(k),
    );
    report.goal("bytes sent, as a multiple of the source's", worst.bytes, MOST_BYTES);
    report.note("goals are of the ladder, the worst of all clips");
    report.note("PSNR: of the mean error, as ffmpeg sums it up; `of pictures`: the mean of each");
    report.note(format!(
        "striping: access units dealt out, all that came decoded; polyphase: {POLYPHASE_SHARE} x the \
         rate for all descriptions together, the same ones lost throughout, sound free of losses"
    ));
    report.note(format!(
        "took {:.0} s; processor time {:.0} s of ffmpeg and {:.1} s of this program, whose peak RSS was \
         {:.0} MB",
        began.elapsed().as_secs_f64(),
        meter::children_cpu()?.as_secs_f64(),
        meter::process_cpu().as_secs_f64(),
        megabytes(meter::memory()?.peak),
    ));
    Ok(report)
}

/// What the ladder's goals are compared with.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    moving_from: f64,
    full_from: f64,
    bytes: f64,
}

fn measure_clip(
    clip: &Clip,
    options: &Options,
    report: &mut Report,
    worst: &mut Worst,
) -> Result<()> {
    let schemes = schemes(clip)?;
    let mut cases = Vec::new();
    let mut files = BTreeSet::new();
    for (index, scheme) in schemes.iter().enumerate() {
        let some = (1..=scheme.descriptions).map(scheme.some);
        let loss = options.loss.iter().map(|loss| Pattern::Loss(f64::from(*loss) / 100.0));
        for pattern in some.chain(loss) {
            let shown = (0..options.seeds)
                .map(|seed| scheme.show(pattern, seed, clip, &mut files))
                .collect::<Result<_>>()?;
            cases.push(Case { scheme: index, pattern, shown });
        }
    }
    let distinct = cases.iter().flat_map(|case| case.shown.iter().cloned()).collect();
    let scores = judge_all(clip, distinct, options.jobs)?;

    for (index, scheme) in schemes.iter().enumerate() {
        let bytes = ratio(scheme.bytes, clip.source_bytes());
        let lines: Vec<(Pattern, Score)> = cases
            .iter()
            .filter(|case| case.scheme == index)
            .map(|case| {
                let of: Vec<Score> =
                    case.shown.iter().filter_map(|shown| scores.get(shown).copied()).collect();
                (case.pattern, Score::mean(&of))
            })
            .collect();
        if scheme.name == LADDER {
            worst.update(&lines, clip, bytes);
        }
        for (what, score) in merge_equal(&lines) {
            report.row(format!("{}  {}  {what}", clip.name, scheme.name), cells(&score, bytes));
        }
    }
    let of = |bytes| ratio(bytes, clip.source_bytes()) * 100.0;
    report.note(format!(
        "{}: {} x {}, {:.2} pictures/s; of the source's stream {:.1} % are sound, and the low \
         rendition would be {:.1} %; {} streams judged",
        clip.name,
        clip.pictures.width,
        clip.pictures.height,
        clip.pictures.per_second(),
        of(clip.sound_bytes),
        of(clip.low_bytes),
        scores.len(),
    ));
    Ok(())
}

const LADDER: &str = "ladder";

fn schemes(clip: &Clip) -> Result<Vec<Scheme<'_>>> {
    let coded = |name: &str, encoded: &'_ Encoded, layering, thresholds: &[u8]| {
        let coded = Coded::with_code(&encoded.generations, layering, thresholds, STRIPES)?;
        anyhow::Ok((name.to_owned(), coded))
    };
    let low = low_track(&clip.ladder.tracks).context("the ladder has no low rendition")?;
    let ladder = Layering::Ladder { low };
    let made = [
        (
            coded("single", &clip.full, Layering::Single, &[thresholds::single(STRIPES)])?,
            &clip.full,
            Rules::Player,
        ),
        (
            coded("priority", &clip.full, Layering::Priority, &thresholds::priority(STRIPES))?,
            &clip.full,
            Rules::Player,
        ),
        (
            coded(LADDER, &clip.ladder, ladder, &thresholds::ladder(STRIPES))?,
            &clip.ladder,
            Rules::Player,
        ),
        (
            ("striping".to_owned(), Coded::striped(&clip.full.generations, STRIPES.value())?),
            &clip.full,
            Rules::Everything,
        ),
    ];
    let mut schemes: Vec<Scheme<'_>> = made
        .into_iter()
        .map(|((name, coded), encoded, rules)| Scheme {
            name,
            bytes: coded.bytes,
            streams: vec![(encoded, coded)],
            rules,
            descriptions: STRIPES.value(),
            some: Pattern::Some,
        })
        .collect();
    for phases in &clip.polyphase {
        let streams = phases
            .iter()
            .map(|encoded| Ok((encoded, Coded::striped(&encoded.generations, 1)?)))
            .collect::<Result<Vec<_>>>()?;
        schemes.push(Scheme {
            name: format!("polyphase {}", streams.len()),
            bytes: clip.sound_bytes + streams.iter().map(|(_, coded)| coded.bytes).sum::<u64>(),
            descriptions: u8::try_from(streams.len())?,
            streams,
            rules: Rules::Player,
            some: Pattern::Same,
        });
    }
    Ok(schemes)
}

impl Scheme<'_> {
    /// What a viewer sees, as files in the clip's directory; streams of the same bytes share one.
    fn show(
        &self,
        pattern: Pattern,
        seed: u64,
        clip: &Clip,
        files: &mut BTreeSet<String>,
    ) -> Result<Vec<Shown>> {
        let coded: Vec<&Coded> = self.streams.iter().map(|(_, coded)| coded).collect();
        let received = Coded::receive_all(&coded, pattern, seed)?;
        let mut shown = Vec::new();
        for ((encoded, _), received) in self.streams.iter().zip(received) {
            let stream = viewer::show(&encoded.tracks, received, self.rules)?;
            if stream.is_empty() {
                continue;
            }
            let file = format!("{}.ts", blake3::hash(&stream).to_hex());
            if files.insert(file.clone()) {
                fs::write(clip.directory.join(&file), &stream).context("keeping a stream")?;
            }
            shown.push(Shown { file, origin: encoded.origin.0 });
        }
        Ok(shown)
    }
}

impl Worst {
    fn update(&mut self, lines: &[(Pattern, Score)], clip: &Clip, bytes: f64) {
        let some = |(pattern, score): &(Pattern, Score)| match pattern {
            Pattern::Some(count) => Some((*count, *score)),
            Pattern::Same(_) | Pattern::Loss(_) => None,
        };
        let some: Vec<(u8, Score)> = lines.iter().filter_map(some).collect();
        let Some((_, full)) = some.last().copied() else { return };
        // From this many on, and with all that are more.
        let from = |is_good: &dyn Fn(&Score) -> bool| {
            let bad = some.iter().rev().find(|(_, score)| !is_good(score));
            f64::from(bad.map_or(0, |(count, _)| *count) + 1)
        };
        let rate = clip.pictures.per_second() * FULL_RATE;
        self.moving_from = self.moving_from.max(from(&|score| score.per_second >= rate));
        self.full_from = self.full_from.max(from(&|score| *score == full));
        self.bytes = self.bytes.max(bytes);
    }
}

/// Judges every stream once, several at a time.
fn judge_all(
    clip: &Clip,
    distinct: BTreeSet<Vec<Shown>>,
    jobs: Option<NonZero<usize>>,
) -> Result<BTreeMap<Vec<Shown>, Score>> {
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let waiting = Mutex::new(distinct.into_iter().enumerate());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<(Vec<Shown>, Score)>> {
        let mut done = Vec::new();
        while let Some((number, shown)) = next() {
            let name = format!("judged-{number}");
            let score =
                judge::judge(&clip.directory, clip::PICTURES, &clip.pictures, &shown, &name)?;
            done.push((shown, score));
        }
        Ok(done)
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a judge does not panic")).collect()
    });
    let mut scores = BTreeMap::new();
    for done in done {
        scores.extend(done?);
    }
    Ok(scores)
}

/// Lines in a row that look the same become one.
fn merge_equal(lines: &[(Pattern, Score)]) -> Vec<(String, Score)> {
    let mut merged: Vec<(String, Score)> = Vec::new();
    let mut rest = lines;
    while let Some((pattern, score)) = rest.first() {
        let is_same = |(other, found): &&(Pattern, Score)| {
            found == score && pattern.count().is_some() == other.count().is_some()
        };
        let run = match pattern {
            Pattern::Loss(_) => 1,
            Pattern::Some(_) | Pattern::Same(_) => rest.iter().take_while(is_same).count(),
        };
        let (now, later) = rest.split_at(run);
        let what = match (pattern, now.last().and_then(|(last, _)| last.count())) {
            (Pattern::Loss(loss), _) => format!("{:.0} % lost", loss * 100.0),
            (Pattern::Some(first) | Pattern::Same(first), Some(last)) if last > *first => {
                format!("m = {first}-{last}")
            }
            (Pattern::Some(count) | Pattern::Same(count), _) => format!("m = {count}"),
        };
        merged.push((what, *score));
        rest = later;
    }
    merged
}

fn percentage(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no percentage"))?;
    if value > 0.0 && value <= 100.0 {
        Ok(value)
    } else {
        Err("not above 0 and up to 100".to_owned())
    }
}

fn cells(score: &Score, bytes: f64) -> Vec<Option<f64>> {
    vec![
        score.psnr,
        score.psnr_of_pictures,
        score.ssim,
        Some(score.per_second),
        Some(score.freeze),
        Some(score.complaints),
        Some(bytes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `measure_clip` says of a short clip; `None`, and a line, where there is no ffmpeg.
    fn small(test: &str) -> Option<Report> {
        if let Err(error) = ffmpeg::check() {
            eprintln!("SKIPPED: {test}: {error}");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let clip = "-f lavfi -i testsrc2=size=320x240:rate=10 -f lavfi -i sine -t 4 \
                    -c:v libx264 -c:a aac clip.mp4";
        ffmpeg::run(directory.path(), &ffmpeg::words(clip)).expect("a clip");
        let settings = Settings {
            seconds: 4,
            rate: Bitrate(400_000),
            low: Bitrate(40_000),
            polyphase: vec![2],
        };
        let options = Options {
            clips: Vec::new(),
            seconds: settings.seconds,
            rate: settings.rate,
            low: 10.0,
            seeds: 1,
            loss: vec![0, 100],
            polyphase: settings.polyphase.clone(),
            jobs: None,
        };
        let origin = Origin::File(directory.path().join("clip.mp4"));
        let clip = Clip::make(&origin, directory.path(), &settings).expect("encoded");
        assert_eq!(clip.pictures.count, 40);
        let mut report = Report::new(String::new(), &[]);
        let mut worst = Worst::default();
        measure_clip(&clip, &options, &mut report, &mut worst).expect("judged");
        assert!((worst.moving_from - 6.0).abs() < 1e-9 && (worst.full_from - 13.0).abs() < 1e-9);
        Some(report)
    }

    /// PSNR, pictures per second and the longest freeze of a line.
    fn line(report: &Report, scheme: &str, what: &str) -> (Option<f64>, f64, f64) {
        let name = format!("clip  {scheme}  {what}");
        let row = report.rows.iter().find(|(found, _)| *found == name);
        let (_, cells) = row.unwrap_or_else(|| panic!("no {name} in {:#?}", report.rows));
        (cells[0], cells[3].expect("a rate"), cells[4].expect("a freeze"))
    }

    #[test]
    fn what_is_shown_of_the_descriptions_that_arrive_is_what_their_codes_promise() {
        let Some(report) = small("what_is_shown_of_the_descriptions_that_arrive") else { return };
        let is = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        let (full, rate, freeze) = line(&report, "single", "m = 13-16");
        assert!(full.is_some_and(|psnr| psnr > 25.0) && is(rate, 10.0) && is(freeze, 0.0));
        let (nothing, rate, freeze) = line(&report, "single", "m = 1-12");
        assert!(nothing.is_none() && is(rate, 0.0) && is(freeze, 4.0));
        assert_eq!(line(&report, "single", "0 % lost"), line(&report, "single", "m = 13-16"));
        assert_eq!(line(&report, "single", "100 % lost"), line(&report, "single", "m = 1-12"));

        // Two key pictures in four seconds.
        let (keys, rate, freeze) = line(&report, "priority", "m = 11-12");
        assert!(keys < full && is(rate, 0.5) && is(freeze, 1.9), "{rate} {freeze}");
        assert_eq!(line(&report, "priority", "m = 13-16"), line(&report, "single", "m = 13-16"));

        let (low, rate, freeze) = line(&report, "ladder", "m = 6-12");
        assert!(keys < low && low < full && is(rate, 10.0) && is(freeze, 0.0), "{rate} {freeze}");
        assert_eq!(line(&report, "ladder", "m = 13-16"), line(&report, "single", "m = 13-16"));

        assert_eq!(line(&report, "striping", "m = 16"), line(&report, "single", "m = 13-16"));
        let (half, rate, freeze) = line(&report, "polyphase 2", "m = 1");
        assert!(half.is_some() && is(rate, 5.0) && is(freeze, 0.1), "{rate} {freeze}");
    }

    #[test]
    fn lines_that_look_the_same_are_one_and_losses_stay_apart() {
        let some = |psnr: f64| Score { psnr: Some(psnr), ..Score::default() };
        let lines = [
            (Pattern::Some(1), Score::default()),
            (Pattern::Some(2), some(30.0)),
            (Pattern::Some(3), some(30.0)),
            (Pattern::Some(4), some(40.0)),
            (Pattern::Loss(0.05), some(40.0)),
            (Pattern::Loss(0.2), some(40.0)),
        ];
        let names: Vec<_> = merge_equal(&lines).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["m = 1", "m = 2-3", "m = 4", "5 % lost", "20 % lost"]);
    }
}
