//! Goals of the scenarios, met or missed, and what checkers found.

use super::fold::{Chapter, Fold};
use super::html::{Html, element, paragraph, section, table, tag, words};
use super::number::Unit;
use crate::result::{ExpectResult, Outcome, RunResult};

/// What became of a goal over the seeds of one variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed { runs: usize, of: usize },
    Absent,
}

/// All goals, then breaches and failures.
pub(super) fn goals(chapters: &[Chapter<'_>]) -> Html {
    let mut body = Html::default();
    let mut counts = [0_usize; 3];
    for chapter in chapters {
        let mut rows = Vec::new();
        for fold in &chapter.folds {
            for goal in &fold.first.expectations {
                let verdict = verdict(fold, goal);
                counts[place(verdict)] += 1;
                rows.push(row(fold, goal, verdict));
            }
        }
        if !rows.is_empty() {
            let heads = ["variant", "overlay", "verdict", "measured", "bound", "goal"];
            body.push(&table(chapter.name, &heads, &rows));
        }
    }
    let [met, missed, absent] = counts;
    let summary = format!(
        "{met} met, {missed} missed, {absent} not measured. Goals are set for Banyan; the other \
         overlays are held against them for comparison."
    );
    let body = paragraph(&summary).then(&body).then(&breaches(chapters));
    section("goals", "Goals", &body)
}

const fn place(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Met => 0,
        Verdict::Missed { .. } => 1,
        Verdict::Absent => 2,
    }
}

/// The same goal in every run of the variant.
fn same<'a>(fold: &'a Fold<'_>, goal: &'a ExpectResult) -> impl Iterator<Item = &'a ExpectResult> {
    let all = fold.runs().flat_map(|run| &run.expectations);
    all.filter(move |other| other.goal == goal.goal && other.metric == goal.metric)
}

fn verdict(fold: &Fold<'_>, goal: &ExpectResult) -> Verdict {
    let of = same(fold, goal).count();
    let runs = same(fold, goal).filter(|goal| !goal.is_met).count();
    let is_absent = same(fold, goal).all(|goal| goal.value.is_none())
        || fold.runs().all(|run| is_hollow(run, &goal.metric));
    // A time that is missing is one that did not end, if it ever began.
    let is_endless = match goal.metric.as_str() {
        "all_back" => fold.has_events(),
        metric => metric == "complete_after",
    };
    if is_absent && !is_endless {
        Verdict::Absent
    } else if runs == 0 {
        Verdict::Met
    } else {
        Verdict::Missed { runs, of }
    }
}

/// Whether a metric tells of pictures where nobody played any.
fn is_hollow(run: &RunResult, metric: &str) -> bool {
    let is_of_pictures = metric == "event_freezes" || metric.starts_with("event_continuity");
    is_of_pictures && run.playback.played == 0
}

fn row(fold: &Fold<'_>, goal: &ExpectResult, verdict: Verdict) -> Vec<Html> {
    let value = match goal.metric.as_str() {
        "all_back" => fold.all_back(),
        "complete_after" => fold.complete_after(),
        metric => fold.write(
            |run| {
                let same =
                    |other: &&ExpectResult| other.goal == goal.goal && other.metric == metric;
                run.expectations.iter().find(same)?.value.filter(|_| !is_hollow(run, metric))
            },
            unit(metric),
        ),
    };
    let bound = |value: f64| unit(&goal.metric).write(value);
    let bound = match (goal.min, goal.max) {
        (Some(min), Some(max)) => format!("{} to {}", bound(min), bound(max)),
        (Some(min), None) => format!("≥ {}", bound(min)),
        (None, Some(max)) => format!("≤ {}", bound(max)),
        (None, None) => String::new(),
    };
    let required = if goal.is_required { ", required" } else { "" };
    let (class, text) = match verdict {
        Verdict::Met => ("met", "✓ met".to_owned()),
        Verdict::Missed { of: 1, .. } => ("missed", "✗ missed".to_owned()),
        Verdict::Missed { runs, of } => ("missed", format!("✗ missed in {runs} of {of}")),
        Verdict::Absent => ("absent", "not measured".to_owned()),
    };
    vec![
        Html::text(&fold.label),
        Html::text(&fold.first.overlay),
        element("span", &[("class", class)], &Html::text(&text)),
        Html::text(&value),
        Html::text(&bound),
        words(&format!("{} ({}{required})", goal.goal, goal.metric)),
    ]
}

