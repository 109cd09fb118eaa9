//! Broker values: layers, the properties format, addresses, cores, and what an operator reads when something is wrong.

use model::BrokerId;
use model::config::dynamic::{check_dynamic, check_group};
use model::config::{
    BrokerConfig, ConfigError, Listener, Properties, broker_keys, parse_environment,
    parse_properties, variable_of,
};
use proptest::prelude::*;

use super::{broker, settings};

#[test]
fn a_broker_that_was_told_nothing() {
    let config = broker(&[]);
    assert_eq!(config.node_id, BrokerId(1));
    assert_eq!(config.data_dir, "./ringlog-data");
    let listeners: Vec<String> = config.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["PLAINTEXT://127.0.0.1:9092"]);
    assert!(config.cores.is_empty() && config.memory_bytes.is_none());
    assert_eq!(
        (config.num_partitions, config.fetch_max_bytes),
        (1, 57_671_680)
    );
}

#[test]
fn later_layers_win() {
    let file = settings(&[
        ("num.partitions", "2"),
        ("ringlog.cores", "0"),
        ("broker.id", "7"),
    ]);
    let variables = [
        ("RINGLOG_NUM_PARTITIONS", "3"),
        ("RINGLOG_CORES", "3,0-1"),
        ("RINGLOG_LOG_RETENTION_MS", "60000"),
        ("HOME", "/root"),
    ];
    let environment = parse_environment(variables);
    assert!(environment.unknown.is_empty());
    let environment = environment.settings;
    let overrides = settings(&[("num.partitions", "4")]);
    let config = BrokerConfig::from_layers(&file, &environment, &overrides).unwrap();
    assert_eq!(config.num_partitions, 4);
    assert_eq!(config.cores, [0, 1, 3]);
    assert_eq!(config.node_id, BrokerId(7));
    assert_eq!(
        config.value("log.retention.ms").unwrap().to_string(),
        "60000"
    );
    let config = BrokerConfig::from_layers(&file, &environment, &settings(&[])).unwrap();
    assert_eq!(config.num_partitions, 3);
}

#[test]
fn mistakes_say_what_to_do() {
    let rows: &[(&str, &str, &str)] = &[
        (
            "num.partition",
            "1",
            "there is no configuration named num.partition; did you mean num.partitions?",
        ),
        (
            "log.retention.hour",
            "1",
            "there is no configuration named log.retention.hour; did you mean log.retention.hours?",
        ),
        (
            "zzzzzzzzzz",
            "1",
            "there is no configuration named zzzzzzzzzz",
        ),
        (
            "num.partitions",
            "0",
            "num.partitions cannot be '0': it must be 1 or more",
        ),
        (
            "num.partitions",
            "many",
            "num.partitions cannot be 'many': it must be a whole number of type int",
        ),
        (
            "ringlog.durability",
            "ram",
            "ringlog.durability cannot be 'ram': it must be one of flushed, written",
        ),
        (
            "listeners",
            "9092",
            "listeners cannot be '9092': write it as NAME://host:port",
        ),
        (
            "log.dirs",
            "a,b",
            "log.dirs cannot be 'a,b': a broker has one data directory",
        ),
        (
            "ringlog.cores",
            "2-1",
            "ringlog.cores cannot be '2-1': write numbers and ranges: 0,2-3",
        ),
        (
            "ringlog.cores",
            "0-99999999999",
            "ringlog.cores cannot be '0-99999999999': write numbers and ranges: 0,2-3",
        ),
        (
            "group.min.session.timeout.ms",
            "1800001",
            "group.min.session.timeout.ms must not be above group.max.session.timeout.ms",
        ),
    ];
    let none = settings(&[]);
    for (name, value, text) in rows {
        let error = BrokerConfig::from_layers(&settings(&[(name, value)]), &none, &none);
        assert_eq!(error.unwrap_err().to_string(), *text);
    }
}

#[test]
fn variables_that_name_nothing_are_told_and_stop_nothing() {
    // What Kubernetes sets for a service named ringlog.
    let platform = [
        ("RINGLOG_PORT", "tcp://10.96.0.17:9092"),
        ("RINGLOG_PORT_9092_TCP", "tcp://10.96.0.17:9092"),
        ("RINGLOG_PORT_9092_TCP_ADDR", "10.96.0.17"),
        ("RINGLOG_PORT_9092_TCP_PORT", "9092"),
        ("RINGLOG_PORT_9092_TCP_PROTO", "tcp"),
        ("RINGLOG_SERVICE_HOST", "10.96.0.17"),
        ("RINGLOG_SERVICE_PORT", "9092"),
        ("RINGLOG_SERVICE_PORT_KAFKA", "9092"),
    ];
    let found = parse_environment(platform);
    assert_eq!(found.settings, settings(&[]));
    let names: Vec<&str> = found.unknown.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, platform.map(|(name, _)| name));
    assert!(
        found
            .unknown
            .iter()
            .all(|variable| variable.nearest.is_none())
    );
    let found = parse_environment([("RINGLOG_NUM_PARTITION", "1"), ("RINGLOG_CORE", "0")]);
    let told: Vec<String> = found.unknown.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "RINGLOG_NUM_PARTITION (did you mean RINGLOG_NUM_PARTITIONS?)",
            "RINGLOG_CORE (did you mean RINGLOG_CORES?)"
        ]
    );
}

