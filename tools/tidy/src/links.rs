//! Whether relative links in Markdown lead to something that is committed.
//!
//! Looks at `[text](target)`, `![picture](target)`, `[name]: target`, and `href` and `src` of
//! HTML; not at code. Addresses with a scheme are not fetched. An anchor into a Markdown file
//! must be that of a heading there, as GitHub names them.

use anyhow::Result;

use crate::Report;
use crate::files::Tree;

pub(crate) fn check(tree: &Tree) -> Result<Report> {
    let mut report = Report::default();
    let (mut files, mut links) = (0, 0);
    for file in tree.with_extension("md") {
        let Some(text) = tree.text(file)? else { continue };
        files += 1;
        for (line, target) in relative_links(&text) {
            links += 1;
            if let Some(reason) = broken(tree, file, &text, &target)? {
                report.failures.push(format!("{file}:{line} {target}: {reason}"));
            }
        }
    }
    report.summary = format!("{links} relative links in {files} files");
    Ok(report)
}

/// Why a link of `file` leads nowhere, if so.
fn broken(tree: &Tree, file: &str, text: &str, target: &str) -> Result<Option<&'static str>> {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let path = path.split('?').next().unwrap_or_default();
    let resolved = if path.is_empty() { Some(file.to_owned()) } else { resolve(file, path) };
    let Some(resolved) = resolved else { return Ok(Some("leads out of the repository")) };
    if !tree.contains(&resolved) {
        return Ok(Some("no such file is committed"));
    }
    let Some(anchor) = anchor.filter(|_| resolved.ends_with(".md")) else { return Ok(None) };
    let other;
    let text = if resolved == file {
        text
    } else {
        other = tree.text(&resolved)?.unwrap_or_default();
        &other
    };
    let is_there = anchors(text).iter().any(|found| found == &anchor.to_lowercase());
    Ok((!is_there).then_some("no such heading"))
}

/// `path` as seen from `file`, relative to the repository; `None` where it leads out of it.
fn resolve(file: &str, path: &str) -> Option<String> {
    let path = path.replace("%20", " ");
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => file.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Links without a scheme, as (line from 1, target).
fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut targets = Vec::new();
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            targets.push(target);
        }
        for opening in ["](", "href=\"", "src=\""] {
            targets.extend(line.split(opening).skip(1));
        }
        for target in targets {
            let target = match target.trim_start().strip_prefix('<') {
                Some(target) => target.split('>').next(),
                None => target.trim_start().split([')', ' ', '"', '\t']).next(),
            };
            let target = target.unwrap_or_default();
            if !target.is_empty() && !has_scheme(target) {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The lines outside fences, without inline code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fence = None;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => {
                return Some((number, line.split('`').step_by(2).collect::<Vec<_>>().join("` `")));
            }
            (Some(_), _) => {}
        }
        None
    })
}

fn has_scheme(target: &str) -> bool {
    let scheme = target.split(':').next().filter(|scheme| scheme.len() < target.len());
    target.starts_with("//")
        || scheme.is_some_and(|s| s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
}

/// The anchors of a text's headings: lower case, spaces to hyphens, other marks dropped, and a
/// number behind those that repeat.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut fence = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fence = !fence;
        }
        for opening in ["<a id=\"", "<a name=\""] {
            let named = line.split(opening).skip(1).filter_map(|rest| rest.split('"').next());
            anchors.extend(named.map(str::to_lowercase));
        }
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if fence || !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let anchor: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut unique = anchor.clone();
        let mut count = 0;
        while anchors.contains(&unique) {
            count += 1;
            unique = format!("{anchor}-{count}");
        }
        anchors.push(unique);
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let text = "[a](one.md) and ![b](two.png \"title\"), `[c](no.md)`, [d](<a b.md>)\n\
            ```\n[e](no.md)\n```\n\
            [f]: three.md#part\n\
            <img src=\"four.svg\"> [g](https://example.org) [h](mailto:x@y.z) [i](#here)\n";
        let targets: Vec<_> = relative_links(text);
        let expected = [
            (1, "one.md"),
            (1, "two.png"),
            (1, "a b.md"),
            (5, "three.md#part"),
            (6, "#here"),
            (6, "four.svg"),
        ];
        assert_eq!(targets, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn paths_are_seen_from_their_file() {
        let from = |path| resolve("docs/a/b.md", path);
        assert_eq!(from("../c.md").as_deref(), Some("docs/c.md"));
        assert_eq!(from("./d/").as_deref(), Some("docs/a/d"));
        assert_eq!(from("/README.md").as_deref(), Some("README.md"));
        assert_eq!(from("../..").as_deref(), Some(""));
        assert_eq!(from("../../../x"), None);
    }

    #[test]
    fn headings_have_the_anchors_of_github() {
        let text = "# A stripe's tree\n## 1. Words, and §2\n```\n# not one\n```\n# A stripe's tree";
        assert_eq!(anchors(text), ["a-stripes-tree", "1-words-and-2", "a-stripes-tree-1"]);
    }
}
