//! The rows of CreateTopics, DeleteTopics and CreatePartitions that Kafka 4.3.1 was seen to give.

use model::{BrokerId, PartitionIndex, TopicId, TopicPartition};
use ringlog_metadata::controller::Refusal::{self, *};
use ringlog_metadata::controller::{
    CreatePartitionsRequest, CreateTopicsRequest, DeletableTopic, ManualAssignment, MorePartitions,
    NewTopic, PARTITIONS_PER_REQUEST_MAX, create_partitions, create_topics, delete_topics,
};
use ringlog_metadata::{ConfigMap, PartitionDelta};

use crate::cluster::{Cluster, topic_id};

fn rules(configs: &ConfigMap) -> Result<(), String> {
    match configs.keys().find(|key| key.as_str() != "retention.ms") {
        Some(key) => Err(format!("unknown {key}")),
        None => Ok(()),
    }
}

fn topic(name: &str, partition_count: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        topic_id: topic_id(name),
        partition_count,
        replication_factor,
        ..NewTopic::default()
    }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let assignment = |(partition, replicas): &(i32, &[i32])| ManualAssignment {
        partition: PartitionIndex(*partition),
        replicas: replicas.iter().copied().map(BrokerId).collect(),
    };
    NewTopic {
        assignments: assignments.iter().map(assignment).collect(),
        ..topic(name, -1, -1)
    }
}

fn with_config(name: &str, key: &str, value: Option<&str>) -> NewTopic {
    NewTopic {
        configs: vec![(key.to_owned(), value.map(str::to_owned))],
        ..topic(name, 1, 1)
    }
}

fn create(cluster: &Cluster, topics: Vec<NewTopic>) -> Vec<Option<Refusal>> {
    let request = CreateTopicsRequest {
        topics,
        partition_count_default: 3,
        replication_factor_default: 1,
        ..CreateTopicsRequest::default()
    };
    let decision = create_topics(&cluster.image, &request, &rules);
    let failed = decision
        .results
        .iter()
        .filter(|(_, result)| result.is_err());
    assert!(failed.count() == 0 || decision.results.len() > 1 || decision.records.is_empty());
    let code = |result: &Result<_, ringlog_metadata::controller::ControllerError>| {
        result.as_ref().err().map(|error| error.refusal)
    };
    decision
        .results
        .iter()
        .map(|(_, result)| code(result))
        .collect()
}