#[test]
fn every_key_has_one_variable() {
    for key in broker_keys() {
        let variable = variable_of(key);
        let found = parse_environment([(variable.as_str(), "x")]);
        let named: Vec<&String> = found.settings.keys().collect();
        assert_eq!(named, [key.name], "{variable}");
    }
}

#[test]
fn numbers_may_have_units() {
    let rows = [
        ("ringlog.memory.bytes", "2GiB", Ok("2147483648")),
        ("ringlog.memory.bytes", "512m", Ok("536870912")),
        ("message.max.bytes", "1.5K", Ok("1536")),
        ("log.retention.bytes", "-1", Ok("-1")),
        ("log.retention.ms", "1h", Ok("3600000")),
        ("log.retention.ms", "1h 30m", Ok("5400000")),
        ("log.retention.hours", "7d", Ok("168")),
        ("log.retention.minutes", "90", Ok("90")),
        ("connections.max.idle.ms", "500ms", Ok("500")),
        (
            "message.max.bytes",
            "4G",
            Err("it must be a whole number of type int"),
        ),
        (
            "log.retention.hours",
            "90m",
            Err("it must be a multiple of 3600s"),
        ),
        ("log.retention.ms", "5 parsecs", Err("expected a duration")),
        ("message.max.bytes", "1h", Err("expected a size")),
        (
            "num.partitions",
            "4K",
            Err("it must be a whole number of type int"),
        ),
    ];
    let none = settings(&[]);
    for (name, value, expected) in rows {
        let config = BrokerConfig::from_layers(&none, &settings(&[(name, value)]), &none);
        match (config, expected) {
            (Ok(config), Ok(number)) => {
                assert_eq!(
                    config.value(name).unwrap().to_string(),
                    number,
                    "{name}={value}"
                );
            }
            (Err(error), Err(reason)) => {
                assert_eq!(error.key(), Some(name));
                assert!(
                    error.to_string().contains(reason),
                    "{name}={value}: {error}"
                );
            }
            (outcome, expected) => panic!("{name}={value}: {outcome:?}, not {expected:?}"),
        }
    }
    // Over the wire as strict as Kafka.
    assert!(check_dynamic("message.max.bytes", "4K", false).is_err());
}

#[test]
fn run_time_changes_are_checked() {
    assert!(check_dynamic("log.cleaner.backoff.ms", "7", true).is_ok());
    assert!(check_dynamic("ringlog.durability", "written", false).is_ok());
    let read_only = ConfigError::ReadOnly("node.id".to_owned());
    assert_eq!(check_dynamic("node.id", "7", true), Err(read_only));
    // Kafka changes them at run time; accepted here, they would have no effect.
    for (name, value) in [("listeners", "A://:1"), ("max.connections", "7")] {
        let at_start = ConfigError::AtStart(name.to_owned());
        assert_eq!(check_dynamic(name, value, true), Err(at_start));
    }
    assert!(matches!(
        check_dynamic("listeners", "A://:1", false),
        Err(ConfigError::PerBrokerOnly(_))
    ));
    assert!(matches!(
        check_dynamic("message.max.bytes", "x", false),
        Err(ConfigError::Invalid { .. })
    ));
    assert!(check_dynamic("no.such", "x", false).is_ok());
    let long = "x".repeat(64 << 10);
    assert!(check_dynamic("no.such", &long, false).is_ok());
    assert!(check_dynamic("no.such", &format!("{long}x"), false).is_err());
    assert!(check_dynamic(&long, "x", false).is_err());
}

#[test]
fn what_no_topic_could_have_is_refused_at_once() {
    let lags = settings(&[
        ("log.cleaner.min.compaction.lag.ms", "6"),
        ("log.cleaner.max.compaction.lag.ms", "5"),
    ]);
    let none = settings(&[]);
    let refused = BrokerConfig::from_layers(&none, &none, &lags);
    assert!(matches!(refused, Err(ConfigError::Conflict(_))));
    // Each alone is fine, and so is each in a layer of its own.
    let base = broker(&[]);
    let (min, max) = (
        settings(&[("log.cleaner.min.compaction.lag.ms", "6")]),
        settings(&[("log.cleaner.max.compaction.lag.ms", "5")]),
    );
    assert!(base.with_dynamic(&min, &none).is_ok());
    assert!(base.with_dynamic(&none, &max).is_ok());
    assert!(base.with_dynamic(&min, &max).is_err());
}

