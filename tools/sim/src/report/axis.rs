//! Axes with ticks where people expect them, linear, logarithmic or of names.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use super::number::{float, plain};

/// Most ticks that fit without touching each other.
const MAX_TICKS: f64 = 6.0;

/// One axis of a drawing.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it shows; empty where the caption says it.
    pub(super) title: &'static str,
    is_log: bool,
    range: (f64, f64),
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `max`.
    pub(super) fn linear(title: &'static str, max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let rough = max / MAX_TICKS;
        let decade = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
        let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let last = (max / step - 1e-9).ceil();
        let ticks = (0_u32..).map(f64::from).take_while(|tick| *tick <= last);
        let ticks = ticks.map(|tick| (tick * step, label(tick * step))).collect();
        Self { title, is_log: false, range: (0.0, last * step), ticks }
    }

    /// From 0 to a number of stripes, which it ends with.
    pub(super) fn stripes(title: &'static str, stripes: f64) -> Self {
        let quarters = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| part * stripes);
        if quarters.iter().any(|tick| (tick - tick.round()).abs() > 1e-9) {
            return Self::linear(title, stripes);
        }
        let ticks = quarters.map(|tick| (tick, label(tick))).into();
        Self { title, is_log: false, range: (0.0, stripes), ticks }
    }

    /// Logarithmic over positive numbers; ends are the nearest of 1, 2 and 5 times a power of ten.
    pub(super) fn log(title: &'static str, min: f64, max: f64) -> Self {
        let min = if min > 0.0 { min } else { 1e-3 };
        let max = max.max(min);
        let first = min.log10().floor();
        let decades = (0_u32..40).map(|decade| 10_f64.powf(first + f64::from(decade)));
        let steps: Vec<f64> =
            decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * decade)).collect();
        let low = steps.iter().rev().copied().find(|step| *step <= min * 1.000_001).unwrap_or(min);
        let high = steps.iter().copied().find(|step| *step >= max * 0.999_999 && *step > low);
        let high = high.unwrap_or(max * 10.0);
        let is_short = (high / low).log10() <= 2.05;
        let is_decade = |step: f64| (step.log10() - step.log10().round()).abs() < 1e-6;
        let ticks = steps.into_iter().filter(|step| *step >= low && *step <= high);
        let ticks = ticks.filter(|step| is_short || is_decade(*step));
        let ticks = ticks.map(|tick| (tick, label(tick))).collect();
        Self { title, is_log: true, range: (low, high), ticks }
    }

    /// Logarithmic, with ticks where the data are.
    pub(super) fn log_at(title: &'static str, values: &[f64]) -> Self {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        let ticks = values.iter().map(|value| (*value, label(*value))).collect();
        Self { ticks, range: (min / 1.3, max * 1.3), ..Self::log(title, min, max) }
    }

    /// One place for each name, the first at the top.
    pub(super) fn names(names: &[&str]) -> Self {
        let count = names.len();
        let place = |(place, name): (usize, &&str)| (float(count - 1 - place), short(name));
        let ticks = names.iter().enumerate().map(place).collect();
        Self { title: "", is_log: false, range: (-0.6, float(count) - 0.4), ticks }
    }

    /// One place for each whole number from `first` to `last`: for bars.
    pub(super) fn whole(title: &'static str, first: usize, last: usize) -> Self {
        let every = (last - first) / 12 + 1;
        let ticks = (first..=last).step_by(every).map(|tick| (float(tick), tick.to_string()));
        let range = (float(first) - 0.6, float(last) + 0.6);
        Self { title, is_log: false, range, ticks: ticks.collect() }
    }

    /// How many ticks it has.
    pub(super) const fn ticks(&self) -> usize {
        self.ticks.len()
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> f64 {
        self.range.0
    }

    /// What stands at a tick.
    pub(super) fn label_at(&self, value: f64) -> String {
        let near = |(tick, _): &&(f64, String)| (tick - value).abs() <= tick.abs() * 1e-9 + 1e-12;
        self.ticks.iter().find(near).map_or_else(String::new, |(_, label)| label.clone())
    }

    fn share(&self, value: f64) -> f64 {
        let (min, max) = self.range;
        let share = if self.is_log {
            (value.max(min) / min).ln() / (max / min).ln()
        } else {
            (value - min) / (max - min)
        };
        share.clamp(0.0, 1.0)
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a place among some hundred pixels")]
    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (f64::from(end - start) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // The library asks a second time, for lines between ticks: there are none.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        self.clone().into()
    }
}

impl From<Axis> for Range<f64> {
    fn from(axis: Axis) -> Self {
        axis.range.0..axis.range.1
    }
}

fn label(value: f64) -> String {
    let text = plain(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn short(name: &str) -> String {
    if name.chars().count() <= 16 {
        return name.to_owned();
    }
    name.chars().take(15).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&Axis::linear("", 16.0)), ["0", "5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::linear("", 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(&Axis::stripes("", 16.0)), ["0", "4", "8", "12", "16"]);
        assert_eq!(labels(&Axis::log("", 0.1, 240.0)), ["0.1", "1", "10", "100"]);
        assert_eq!(labels(&Axis::log("", 20.0, 100.0)), ["20", "50", "100"]);
    }

    #[test]
    fn values_outside_stay_at_the_edge() {
        let axis = Axis::log("", 1.0, 100.0);
        assert_eq!(axis.map(&0.0, (0, 100)), 0);
        assert_eq!(axis.map(&10.0, (0, 100)), 50);
        assert_eq!(axis.map(&1e9, (0, 100)), 100);
    }

    #[test]
    fn no_data_make_no_endless_axis() {
        assert_eq!(Axis::linear("", 0.0).ticks(), 6);
        assert!(Axis::log("", 0.0, 0.0).ticks() < 10);
    }
}
