//! Names, types, defaults, access, sensitivity and synonyms of every key, row by row as Apache Kafka 4.3.1 describes them.
//!
//! The copy of its answer differs in three rows: the default of `log.dir` is Ringlog's own directory, and heartbeats of brokers and
//! their sessions are shorter.

use std::collections::BTreeSet;

use model::config::{
    Described, Effect, Source, broker_keys, config_reference, describe_broker,
    describe_client_metrics, describe_group, describe_topic, group_keys, topic_keys,
};

use super::{broker, settings};

const ANSWER: &str = include_str!("../data/kafka-4.3.1-configs.tsv");

/// One row in the form of the file.
fn row(resource: &str, line: &Described) -> String {
    let default = match resource {
        "broker" => line
            .synonyms
            .iter()
            .find(|synonym| synonym.name == line.name && synonym.source == Source::Default)
            .map(|synonym| synonym.value.clone().unwrap_or_default()),
        _ => line.value.clone(),
    };
    let others: BTreeSet<&str> = line
        .synonyms
        .iter()
        .map(|synonym| synonym.name)
        .filter(|name| *name != line.name && resource != "broker")
        .collect();
    [
        resource,
        line.name,
        &line.kind.name().to_uppercase(),
        default.as_deref().unwrap_or("(null)"),
        if line.read_only {
            "read-only"
        } else {
            "dynamic"
        },
        if line.sensitive { "sensitive" } else { "" },
        &others.into_iter().collect::<Vec<_>>().join(","),
    ]
    .join("\t")
}

/// Lists are described in any order of their words.
fn normal(row: &str) -> String {
    let mut cells: Vec<String> = row.split('\t').map(str::to_owned).collect();
    cells.resize(7, String::new());
    if cells[2] == "LIST" || cells[1] == "listener.security.protocol.map" {
        let mut words: Vec<&str> = cells[3].split(',').collect();
        words.sort_unstable();
        cells[3] = words.join(",");
    }
    cells.join("\t")
}

#[test]
fn every_row_of_a_real_broker() {
    let broker = broker(&[("super.users", "User:admin")]);
    let none = settings(&[]);
    let described = [
        ("broker", describe_broker(&broker, true).unwrap()),
        ("topic", describe_topic(&none, &broker).unwrap()),
        ("group", describe_group(&none, &broker).unwrap()),
        (
            "client-metrics",
            describe_client_metrics(&none, &broker).unwrap(),
        ),
    ];
    let ours: BTreeSet<String> = described
        .iter()
        .flat_map(|(resource, lines)| lines.iter().map(move |line| (resource, line)))
        .filter(|(_, line)| !line.name.starts_with("ringlog."))
        .map(|(resource, line)| normal(&row(resource, line)))
        .collect();
    let theirs: BTreeSet<String> = ANSWER
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(normal)
        .collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:#?}\nextra {extra:#?}"
    );
    assert!(theirs.len() > 350);
}

#[test]
fn a_topic_value_hides_the_broker_and_names_it() {
    let broker = broker(&[
        ("log.segment.bytes", "2097152"),
        ("log.retention.hours", "2"),
    ]);
    let overrides = settings(&[("segment.bytes", " 4194304 ")]);
    let lines = describe_topic(&overrides, &broker).unwrap();
    let line = |name: &str| lines.iter().find(|line| line.name == name).unwrap();
    let segment = line("segment.bytes");
    assert_eq!(segment.value.as_deref(), Some("4194304"));
    assert_eq!(segment.source, Source::Topic);
    let places: Vec<_> = segment
        .synonyms
        .iter()
        .map(|s| (s.name, s.value.as_deref().unwrap(), s.source))
        .collect();
    assert_eq!(
        places,
        [
            ("segment.bytes", "4194304", Source::Topic),
            ("log.segment.bytes", "2097152", Source::StaticBroker),
            ("log.segment.bytes", "1073741824", Source::Default),
        ]
    );
    let retention = line("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("7200000"));
    assert_eq!(
        (retention.source, retention.synonyms.len()),
        (Source::Default, 0)
    );
}

#[test]
fn secrets_are_hidden_and_run_time_values_come_first() {
    let base = broker(&[
        ("ssl.key.password", "hush"),
        ("log.cleaner.backoff.ms", "5"),
    ]);
    let changed = base
        .with_dynamic(
            &settings(&[("log.cleaner.backoff.ms", "6")]),
            &settings(&[("log.cleaner.backoff.ms", "7"), ("no.such.key", "1")]),
        )
        .unwrap();
    assert_eq!(changed.log_cleaner_backoff_ms, 7);
    let lines = describe_broker(&changed, true).unwrap();
    assert!(!format!("{lines:?}").contains("hush"));
    let line = |lines: &[Described], name: &str| {
        lines.iter().find(|line| line.name == name).unwrap().clone()
    };
    let sources: Vec<_> = line(&lines, "log.cleaner.backoff.ms")
        .synonyms
        .iter()
        .map(|s| s.source.code())
        .collect();
    assert_eq!(sources, [2, 3, 4, 5]);
    let all = describe_broker(&changed, false).unwrap();
    assert_eq!(line(&all, "log.cleaner.backoff.ms").synonyms.len(), 1);
    // Of all brokers, only what was set for all of them counts: not what this one has in its file or for itself alone.
    let source = |name: &str| line(&all, name).source;
    assert_eq!(
        source("log.cleaner.backoff.ms"),
        Source::DynamicDefaultBroker
    );
    assert_eq!(source("ssl.key.password"), Source::Default);
    assert!(
        lines
            .iter()
            .all(|line| line.name != "allow.everyone.if.no.acl.found")
    );
}

#[test]
fn the_tables_are_sound() {
    let mut names = BTreeSet::new();
    for key in broker_keys() {
        assert!(names.insert(key.name), "{} twice", key.name);
    }
    for key in broker_keys().chain(topic_keys()).chain(group_keys()) {
        if let Some(default) = key.default {
            key.parse(default)
                .unwrap_or_else(|error| panic!("{}: {error}", key.name));
        }
        assert!(key.doc.ends_with('.'), "{}", key.name);
    }
    for key in topic_keys().chain(group_keys()) {
        assert!(
            key.synonyms.iter().all(|synonym| names.contains(synonym)),
            "{}",
            key.name
        );
    }
}

#[test]
fn the_reference_names_every_key_once() {
    let page = config_reference();
    for key in broker_keys().chain(topic_keys()).chain(group_keys()) {
        let cell = format!("| `{}` |", key.name);
        assert!(page.contains(&cell), "{}", key.name);
        if let Effect::Ignored(reason) = key.effect {
            assert!(page.contains(reason));
        }
    }
    assert!(page.contains("| `retention.ms` | long, ms | `604800000` | -1 or more | any time |"));
}
