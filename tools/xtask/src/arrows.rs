//! Which crate may use which (README.md, "Arrows").
//!
//! The workspace's members are listed from the foundations up: a crate may use only crates listed before it. Beyond
//! that, the pure crates use nothing but `model`, and glommio is reachable only from `uring` and the executables.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crates that perform no I/O, with all they may use of the workspace.
const PURE: [(&str, &[&str]); 6] = [
    ("ringlog-model", &[]),
    ("ringlog-metadata", &["ringlog-model"]),
    ("ringlog-replica", &["ringlog-model"]),
    ("ringlog-coordinator", &["ringlog-model"]),
    ("ringlog-protocol", &["ringlog-model"]),
    ("ringlog-runtime", &["ringlog-model"]),
];

/// Packages from which glommio may be reached.
const GLOMMIO_USERS: [&str; 3] = ["ringlog-uring", "ringlog", "ringlog-benches"];

/// Checks every arrow.
pub fn check() -> Result<String, String> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let order: BTreeMap<String, usize> = metadata
        .workspace_members
        .iter()
        .filter_map(|id| metadata.packages.iter().find(|package| package.id == *id))
        .map(|package| package.name.to_string())
        .zip(manifest_order(&metadata)?)
        .collect();
    let mut problems = Vec::new();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut arrows = 0;
    for package in &metadata.packages {
        let name = package.name.to_string();
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            let target = dependency.name.clone();
            uses.entry(name.clone()).or_default().insert(target.clone());
            let Some(place) = order.get(&target) else {
                continue;
            };
            arrows += 1;
            if *place >= order[&name] {
                problems.push(format!("{name} uses {target}, which stands above it"));
            }
        }
    }
    for (name, allowed) in PURE {
        for target in uses.get(name).into_iter().flatten() {
            if order.contains_key(target) && !allowed.contains(&target.as_str()) {
                problems.push(format!("{name} is pure and may not use {target}"));
            }
        }
    }
    for (name, targets) in &uses {
        let reaches = targets.contains("glommio") || targets.contains("ringlog-uring");
        if reaches && !GLOMMIO_USERS.contains(&name.as_str()) {
            problems.push(format!(
                "{name} reaches glommio; only {GLOMMIO_USERS:?} may"
            ));
        }
    }
    if problems.is_empty() {
        Ok(format!(
            "arrows: {arrows} arrows between {} crates, all downwards\n",
            order.len()
        ))
    } else {
        Err(format!("arrows:\n  {}", problems.join("\n  ")))
    }
}

/// The places of the workspace members in the manifest's own order, aligned with `workspace_members`.
fn manifest_order(metadata: &cargo_metadata::Metadata) -> Result<Vec<usize>, String> {
    let manifest = metadata.workspace_root.join("Cargo.toml");
    let text =
        std::fs::read_to_string(&manifest).map_err(|error| format!("{manifest}: {error}"))?;
    let listed: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    metadata
        .workspace_members
        .iter()
        .map(|id| {
            let package = metadata.packages.iter().find(|package| package.id == *id);
            let folder = package
                .and_then(|package| package.manifest_path.parent())
                .and_then(|folder| folder.strip_prefix(&metadata.workspace_root).ok())
                .ok_or_else(|| format!("{id} is not in the workspace"))?;
            let place = listed.iter().position(|member| folder == *member);
            place.ok_or_else(|| format!("{folder} is not in the members list"))
        })
        .collect()
}
