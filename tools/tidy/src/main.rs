//! Checks what prose promises.
//!
//! ```text
//! cargo run -p banyan-tidy                     every check, one line each
//! cargo run -p banyan-tidy -- links docs       only these
//! cargo run -p banyan-tidy -- --bless          writes generated code anew
//! ```
//!
//! Exit 0 where all holds, 1 where something does not, 2 for bad usage. Each check is a file of
//! its own; what it looks at are the files that are committed, or would be.

mod docs;
mod edges;
mod files;
mod links;
mod purity;
mod schema;
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::files::Tree;

/// What a check found.
#[derive(Debug, Default)]
struct Report {
    /// What was looked at, for the line of the check.
    summary: String,
    /// Worth a look, but no failure.
    warnings: Vec<String>,
    /// What does not hold. An entry names the file.
    failures: Vec<String>,
}

type Check = fn(&Tree) -> Result<Report>;

const CHECKS: [(&str, Check); 6] = [
    ("schema", check_schema),
    ("edges", edges::check),
    ("purity", purity::check),
    ("links", links::check),
    ("docs", docs::check),
    ("words", words::check),
];

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Where cargo runs us, which need not be where this was compiled: build output may be shared.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = folder.join("../..").canonicalize().context("finding the workspace")?;
    let mut out = io::stdout().lock();

    if arguments == ["--bless"] {
        schema::check(&root, true)?;
        writeln!(out, "generated code is written anew")?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_known = |name: &String| CHECKS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = arguments.iter().find(|name| !is_known(name)) {
        let known = CHECKS.map(|(name, _)| name).join(", ");
        writeln!(io::stderr(), "no check {unknown}: there are {known}, and --bless")?;
        return Ok(ExitCode::from(2));
    }

    let tree = Tree::read(root)?;
    let mut failures = Vec::new();
    for (name, check) in CHECKS {
        if !arguments.is_empty() && !arguments.iter().any(|argument| argument == name) {
            continue;
        }
        // A check that cannot be made has failed; the others are made all the same.
        let report = check(&tree).unwrap_or_else(|error| Report {
            summary: "could not be made".into(),
            failures: vec![format!("{error:#}")],
            ..Report::default()
        });
        let verdict = match report.failures.len() {
            0 => "ok    ".to_owned(),
            count => format!("{count} FAIL"),
        };
        writeln!(out, "{name:7} {verdict}  {}", report.summary)?;
        for warning in &report.warnings {
            writeln!(out, "        warning: {warning}")?;
        }
        failures.extend(report.failures.into_iter().map(|failure| (name, failure)));
    }
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out)?;
    for (name, failure) in failures {
        writeln!(out, "{name}: {failure}")?;
    }
    Ok(ExitCode::FAILURE)
}

fn check_schema(tree: &Tree) -> Result<Report> {
    schema::check(tree.root(), false)?;
    Ok(Report { summary: "generated code is what the schema gives".into(), ..Report::default() })
}
