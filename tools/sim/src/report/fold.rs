//! Runs that differ in nothing but their seed, taken together.

use serde_json::Value;

use super::number::Unit;
use crate::result::{EventResult, Outcome, RunResult};

/// A scenario and what ran of it.
#[derive(Debug)]
pub(super) struct Chapter<'a> {
    /// The scenario's name.
    pub(super) name: &'a str,
    /// What it is about.
    pub(super) about: &'a str,
    /// Its variants.
    pub(super) folds: Vec<Fold<'a>>,
}

/// One variant of a scenario over some seeds.
#[derive(Clone, Debug)]
pub(super) struct Fold<'a> {
    /// What tells it from the others of its scenario.
    pub(super) label: String,
    /// The run with the lowest seed: what is drawn over time is drawn of it.
    pub(super) first: &'a RunResult,
    others: Vec<&'a RunResult>,
}

/// A number over some seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The one in the middle; the mean of two where there is no middle.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Spread {
    /// Of the numbers; none where there are none.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Some(Self { median, min, max })
    }

    /// `median [min–max]`, or one number where all are written alike.
    pub(super) fn write(&self, unit: Unit) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| unit.number(value));
        let unit = unit.name();
        if min == max { format!("{min}{unit}") } else { format!("{median} [{min}–{max}]{unit}") }
    }
}

impl<'a> Fold<'a> {
    /// All its runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a RunResult> + use<'a, '_> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// A number of each run; of those that have it.
    pub(super) fn spread(&self, of: impl Fn(&RunResult) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs().filter_map(of).collect())
    }

    /// The same, written; empty where no run has it. Says how many have it where not all do.
    pub(super) fn write(&self, of: impl Fn(&RunResult) -> Option<f64>, unit: Unit) -> String {
        let values: Vec<f64> = self.runs().filter_map(of).collect();
        let (found, all) = (values.len(), self.others.len() + 1);
        let text = Spread::of(values).map_or_else(String::new, |spread| spread.write(unit));
        if found == 0 || found == all { text } else { format!("{text} ({found} of {all} seeds)") }
    }

    /// A metric by its name, written.
    pub(super) fn metric(&self, name: &str, unit: Unit) -> String {
        self.write(|run| run.metrics.get(name).copied(), unit)
    }

    /// How long something took, written: runs in which it should have come about and did not say so.
    pub(super) fn until(
        &self,
        of: impl Fn(&RunResult) -> Option<f64>,
        is_due: impl Fn(&RunResult) -> bool,
    ) -> String {
        let due: Vec<&RunResult> = self.runs().filter(|run| is_due(run)).collect();
        let values: Vec<f64> = due.iter().filter_map(|run| of(run)).collect();
        let (found, all) = (values.len(), due.len());
        let text = Spread::of(values).map(|spread| spread.write(Unit::Seconds));
        match text {
            None if all == 0 => String::new(),
            None => "not by the end".into(),
            Some(text) if found == all => text,
            Some(text) => format!("{text} in {found} of {all}, else not by the end"),
        }
    }

    /// From the start of the world until everybody had everything.
    pub(super) fn complete_after(&self) -> String {
        self.until(|run| run.build.complete_after, |run| run.forest.viewers > 0)
    }

    /// The slowest recovery after any event.
    pub(super) fn all_back(&self) -> String {
        self.until(|run| run.metrics.get("all_back").copied(), |_| self.has_events())
    }

    /// Its seeds: ranges where they follow each other.
    pub(super) fn seeds(&self) -> String {
        let mut seeds: Vec<u64> = self.runs().map(|run| run.seed).collect();
        seeds.dedup();
        let ranges = seeds.chunk_by(|a, b| a + 1 == *b);
        let write = |range: &[u64]| match range {
            [] => String::new(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first}–{last}"),
        };
        ranges.map(write).collect::<Vec<_>>().join(", ")
    }

    /// Runs that a checker ended.
    pub(super) fn failed(&self) -> usize {
        self.runs().filter(|run| run.outcome != Outcome::Finished).count()
    }

    /// A value of the scenario as it was run.
    pub(super) fn spec(&self, pointer: &str) -> Option<&'a Value> {
        self.first.spec.pointer(pointer)
    }

    /// The population's capacity as the scenario writes it, such as `16x18`.
    pub(super) fn capacity(&self) -> &'a str {
        self.spec("/population/capacity").and_then(Value::as_str).unwrap_or("")
    }

    /// Whether its scenario has events, even where a run ended before them.
    pub(super) fn has_events(&self) -> bool {
        let planned = self.spec("/event").and_then(Value::as_array);
        !self.first.events.is_empty() || planned.is_some_and(|events| !events.is_empty())
    }

    /// The first event that took somebody out of the world.
    pub(super) fn blow(run: &RunResult) -> Option<&EventResult> {
        run.events.iter().find(|event| event.victims > 0)
    }
}