#[test]
fn create_topics_answers() {
    let mut cluster = Cluster::new(&[None]);
    cluster.create("again", 1, 1);
    cluster.create("__consumer_offsets", 1, 1);
    cluster.create("c.x", 1, 1);
    let long = "a".repeat(250);
    let rows: Vec<(&str, NewTopic, Option<Refusal>)> = vec![
        ("good", topic("good", 4, 1), None),
        ("defaults", topic("good", -1, -1), None),
        ("longest name", topic(&"a".repeat(249), 1, 1), None),
        ("again", topic("again", 4, 1), Some(TopicAlreadyExists)),
        ("partitions 0", topic("t", 0, 1), Some(InvalidPartitions)),
        ("partitions -2", topic("t", -2, 1), Some(InvalidPartitions)),
        (
            "replicas 0",
            topic("t", 1, 0),
            Some(InvalidReplicationFactor),
        ),
        (
            "replicas 2",
            topic("t", 1, 2),
            Some(InvalidReplicationFactor),
        ),
        (
            "replicas -2",
            topic("t", 1, -2),
            Some(InvalidReplicationFactor),
        ),
        (
            "bad topic",
            topic("bad topic", 1, 1),
            Some(InvalidTopicName),
        ),
        ("a/b", topic("a/b", 1, 1), Some(InvalidTopicName)),
        ("aaa...", topic(&long, 1, 1), Some(InvalidTopicName)),
        ("..", topic("..", 1, 1), Some(InvalidTopicName)),
        (".", topic(".", 1, 1), Some(InvalidTopicName)),
        ("snö", topic("snö", 1, 1), Some(InvalidTopicName)),
        ("empty", topic("", 1, 1), Some(InvalidTopicName)),
        (
            "offsets",
            topic("__consumer_offsets", 1, 1),
            Some(TopicAlreadyExists),
        ),
        (
            "metadata",
            topic("__cluster_metadata", 1, 1),
            Some(InvalidRequest),
        ),
        ("collides", topic("c_x", 1, 1), Some(InvalidTopicName)),
        (
            "config unknown",
            with_config("t", "no.such", Some("1")),
            Some(InvalidConfig),
        ),
        (
            "config null",
            with_config("t", "retention.ms", None),
            Some(InvalidConfig),
        ),
        (
            "config good",
            with_config("t", "retention.ms", Some("1")),
            None,
        ),
        (
            "unknown broker",
            assigned("t", &[(0, &[9])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "a hole",
            assigned("t", &[(0, &[1]), (2, &[1])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "from 1",
            assigned("t", &[(1, &[1])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "same twice",
            assigned("t", &[(0, &[1, 1])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "no replicas",
            assigned("t", &[(0, &[])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "partition twice",
            assigned("t", &[(0, &[1]), (0, &[1])]),
            Some(InvalidReplicaAssignment),
        ),
        (
            "good assignment",
            assigned("t", &[(1, &[1]), (0, &[1])]),
            None,
        ),
        (
            "assignment and counts",
            NewTopic {
                partition_count: 1,
                ..assigned("t", &[(0, &[1])])
            },
            Some(InvalidRequest),
        ),
        (
            "assignment and replicas",
            NewTopic {
                replication_factor: 1,
                ..assigned("t", &[(0, &[1])])
            },
            Some(InvalidRequest),
        ),
        (
            "too many",
            topic("t", PARTITIONS_PER_REQUEST_MAX as i32 + 1, 1),
            Some(PolicyViolation),
        ),
        (
            "far too many",
            topic("t", i32::MAX, 1),
            Some(PolicyViolation),
        ),
        (
            "zero id",
            NewTopic {
                topic_id: TopicId::ZERO,
                ..topic("t", 1, 1)
            },
            Some(Internal),
        ),
    ];
    for (row, topic, expected) in rows {
        assert_eq!(create(&cluster, vec![topic]), [expected], "{row}");
    }
    assert_eq!(
        create(&cluster, vec![topic("t", 1, 1), topic("t", 1, 1)]),
        [Some(InvalidRequest)]
    );
    let both = vec![topic("d.e", 1, 1), topic("d_e", 1, 1)];
    assert_eq!(create(&cluster, both), [None, Some(InvalidTopicName)]);
}

#[test]
fn validate_only_decides_but_changes_nothing() {
    let cluster = Cluster::new(&[None]);
    let request = CreateTopicsRequest {
        topics: vec![topic("t", 7, 1)],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    let decision = create_topics(&cluster.image, &request, &rules);
    assert!(decision.records.is_empty());
    assert_eq!(decision.results[0].1.as_ref().unwrap().partition_count, 7);
}

#[test]
fn delete_topics_answers() {
    let mut cluster = Cluster::new(&[None]);
    let id = cluster.create("a.b", 3, 1);
    let named = |name: &str| DeletableTopic {
        name: Some(name.to_owned()),
        topic_id: TopicId::ZERO,
    };
    let by_id = |topic_id| DeletableTopic {
        name: None,
        topic_id,
    };
    let both = DeletableTopic {
        topic_id: id,
        ..named("a.b")
    };
    type Row<'a> = (&'a str, Vec<DeletableTopic>, bool, Vec<Option<Refusal>>);
    let rows: Vec<Row<'_>> = vec![
        (
            "unknown",
            vec![named("no")],
            true,
            vec![Some(UnknownTopicOrPartition)],
        ),
        (
            "illegal name",
            vec![named("a b")],
            true,
            vec![Some(UnknownTopicOrPartition)],
        ),
        (
            "twice",
            vec![named("no"), named("no")],
            true,
            vec![Some(InvalidRequest)],
        ),
        (
            "metadata",
            vec![named("__cluster_metadata")],
            true,
            vec![Some(UnknownTopicOrPartition)],
        ),
        (
            "unknown id",
            vec![by_id(TopicId([9; 16]))],
            true,
            vec![Some(UnknownTopicId)],
        ),
        (
            "nothing",
            vec![by_id(TopicId::ZERO)],
            true,
            vec![Some(InvalidRequest)],
        ),
        ("both", vec![both], true, vec![Some(InvalidRequest)]),
        (
            "name, then id",
            vec![named("a.b"), by_id(id)],
            true,
            vec![None, Some(InvalidRequest)],
        ),
        (
            "disabled",
            vec![named("a.b")],
            false,
            vec![Some(TopicDeletionDisabled)],
        ),
        ("good", vec![by_id(id)], true, vec![None]),
    ];
    for (row, topics, enabled, expected) in rows {
        let decision = delete_topics(&cluster.image, &topics, enabled);
        let codes = decision.results.iter().map(|answer| match &answer.result {
            Ok(()) => None,
            Err(error) => Some(error.refusal),
        });
        assert_eq!(codes.collect::<Vec<_>>(), expected, "{row}");
    }
    let delta = {
        let decision = delete_topics(&cluster.image, &[named("a.b")], true);
        cluster.commit(&decision.records)
    };
    assert_eq!(
        delta.topics_deleted.get(&id).map(|name| name.as_ref()),
        Some("a.b")
    );
    assert_eq!(delta.partitions.len(), 3);
    assert_eq!(cluster.image.partition_count(), 0);
    // The name and its look-alike are free again.
    cluster.create("a_b", 1, 1);
}

#[test]
fn create_partitions_answers() {
    let mut cluster = Cluster::new(&[None, None]);
    let id = cluster.create("t", 2, 1);
    let more = |name: &str, count, assignments: Option<&[&[i32]]>| MorePartitions {
        name: name.to_owned(),
        count,
        assignments: assignments.map(|lists| {
            let list = |ids: &&[i32]| ids.iter().copied().map(BrokerId).collect();
            lists.iter().map(list).collect()
        }),
    };
    let rows = [
        ("to 2", more("t", 2, None), Some(InvalidPartitions)),
        ("to 1", more("t", 1, None), Some(InvalidPartitions)),
        ("to 0", more("t", 0, None), Some(InvalidPartitions)),
        ("to -1", more("t", -1, None), Some(InvalidPartitions)),
        (
            "unknown topic",
            more("no", 5, None),
            Some(UnknownTopicOrPartition),
        ),
        (
            "one assignment",
            more("t", 4, Some(&[&[1]])),
            Some(InvalidReplicaAssignment),
        ),
        (
            "unknown broker",
            more("t", 3, Some(&[&[9]])),
            Some(InvalidReplicaAssignment),
        ),
        (
            "other factor",
            more("t", 3, Some(&[&[1, 2]])),
            Some(InvalidReplicaAssignment),
        ),
        ("too many", more("t", i32::MAX, None), Some(PolicyViolation)),
        ("good", more("t", 5, None), None),
        ("good assignment", more("t", 3, Some(&[&[2]])), None),
    ];
    for (row, topic, expected) in rows {
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            validate_only: false,
        };
        let decision = create_partitions(&cluster.image, &request);
        let code = decision.results[0]
            .1
            .as_ref()
            .err()
            .map(|error| error.refusal);
        assert_eq!(code, expected, "{row}");
    }
    let request = CreatePartitionsRequest {
        topics: vec![more("t", 5, None)],
        validate_only: false,
    };
    let records = create_partitions(&cluster.image, &request).records;
    let delta = cluster.commit(&records);
    let partition = TopicPartition {
        topic: id,
        partition: PartitionIndex(4),
    };
    assert_eq!(
        delta.partitions.get(&partition),
        Some(&PartitionDelta::Created)
    );
    assert_eq!(delta.partitions.len(), 3);
}
