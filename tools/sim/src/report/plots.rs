//! The drawings of one scenario.
//!
//! Decides which exist; a drawing without data is left out. How it looks is [`super::chart`]'s.

use anyhow::Result;

use super::axis::Axis;
use super::chart::{Chart, Series, Shape};
use super::fold::Chapter;
use super::group::{Group, groups};
use super::html::{Html, element, paragraph, section, tag};
use super::number::float;
use super::{after, kinds};
use crate::measure::ratio;
use crate::result::{Distribution, RunResult, Sample};

/// All drawings of a scenario, and what else there is `more` of it.
pub(super) fn plots(chapter: &Chapter<'_>, more: &Html) -> Result<Html> {
    let mut body = paragraph(chapter.about).then(more);
    for group in groups(chapter) {
        let mut charts = structure(&group);
        charts.extend(over_time(&group));
        charts.extend(after::charts(&group));
        charts.extend(delays(&group));
        charts.extend(load(&group));
        charts.push(latency(&group));
        let drawn = charts.iter().map(Chart::draw).collect::<Result<Html>>()?;
        if drawn.is_empty() {
            continue;
        }
        if !group.title.is_empty() {
            body.push(&tag("h3", &Html::text(&group.title)));
        }
        body.push(&element("div", &[("class", "plots")], &drawn));
        // As high as its kinds are many: beside others it would leave them in the air.
        let kinds = kinds::chart(&group).draw()?;
        if !kinds.is_empty() {
            body.push(&element("div", &[("class", "plots")], &kinds));
        }
    }
    let anchor = format!("scenario-{}", chapter.name);
    Ok(section(&anchor, &format!("Scenario {}", chapter.name), &body))
}

/// Depths, and trees in which peers are interior.
fn structure(group: &Group<'_>) -> Vec<Chart> {
    let depths = group.series(|run| percent(1, &run.forest.depth_histogram));
    let deepest = largest(&depths, |(x, _)| x);
    let last = group.runs().map(|run| run.forest.depth_histogram.len()).max().unwrap_or(1);
    // Bars of a few pixels show nothing.
    let shape = if deepest * float(depths.len()) > 80.0 { Shape::Dots } else { Shape::Bars };
    let interior = group.series(|run| {
        let counts = run.forest.interior_histogram.map(u64::from);
        if run.forest.viewers == 0 { Vec::new() } else { percent(0, &counts) }
    });
    vec![
        Chart {
            title: "Depth".into(),
            note: "hops from the source, % of rooted (viewer, stripe) pairs".into(),
            x: Axis::whole("hops", 1, last.saturating_sub(1).max(1)),
            y: Axis::linear("", largest(&depths, |(_, y)| y)),
            shape,
            series: depths,
        },
        Chart {
            title: "Interior in how many trees".into(),
            note: "% of viewers; 3 stands for 3 and more".into(),
            x: Axis::whole("trees", 0, 3),
            y: Axis::linear("", 100.0),
            shape: Shape::Bars,
            series: interior,
        },
    ]
}

fn over_time(group: &Group<'_>) -> Vec<Chart> {
    let end = group.runs().filter_map(|run| run.series.last()).map(|s| s.at).fold(0.0, f64::max);
    let stripes = group.runs().map(|run| f64::from(run.stripes)).fold(1.0, f64::max);
    let chart = |title: &str, note: &str, y: Axis, series: Vec<Series>| Chart {
        title: title.into(),
        note: note.into(),
        x: Axis::linear("s", end),
        y,
        shape: Shape::Line,
        series,
    };
    let percent = || Axis::linear("", 100.0);
    let each = |of: fn(&Sample) -> f64| {
        group.series(|run| run.series.iter().map(|sample| (sample.at, of(sample))).collect())
    };
    vec![
        chart(
            "Stripes rooted",
            "stripes with a path from the source: mean over live viewers",
            Axis::stripes("", stripes),
            each(|sample| sample.rooted_mean),
        ),
        chart(
            "Complete",
            "% of live viewers with all wanted stripes rooted",
            percent(),
            each(|sample| sample.complete * 100.0),
        ),
        chart(
            "Base quality or better",
            "% of the generations that came to their deadline, second by second",
            percent(),
            group.series(|run| quality(run, |sample| sample.base)),
        ),
        chart(
            "Full quality",
            "% of the generations that came to their deadline, second by second",
            percent(),
            group.series(|run| quality(run, |sample| sample.full)),
        ),
        descriptions(group, stripes),
    ]
}

