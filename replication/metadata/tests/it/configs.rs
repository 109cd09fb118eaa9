//! The rows of IncrementalAlterConfigs, and what AlterConfigs forgets.

use ringlog_metadata::controller::Refusal::{self, *};
use ringlog_metadata::controller::configs::NAMED_RESOURCES_MAX;
use ringlog_metadata::controller::{
    AlterConfigsRequest, ConfigChange, ConfigOperation, ConfigResource, ConfigRules, alter_configs,
};
use ringlog_metadata::{ConfigMap, ConfigResourceType};

use crate::cluster::Cluster;

fn validate(resource: &ConfigResource, configs: &ConfigMap) -> Result<(), String> {
    for (key, value) in configs {
        let good = match (resource.kind, key.as_str()) {
            (ConfigResourceType::Topic, "retention.ms") => value.parse::<i64>().is_ok(),
            (ConfigResourceType::Topic, "cleanup.policy") => true,
            (ConfigResourceType::Broker, _) => value != "bad",
            _ => false,
        };
        if !good {
            return Err(format!("{key}={value}"));
        }
    }
    Ok(())
}

fn list_default(_: ConfigResourceType, key: &str) -> Option<String> {
    (key == "cleanup.policy").then(|| "delete".to_owned())
}

const RULES: ConfigRules<'_> = ConfigRules {
    validate: &validate,
    list_default: &list_default,
};

fn change(name: &str, operation: i8, value: Option<&str>) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        operation: ConfigOperation::from_code(operation),
        value: value.map(str::to_owned),
    }
}

#[test]
fn alter_configs_answers() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 1, 1);
    let topic = ConfigResourceType::Topic;
    let broker = ConfigResourceType::Broker;
    let set = |key: &str, value: &str| vec![change(key, 0, Some(value))];
    type Row<'a> = (
        ConfigResourceType,
        &'a str,
        Vec<ConfigChange>,
        Option<Refusal>,
    );
    let rows: Vec<Row<'_>> = vec![
        (topic, "t", set("no.such", "1"), Some(InvalidConfig)),
        (topic, "t", vec![change("no.such", 1, None)], None),
        (topic, "t", set("retention.ms", "soon"), Some(InvalidConfig)),
        (
            topic,
            "t",
            vec![change("retention.ms", 2, Some("5"))],
            Some(InvalidConfig),
        ),
        (
            topic,
            "t",
            vec![change("retention.ms", 0, None)],
            Some(InvalidRequest),
        ),
        (
            topic,
            "t",
            [set("retention.ms", "1"), set("retention.ms", "2")].concat(),
            Some(InvalidRequest),
        ),
        (
            topic,
            "t",
            vec![change("cleanup.policy", 2, Some("delete"))],
            None,
        ),
        (
            topic,
            "t",
            vec![change("cleanup.policy", 3, Some("compact"))],
            None,
        ),
        (
            topic,
            "t",
            vec![change("cleanup.policy", 3, Some("delete"))],
            None,
        ),
        (topic, "t", set("cleanup.policy", "delete"), None),
        (
            topic,
            "t",
            vec![change("retention.ms", 9, Some("1"))],
            Some(Internal),
        ),
        (topic, "t", vec![change("retention.ms", 1, None)], None),
        (topic, "t", vec![], None),
        (
            topic,
            "no",
            set("retention.ms", "1"),
            Some(UnknownTopicOrPartition),
        ),
        (
            topic,
            "a b",
            set("retention.ms", "1"),
            Some(InvalidTopicName),
        ),
        (broker, "t", set("x", "1"), Some(InvalidRequest)),
        (broker, "4711", set("x", "1"), Some(InvalidRequest)),
        (broker, "1", set("x", "1"), None),
        (broker, "", set("x", "bad"), Some(InvalidRequest)),
        (
            ConfigResourceType::Group,
            "g",
            set("x", "1"),
            Some(InvalidConfig),
        ),
    ];
    for (kind, name, changes, expected) in rows {
        let row = format!("{kind:?} {name:?} {changes:?}");
        let resource = ConfigResource {
            kind,
            name: name.to_owned(),
        };
        let request = AlterConfigsRequest {
            resources: vec![(resource, changes)],
            ..AlterConfigsRequest::default()
        };
        let decision = alter_configs(&cluster.image, &request, RULES);
        let code = decision.results[0]
            .1
            .as_ref()
            .err()
            .map(|error| error.refusal);
        assert_eq!(code, expected, "{row}");
    }
}

