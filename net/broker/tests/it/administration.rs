//! Administration over the wire: what is configured while the broker runs, the sizes of logs, the quorum, moves.

use std::collections::BTreeMap;

use client::{Acks, ClientError, Cluster, ClusterOptions, ConfigChange, ConfigOwner, NewTopic};
use model::record::BatchBuilder;
use model::{BrokerId, ErrorCode, PartitionIndex, Timestamp};
use protocol::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as WholeResource, AlterableConfig as WholeConfig,
};
use protocol::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use protocol::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use protocol::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use protocol::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use protocol::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use protocol::list_partition_reassignments::ListPartitionReassignmentsRequest;
use protocol::unregister_broker::UnregisterBrokerRequest;
use runtime::sim::{SimIo, Simulation};

use crate::bed::{PORT, start};

const SHARDS: u16 = 3;
const PARTITIONS: i32 = 6;
const TOPIC: &str = "orders";
/// `resource_type` of a topic, and of a broker.
const TOPIC_TYPE: i8 = 2;
const BROKER_TYPE: i8 = 4;

/// Runs against a broker of several shards with one topic.
fn with_broker(test: impl AsyncFnOnce(&Simulation, &mut Cluster<SimIo>)) {
    let simulation = Simulation::new(1, 2, usize::from(SHARDS));
    let started = start(&simulation, SHARDS);
    let _running = started.running(&simulation, SHARDS);
    let client = simulation.client();
    simulation.block_on(client, async {
        let io = simulation.io(client, 0);
        let bootstrap = simulation.address(0, PORT).to_string();
        let options = ClusterOptions::default();
        let mut cluster = Cluster::connect(&io, &bootstrap, options).await.unwrap();
        let new = NewTopic {
            name: TOPIC.to_owned(),
            partitions: PARTITIONS,
            replication_factor: 1,
            configs: Vec::new(),
        };
        cluster.create_topic(&new).await.unwrap();
        test(&simulation, &mut cluster).await;
    });
}

async fn value(cluster: &mut Cluster<SimIo>, owner: &ConfigOwner, key: &str) -> (String, String) {
    let configs = cluster.configs(owner).await.unwrap();
    let config = configs.into_iter().find(|config| config.name == key);
    let config = config.unwrap();
    (config.value.unwrap(), config.source.to_owned())
}

fn set(key: &str, value: &str) -> ConfigChange {
    ConfigChange::Set(key.to_owned(), value.to_owned())
}

async fn alter(
    cluster: &mut Cluster<SimIo>,
    owner: &ConfigOwner,
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), ClientError> {
    cluster.alter_configs(owner, &[change], validate_only).await
}

#[test]
fn values_and_their_sources() {
    with_broker(async |_, cluster| {
        let topic = ConfigOwner::Topic(TOPIC.to_owned());
        let broker = ConfigOwner::Broker(BrokerId(1));
        let all = ConfigOwner::AllBrokers;
        let (own_key, broker_key) = ("max.message.bytes", "message.max.bytes");
        let expect = async |cluster: &mut Cluster<SimIo>, expected: [(&str, &str); 3]| {
            let found = [
                value(cluster, &topic, own_key).await,
                value(cluster, &broker, broker_key).await,
                value(cluster, &all, broker_key).await,
            ];
            assert_eq!(found, expected.map(|(v, s)| (v.to_owned(), s.to_owned())));
        };
        let default = ("1048588", "default");
        expect(cluster, [default; 3]).await;
        alter(cluster, &all, set(broker_key, "7000"), true)
            .await
            .unwrap();
        expect(cluster, [default; 3]).await;
        alter(cluster, &all, set(broker_key, "7000"), false)
            .await
            .unwrap();
        let of_all = ("7000", "all brokers, at run time");
        expect(cluster, [of_all, of_all, of_all]).await;
        alter(cluster, &broker, set(broker_key, "8000"), false)
            .await
            .unwrap();
        let of_one = ("8000", "broker, at run time");
        // Kafka, too, shows what holds here beside where the value of all comes from.
        expect(
            cluster,
            [of_one, of_one, ("8000", "all brokers, at run time")],
        )
        .await;
        alter(cluster, &topic, set(own_key, "9000"), false)
            .await
            .unwrap();
        let synonyms = cluster.configs(&topic).await.unwrap();
        let config = synonyms.into_iter().find(|config| config.name == own_key);
        let synonyms: Vec<_> = config.unwrap().synonyms;
        let synonyms: Vec<(&str, &str)> = synonyms
            .iter()
            .map(|(_, value, source)| (value.as_deref().unwrap(), *source))
            .collect();
        assert_eq!(
            synonyms,
            [("9000", "topic"), of_one, of_all, ("1048588", "default")]
        );
        let delete = [ConfigChange::Delete(own_key.to_owned())];
        cluster.alter_configs(&topic, &delete, false).await.unwrap();
        assert_eq!(value(cluster, &topic, own_key).await.0, "8000");
    });
}