/// Takes runs of one variant together, and variants of one scenario.
pub(super) fn chapters(results: &[RunResult]) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    let mut sorted: Vec<&RunResult> = results.iter().collect();
    // Only seeds are put in order; everything else stays in the order in which it came.
    sorted.sort_by_key(|run| run.seed);
    for run in results {
        let place = chapters.iter().position(|chapter| chapter.name == run.scenario);
        let place = place.unwrap_or_else(|| {
            chapters.push(Chapter { name: &run.scenario, about: &run.about, folds: Vec::new() });
            chapters.len() - 1
        });
        let folds = &mut chapters[place].folds;
        if !folds.iter().any(|fold| is_alike(fold.first, run)) {
            let mut alike = sorted.iter().copied().filter(|other| is_alike(other, run));
            let first = alike.next().unwrap_or(run);
            folds.push(Fold { label: String::new(), first, others: alike.collect() });
        }
    }
    for chapter in &mut chapters {
        chapter.folds.sort_by_cached_key(|fold| order(fold.first));
        label(chapter);
    }
    chapters
}

/// Ours first, and numbers in names by their size: `n300` before `n1000`.
fn order(run: &RunResult) -> (bool, &str, Vec<(String, u64)>) {
    let is_digit = |character: &char| character.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = run.variant.chars().peekable();
    while rest.peek().is_some() {
        let mut text = String::new();
        while let Some(letter) = rest.next_if(|character| !is_digit(character)) {
            text.push(letter);
        }
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(is_digit) {
            digits.push(digit);
        }
        parts.push((text, digits.parse().unwrap_or(0)));
    }
    (!run.overlay.starts_with("banyan"), &run.overlay, parts)
}

fn is_alike(a: &RunResult, b: &RunResult) -> bool {
    let key = |run: &RunResult| (run.nodes, run.stripes);
    a.scenario == b.scenario && a.variant == b.variant && a.overlay == b.overlay && key(a) == key(b)
}

fn label(chapter: &mut Chapter<'_>) {
    let short = |run: &RunResult| {
        if run.variant.is_empty() { run.overlay.clone() } else { run.variant.clone() }
    };
    let all: Vec<String> = chapter.folds.iter().map(|fold| short(fold.first)).collect();
    for (fold, name) in chapter.folds.iter_mut().zip(&all) {
        let is_shared = all.iter().filter(|other| *other == name).count() > 1;
        fold.label = if is_shared {
            format!("{name}, {}, {} × {}", fold.first.overlay, fold.first.nodes, fold.first.stripes)
        } else {
            name.clone()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variant: &str, seed: u64) -> RunResult {
        RunResult { scenario: "s".into(), variant: variant.into(), seed, ..RunResult::default() }
    }

    #[test]
    fn seeds_of_one_variant_are_one() {
        let results = [run("b", 3), run("a", 1), run("b", 1), run("b", 2), run("b", 7)];
        let chapters = chapters(&results);
        assert_eq!(chapters.len(), 1);
        let labels: Vec<&str> = chapters[0].folds.iter().map(|fold| &*fold.label).collect();
        assert_eq!(labels, ["a", "b"]);
        assert_eq!(chapters[0].folds[1].seeds(), "1–3, 7");
        assert_eq!(chapters[0].folds[1].first.seed, 1);
    }

    #[test]
    fn a_spread_is_a_median_between_bounds() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).expect("three numbers");
        assert_eq!(spread.write(Unit::Plain), "2 [1–3]");
        assert_eq!(Spread::of(vec![2.0]).expect("one").write(Unit::Plain), "2");
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn what_only_some_seeds_have_says_so() {
        let mut lucky = run("", 1);
        lucky.metrics.insert("all_back".into(), 4.0);
        let results = [lucky, run("", 2)];
        let chapters = chapters(&results);
        assert_eq!(chapters[0].folds[0].metric("all_back", Unit::Plain), "4 (1 of 2 seeds)");
        assert_eq!(chapters[0].folds[0].metric("luck", Unit::Plain), "");
    }

    #[test]
    fn what_never_came_about_says_so() {
        let mut lucky = run("a", 1);
        lucky.metrics.insert("all_back".into(), 4.0);
        lucky.events.push(EventResult::default());
        let unlucky = RunResult { metrics: [].into(), seed: 2, ..lucky.clone() };
        let results = [lucky, unlucky.clone(), RunResult { variant: "b".into(), ..unlucky }];
        let chapters = chapters(&results);
        assert_eq!(chapters[0].folds[0].all_back(), "4 s in 1 of 2, else not by the end");
        assert_eq!(chapters[0].folds[1].all_back(), "not by the end");
    }

    #[test]
    fn numbers_in_names_are_in_order() {
        let results = ["n1000", "n300", "k4", "16x32", "16x4"].map(|name| run(name, 1));
        let chapters = chapters(&results);
        let labels: Vec<&str> = chapters[0].folds.iter().map(|fold| &*fold.label).collect();
        assert_eq!(labels, ["16x4", "16x32", "k4", "n300", "n1000"]);
    }

    #[test]
    fn variants_that_share_a_name_are_told_apart() {
        let other = RunResult { nodes: 7, overlay: "paper".into(), ..run("a", 1) };
        let results = [run("a", 1), other];
        let chapters = chapters(&results);
        assert_eq!(chapters[0].folds[1].label, "a, paper, 7 × 0");
    }
}
