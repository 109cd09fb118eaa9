//! The configuration reference as a Markdown page, written from the registry.

use std::fmt::Write as _;

use super::dynamic::AT_START;
use super::key::{Access, Effect, Key, Valid};
use super::{broker_keys, group_keys, topic_keys};

/// The whole page.
pub fn config_reference() -> String {
    let mut out = String::from(
        "# Configuration\n\nGenerated from the registry in `engine/model/src/config`. Names, types and defaults are those of \
         Apache Kafka 4.3.1; keys that begin with `ringlog.` are our own. A value comes from the properties file, then from \
         the environment (`RINGLOG_NUM_PARTITIONS` for `num.partitions`, `RINGLOG_CORES` for `ringlog.cores`), then from \
         `--override key=value`; the last one wins. Bytes may be written as `64KiB` or `2G`, times as `500ms` or `1h`.\n",
    );
    let mut ignored: Vec<&Key> = Vec::new();
    let parts: [(&str, Vec<&'static Key>); 3] = [
        ("Topics", topic_keys().collect()),
        ("Broker", broker_keys().collect()),
        ("Groups", group_keys().collect()),
    ];
    for (title, mut keys) in parts {
        keys.sort_by_key(|key| (!key.is_own(), key.name));
        let (effective, idle): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .partition(|key| key.effect == Effect::Effective);
        ignored.extend(idle);
        if !effective.is_empty() {
            write_table(&mut out, title, &effective);
        }
    }
    write_ignored(&mut out, &ignored);
    out
}

fn write_table(out: &mut String, title: &str, keys: &[&Key]) {
    out.push_str(&format!(
        "\n## {title}\n\n| key | type | default | accepts | changes | what it does |\n|---|---|---|---|---|---|\n"
    ));
    for key in keys {
        let changes = match key.access {
            _ if AT_START.contains(&key.name) => "at start",
            Access::ReadOnly => "at start",
            Access::Cluster => "any time",
            Access::PerBroker => "any time, per broker",
        };
        let accepts = match key.valid {
            Valid::Any => String::new(),
            valid => valid.to_string(),
        };
        let unit = key
            .unit()
            .map(|unit| format!(", {unit}"))
            .unwrap_or_default();
        line(
            out,
            &[
                &format!("`{}`", key.name),
                &format!("{}{unit}", key.kind.name()),
                &default_text(key),
                &accepts,
                changes,
                key.doc,
            ],
        );
    }
}

fn write_ignored(out: &mut String, keys: &[&Key]) {
    out.push_str(
        "\n## Accepted without effect\n\nThese keys of Kafka's are checked and reported, so that existing files and tools \
         work, and do nothing.\n\n| key | default | what it does in Kafka | why not here |\n|---|---|---|---|\n",
    );
    for key in keys {
        if let Effect::Ignored(reason) = key.effect {
            line(
                out,
                &[
                    &format!("`{}`", key.name),
                    &default_text(key),
                    key.doc,
                    reason,
                ],
            );
        }
    }
}

fn default_text(key: &Key) -> String {
    match key.default {
        None => "null".to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
    }
}

fn line(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    writeln!(out, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
}
