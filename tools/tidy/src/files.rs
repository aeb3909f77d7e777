//! The files that are committed, or would be: what every check looks at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The workspace and the names of its files, relative to it, with `/`, in order.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    files: BTreeSet<String>,
}

impl Tree {
    /// Asks git for tracked files and untracked ones that are not ignored; where there is no git,
    /// takes everything but `target` and hidden folders.
    pub(crate) fn read(root: PathBuf) -> Result<Self> {
        let mut files = match listed_by_git(&root) {
            Some(files) => files,
            None => walk(&root)?,
        };
        // Deleted, but not yet from the index.
        files.retain(|file| root.join(file).is_file());
        Ok(Self { root, files })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// The files whose names end in `.extension`.
    pub(crate) fn with_extension(&self, extension: &str) -> impl Iterator<Item = &str> {
        self.files()
            .filter(move |file| file.rsplit_once('.').is_some_and(|(_, found)| found == extension))
    }

    /// Whether `path`, relative to the workspace, is a file or a folder with files.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains(path)
            || self.files.range(folder.clone()..).next().is_some_and(|f| f.starts_with(&folder))
    }

    /// The text of a file; `None` where it is not UTF-8 text.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(file)).with_context(|| format!("reading {file}"))?;
        Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')))
    }
}

fn listed_by_git(root: &Path) -> Option<BTreeSet<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let files = String::from_utf8(output.stdout).ok()?;
    Some(files.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(root.join(&folder)).with_context(|| format!("listing {folder}"))?
        {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let is_kept = name != "target" && name != ".git";
            if !entry.file_type()?.is_dir() {
                files.insert(path);
            } else if is_kept {
                folders.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_everything_but_build_output_is_listed() -> Result<()> {
        let root = tempfile::tempdir()?;
        for file in ["a.md", "docs/b.md", "target/c.md", ".git/d.md"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, "text")?;
        }
        let files: Vec<_> = walk(root.path())?.into_iter().collect();
        assert_eq!(files, ["a.md", "docs/b.md"]);
        Ok(())
    }

    #[test]
    fn folders_are_there_where_a_file_in_them_is() {
        let files = ["docs/a.md", "docs2.md"].map(str::to_owned).into();
        let tree = Tree { root: PathBuf::new(), files };
        assert!(tree.contains("docs/a.md") && tree.contains("docs") && tree.contains(""));
        assert!(!tree.contains("doc") && !tree.contains("docs2"));
        assert_eq!(tree.with_extension("md").count(), 2);
    }
}
