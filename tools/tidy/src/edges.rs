//! Who may depend on whom.
//!
//! ```text
//! banyan ─▶ gateway ─▶ net ─▶ core ─▶ coding ─▶ wire      media ─▶ wire
//! tools, fuzz, integration-tests ─▶ everything            nothing else ─▶ banyan, sim
//! ```
//!
//! Also: no runtime and no socket below `net`, not even through others, and libp2p by name only
//! where it is driven.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::Report;
use crate::files::Tree;

/// For each crate under `crates/`, the others it may name, for whatever purpose.
const ALLOWED: [(&str, &[&str]); 7] = [
    (
        "banyan",
        &[
            "banyan-gateway",
            "banyan-net",
            "banyan-core",
            "banyan-coding",
            "banyan-media",
            "banyan-wire",
        ],
    ),
    ("banyan-gateway", &["banyan-net", "banyan-core", "banyan-media", "banyan-wire"]),
    ("banyan-net", &["banyan-core", "banyan-coding", "banyan-wire"]),
    ("banyan-core", &["banyan-coding", "banyan-wire"]),
    ("banyan-coding", &["banyan-wire"]),
    ("banyan-media", &["banyan-wire"]),
    ("banyan-wire", &[]),
];

/// Crates without runtime and sockets.
const PURE: [&str; 3] = ["banyan-core", "banyan-coding", "banyan-wire"];
/// What they must not reach through normal dependencies.
const IMPURE: [&str; 4] = ["tokio", "libp2p", "mio", "socket2"];
const IMPURE_PREFIXES: [&str; 2] = ["async-", "libp2p-"];

/// Who may name libp2p.
const LIBP2P_USERS: [&str; 3] = ["banyan-net", "banyan-bench", "banyan-integration-tests"];

/// What `cargo metadata` says, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

/// A line of a manifest: for any platform, normal, dev or build.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    /// `None` is a normal dependency.
    kind: Option<String>,
}

pub(crate) fn check(tree: &Tree) -> Result<Report> {
    let metadata = Metadata::read(tree)?;
    let mut failures = metadata.forbidden_edges();
    for name in PURE {
        failures.extend(metadata.impurities(name));
    }
    let edges: usize = metadata.members().map(|package| package.own_edges().count()).sum();
    let members = metadata.workspace_members.len();
    let summary = format!("{members} crates, {edges} edges between them");
    Ok(Report { summary, failures, ..Report::default() })
}

