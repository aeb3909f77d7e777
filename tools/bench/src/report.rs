//! What a bench found, as a table for people, as Markdown for documents or as JSON for machines. The
//! only place that prints.
//!
//! Decides how figures and goals look. Which goals there are is left to the benches.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// A column of figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its head, which says the unit.
    pub(crate) name: &'static str,
    /// Digits after the point.
    pub(crate) decimals: usize,
}

/// A goal of DESIGN.md §9: a figure that is to stay below a limit.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// What is to be small.
    pub(crate) what: &'static str,
    /// What it is.
    pub(crate) value: f64,
    /// What it may be.
    pub(crate) limit: f64,
}

/// The outcome of one bench.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Its name and its settings, in one line.
    pub(crate) title: String,
    /// What the figures are.
    pub(crate) columns: Vec<Column>,
    /// One line for each system measured.
    pub(crate) rows: Vec<(String, Vec<Option<f64>>)>,
    /// How far the goals are met.
    pub(crate) goals: Vec<Goal>,
    /// What the figures do not say.
    pub(crate) notes: Vec<String>,
}

impl Goal {
    fn is_met(&self) -> bool {
        self.value <= self.limit
    }

    fn verdict(&self) -> String {
        if self.is_met() {
            "met".to_owned()
        } else if self.limit <= 0.0 {
            format!("missed by {:.2}", self.value - self.limit)
        } else {
            format!("missed by {:.2} (x {:.2})", self.value - self.limit, self.value / self.limit)
        }
    }
}

impl Report {
    pub(crate) fn new(title: String, columns: &[Column]) -> Self {
        Self { title, columns: columns.to_vec(), ..Self::default() }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, cells: Vec<Option<f64>>) {
        self.rows.push((name.into(), cells));
    }

    pub(crate) fn goal(&mut self, what: &'static str, value: f64, limit: f64) {
        self.goals.push(Goal { what, value, limit });
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether all goals are met.
    pub(crate) fn is_met(&self) -> bool {
        self.goals.iter().all(Goal::is_met)
    }

    /// Prints it.
    pub(crate) fn print(&self, as_json: bool) {
        line(if as_json { self.json().to_string() } else { self.text() }.trim_end());
    }

    /// Writes it to a file: Markdown if that ends in `.md`, JSON if in `.json`, else the table.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => self.markdown(),
            Some("json") => format!("{}\n", self.json()),
            _ => self.text(),
        };
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}\n\n|", self.title);
        for name in std::iter::once("").chain(self.columns.iter().map(|column| column.name)) {
            let _ = write!(text, " {name} |");
        }
        let _ = write!(text, "\n|---|{}", "--:|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            let _ = write!(text, "\n| {name} |");
            for (column, cell) in self.columns.iter().zip(cells) {
                let _ = match cell {
                    Some(value) => write!(text, " {value:.0$} |", column.decimals),
                    None => write!(text, " |"),
                };
            }
        }
        text.push_str("\n\n");
        for goal in &self.goals {
            let (what, value, limit) = (goal.what, goal.value, goal.limit);
            let _ = writeln!(text, "- {what}: {value:.3}, goal {limit}: {}", goal.verdict());
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, cells)| {
            let mut row = Map::new();
            row.insert("system".to_owned(), json!(name));
            for (column, cell) in self.columns.iter().zip(cells) {
                row.insert(column.name.to_owned(), json!(cell));
            }
            Value::Object(row)
        });
        let goals = self.goals.iter().map(|goal| {
            json!({
                "goal": goal.what, "value": goal.value, "limit": goal.limit, "met": goal.is_met(),
            })
        });
        json!({
            "bench": self.title,
            "rows": rows.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let first = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let _ = write!(text, "{:first$}", "");
        for column in &self.columns {
            let _ = write!(text, "  {:>width$}", column.name, width = column.width());
        }
        text.push('\n');
        for (name, cells) in &self.rows {
            let _ = write!(text, "{name:first$}");
            for (column, cell) in self.columns.iter().zip(cells) {
                let (width, decimals) = (column.width(), column.decimals);
                let _ = match cell {
                    Some(value) => write!(text, "  {value:>width$.decimals$}"),
                    None => write!(text, "  {:>width$}", "-"),
                };
            }
            text.push('\n');
        }
        text.push('\n');
        let widest = self.goals.iter().map(|goal| goal.what.len()).max().unwrap_or(0);
        for goal in &self.goals {
            let (what, verdict) = (goal.what, goal.verdict());
            let (value, limit) = (goal.value, goal.limit);
            let _ = writeln!(text, "goal  {what:widest$}  {value:8.3} <= {limit:<6}  {verdict}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note  {note}");
        }
        text
    }
}

impl Column {
    fn width(&self) -> usize {
        self.name.chars().count().max(7)
    }
}

/// Prints one line.
#[expect(clippy::print_stdout, reason = "what a bench finds is its output")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_says_by_how_much() {
        let goal = Goal { what: "ratio", value: 1.8, limit: 1.5 };
        assert_eq!(goal.verdict(), "missed by 0.30 (x 1.20)");
        assert_eq!(Goal { value: 1.5, ..goal }.verdict(), "met");
    }

    #[test]
    fn figures_stand_below_the_head_of_their_column() {
        let column = Column { name: "CPU-s/GB", decimals: 1 };
        let mut report = Report::new("bench".to_owned(), &[column]);
        report.row("ours", vec![Some(4.25)]);
        report.row("theirs", vec![None]);
        assert_eq!(
            report.text(),
            "bench\n\n        CPU-s/GB\nours         4.2\ntheirs         -\n\n"
        );
    }

    #[test]
    fn markdown_is_a_table_and_a_list() {
        let mut report = Report::new("bench".to_owned(), &[Column { name: "MB", decimals: 1 }]);
        report.row("ours", vec![Some(4.25)]);
        report.row("theirs", vec![None]);
        report.goal("MB", 4.0, 80.0);
        assert_eq!(
            report.markdown(),
            "bench\n\n|  | MB |\n|---|--:|\n| ours | 4.2 |\n| theirs | |\n\n\
             - MB: 4.000, goal 80: met\n"
        );
    }

    #[test]
    fn the_name_of_a_file_says_what_it_holds() -> Result<()> {
        let mut report = Report::new("bench".to_owned(), &[Column { name: "MB", decimals: 1 }]);
        report.row("ours", vec![Some(4.0)]);
        let directory = tempfile::tempdir()?;
        for (name, begin) in [("a.md", "bench\n\n|"), ("a.json", "{\""), ("a.txt", "bench\n\n ")] {
            let path = directory.path().join(name);
            report.save(&path)?;
            assert!(fs::read_to_string(&path)?.starts_with(begin), "{name}");
        }
        assert!(report.save(&directory.path().join("no/such.md")).is_err());
        Ok(())
    }

    #[test]
    fn json_names_every_figure() {
        let mut report = Report::new("bench".to_owned(), &[Column { name: "MB", decimals: 1 }]);
        report.row("ours", vec![Some(4.0)]);
        report.goal("MB", 4.0, 80.0);
        let json = report.json();
        assert_eq!(json["rows"][0]["MB"], json!(4.0));
        assert_eq!(json["goals"][0]["met"], json!(true));
    }
}
