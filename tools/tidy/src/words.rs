//! Whether committed text names the machine it was written on: folders of its owner, or where
//! its crates come from.

use anyhow::Result;

use crate::Report;
use crate::files::Tree;

/// Folders that exist on one machine only. In pieces, so that this file does not name them.
const FOLDERS: [&str; 6] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("/tmp/", "target"),
    concat!("/tmp/", "bash_jobs"),
];

/// How a host of crates is named in manifests, locks and configurations.
const REGISTRIES: [&str; 5] = [
    concat!("registry+ht", "tp"),
    concat!("sparse+ht", "tp"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("replace-", "with"),
];
/// The one that every lock file names, and that is everybody's.
const PUBLIC_REGISTRY: &str =
    concat!("\"registry+ht", "tps://github.com/rust-lang/crates.io-index\"");

pub(crate) fn check(tree: &Tree) -> Result<Report> {
    let mut report = Report::default();
    let mut count = 0;
    for file in tree.files() {
        let Some(text) = tree.text(file)? else { continue };
        count += 1;
        for (index, line) in text.lines().enumerate() {
            let named = names_folder(line).or_else(|| names_registry(line));
            if let Some(name) = named {
                report.failures.push(format!("{file}:{} names {name}", index + 1));
            }
        }
    }
    report.summary = format!("{count} text files");
    Ok(report)
}

/// A folder of [`FOLDERS`] at the start of a path: not as part of an address or of another path.
fn names_folder(line: &str) -> Option<&'static str> {
    FOLDERS.into_iter().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let is_start =
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "/._-*~}])>".contains(c));
            let goes_on = line[at + folder.len()..]
                .starts_with(|c: char| c.is_alphanumeric() || "._-/<${…\"'`".contains(c));
            is_start && (goes_on || !folder.ends_with('/'))
        })
    })
}

fn names_registry(line: &str) -> Option<&'static str> {
    let line = line.replace(PUBLIC_REGISTRY, "");
    REGISTRIES.into_iter().find(|name| line.contains(name))
}

/// Whether `word` is in `text`, not as part of a longer one.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_a_machine_are_found_and_parts_of_other_paths_are_not() {
        let [home, root, work, ..] = FOLDERS;
        assert_eq!(names_folder(&format!("see {home}anna/x")), Some(home));
        assert_eq!(names_folder(&format!("path = \"{root}.cargo\"")), Some(root));
        assert_eq!(names_folder(&format!("`{work}main`")), Some(work));
        assert_eq!(names_folder(&format!("{}-coding/debug", FOLDERS[4])), Some(FOLDERS[4]));
        assert_eq!(names_folder(&format!("https://example.org{home}anna")), None);
        assert_eq!(names_folder(&format!("paper{work}load")), None);
        assert_eq!(names_folder(&format!("a tree's {root} of")), None);
    }

    #[test]
    fn only_the_public_registry_may_be_named() {
        assert_eq!(names_registry(&format!("source = {PUBLIC_REGISTRY}")), None);
        assert_eq!(names_registry("see crates.io/crates/bytes"), None);
        for name in REGISTRIES {
            assert_eq!(names_registry(&format!("x = \"{name}://mirror.example\"")), Some(name));
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("a Mutex<u8>", "Mutex") && has_word("Mutex", "Mutex"));
        assert!(!has_word("MutexGuard my_Mutex", "Mutex"));
    }
}