/// What a metric counts, by its flat name.
fn unit(metric: &str) -> Unit {
    const SHARES: [&str; 8] = [
        "complete",
        "disjoint_share",
        "native_edges",
        "control_share",
        "viewers_with_freeze",
        "delivered",
        "rooted_after",
        "worst_stripe_loss",
    ];
    const SECONDS: [&str; 5] =
        ["first_picture", "node_complete", "glass_to_glass", "arrival", "complete_after"];
    if SHARES.contains(&metric) || metric.contains("continuity") {
        Unit::Share
    } else if metric == "all_back" || SECONDS.iter().any(|start| metric.starts_with(start)) {
        Unit::Seconds
    } else {
        Unit::Plain
    }
}

fn breaches(chapters: &[Chapter<'_>]) -> Html {
    let mut rows = Vec::new();
    for (chapter, fold) in
        chapters.iter().flat_map(|chapter| chapter.folds.iter().map(move |fold| (chapter, fold)))
    {
        for run in fold.runs() {
            let mut found = |what: &str, mode: &str, count: u64, first: &str| {
                rows.push(vec![
                    Html::text(&format!("{} {}", chapter.name, fold.label)),
                    Html::text(&run.seed.to_string()),
                    Html::text(what),
                    Html::text(mode),
                    Html::text(&Unit::Plain.write(crate::measure::ratio(count, 1))),
                    if first.is_empty() { Html::default() } else { words(first) },
                ]);
            };
            // What was broken begins with the time and the node.
            if let Outcome::Failed { what, .. } = &run.outcome {
                found("ended the run", "fail", 1, what);
            }
            for check in run.checks.iter().filter(|check| check.breaches > 0) {
                let first = check.first.as_deref().unwrap_or("");
                found(&check.name, &check.mode, check.breaches, first);
            }
        }
    }
    let heading = tag("h3", &Html::text("What checkers found"));
    if rows.is_empty() {
        return heading.then(&paragraph("Nothing: every invariant held in every run."));
    }
    let heads = ["run", "seed", "checker", "mode", "breaches", "the first"];
    heading.then(&table("Breaches of invariants", &heads, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fold::chapters;

    fn run(seed: u64, value: Option<f64>) -> RunResult {
        let is_met = value.is_some_and(|value| value >= 1.0);
        let goal = ExpectResult {
            goal: "all".into(),
            metric: "complete".into(),
            value,
            min: Some(1.0),
            is_met,
            ..ExpectResult::default()
        };
        RunResult { scenario: "s".into(), seed, expectations: vec![goal], ..RunResult::default() }
    }

    #[test]
    fn a_goal_missed_once_is_missed() {
        let results = [run(1, Some(1.0)), run(2, Some(0.999))];
        let html = goals(&chapters(&results));
        assert!(html.as_str().contains("missed in 1 of 2"));
        assert!(html.as_str().contains("0 met, 1 missed, 0 not measured"));
        assert!(html.as_str().contains("[99.9–100] %"));
    }

    #[test]
    fn freezes_without_pictures_are_not_measured() {
        let mut run = run(1, Some(1.0));
        run.expectations[0].metric = "event_freezes".into();
        let html = goals(&chapters(&[run]));
        assert!(html.as_str().contains("0 met, 0 missed, 1 not measured"));
    }

    #[test]
    fn a_goal_without_a_value_is_not_measured() {
        let html = goals(&chapters(&[run(1, None)]));
        assert!(html.as_str().contains("0 met, 0 missed, 1 not measured"));
    }
}
