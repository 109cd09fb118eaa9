//! The rows of IncrementalAlterConfigs.

use ringlog_metadata::controller::Refusal::{self, *};
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
            validate_only: false,
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
            validate_only: false,
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