#[test]
fn groups_have_the_bounds_that_the_broker_sets() {
    let broker = broker(&[]);
    // (settings, whether they are accepted)
    let table: &[(&[(&str, &str)], bool)] = &[
        (&[], true),
        (&[("consumer.session.timeout.ms", "45000")], true),
        (&[("consumer.session.timeout.ms", "44999")], false),
        (&[("consumer.session.timeout.ms", "60000")], true),
        (&[("consumer.session.timeout.ms", "60001")], false),
        (&[("consumer.session.timeout.ms", "1")], false),
        (&[("consumer.heartbeat.interval.ms", "15000")], true),
        (&[("consumer.heartbeat.interval.ms", "15001")], false),
        (&[("share.delivery.count.limit", "1000")], false),
        (&[("share.isolation.level", "read_committed")], true),
        (&[("share.isolation.level", "none")], false),
        (&[("no.such", "1")], false),
    ];
    for (values, accepted) in table {
        let checked = check_group(&settings(values), &broker);
        assert_eq!(checked.is_ok(), *accepted, "{values:?}: {checked:?}");
    }
}

#[test]
fn a_group_lives_longer_than_the_pause_between_its_heartbeats() {
    let broker = broker(&[
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.min.heartbeat.interval.ms", "1000"),
    ]);
    let same = settings(&[
        ("consumer.session.timeout.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "6000"),
    ]);
    assert!(check_group(&same, &broker).is_err());
    let shorter = settings(&[
        ("consumer.session.timeout.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "5999"),
    ]);
    assert!(check_group(&shorter, &broker).is_ok());
}

#[test]
fn addresses() {
    let listener = |name: &str, host: &str, port| Listener {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
    };
    let rows = [
        ("PLAINTEXT://:9092", Some(listener("PLAINTEXT", "", 9092))),
        ("internal://a.b:1", Some(listener("INTERNAL", "a.b", 1))),
        ("127.0.0.1:0", Some(listener("PLAINTEXT", "127.0.0.1", 0))),
        ("SSL://[::1]:9093", Some(listener("SSL", "::1", 9093))),
        ("SSL://::1:9093", None),
        ("://a:1", None),
        ("A://a", None),
        ("A://a:65536", None),
        ("", None),
    ];
    for (text, expected) in rows {
        let parsed = Listener::parse(text);
        assert_eq!(parsed, expected, "{text}");
        if let Some(listener) = parsed {
            assert_eq!(Listener::parse(&listener.to_string()), Some(listener));
        }
    }
}

#[test]
fn an_existing_server_properties_works() {
    let text = "# Licensed to nobody in particular\n\
        process.roles=broker,controller\nnode.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
        inter.broker.listener.name=PLAINTEXT\nadvertised.listeners=PLAINTEXT://localhost:9092\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
        num.network.threads=3\nsocket.send.buffer.bytes=102400\n\
        log.dirs=data\\\n   /logs\nnum.partitions : 3\n\
        listener.name.plaintext.sasl.enabled.mechanisms=PLAIN\n\
        transaction.state.log.min.isr 1\nlog.retention.hours=168\n";
    let file = parse_properties(text).unwrap();
    let config = BrokerConfig::from_layers(&file, &settings(&[]), &settings(&[])).unwrap();
    assert_eq!(config.num_partitions, 3);
    assert_eq!(config.data_dir, "data/logs");
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.advertised_listeners[0].host, "localhost");
}

#[test]
fn properties_text() {
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("a=b", &[("a", "b")]),
        ("  a = b c ", &[("a", "b c ")]),
        ("a:b", &[("a", "b")]),
        ("a b", &[("a", "b")]),
        ("a", &[("a", "")]),
        ("a=", &[("a", "")]),
        ("a==b", &[("a", "=b")]),
        ("a=1\r\na=2\n", &[("a", "2")]),
        ("# c\n  ! d\n\na=1", &[("a", "1")]),
        ("a=1\\\n   2\\\r3", &[("a", "123")]),
        ("a=1\\\r\n  2", &[("a", "12")]),
        ("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]),
        ("a=1\\\n# not a comment", &[("a", "1# not a comment")]),
        ("a\\ b\\=c=d\\te", &[("a b=c", "d\te")]),
        ("a=\\u0041\\ud83d\\ude00", &[("a", "A\u{1f600}")]),
        ("a=b\\", &[("a", "b")]),
        ("p=c:\\\\dir", &[("p", "c:\\dir")]),
    ];
    for (text, expected) in rows {
        assert_eq!(
            parse_properties(text).unwrap(),
            settings(expected),
            "{text:?}"
        );
    }
    let lines = Properties::parse("# c\na=1\n\nb=1\\\n2\nc=3\na=4")
        .unwrap()
        .lines;
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, line)| (name.as_str(), *line))
        .collect();
    assert_eq!(lines, [("a", 7), ("b", 4), ("c", 6)]);
    for (text, line) in [("a=1\nb=\\u00", 2), ("a=\\ud83d", 1), ("\n=5", 2)] {
        let error = parse_properties(text).unwrap_err();
        assert!(
            matches!(error, ConfigError::Syntax { line: at, .. } if at == line),
            "{text:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_text_panics(text in "[a-c\\\\u=: \t\r\n#!0-9é]{0,60}") {
        let _any_result = parse_properties(&text);
        let _any_result = Listener::parse(&text);
        for name in ["ringlog.cores", "listeners", "log.cleaner.io.max.bytes.per.second", &text] {
            let file = settings(&[(name, &text)]);
            let _any_result = BrokerConfig::from_layers(&file, &settings(&[]), &settings(&[]));
        }
    }
}
