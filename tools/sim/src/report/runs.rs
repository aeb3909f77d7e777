//! The table of runs: one row for each variant, one table for each scenario.

use super::fold::{Chapter, Fold};
use super::html::{Html, section, table};
use super::number::Unit;

/// A column: its head, and what stands in it.
type Column = (&'static str, fn(&Fold<'_>) -> String);

const COLUMNS: [Column; 30] = [
    ("variant", |fold| fold.label.clone()),
    ("overlay", |fold| fold.first.overlay.clone()),
    ("peers", |fold| Unit::Plain.write(f64::from(fold.first.nodes))),
    ("K", |fold| fold.first.stripes.to_string()),
    ("seeds", |fold| fold.seeds()),
    ("ended", |fold| match fold.failed() {
        0 => "well".into(),
        failed => format!("{failed} failed"),
    }),
    ("complete", |fold| fold.metric("complete", Unit::Share)),
    ("all complete after", |fold| fold.complete_after()),
    ("first picture, median", |fold| fold.metric("first_picture_median", Unit::Seconds)),
    ("first picture, p99", |fold| fold.metric("first_picture_p99", Unit::Seconds)),
    ("requests per peer, mean", |fold| fold.metric("requests_mean", Unit::Plain)),
    ("busiest peer", |fold| fold.metric("requests_max", Unit::Plain)),
    ("busiest viewer", |fold| fold.metric("requests_max_viewer", Unit::Plain)),
    ("depth, mean", |fold| fold.metric("depth_mean", Unit::Plain)),
    ("depth, max", |fold| fold.metric("depth_max", Unit::Plain)),
    ("interior in 0 / 1 / 2 / 3+ trees", interior),
    ("lost with worst ancestor, mean", |fold| fold.metric("worst_loss_mean", Unit::Plain)),
    ("the same, max", |fold| fold.metric("worst_loss_max", Unit::Plain)),
    ("delay ratio, worst stripe", |fold| fold.metric("rad_worst", Unit::Plain)),
    ("all back after event", |fold| fold.all_back()),
    ("stripe-seconds lost per peer", |fold| fold.metric("stripe_seconds_lost", Unit::Plain)),
    ("base quality", |fold| fold.metric("continuity_base", Unit::Share)),
    ("full quality", |fold| fold.metric("continuity_full", Unit::Share)),
    ("glass to glass, p99", |fold| fold.metric("glass_to_glass_p99", Unit::Seconds)),
    ("control share", |fold| fold.write(|run| control(run.traffic.control_share), Unit::Share)),
    ("control messages/s per peer", |fold| {
        fold.write(|run| control(run.traffic.control_rate), Unit::Plain)
    }),
    ("connections, mean", |fold| fold.metric("connections_mean", Unit::Plain)),
    ("wall", |fold| fold.write(|run| Some(run.cost.wall), Unit::Seconds)),
    ("steps/s", |fold| fold.write(|run| Some(run.cost.steps_per_second), Unit::Plain)),
    ("process memory", |fold| {
        fold.write(|run| run.cost.peak_memory.map(|m| crate::measure::ratio(m, 1)), Unit::Bytes)
    }),
];

/// All runs.
pub(super) fn runs(chapters: &[Chapter<'_>]) -> Html {
    let heads = COLUMNS.map(|(head, _)| head);
    let row = |fold: &Fold<'_>| COLUMNS.map(|(_, cell)| Html::text(&cell(fold))).to_vec();
    let one = |chapter: &Chapter<'_>| {
        let rows: Vec<Vec<Html>> = chapter.folds.iter().map(row).collect();
        table(&format!("{}: {}", chapter.name, chapter.about), &heads, &rows)
    };
    section("runs", "Runs", &chapters.iter().map(one).collect())
}

/// Peers by the trees in which they are interior: medians over the seeds.
pub(super) fn interior(fold: &Fold<'_>) -> String {
    if fold.first.forest.viewers == 0 {
        return String::new();
    }
    let class = |class: usize| {
        let of = fold.spread(|run| Some(f64::from(run.forest.interior_histogram[class])));
        of.map_or_else(String::new, |spread| Unit::Plain.write(spread.median.round()))
    };
    [0, 1, 2, 3].map(class).join(" / ")
}

fn control(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}