#[test]
fn lists_grow_and_shrink_and_equal_values_are_not_written() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 1, 1);
    let mut alter = |operation, value: &str| {
        let resource = ConfigResource {
            kind: ConfigResourceType::Topic,
            name: "t".to_owned(),
        };
        let request = AlterConfigsRequest {
            resources: vec![(
                resource,
                vec![change("cleanup.policy", operation, Some(value))],
            )],
            ..AlterConfigsRequest::default()
        };
        let decision = alter_configs(&cluster.image, &request, RULES);
        cluster.commit(&decision.records);
        let configs = cluster.image.topic_configs("t");
        let value = configs.and_then(|map| map.get("cleanup.policy")).cloned();
        (decision.records.len(), value)
    };
    assert_eq!(alter(2, "delete"), (0, None));
    assert_eq!(alter(2, "compact"), (1, Some("delete,compact".to_owned())));
    assert_eq!(alter(2, "compact"), (0, Some("delete,compact".to_owned())));
    assert_eq!(alter(3, "delete"), (1, Some("compact".to_owned())));
    assert_eq!(alter(3, "compact"), (1, Some(String::new())));
    assert_eq!(alter(1, ""), (1, None));
}

fn resource(kind: ConfigResourceType, name: &str) -> ConfigResource {
    ConfigResource {
        kind,
        name: name.to_owned(),
    }
}

#[test]
fn a_replacement_forgets_what_is_not_set_again() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("t", 1, 1);
    let mut alter = |replaces, validate_only, changes: Vec<ConfigChange>| {
        let request = AlterConfigsRequest {
            resources: vec![(resource(ConfigResourceType::Topic, "t"), changes)],
            replaces,
            validate_only,
        };
        let decision = alter_configs(&cluster.image, &request, RULES);
        let refusal = decision.results[0].1.as_ref().err();
        let refusal = refusal.map(|error| error.refusal);
        cluster.commit(&decision.records);
        let configs = cluster.image.topic_configs("t");
        let text = configs.map(|map| format!("{map:?}")).unwrap_or_default();
        (refusal, decision.records.len(), text)
    };
    let retention = || change("retention.ms", 0, Some("5"));
    let cleanup = || change("cleanup.policy", 0, Some("compact"));
    let both = r#"{"cleanup.policy": "compact", "retention.ms": "5"}"#;
    assert_eq!(
        alter(false, false, vec![retention(), cleanup()]),
        (None, 2, both.to_owned())
    );
    assert_eq!(
        alter(true, true, vec![retention()]),
        (None, 0, both.to_owned()),
        "only validated"
    );
    let bad = vec![change("no.such", 0, Some("1"))];
    assert_eq!(
        alter(true, false, bad),
        (Some(InvalidConfig), 0, both.to_owned())
    );
    let null = vec![change("retention.ms", 0, None)];
    assert_eq!(
        alter(true, false, null),
        (Some(InvalidRequest), 0, both.to_owned())
    );
    assert_eq!(
        alter(true, false, vec![retention()]),
        (None, 1, r#"{"retention.ms": "5"}"#.to_owned())
    );
    assert_eq!(alter(true, false, vec![]), (None, 1, String::new()));
    assert_eq!(alter(true, false, vec![]), (None, 0, String::new()));
}

#[test]
fn groups_with_values_are_bounded() {
    let mut cluster = Cluster::new(&[None]);
    let rules = ConfigRules {
        validate: &|_, _| Ok(()),
        list_default: &list_default,
    };
    let set = |name: String| {
        let changes = vec![change("x", 0, Some("1"))];
        (resource(ConfigResourceType::Group, &name), changes)
    };
    let one_too_many = (0..=NAMED_RESOURCES_MAX).map(|number| set(format!("g{number}")));
    let request = AlterConfigsRequest {
        resources: one_too_many.collect(),
        ..AlterConfigsRequest::default()
    };
    let decision = alter_configs(&cluster.image, &request, rules);
    assert_eq!(decision.records.len(), NAMED_RESOURCES_MAX);
    cluster.commit(&decision.records);
    let mut alter = |name: &str, changes: Vec<ConfigChange>| {
        let request = AlterConfigsRequest {
            resources: vec![(resource(ConfigResourceType::Group, name), changes)],
            ..AlterConfigsRequest::default()
        };
        let decision = alter_configs(&cluster.image, &request, rules);
        cluster.commit(&decision.records);
        let result = decision.results.into_iter().next().unwrap().1;
        result.err().map(|error| error.refusal)
    };
    let x = |value: &str| vec![change("x", 0, Some(value))];
    assert_eq!(alter("new", x("1")), Some(PolicyViolation));
    assert_eq!(alter("g0", x("2")), None, "it has values already");
    assert_eq!(alter("g0", vec![change("x", 1, None)]), None);
    assert_eq!(alter("new", x("1")), None, "there is room again");
}