#[test]
fn a_smaller_message_limit_holds_for_the_next_produce() {
    with_broker(async |_, cluster| {
        let topic = cluster.describe_topic(TOPIC).await.unwrap();
        let mut batch = BatchBuilder::new();
        batch.push(Timestamp(1_000), None, Some(&[7; 500]));
        let batch = batch.build().unwrap();
        let owner = ConfigOwner::Topic(TOPIC.to_owned());
        for (limit, expected) in [
            ("400", Some(ErrorCode::MessageTooLarge)),
            ("4000", None),
            ("400", Some(ErrorCode::MessageTooLarge)),
        ] {
            let change = [set("max.message.bytes", limit)];
            cluster.alter_configs(&owner, &change, false).await.unwrap();
            for partition in 0..PARTITIONS {
                let partition = PartitionIndex(partition);
                let sent = cluster.produce(&topic, partition, Acks::All, batch.clone());
                let refused = sent.await.err().and_then(|error| error.code());
                assert_eq!(refused, expected, "{limit}");
            }
        }
    });
}

#[test]
fn each_resource_has_its_own_verdict() {
    with_broker(async |_, cluster| {
        let resource = |kind: i8, name: &'static str, key: &'static str, value: &'static str| {
            AlterConfigsResource {
                resource_type: kind,
                resource_name: name.into(),
                configs: vec![AlterableConfig {
                    name: key.into(),
                    config_operation: 0,
                    value: Some(value.into()),
                }],
            }
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![
                resource(TOPIC_TYPE, TOPIC, "retention.ms", "5"),
                resource(TOPIC_TYPE, "none", "retention.ms", "5"),
                resource(77, "x", "retention.ms", "5"),
                resource(BROKER_TYPE, "4711", "message.max.bytes", "5"),
                resource(BROKER_TYPE, "1", "node.id", "5"),
                resource(BROKER_TYPE, "", "log.cleaner.backoff.ms", "5"),
                resource(8, "1", "root", "DEBUG"),
                resource(32, "g", "consumer.session.timeout.ms", "50000"),
                resource(32, "g2", "consumer.session.timeout.ms", "1"),
                resource(16, "twice", "interval.ms", "1000"),
                resource(16, "twice", "interval.ms", "1000"),
            ],
            validate_only: false,
        };
        let response = cluster.ask_any(&request).await.unwrap();
        let verdicts: Vec<i16> = response.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(verdicts, [0, 3, 42, 42, 42, 0, 42, 0, 40, 42, 42]);
        for (asked, answered) in request.resources.iter().zip(&response.responses) {
            assert_eq!(asked.resource_type, answered.resource_type);
            assert_eq!(asked.resource_name, answered.resource_name);
            let has_text = answered
                .error_message
                .as_ref()
                .is_some_and(|t| !t.is_empty());
            assert_eq!(has_text, answered.error_code != 0, "{answered:?}");
        }
        let owner = ConfigOwner::Topic(TOPIC.to_owned());
        assert_eq!(value(cluster, &owner, "retention.ms").await.0, "5");
    });
}

