//! Ours beside the SplitStream paper's figures (SOSP 2003, sections 5.2 to 5.4).
//!
//! A run stands beside the paper's wherever its variant has the paper's name; its population is in
//! the row, as small ones flatter.

use super::after::since;
use super::fold::{Chapter, Fold};
use super::html::{Html, element, paragraph, section, table};
use super::number::{Unit, plain};
use crate::result::{RunResult, Sample};

/// What the paper says of one configuration of 40,000 peers.
#[derive(Debug)]
struct Published {
    /// The paper's name.
    name: &'static str,
    /// The variant's.
    variant: &'static str,
    /// Messages handled per node: max, mean, median.
    stress: [f64; 3],
    /// Stripes lost when the worst ancestor fails: max, mean, median.
    worst: Option<[f64; 3]>,
}

const PUBLISHED: [Published; 6] = [
    of("16x16", "16x16", [2971.0, 57.2, 49.9], Some([6.8, 2.1, 2.0])),
    of("16x18", "16x18", [1089.0, 52.6, 47.4], None),
    of("16x32", "16x32", [663.0, 35.3, 30.9], Some([6.6, 1.7, 2.0])),
    of("NB", "unbounded", [472.0, 16.9, 12.0], Some([1.0, 1.0, 1.0])),
    of("d×d", "dxd", [2532.0, 42.1, 36.6], Some([5.3, 1.5, 1.0])),
    of("Gnutella", "gnutella", [1054.0, 56.7, 54.2], Some([7.2, 2.4, 2.0])),
];

const fn of(
    name: &'static str,
    variant: &'static str,
    stress: [f64; 3],
    worst: Option<[f64; 3]>,
) -> Published {
    Published { name, variant, stress, worst }
}

const HEADS: [&str; 14] = [
    "who",
    "peers",
    "seeds",
    "stress, max",
    "stress, mean",
    "stress, median",
    "max over mean",
    "worst ancestor, max",
    "worst ancestor, mean",
    "worst ancestor, median",
    "any ancestor, mean",
    "native edges",
    "delay ratio RMD, worst stripe",
    "all complete after",
];

/// Both tables; empty where no run is comparable.
pub(super) fn paper(chapters: &[Chapter<'_>]) -> Html {
    let body = build(chapters).then(&quarter(chapters));
    if body.is_empty() {
        return body;
    }
    let note = "The paper's figures are of 40,000 peers on the GT-ITM topology “GATech” unless a \
                row says otherwise; compare rows of like populations only. Node stress counts \
                requests a peer handles while the forest is built.";
    section("paper", "Beside the SplitStream paper", &paragraph(note).then(&body))
}

/// Marks a row as somebody else's.
pub(super) fn published(text: &str) -> Html {
    element("span", &[("class", "published")], &Html::text(text))
}

/// Which of the simulator's overlays a row is of.
pub(super) fn who(chapter: &Chapter<'_>, fold: &Fold<'_>) -> Html {
    Html::text(&format!("{} ({}, {})", fold.first.overlay, chapter.name, fold.label))
}

/// Every variant of every scenario.
pub(super) fn all<'a>(
    chapters: &'a [Chapter<'a>],
) -> impl Iterator<Item = (&'a Chapter<'a>, &'a Fold<'a>)> {
    chapters.iter().flat_map(|chapter| chapter.folds.iter().map(move |fold| (chapter, fold)))
}

fn build(chapters: &[Chapter<'_>]) -> Html {
    let mut body = Html::default();
    for published in &PUBLISHED {
        let is_same = |fold: &Fold<'_>| {
            let variant = fold.first.variant.as_str();
            variant.strip_prefix("paper-").unwrap_or(variant) == published.variant
                && !fold.has_events()
        };
        let ours: Vec<Vec<Html>> = all(chapters)
            .filter(|(_, fold)| is_same(fold))
            .map(|(chapter, fold)| build_row(chapter, fold))
            .collect();
        if !ours.is_empty() {
            let rows = [vec![theirs(published)], ours].concat();
            body.push(&table(&format!("Building the forest, {}", published.name), &HEADS, &rows));
        }
    }
    body
}

fn theirs(row: &Published) -> Vec<Html> {
    let number = |value: f64| Html::text(&plain(value));
    let [max, mean, median] = row.stress;
    let mut cells = vec![published("the paper"), Html::text("40,000"), Html::text("10 topologies")];
    cells.extend([max, mean, median, max / mean].map(number));
    cells.extend(row.worst.map_or_else(Default::default, |worst| worst.map(number)));
    cells.push(number(1.0));
    cells.push(Html::default());
    cells.push(Html::text("≤ 5.4 in all"));
    cells
}

