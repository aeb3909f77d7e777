//! Messages by kind: bars on a logarithmic axis, as kinds differ by orders of magnitude.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::chart::{Chart, Series, Shape};
use super::group::Group;
use super::number::float;
use crate::measure::ratio;
use crate::result::RunResult;

/// Most kinds in one drawing; the rest are the rarest.
const MAX_KINDS: usize = 12;

/// Messages of each kind for each peer.
pub(super) fn chart(group: &Group<'_>) -> Chart {
    let mut most: BTreeMap<&str, f64> = BTreeMap::new();
    for run in group.runs() {
        for kind in &run.traffic.kinds {
            let known = most.entry(&kind.kind).or_default();
            *known = known.max(per_peer(run, kind.messages));
        }
    }
    let mut kinds: Vec<(&str, f64)> = most.into_iter().filter(|(_, most)| *most > 0.0).collect();
    kinds.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let hidden = kinds.len().saturating_sub(MAX_KINDS);
    kinds.truncate(MAX_KINDS);
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let points = |run: &RunResult| {
        let bar = |(place, name): (usize, &&str)| {
            let kind = run.traffic.kinds.iter().find(|kind| kind.kind == **name)?;
            let value = per_peer(run, kind.messages);
            (value > 0.0).then_some((value, float(names.len() - 1 - place)))
        };
        names.iter().enumerate().filter_map(bar).collect()
    };
    let series: Vec<Series> = group.series(points);
    let values = || series.iter().flat_map(|series| &series.points).map(|(value, _)| *value);
    let least = values().fold(f64::INFINITY, f64::min);
    let rest =
        if hidden > 0 { format!("; {hidden} rarer kinds are left out") } else { String::new() };
    Chart {
        title: "Messages by kind".into(),
        note: format!("sent in the whole run, per peer{rest}"),
        // A bar must begin below the least, or that would have none.
        x: Axis::log("messages per peer, logarithmic", least / 3.0, values().fold(0.0, f64::max)),
        y: Axis::names(&names),
        shape: Shape::Lying,
        series,
    }
}

fn per_peer(run: &RunResult, messages: u64) -> f64 {
    ratio(messages, run.traffic.requests.count.max(1))
}