#[test]
fn all_values_at_once_forget_the_others() {
    with_broker(async |_, cluster| {
        let owner = ConfigOwner::Topic(TOPIC.to_owned());
        let changes = [set("retention.ms", "5"), set("segment.ms", "6")];
        cluster
            .alter_configs(&owner, &changes, false)
            .await
            .unwrap();
        let config = |name: &'static str, value: Option<&'static str>| WholeConfig {
            name: name.into(),
            value: value.map(Into::into),
        };
        let table = [
            (vec![config("retention.ms", None)], 42),
            (vec![config("no.such", Some("1"))], 40),
            (
                // Of a key that is named twice the last value counts.
                vec![
                    config("retention.ms", Some("1")),
                    config("retention.ms", Some("7")),
                ],
                0,
            ),
        ];
        for (configs, expected) in table {
            let request = AlterConfigsRequest {
                resources: vec![WholeResource {
                    resource_type: TOPIC_TYPE,
                    resource_name: TOPIC.into(),
                    configs,
                }],
                validate_only: false,
            };
            let response = cluster.ask_any(&request).await.unwrap();
            assert_eq!(response.responses[0].error_code, expected);
        }
        assert_eq!(value(cluster, &owner, "retention.ms").await.0, "7");
        let segment_ms = value(cluster, &owner, "segment.ms").await;
        assert_eq!(segment_ms, ("604800000".to_owned(), "default".to_owned()));
    });
}

#[test]
fn sizes_are_those_of_the_batches() {
    with_broker(async |simulation, cluster| {
        let capacity = 1 << 30;
        simulation.set_disk_capacity(0, capacity);
        let topic = cluster.describe_topic(TOPIC).await.unwrap();
        let mut batch = BatchBuilder::new();
        batch.push(Timestamp(1_000), None, Some(&[7; 500]));
        let batch = batch.build().unwrap();
        for partition in 0..PARTITIONS {
            for _ in 0..partition {
                let partition = PartitionIndex(partition);
                let sent = cluster.produce(&topic, partition, Acks::All, batch.clone());
                sent.await.unwrap();
            }
        }
        let expected = (0..PARTITIONS).map(|partition| {
            let bytes = u64::try_from(partition).unwrap() * batch.len() as u64;
            (PartitionIndex(partition), bytes)
        });
        let expected: BTreeMap<_, _> = expected.collect();
        let held = cluster.held_logs(BrokerId(1), None).await.unwrap();
        let sizes = held.into_iter();
        let sizes = sizes.map(|((_, index), log)| (index, log.size_bytes));
        assert_eq!(sizes.collect::<BTreeMap<_, _>>(), expected);

        let request = DescribeLogDirsRequest { topics: None };
        let all = cluster.ask_any(&request).await.unwrap();
        let [directory] = all.results.as_slice() else {
            panic!("one data directory: {all:?}");
        };
        assert_eq!((all.error_code, directory.error_code), (0, 0));
        // As configured: the executable knows where it runs, and makes an absolute path of it.
        assert_eq!(&*directory.log_dir, "./ringlog-data");
        assert_eq!(directory.total_bytes, i64::try_from(capacity).unwrap());
        assert!(directory.usable_bytes > 0 && directory.usable_bytes < directory.total_bytes);
        let [described] = directory.topics.as_slice() else {
            panic!("the metadata log is not listed: {directory:?}");
        };
        assert_eq!(&*described.name, TOPIC);
        assert_eq!(described.partitions.len(), PARTITIONS as usize);

        // What is not there is left out, what is named twice is there once.
        let asked = |topic: &'static str, partitions: &[i32]| DescribableLogDirTopic {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        };
        let request = DescribeLogDirsRequest {
            topics: Some(vec![
                asked("none", &[0]),
                asked(TOPIC, &[2, 2, 99, -1]),
                asked(TOPIC, &[1]),
            ]),
        };
        let some = cluster.ask_any(&request).await.unwrap();
        let topics = &some.results[0].topics;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let partitions: Vec<i32> = partitions.map(|p| p.partition_index).collect();
        assert_eq!((topics.len(), partitions), (1, vec![1, 2]));
        let request = DescribeLogDirsRequest {
            topics: Some(Vec::new()),
        };
        let none = cluster.ask_any(&request).await.unwrap();
        assert!(none.results[0].topics.is_empty());
    });
}

