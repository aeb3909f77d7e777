//! Whether `core` is without I/O, clock, threads and hidden randomness.
//!
//! Two proofs, for each sees what the other does not: `core` builds for
//! `wasm32-unknown-unknown`, where there are no sockets; and its source names nothing that builds
//! there and is forbidden all the same, such as a clock, or a map whose order is random. Where
//! the target cannot be had, the dependency tree stands in for the build, and the report says so.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::edges::Metadata;
use crate::files::Tree;
use crate::{Report, words};

const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "banyan-core";
const SOURCE: &str = "crates/core/src/";
/// Errors of the build that are listed.
const MAX_ERRORS: usize = 6;

/// Names that must not be in the code of `core`, comments not counted.
const FORBIDDEN: [&str; 16] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "Mutex",
    "RwLock",
    "async",
    "await",
    "thread_rng",
    "OsRng",
    "unsafe",
];

pub(crate) fn check(tree: &Tree) -> Result<Report> {
    let mut report = Report::default();
    let mut count = 0;
    for file in tree.with_extension("rs").filter(|file| file.starts_with(SOURCE)) {
        count += 1;
        let Some(text) = tree.text(file)? else { continue };
        for (line, name) in forbidden_names(&text) {
            report.failures.push(format!("{file}:{line} names {name}"));
        }
    }
    if has_target() {
        report.summary = format!("core built for {TARGET}, {count} files read");
        report.failures.extend(build(tree.root())?);
    } else {
        report.summary = format!("FALLBACK, no {TARGET}: dependency tree, {count} files read");
        report.failures.extend(Metadata::read(tree)?.impurities(PACKAGE));
    }
    Ok(report)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Whether the target is there, after an attempt to fetch it where it is not.
fn has_target() -> bool {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let is_in_sysroot = || {
        output("rustc", &["--print", "sysroot"]).is_some_and(|sysroot| {
            Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib").is_dir()
        })
    };
    is_in_sysroot() || (output("rustup", &["target", "add", TARGET]).is_some() && is_in_sysroot())
}

/// Why the build fails, if it does: its errors, and not what else cargo says.
fn build(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(cargo())
        .args(["check", "--package", PACKAGE, "--target", TARGET, "--locked", "--quiet"])
        .args(["--message-format", "short", "--color", "never"])
        .current_dir(root)
        .output()
        .context("running cargo check")?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let mut errors: Vec<String> = text
        .lines()
        .filter(|line| line.contains("error"))
        .map(|line| format!("{TARGET}: {line}"))
        .collect();
    if errors.is_empty() {
        errors.push(format!("{TARGET}: {}", text.trim()));
    }
    // One impure dependency gives dozens, and the first ones tell; the last one names the crate.
    if let Some(hidden) = errors.len().checked_sub(MAX_ERRORS).filter(|hidden| *hidden > 0) {
        errors.drain(MAX_ERRORS - 1..errors.len() - 1);
        errors.push(format!("{TARGET}: {hidden} more errors"));
    }
    Ok(errors)
}

/// Forbidden names in code, as (line from 1, name).
fn forbidden_names(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let mut names: Vec<_> =
            FORBIDDEN.into_iter().filter(|name| words::has_word(code, name)).collect();
        // `use std::time::{Duration, Instant};`
        if code.contains("std::time::{") && words::has_word(code, "Instant") {
            names.push("std::time::Instant");
        }
        found.extend(names.into_iter().map(|name| (index + 1, name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_names_are_found_in_code_and_not_in_comments_or_longer_words() {
        let text = "//! No HashMap here.\n\
            use std::collections::HashMap; // a map\n\
            use std::time::{Duration, Instant};\n\
            use crate::time::Instant;\n\
            let asynchronous = 1; // async\n\
            let a = std::time::Instant::now();\n";
        let expected = [(2, "HashMap"), (3, "std::time::Instant"), (6, "std::time::Instant")];
        assert_eq!(forbidden_names(text), expected);
    }
}
