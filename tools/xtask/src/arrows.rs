//! Which crate may use which: an allow-list, of which the table of docs/architecture.md is a copy.
//!
//! Crates stand from the foundations up, as in the workspace's members: each uses only crates above it in the list. A
//! new arrow is a design decision: it is added here, with a reason in the commit. Dependencies of tests are exempt.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// A crate by its bare name, and all it uses of the workspace.
type Arrows = (&'static str, &'static [&'static str]);

/// The allow-list.
const ARROWS: [Arrows; 20] = [
    ("model", &[]),
    ("runtime", &["model"]),
    ("storage", &["model", "runtime"]),
    ("uring", &["model", "runtime"]),
    ("metadata", &["model"]),
    ("replica", &["model"]),
    ("coordinator", &["model"]),
    ("quorum", &["model"]),
    (
        "shard",
        &[
            "model",
            "runtime",
            "storage",
            "metadata",
            "replica",
            "coordinator",
            "quorum",
        ],
    ),
    ("protocol", &["model"]),
    ("client", &["model", "runtime", "protocol"]),
    (
        "server",
        &[
            "model",
            "runtime",
            "metadata",
            "coordinator",
            "shard",
            "protocol",
        ],
    ),
    ("peer", &["model", "runtime", "quorum"]),
    (
        "broker",
        &[
            "model", "runtime", "storage", "metadata", "quorum", "protocol", "client", "shard",
            "server", "peer",
        ],
    ),
    ("load", &["model", "runtime", "protocol", "client"]),
    (
        "benches",
        &[
            "model", "runtime", "storage", "metadata", "protocol", "load",
        ],
    ),
    ("console", &["model", "runtime"]),
    (
        "ringlog",
        &[
            "model", "runtime", "storage", "uring", "metadata", "shard", "protocol", "client",
            "server", "broker", "load", "console",
        ],
    ),
    (
        "sim",
        &[
            "model", "runtime", "storage", "metadata", "shard", "protocol", "client", "server",
            "broker",
        ],
    ),
    ("xtask", &["model"]),
];

/// Packages that may use glommio: the one that wraps it.
const GLOMMIO_USERS: [&str; 1] = ["uring"];
/// Packages that may use that one: the executable.
const URING_USERS: [&str; 1] = ["ringlog"];

/// Where the table is printed, between two marks.
const DOCUMENT: &str = "docs/architecture.md";
const BEGIN: &str = "<!-- arrows -->\n";
const END: &str = "<!-- /arrows -->";

/// Checks every arrow, and the document's table.
pub fn check() -> Result<String, String> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let mut problems = check_list();
    check_members(&metadata, &mut problems)?;
    let mut count = 0;
    for package in &metadata.packages {
        let name = bare(package.name.as_ref());
        let Some((_, allowed)) = ARROWS.iter().find(|(listed, _)| *listed == name) else {
            continue;
        };
        let uses: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.as_str())
            .collect();
        if uses.contains("glommio") && !GLOMMIO_USERS.contains(&name) {
            problems.push(format!("{name} uses glommio; only {GLOMMIO_USERS:?} may"));
        }
        let ours: BTreeSet<&str> = uses
            .iter()
            .filter(|used| metadata.packages.iter().any(|other| other.name == **used))
            .map(|used| bare(used))
            .collect();
        count += ours.len();
        for used in &ours {
            if !allowed.contains(used) {
                problems.push(format!("{name} uses {used}, which is not in its list"));
            }
        }
        for listed in *allowed {
            if !ours.contains(listed) {
                problems.push(format!(
                    "{name} does not use {listed}, which is in its list"
                ));
            }
        }
    }
    if table_of(&read_document()?)? != table() {
        problems.push(format!(
            "the table in {DOCUMENT} is not this list: run `cargo xtask docs`"
        ));
    }
    if problems.is_empty() {
        let crates = ARROWS.len();
        Ok(format!(
            "arrows: {count} arrows between {crates} crates, all of them allowed\n"
        ))
    } else {
        Err(format!("arrows:\n  {}", problems.join("\n  ")))
    }
}

/// Writes the table into the document.
pub fn write_table() -> Result<String, String> {
    let document = read_document()?;
    let marked = |table: &str| format!("{BEGIN}{table}{END}");
    let document = document.replacen(&marked(&table_of(&document)?), &marked(&table()), 1);
    fs::write(DOCUMENT, document).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    Ok(format!("docs: wrote the table of arrows into {DOCUMENT}\n"))
}

fn bare(name: &str) -> &str {
    name.strip_prefix("ringlog-").unwrap_or(name)
}

/// The list's own order: a crate uses only what stands above it.
fn check_list() -> Vec<String> {
    let mut problems = Vec::new();
    for (place, (name, allowed)) in ARROWS.iter().enumerate() {
        for used in *allowed {
            if !ARROWS[..place].iter().any(|(above, _)| above == used) {
                problems.push(format!("{used} does not stand above {name} in the list"));
            }
        }
        if allowed.contains(&"uring") && !URING_USERS.contains(name) {
            problems.push(format!("{name} may not use uring: {URING_USERS:?} may"));
        }
    }
    problems
}

/// Every member is listed, in the order of the manifest.
fn check_members(metadata: &Metadata, problems: &mut Vec<String>) -> Result<(), String> {
    let manifest = metadata.workspace_root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| format!("{manifest}: {error}"))?;
    let members: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.split('"').nth(1))
        .filter_map(|folder| folder.rsplit('/').next())
        .collect();
    let listed: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    if members != listed {
        problems.push(format!(
            "the members of the workspace are {members:?}, the list has {listed:?}"
        ));
    }
    Ok(())
}

fn read_document() -> Result<String, String> {
    fs::read_to_string(DOCUMENT).map_err(|error| format!("{DOCUMENT}: {error}"))
}

/// What stands between the marks.
fn table_of(document: &str) -> Result<String, String> {
    let between = document
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END));
    let between = between.ok_or_else(|| format!("{DOCUMENT} has no {} and {END}", BEGIN.trim()))?;
    Ok(between.0.to_owned())
}

/// The list as the document shows it.
fn table() -> String {
    let rows: Vec<(&str, String)> = ARROWS
        .iter()
        .map(|(name, allowed)| {
            let mut uses = allowed.join(", ");
            if uses.is_empty() {
                uses.push_str("nothing");
            }
            if GLOMMIO_USERS.contains(name) {
                uses.push_str(" (and glommio)");
            }
            (*name, uses)
        })
        .collect();
    let width = |cells: &mut dyn Iterator<Item = usize>| cells.max().unwrap_or(0);
    let left = width(&mut rows.iter().map(|(name, _)| name.len()));
    let right = width(&mut rows.iter().map(|(_, uses)| uses.len()));
    let mut table = String::new();
    let mut line = |name: &str, uses: &str| {
        writeln!(table, "| {name:<left$} | {uses:<right$} |").expect("writing to memory");
    };
    line("crate", "uses");
    let rule = |length: usize| "-".repeat(length);
    line(&rule(left), &rule(right));
    for (name, uses) in &rows {
        line(name, uses);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_goes_one_way() {
        assert_eq!(check_list(), Vec::<String>::new());
    }

    #[test]
    fn a_table_is_found_again() {
        let document = format!("before\n{BEGIN}{}{END}\nafter\n", table());
        assert_eq!(table_of(&document), Ok(table()));
        assert!(table_of("no marks").is_err());
    }
}