#[test]
fn elections_and_moves_of_a_broker_alone() {
    with_broker(async |_, cluster| {
        let topics = |topic: &'static str, partitions: &[i32]| {
            Some(vec![TopicPartitions {
                topic: topic.into(),
                partitions: partitions.to_vec(),
            }])
        };
        // (type, topics, error of the request, errors of the partitions)
        let table = [
            (0, topics(TOPIC, &[0, 9]), 0, vec![84, 3]),
            (1, topics(TOPIC, &[0]), 0, vec![84]),
            (1, topics("none", &[0]), 0, vec![3]),
            (7, topics(TOPIC, &[0, 1]), 42, vec![42, 42]),
            (0, None, 0, vec![]),
            (7, None, 42, vec![]),
        ];
        for (election_type, topic_partitions, of_request, of_partitions) in table {
            let request = ElectLeadersRequest {
                election_type,
                topic_partitions,
                ..ElectLeadersRequest::default()
            };
            let response = cluster.ask_any(&request).await.unwrap();
            assert_eq!(response.error_code, of_request);
            let results = response.replica_election_results.iter();
            let codes: Vec<i16> = results
                .flat_map(|topic| &topic.partition_result)
                .map(|partition| partition.error_code)
                .collect();
            assert_eq!(codes, of_partitions, "{request:?}");
        }
        // (replicas, error)
        let table = [
            (Some(vec![1]), 0),
            (Some(vec![2]), 39),
            (Some(vec![]), 39),
            (None, 85),
        ];
        for (replicas, expected) in table {
            let request = AlterPartitionReassignmentsRequest {
                topics: vec![ReassignableTopic {
                    name: TOPIC.into(),
                    partitions: vec![ReassignablePartition {
                        partition_index: 0,
                        replicas,
                    }],
                }],
                ..AlterPartitionReassignmentsRequest::default()
            };
            let response = cluster.ask_any(&request).await.unwrap();
            assert_eq!(response.error_code, 0);
            assert_eq!(response.responses[0].partitions[0].error_code, expected);
        }
        let list = ListPartitionReassignmentsRequest::default();
        let listed = cluster.ask_any(&list).await.unwrap();
        assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
        for (broker_id, expected) in [(1, 42), (2, 102)] {
            let request = UnregisterBrokerRequest { broker_id };
            let response = cluster.ask_any(&request).await.unwrap();
            assert_eq!(response.error_code, expected);
        }
    });
}

#[test]
fn a_quorum_of_one() {
    with_broker(async |_, cluster| {
        let request = |topic: &'static str, partition_index| DescribeQuorumRequest {
            topics: vec![DescribeQuorumRequestTopic {
                topic_name: topic.into(),
                partitions: vec![DescribeQuorumRequestPartition { partition_index }],
            }],
        };
        for (topic, partition, expected) in [
            ("__cluster_metadata", 0, 0),
            ("__cluster_metadata", 1, 3),
            (TOPIC, 0, 3),
        ] {
            let asked = request(topic, partition);
            let response = cluster.ask_any(&asked).await.unwrap();
            let described = &response.topics[0].partitions[0];
            assert_eq!((response.error_code, described.error_code), (0, expected));
            assert_eq!(response.nodes.len(), usize::from(expected == 0));
        }
        let ends = async |cluster: &mut Cluster<SimIo>| {
            let asked = request("__cluster_metadata", 0);
            let mut response = cluster.ask_any(&asked).await.unwrap();
            let described = response.topics.remove(0).partitions.remove(0);
            assert_eq!((described.leader_id, described.observers.len()), (1, 0));
            let [voter] = described.current_voters.as_slice() else {
                panic!("one voter: {described:?}");
            };
            assert_eq!(voter.replica_id, 1);
            assert_ne!(voter.replica_directory_id, [0; 16]);
            assert_eq!(voter.log_end_offset, described.high_watermark);
            described.high_watermark
        };
        let before = ends(cluster).await;
        let owner = ConfigOwner::Topic(TOPIC.to_owned());
        alter(cluster, &owner, set("retention.ms", "5"), false)
            .await
            .unwrap();
        assert_eq!(ends(cluster).await, before + 1);
    });
}

#[test]
fn a_refusal_says_whose_configuration_it_is_about() {
    with_broker(async |_, cluster| {
        let owner = ConfigOwner::AllBrokers;
        let refused = alter(cluster, &owner, set("max.connections", "5"), false).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, ClientError::Broker { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("all brokers") && text.contains("start"),
            "{text}"
        );
    });
}
