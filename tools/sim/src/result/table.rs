//! Results as one aligned table for people.

use std::fmt::Write;

use crate::result::{EventResult, Outcome, RunResult};

/// A column: its head, and what stands in it.
type Column = (&'static str, fn(&RunResult) -> String);

const COLUMNS: [Column; 23] = [
    ("variant", |run| if run.variant.is_empty() { "-".into() } else { run.variant.clone() }),
    ("overlay", |run| run.overlay.clone()),
    ("seed", |run| run.seed.to_string()),
    ("nodes", |run| run.nodes.to_string()),
    ("outcome", |run| match run.outcome {
        Outcome::Finished => "ok".into(),
        Outcome::Failed { .. } => "FAILED".into(),
    }),
    ("all after s", |run| metric(run, "complete_after", 2)),
    ("complete", |run| metric(run, "complete", 4)),
    ("req mean", |run| metric(run, "requests_mean", 1)),
    ("req max", |run| metric(run, "requests_max", 0)),
    ("of viewers", |run| metric(run, "requests_max_viewer", 0)),
    ("depth", |run| format!("{:.2}/{}", run.forest.depth_mean, run.forest.depth_max)),
    ("interior 0/1/2/3+", |run| {
        run.forest.interior_histogram.map(|count| count.to_string()).join("/")
    }),
    ("worst loss", |run| {
        format!("{:.0}/{:.2}", run.forest.worst_loss.max(), run.forest.worst_loss.mean)
    }),
    ("rad", |run| metric(run, "rad_worst", 2)),
    ("all back s", |run| metric(run, "all_back", 2)),
    ("lost ss", |run| metric(run, "stripe_seconds_lost", 3)),
    ("base", |run| metric(run, "continuity_base", 5)),
    ("full", |run| metric(run, "continuity_full", 5)),
    ("picture s", |run| both(run, "first_picture_median", "first_picture_p99")),
    ("lag p99 s", |run| metric(run, "glass_to_glass_p99", 2)),
    ("control", |run| format!("{:.3}%", run.traffic.control_share * 100.0)),
    ("conns", |run| metric(run, "connections_mean", 1)),
    ("wall s", |run| format!("{:.1}", run.cost.wall)),
];

/// One line for each run, then goals that were missed, checkers that found something, failures.
#[must_use]
pub fn table(results: &[RunResult]) -> String {
    let mut text = String::new();
    for scenario in results.chunk_by(|a, b| a.scenario == b.scenario) {
        let Some(first) = scenario.first() else {
            continue;
        };
        line(&mut text, &format!("{}: {}", first.scenario, first.about));
        rows(&mut text, scenario);
        scenario.iter().for_each(|run| notes(&mut text, run));
        text.push('\n');
    }
    text
}

fn rows(text: &mut String, runs: &[RunResult]) {
    let mut cells = vec![COLUMNS.map(|(head, _)| head.to_owned())];
    cells.extend(runs.iter().map(|run| COLUMNS.map(|(_, cell)| cell(run))));
    // Columns in which no run has anything are left out.
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let is_used = |column: usize| cells[1..].iter().any(|row| row[column] != "-");
    let used: Vec<(usize, usize)> =
        (0..COLUMNS.len()).filter(|column| is_used(*column)).map(|c| (c, width(c))).collect();
    for row in &cells {
        let row: Vec<String> =
            used.iter().map(|(column, width)| format!("{:>width$}", row[*column])).collect();
        line(text, &row.join("  "));
    }
}

fn notes(text: &mut String, run: &RunResult) {
    let name = format!("{} seed {}", run.variant, run.seed);
    if let Outcome::Failed { what, .. } = &run.outcome {
        line(text, &format!("{name}: FAILED {what}"));
    }
    let adapts = run.spec["broadcast"]["redundancy"].is_number();
    let has_coding = run.events.iter().any(|event| event.thresholds.len() > 1);
    if adapts || run.scenario == "adaptation" && has_coding {
        run.events.iter().for_each(|event| line(text, &format!("{name}: {}", phase(event))));
    }
    for check in run.checks.iter().filter(|check| check.breaches > 0) {
        let first = check.first.as_deref().unwrap_or("");
        line(
            text,
            &format!("{name}: {} breaches of {}, first {first}", check.breaches, check.name),
        );
    }
    for expect in &run.expectations {
        let verdict = match (expect.is_met, expect.value) {
            (true, _) => "met   ",
            (false, Some(_)) => "MISSED",
            (false, None) => "absent",
        };
        let value = expect.value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        let bound = match (expect.min, expect.max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => String::new(),
        };
        line(
            text,
            &format!("{name}: {verdict} {} {value} ({bound}) {}", expect.metric, expect.goal),
        );
    }
}

/// What redundancy and quality were from an event on.
fn phase(event: &EventResult) -> String {
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "-".into(), |value| format!("{value:.decimals$}"))
    };
    format!(
        "from {} s, {}: coded {}, base {:.5}, full {:.5}, thresholds {:?} first after {} s",
        event.at,
        event.name,
        number(event.coded_ratio, 3),
        event.continuity_base,
        event.continuity_full,
        event.thresholds,
        number(event.followed_after, 1),
    )
}

fn metric(run: &RunResult, name: &str, decimals: usize) -> String {
    run.metrics.get(name).map_or_else(|| "-".into(), |value| format!("{value:.decimals$}"))
}

fn both(run: &RunResult, a: &str, b: &str) -> String {
    match (run.metrics.get(a), run.metrics.get(b)) {
        (Some(a), Some(b)) => format!("{a:.2}/{b:.2}"),
        (None, _) | (_, None) => "-".into(),
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a text can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let run = RunResult { scenario: "s".into(), nodes: 7, ..RunResult::default() };
        let text = table(&[run.clone(), RunResult { nodes: 40_000, ..run }]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(!lines[1].contains("variant"));
        assert_eq!(lines[2].len(), lines[3].len());
    }
}
