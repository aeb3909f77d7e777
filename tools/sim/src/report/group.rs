//! Which variants of a scenario stand in one drawing.

use std::collections::BTreeMap;

use super::chart::Series;
use super::colour::{Style, style};
use super::fold::{Chapter, Fold};
use super::number::plain;
use crate::result::RunResult;

/// Most series that can be told apart in one drawing.
const MAX_SERIES: usize = 8;

/// Variants that stand side by side.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// What they share; empty where they are all of the scenario.
    pub(super) title: String,
    /// The variants and their looks.
    pub(super) members: Vec<(&'a Fold<'a>, Style)>,
}

impl<'a> Group<'a> {
    fn new(title: String, folds: impl IntoIterator<Item = &'a Fold<'a>>) -> Self {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let members = folds.into_iter().map(|fold| {
            let place = places.entry(&fold.first.overlay).or_default();
            *place += 1;
            (fold, style(&fold.first.overlay, *place - 1))
        });
        Self { title, members: members.collect() }
    }

    /// One series for each variant.
    pub(super) fn series(&self, points: impl Fn(&RunResult) -> Vec<(f64, f64)>) -> Vec<Series> {
        let one = |(fold, style): &(&Fold<'_>, Style)| Series {
            label: fold.label.clone(),
            style: *style,
            points: points(fold.first),
        };
        self.members.iter().map(one).collect()
    }

    /// The runs that are drawn.
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a RunResult> + use<'a, '_> {
        self.members.iter().map(|(fold, _)| fold.first)
    }
}

/// Splits a scenario's variants where they are too many for one drawing: by their population and
/// what befell it, or for a scenario of growth by what grows.
pub(super) fn groups<'a>(chapter: &'a Chapter<'a>) -> Vec<Group<'a>> {
    if chapter.folds.len() <= MAX_SERIES {
        return vec![Group::new(String::new(), &chapter.folds)];
    }
    let mut split: Vec<(String, Vec<&'a Fold<'a>>)> = Vec::new();
    let is_growth = is_growth(chapter);
    let usual = usual(chapter.folds.iter().map(|fold| fold.first.stripes));
    for fold in &chapter.folds {
        let title = if is_growth { kin(fold, usual) } else { fate(fold) };
        match split.iter_mut().find(|(known, _)| *known == title) {
            Some((_, folds)) => folds.push(fold),
            None => split.push((title, vec![fold])),
        }
    }
    let groups = split.into_iter().flat_map(|(title, folds)| {
        let parts: Vec<Vec<_>> = folds.chunks(MAX_SERIES).map(<[_]>::to_vec).collect();
        parts.into_iter().map(move |folds| Group::new(title.clone(), folds))
    });
    groups.collect()
}

/// Whether a scenario lets its population or its number of stripes grow.
pub(super) fn is_growth(chapter: &Chapter<'_>) -> bool {
    chapter.name.starts_with("growth")
}

/// The value that most have; the smallest of them where several are as frequent.
pub(super) fn usual<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

fn kin(fold: &Fold<'_>, usual: Option<u8>) -> String {
    if Some(fold.first.stripes) == usual {
        format!("{} stripes", fold.first.stripes)
    } else {
        "other numbers of stripes".into()
    }
}

fn fate(fold: &Fold<'_>) -> String {
    let peers = format!("{} peers", plain(f64::from(fold.first.nodes)));
    match fold.first.events.as_slice() {
        [] => peers,
        [event, ..] if event.victims == 1 => format!("{peers}, one dies"),
        [event, ..] => format!("{peers}, {}: {}", event.name, plain(f64::from(event.victims))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fold::chapters;
    use crate::result::EventResult;

    #[test]
    fn too_many_variants_are_split_by_what_befell_them() {
        let run = |place: u32| RunResult {
            scenario: "s".into(),
            variant: format!("v{place}"),
            nodes: if place < 4 { 100 } else { 500 },
            events: vec![EventResult { victims: place % 2, ..EventResult::default() }],
            ..RunResult::default()
        };
        let results: Vec<RunResult> = (0..10).map(run).collect();
        let chapters = chapters(&results);
        assert_eq!(groups(&chapters[0]).len(), 4);
    }

    #[test]
    fn the_usual_is_the_most_frequent() {
        assert_eq!(usual([4, 16, 8, 16].into_iter()), Some(16));
        assert_eq!(usual([7, 5].into_iter()), Some(5));
        assert_eq!(usual(std::iter::empty::<u8>()), None);
    }
}