/// Descriptions that had come at the deadline, over the whole run.
fn descriptions(group: &Group<'_>, stripes: f64) -> Chart {
    let received = |run: &RunResult| {
        let counts = run.playback.received_histogram.iter().enumerate();
        let played = ratio(run.playback.played, 1);
        let mut below = 0.0;
        let steps = counts.flat_map(|(count, generations)| {
            let from = below;
            below += ratio(*generations, 1) / played * 100.0;
            [(float(count), from), (float(count), below)]
        });
        if played > 0.0 { steps.collect() } else { Vec::new() }
    };
    Chart {
        title: "Descriptions received by the deadline".into(),
        note: "% of played generations that had this many or fewer; best is a corner at the \
               lower right"
            .into(),
        x: Axis::stripes("descriptions", stripes),
        y: Axis::linear("", 100.0),
        shape: Shape::Line,
        series: group.series(received),
    }
}

/// Shares of good generations among those played, in steps of a second at least.
fn quality(run: &RunResult, good: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let (mut played, mut well, mut since) = (0, 0, f64::NEG_INFINITY);
    for sample in &run.series {
        played += sample.played;
        well += good(sample);
        if played > 0 && sample.at - since >= 0.999 {
            points.push((sample.at, ratio(well, played) * 100.0));
            (played, well, since) = (0, 0, sample.at);
        }
    }
    points
}

fn delays(group: &Group<'_>) -> Vec<Chart> {
    vec![
        cdf(group, "Complete after", "s after a viewer's start", |run| &run.build.node_complete),
        cdf(group, "First picture", "s after a viewer's start", |run| &run.build.first_picture),
        cdf(group, "Glass to glass", "s from publishing to playout", |run| {
            &run.playback.glass_to_glass
        }),
    ]
}

fn load(group: &Group<'_>) -> Vec<Chart> {
    let requests = group.series(|run| {
        // On a logarithmic axis those who handled none stand at one.
        distribution(&run.traffic.requests).into_iter().map(|(x, y)| (x.max(1.0), y)).collect()
    });
    let most = largest(&requests, |(x, _)| x);
    let degree = |run: &RunResult| distribution(&run.forest.out_degree);
    vec![
        Chart {
            title: "Requests handled per peer".into(),
            note: "% of all peers that ever were, with this many or fewer".into(),
            x: Axis::log("requests, logarithmic", 1.0, most),
            y: Axis::linear("", 100.0),
            shape: Shape::Line,
            series: requests,
        },
        cumulative("Out-degree", "children over all trees", group.series(degree)),
        cdf(group, "Connections", "connections of a live viewer at the end", |run| {
            &run.forest.connections
        }),
    ]
}

fn cdf(
    group: &Group<'_>,
    title: &str,
    unit: &'static str,
    of: impl Fn(&RunResult) -> &Distribution,
) -> Chart {
    cumulative(title, unit, group.series(|run| distribution(of(run))))
}

fn cumulative(title: &str, unit: &'static str, series: Vec<Series>) -> Chart {
    Chart {
        title: title.into(),
        note: "% of viewers with this much or less".into(),
        x: Axis::linear(unit, largest(&series, |(x, _)| x)),
        y: Axis::linear("", 100.0),
        shape: Shape::Line,
        series,
    }
}

/// One line for each model of the world's distances.
fn latency(group: &Group<'_>) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for (fold, style) in &group.members {
        let delays = &fold.first.world.latency_ms;
        let points = distribution(delays);
        // Seeds and variants share a model; noise of sampling is not worth a line.
        let model = fold.spec("/latency/model").and_then(serde_json::Value::as_str).unwrap_or("");
        if !points.is_empty() && !series.iter().any(|known| known.label == model) {
            series.push(Series { label: model.into(), style: *style, points });
        }
    }
    Chart {
        title: "One-way delays of the world".into(),
        note: "% of random pairs at this distance or nearer, by the scenario's model".into(),
        x: Axis::linear("ms", largest(&series, |(x, _)| x)),
        y: Axis::linear("", 100.0),
        shape: Shape::Line,
        series,
    }
}

/// (Value, percent of the numbers that are no larger).
fn distribution(distribution: &Distribution) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> =
        distribution.percentiles.iter().copied().zip((0..).map(f64::from)).collect();
    if let Some(last) = points.pop() {
        points.push((distribution.p999, 99.9));
        points.push(last);
    }
    points
}

/// Counts as percent of their sum, from the index `first` on.
fn percent(first: usize, counts: &[u64]) -> Vec<(f64, f64)> {
    let all: u64 = counts.iter().sum();
    let share = |(place, count): (usize, &u64)| (float(place), ratio(*count, all.max(1)) * 100.0);
    counts.iter().enumerate().skip(first).map(share).collect()
}

pub(super) fn largest(series: &[Series], of: fn((f64, f64)) -> f64) -> f64 {
    series.iter().flat_map(|series| &series.points).map(|point| of(*point)).fold(0.0, f64::max)
}