fn build_row(chapter: &Chapter<'_>, fold: &Fold<'_>) -> Vec<Html> {
    let mut cells = vec![
        who(chapter, fold),
        Html::text(&plain(f64::from(fold.first.nodes))),
        Html::text(&fold.seeds()),
    ];
    for name in [
        "requests_max",
        "requests_mean",
        "requests_median",
        "requests_max_over_mean",
        "worst_loss_max",
        "worst_loss_mean",
        "worst_loss_median",
        "single_loss_mean",
    ] {
        cells.push(Html::text(&fold.metric(name, Unit::Plain)));
    }
    cells.push(Html::text(&fold.metric("native_edges", Unit::Share)));
    cells.push(Html::text(&fold.metric("rmd_worst", Unit::Plain)));
    cells.push(Html::text(&fold.complete_after()));
    cells
}

/// A quarter of 10,000 peers dies at once.
fn quarter(chapters: &[Chapter<'_>]) -> Html {
    let is_quarter = |run: &RunResult| {
        Fold::blow(run).is_some_and(|event| {
            let (dead, live) = (f64::from(event.victims), f64::from(event.viewers));
            (dead / (dead + live) - 0.25).abs() < 0.02
        })
    };
    let ours: Vec<Vec<Html>> = all(chapters)
        .filter(|(_, fold)| is_quarter(fold.first))
        .map(|(chapter, fold)| quarter_row(chapter, fold))
        .collect();
    if ours.is_empty() {
        return Html::default();
    }
    let texts =
        ["10,000", "", "", "≥ 14 at most nodes", "", "16 at most nodes", "< 180 s", "", "", "1.6"];
    let theirs = std::iter::once(published("the paper, 16x16")).chain(texts.map(Html::text));
    let heads = [
        "who",
        "peers",
        "seeds",
        "stripes left just after",
        "stripes after 30 s",
        "complete after 30 s",
        "stripes after 60 s",
        "all back after",
        "stripe-seconds lost per peer",
        "generations without picture",
        "control messages/s per peer",
    ];
    let rows = [vec![theirs.collect()], ours].concat();
    let note = "The paper's peers hear of deaths by heartbeats of 30 s and send a packet a second \
                on each stripe.";
    table("A quarter dies at once", &heads, &rows).then(&paragraph(note))
}

fn quarter_row(chapter: &Chapter<'_>, fold: &Fold<'_>) -> Vec<Html> {
    let later = |seconds: f64, of: fn(&Sample) -> f64, unit: Unit| {
        let value = |run: &RunResult| {
            since(run, blow_place(run)?, of).into_iter().find(|(at, _)| *at >= seconds - 1e-6)
        };
        fold.write(|run| value(run).map(|(_, value)| value), unit)
    };
    let blow = |of: fn(&crate::result::EventResult) -> f64, unit: Unit| {
        fold.write(|run| Fold::blow(run).map(of), unit)
    };
    let texts = [
        plain(f64::from(fold.first.nodes)),
        fold.seeds(),
        blow(|event| event.rooted_after, Unit::Share),
        later(30.0, |sample| sample.rooted_mean, Unit::Plain),
        later(30.0, |sample| sample.complete, Unit::Share),
        later(60.0, |sample| sample.rooted_mean, Unit::Plain),
        fold.all_back(),
        blow(|event| event.stripe_seconds_lost, Unit::Plain),
        fold.write(freezes, Unit::Plain),
        fold.write(|run| Some(run.traffic.control_rate), Unit::Plain),
    ];
    std::iter::once(who(chapter, fold)).chain(texts.map(|text| Html::text(&text))).collect()
}

/// Generations without a picture, where there were pictures at all.
fn freezes(run: &RunResult) -> Option<f64> {
    let event = Fold::blow(run).filter(|_| run.playback.played > 0)?;
    Some(crate::measure::ratio(event.freezes, 1))
}

fn blow_place(run: &RunResult) -> Option<usize> {
    run.events.iter().position(|event| event.victims > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fold::chapters;
    use crate::result::EventResult;

    fn run(variant: &str) -> RunResult {
        RunResult { scenario: "build".into(), variant: variant.into(), ..RunResult::default() }
    }

    #[test]
    fn a_run_of_the_papers_name_stands_beside_the_paper() {
        let results = [run("paper-16x16"), run("16x18")];
        let html = paper(&chapters(&results));
        for figure in ["2,971", "57.2", "1,089", "52.6"] {
            assert!(html.as_str().contains(figure), "{figure}");
        }
        assert!(!html.as_str().contains("663"));
    }

    #[test]
    fn other_runs_stand_beside_nothing() {
        assert!(paper(&chapters(&[run("5 Mbit/s")])).is_empty());
    }

    #[test]
    fn the_death_of_a_quarter_stands_beside_the_papers() {
        let event = EventResult { victims: 25, viewers: 75, ..EventResult::default() };
        let html = paper(&chapters(&[RunResult { events: vec![event], ..run("16x16") }]));
        assert!(html.as_str().contains("&lt; 180 s"));
        assert!(!html.as_str().contains("2,971"));
    }
}