impl Metadata {
    /// Asks cargo. For this platform only: offline, the manifests of others may not be at hand.
    pub(crate) fn read(tree: &Tree) -> Result<Self> {
        let host = host()?;
        let output = Command::new(crate::purity::cargo())
            .args(["metadata", "--format-version", "1", "--offline", "--locked"])
            .args(["--filter-platform", &host])
            .current_dir(tree.root())
            .output()
            .context("running cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("reading the answer of cargo metadata")
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Edges of the workspace that the table does not have, and libp2p where it is not driven.
    fn forbidden_edges(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for package in self.members() {
            let allowed = ALLOWED.iter().find(|(name, _)| *name == package.name);
            match allowed {
                Some((_, allowed)) => {
                    for dependency in package.own_edges().filter(|name| !allowed.contains(name)) {
                        failures.push(format!("{} must not depend on {dependency}", package.name));
                    }
                }
                None if package.is_library() => failures.push(format!(
                    "{} is under crates/ and has no line in the table of tools/tidy/src/edges.rs",
                    package.name
                )),
                None => {}
            }
            let names_libp2p = package.dependencies.iter().any(|dep| dep.name == "libp2p");
            if names_libp2p && !LIBP2P_USERS.contains(&package.name.as_str()) {
                failures.push(format!("{} must not name libp2p", package.name));
            }
        }
        failures
    }

    /// What `name` reaches through normal dependencies and must not, with the way there.
    pub(crate) fn impurities(&self, name: &str) -> Vec<String> {
        let names: BTreeMap<&str, &str> =
            self.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let nodes: BTreeMap<&str, &Node> =
            self.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let Some(start) = self.members().find(|package| package.name == name) else {
            return vec![format!("there is no {name}")];
        };
        let mut failures = Vec::new();
        let mut seen = BTreeSet::from([start.id.as_str()]);
        let mut ways = vec![(start.id.as_str(), name.to_owned())];
        while let Some((id, way)) = ways.pop() {
            let edges = nodes.get(id).map_or(&[][..], |node| &node.deps);
            for edge in edges.iter().filter(|edge| edge.is_normal()) {
                if !seen.insert(&edge.pkg) {
                    continue;
                }
                let reached = names.get(edge.pkg.as_str()).copied().unwrap_or_default();
                let way = format!("{way} → {reached}");
                let is_impure = IMPURE.contains(&reached)
                    || IMPURE_PREFIXES.iter().any(|prefix| reached.starts_with(prefix));
                if is_impure {
                    failures.push(way);
                } else {
                    ways.push((&edge.pkg, way));
                }
            }
        }
        failures
    }
}

impl Package {
    /// The crates of the workspace it names, each once.
    fn own_edges(&self) -> impl Iterator<Item = &str> {
        let own: BTreeSet<&str> = self
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str())
            .filter(|name| *name == "banyan" || name.starts_with("banyan-"))
            .collect();
        own.into_iter()
    }

    /// Whether it is under `crates/`: not a tool, not the integration tests.
    fn is_library(&self) -> bool {
        let mut folders = self.manifest_path.rsplit(['/', '\\']).skip(2);
        folders.next() == Some("crates")
    }
}

impl Edge {
    fn is_normal(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}

/// The platform this runs on, as rustc calls it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc -vV")?;
    ensure!(output.status.success(), "rustc -vV failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of (name, folder, direct dependencies).
    fn workspace(packages: &[(&str, &str, &[&str])]) -> Metadata {
        let packages_json: Vec<_> = packages
            .iter()
            .map(|(name, folder, dependencies)| {
                let dependencies: Vec<_> =
                    dependencies.iter().map(|name| json!({"name": name})).collect();
                let manifest = format!("/x/{folder}/{name}/Cargo.toml");
                json!({"id": name, "name": name, "manifest_path": manifest,
                    "dependencies": dependencies})
            })
            .collect();
        let nodes: Vec<_> = packages
            .iter()
            .map(|(name, _, dependencies)| {
                let deps: Vec<_> = dependencies
                    .iter()
                    .map(|name| json!({"pkg": name, "dep_kinds": [{"kind": null}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<_> = packages
            .iter()
            .filter(|(_, folder, _)| !folder.is_empty())
            .map(|(name, _, _)| *name)
            .collect();
        serde_json::from_value(json!({
            "packages": packages_json,
            "workspace_members": members,
            "resolve": {"nodes": nodes},
        }))
        .expect("well formed")
    }

    #[test]
    fn edges_against_the_grain_are_found() {
        let metadata = workspace(&[
            ("banyan-wire", "crates", &["bytes"]),
            ("banyan-media", "crates", &["banyan-wire", "banyan-core"]),
            ("banyan-core", "crates", &["banyan-coding", "banyan-wire", "libp2p"]),
            ("banyan-net", "crates", &["banyan-core", "libp2p", "banyan"]),
            ("banyan-new", "crates", &[]),
            ("banyan-sim", "tools", &["banyan-core", "banyan"]),
            ("banyan-tidy", "tools", &["libp2p"]),
        ]);
        assert_eq!(
            metadata.forbidden_edges(),
            [
                "banyan-media must not depend on banyan-core",
                "banyan-core must not name libp2p",
                "banyan-net must not depend on banyan",
                "banyan-new is under crates/ and has no line in the table of \
                 tools/tidy/src/edges.rs",
                "banyan-tidy must not name libp2p",
            ]
        );
    }

    #[test]
    fn a_runtime_behind_a_harmless_name_is_found_with_the_way_to_it() {
        let metadata = workspace(&[
            ("banyan-core", "crates", &["harmless", "bytes"]),
            ("harmless", "", &["tokio", "async-trait"]),
            ("bytes", "", &[]),
            ("tokio", "", &["mio"]),
            ("async-trait", "", &[]),
            ("mio", "", &[]),
        ]);
        assert_eq!(
            metadata.impurities("banyan-core"),
            ["banyan-core → harmless → tokio", "banyan-core → harmless → async-trait"]
        );
        assert_eq!(metadata.impurities("banyan-wire"), ["there is no banyan-wire"]);
    }
}
