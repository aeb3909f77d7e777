//! What grows with the audience and with the number of stripes.

use anyhow::Result;

use super::axis::Axis;
use super::chart::{Chart, Series, Shape};
use super::colour::style;
use super::fold::{Chapter, Fold};
use super::group::usual;
use super::html::{Html, element, tag};
use super::number::plain;
use super::plots::largest;
use crate::measure::ratio;
use crate::result::RunResult;

/// What is drawn: title, note, whether the side is logarithmic, value.
type Curve = (&'static str, &'static str, bool, fn(&RunResult) -> Option<f64>);

const CURVES: [Curve; 10] = [
    ("Requests per peer", "mean", false, |run| metric(run, "requests_mean")),
    ("Requests at the busiest peer", "logarithmic", true, |run| metric(run, "requests_max")),
    ("Depth", "mean, in hops", false, |run| metric(run, "depth_mean")),
    ("Greatest depth", "in hops", false, |run| metric(run, "depth_max")),
    ("Until all are complete", "s from the start of the world", false, |run| {
        metric(run, "complete_after")
    }),
    ("Until a viewer is complete", "median, in s from its start", false, |run| {
        metric(run, "node_complete_median")
    }),
    ("Messages per peer", "control messages sent in the whole run", false, messages),
    ("Connections per peer", "mean, at the end", false, |run| metric(run, "connections_mean")),
    ("Contacts per peer", "peers a viewer knows: mean, at the end", false, |run| {
        metric(run, "contacts_mean")
    }),
    (
        "Memory per peer",
        "KiB: the process's most over its viewers, world and runs side by side included",
        false,
        memory,
    ),
];

/// Curves over N and over K.
pub(super) fn growth(chapter: &Chapter<'_>) -> Result<Html> {
    let stripes = usual(chapter.folds.iter().map(|fold| fold.first.stripes));
    let folds = |is_wanted: &dyn Fn(&RunResult) -> bool| -> Vec<&Fold<'_>> {
        chapter.folds.iter().filter(|fold| is_wanted(fold.first)).collect()
    };
    let by_nodes = folds(&|run| Some(run.stripes) == stripes);
    // The population at which the number of stripes was varied.
    let others = chapter.folds.iter().filter(|fold| Some(fold.first.stripes) != stripes);
    let nodes = usual(others.map(|fold| fold.first.nodes));
    let by_stripes = folds(&|run| Some(run.nodes) == nodes);
    let title = |what: &str, number: String| format!("By the number of {what}, {number}");
    let stripes = format!("{} stripes each", stripes.unwrap_or_default());
    let nodes = format!("{} viewers", plain(f64::from(nodes.unwrap_or_default())));
    let first = part(&title("viewers", stripes), "viewers, logarithmic", &by_nodes, |run| {
        f64::from(run.nodes)
    })?;
    let second = part(&title("stripes", nodes), "stripes, logarithmic", &by_stripes, |run| {
        f64::from(run.stripes)
    })?;
    Ok(first.then(&second))
}

fn part(
    title: &str,
    axis: &'static str,
    folds: &[&Fold<'_>],
    x: fn(&RunResult) -> f64,
) -> Result<Html> {
    let mut places: Vec<f64> = folds.iter().map(|fold| x(fold.first)).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if places.len() < 2 {
        return Ok(Html::default());
    }
    let mut overlays: Vec<&str> = folds.iter().map(|fold| fold.first.overlay.as_str()).collect();
    overlays.sort_unstable();
    overlays.dedup();
    let chart = |(title, note, is_log, of): Curve| {
        let line = |overlay: &&str| {
            let own = folds.iter().filter(|fold| fold.first.overlay == **overlay);
            let point = |fold: &&Fold<'_>| Some((x(fold.first), fold.spread(of)?.median));
            let mut points: Vec<(f64, f64)> = own.filter_map(point).collect();
            points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            Series { label: (*overlay).to_owned(), style: style(overlay, 0), points }
        };
        let series: Vec<Series> = overlays.iter().map(line).collect();
        let values = || series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), largest(&series, |(_, y)| y));
        let y = if is_log { Axis::log("", least, most) } else { Axis::linear("", most) };
        let x = Axis::log_at(axis, &places);
        Chart { title: title.into(), note: note.into(), x, y, shape: Shape::Dots, series }.draw()
    };
    let drawn = CURVES.into_iter().map(chart).collect::<Result<Html>>()?;
    let plots = element("div", &[("class", "plots")], &drawn);
    Ok(tag("h3", &Html::text(title)).then(&plots))
}

fn metric(run: &RunResult, name: &str) -> Option<f64> {
    run.metrics.get(name).copied()
}

fn messages(run: &RunResult) -> Option<f64> {
    let control = run.traffic.kinds.iter().filter(|kind| !kind.is_data);
    let messages: u64 = control.map(|kind| kind.messages).sum();
    (messages > 0).then(|| ratio(messages, run.traffic.requests.count.max(1)))
}

fn memory(run: &RunResult) -> Option<f64> {
    Some(ratio(run.cost.peak_memory?, u64::from(run.nodes.max(1))) / 1024.0)
}
