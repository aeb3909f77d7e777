//! Whether every source file says what it is, and none has grown into a hub.

use anyhow::Result;

use crate::Report;
use crate::files::Tree;

/// Lines above which a file is worth splitting.
const MANY_LINES: usize = 800;
/// Lines above which it must be.
const MAX_LINES: usize = 900;

pub(crate) fn check(tree: &Tree) -> Result<Report> {
    let mut report = Report::default();
    let mut count = 0;
    for file in tree.with_extension("rs").filter(|file| is_ours(file)) {
        let Some(text) = tree.text(file)? else { continue };
        count += 1;
        if !opens_with_doc(&text) {
            report.failures.push(format!("{file} does not open with a //! doc"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            report.failures.push(format!("{file} has {lines} lines, the limit is {MAX_LINES}"));
        } else if lines > MANY_LINES {
            report.warnings.push(format!("{file} has {lines} lines"));
        }
    }
    report.summary = format!("{count} files");
    Ok(report)
}

/// `crates/*/src`, `tools/*/src` and `fuzz`, but not generated code.
fn is_ours(file: &str) -> bool {
    let folders: Vec<&str> = file.split('/').collect();
    matches!(folders[..], ["crates" | "tools", _, "src", ..] | ["fuzz", ..])
        && !folders.contains(&"generated")
}

fn opens_with_doc(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_source_counts() {
        assert!(is_ours("crates/core/src/peer.rs") && is_ours("tools/sim/src/a/b.rs"));
        assert!(is_ours("fuzz/src/wire.rs") && is_ours("fuzz/fuzz_targets/viewer.rs"));
        assert!(!is_ours("crates/wire/src/generated/banyan.v1.rs"));
        assert!(!is_ours("crates/core/tests/a.rs") && !is_ours("integration-tests/src/lib.rs"));
    }

    #[test]
    fn the_doc_comes_first() {
        assert!(opens_with_doc("\n//! What it is.\nuse std;"));
        assert!(!opens_with_doc("use std;\n//! Too late."));
        assert!(!opens_with_doc("/// Of an item.") && !opens_with_doc(""));
    }
}
