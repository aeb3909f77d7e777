//! What follows an event: rooted stripes over the seconds since.

use super::axis::Axis;
use super::chart::{Chart, Series, Shape};
use super::group::Group;
use super::plots::largest;
use crate::result::{RunResult, Sample};

/// Left edge of the axis: seconds since the event are drawn logarithmically, as one overlay takes
/// tenths of seconds where another takes minutes.
const SOON: f64 = 0.1;

/// Two drawings for each event.
pub(super) fn charts(group: &Group<'_>) -> Vec<Chart> {
    let events = group.runs().map(|run| run.events.len()).max().unwrap_or(0);
    (0..events).flat_map(|event| [mean(group, event), worst(group, event)]).collect()
}

fn mean(group: &Group<'_>, event: usize) -> Chart {
    let series = group.series(|run| {
        let Some(found) = run.events.get(event) else {
            return Vec::new();
        };
        let first = (SOON, found.rooted_after * run.world.wanted.mean);
        std::iter::once(first).chain(since(run, event, |sample| sample.rooted_mean)).collect()
    });
    chart(group, event, "Stripes rooted", "mean over live viewers", series)
}

fn worst(group: &Group<'_>, event: usize) -> Chart {
    let series = group.series(|run| since(run, event, |sample| f64::from(sample.rooted_min)));
    chart(group, event, "Stripes rooted at the worst viewer", "viewers older than 10 s", series)
}

fn chart(group: &Group<'_>, event: usize, title: &str, note: &str, series: Vec<Series>) -> Chart {
    let stripes = group.runs().map(|run| f64::from(run.stripes)).fold(1.0, f64::max);
    let mut names: Vec<&str> = Vec::new();
    for found in group.runs().filter_map(|run| run.events.get(event)) {
        if !names.contains(&found.name.as_str()) {
            names.push(&found.name);
        }
    }
    let name = names.join("” or “");
    Chart {
        title: format!("{title} after “{name}”"),
        note: note.into(),
        x: Axis::log("s since the event, logarithmic", SOON, largest(&series, |(x, _)| x)),
        y: Axis::stripes("", stripes),
        shape: Shape::Line,
        series,
    }
}

/// (Seconds since the event, value) of the samples until the next event.
pub(super) fn since(run: &RunResult, event: usize, of: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let Some(found) = run.events.get(event) else {
        return Vec::new();
    };
    let end = run.events.get(event + 1).map_or(f64::INFINITY, |next| next.at);
    let samples = run.series.iter().filter(|sample| sample.at < end);
    let points = samples.map(|sample| (sample.at - found.at, of(sample)));
    points.filter(|(since, _)| *since >= SOON * 0.999).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::EventResult;

    #[test]
    fn samples_count_until_the_next_event() {
        let event = |at| EventResult { at, ..EventResult::default() };
        let sample = |at| Sample { at, rooted_mean: 7.0, ..Sample::default() };
        let run = RunResult {
            events: vec![event(2.0), event(5.0)],
            series: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(sample).into(),
            ..RunResult::default()
        };
        assert_eq!(since(&run, 0, |sample| sample.rooted_mean), [(1.0, 7.0), (2.0, 7.0)]);
        assert_eq!(since(&run, 1, |sample| sample.rooted_mean), [(1.0, 7.0)]);
    }
}
