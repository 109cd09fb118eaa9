//! Metadata, retries and topics of a cluster.

use std::cell::Cell;
use std::rc::Rc;

use client::{Acks, ClientError, Cluster, NewTopic};
use model::{ErrorCode, Offset, PartitionIndex};
use protocol::messages::create_topics::CreatableTopicResult;
use protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use protocol::{CreateTopicsResponse, ProduceResponse, Request, Text};
use runtime::sim::{SimIo, Simulation};

use crate::script::{Action, PORT, cluster_options, response, serve, with_versions};

fn metadata(simulation_ip: &str, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: Text::copy_from(simulation_ip),
            port: i32::from(PORT),
            ..MetadataResponseBroker::default()
        }],
        controller_id: 1,
        topics,
        ..MetadataResponse::default()
    }
}

fn topic(name: &str, error: ErrorCode, leader: i32) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.code(),
        name: Some(Text::copy_from(name)),
        partitions: vec![MetadataResponsePartition {
            leader_id: leader,
            ..MetadataResponsePartition::default()
        }],
        ..MetadataResponseTopic::default()
    }
}

/// A broker whose topic appears after `unknown` metadata requests and gets its leader after `leaderless` more.
fn young_topic(simulation: &Simulation, unknown: u32, leaderless: u32) -> Rc<Cell<u32>> {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    let ip = simulation.ip(0).to_string();
    let script = with_versions(move |header, request| match request {
        Request::Metadata(request) => {
            let mut topics = Vec::new();
            for wanted in request.topics.unwrap_or_default() {
                let name = wanted.name.unwrap_or_default();
                let n = count.replace(count.get() + 1);
                topics.push(if n < unknown {
                    topic(&name, ErrorCode::UnknownTopicOrPartition, -1)
                } else if n < unknown + leaderless {
                    topic(&name, ErrorCode::None, -1)
                } else {
                    topic(&name, ErrorCode::None, 1)
                });
            }
            vec![Action::Send(response(header, &metadata(&ip, topics)))]
        }
        Request::CreateTopics(request) => {
            let body = CreateTopicsResponse {
                topics: request
                    .topics
                    .into_iter()
                    .map(|topic| CreatableTopicResult {
                        error_code: if &*topic.name == "taken" { 36 } else { 0 },
                        name: topic.name,
                        ..CreatableTopicResult::default()
                    })
                    .collect(),
                ..CreateTopicsResponse::default()
            };
            vec![Action::Send(response(header, &body))]
        }
        Request::Produce(request) if request.acks == 0 => Vec::new(),
        Request::Produce(request) => {
            let body = ProduceResponse {
                responses: vec![TopicProduceResponse {
                    name: request.topic_data[0].name.clone(),
                    partition_responses: vec![PartitionProduceResponse {
                        base_offset: 40,
                        ..PartitionProduceResponse::default()
                    }],
                    ..TopicProduceResponse::default()
                }],
                ..ProduceResponse::default()
            };
            vec![Action::Send(response(header, &body))]
        }
        _ => vec![Action::Close],
    });
    serve(simulation, script);
    asked
}

async fn open(simulation: &Simulation) -> Result<Cluster<SimIo>, ClientError> {
    let io = simulation.io(simulation.client(), 0);
    let bootstrap = simulation.address(0, PORT).to_string();
    Cluster::connect(&io, &bootstrap, cluster_options()).await
}

fn new_topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        configs: Vec::new(),
    }
}

#[test]
fn a_new_topic_is_waited_for_until_it_has_leaders() {
    let simulation = Simulation::new(11, 1, 1);
    let asked = young_topic(&simulation, 2, 2);
    simulation.block_on(simulation.client(), async {
        let mut cluster = open(&simulation).await.unwrap();
        let topic = cluster.create_topic(&new_topic("young")).await.unwrap();
        assert_eq!(topic.partitions[0].leader.map(|id| id.0), Some(1));
        assert_eq!(asked.get(), 5);
        assert_eq!(cluster.cached("young"), Some(&topic));
    });
}

#[test]
fn a_topic_that_never_comes_is_an_error_in_time() {
    let simulation = Simulation::new(12, 1, 1);
    young_topic(&simulation, u32::MAX, 0);
    simulation.block_on(simulation.client(), async {
        let mut cluster = open(&simulation).await.unwrap();
        let start = simulation.now();
        let error = cluster.topic("never").await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
        assert!(simulation.now().since(start) < cluster_options().operation_timeout * 2);
    });
}

#[test]
fn refusals_carry_the_broker_s_code() {
    let simulation = Simulation::new(13, 1, 1);
    young_topic(&simulation, 0, 0);
    simulation.block_on(simulation.client(), async {
        let mut cluster = open(&simulation).await.unwrap();
        let error = cluster.create_topic(&new_topic("taken")).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
        assert!(
            error.to_string().contains("TOPIC_ALREADY_EXISTS"),
            "{error}"
        );
    });
}

#[test]
fn a_batch_goes_to_its_leader() {
    let simulation = Simulation::new(14, 1, 1);
    young_topic(&simulation, 0, 0);
    simulation.block_on(simulation.client(), async {
        let mut cluster = open(&simulation).await.unwrap();
        let topic = cluster.topic("t").await.unwrap();
        let batch = bytes::Bytes::from_static(b"not looked at by this server");
        let partition = PartitionIndex(0);
        let offset = cluster
            .produce(&topic, partition, Acks::All, batch.clone())
            .await
            .unwrap();
        assert_eq!(offset, Offset(40));
        // Two without answers, then one with: the missing answers must not be waited for.
        for _ in 0..2 {
            let sent = cluster
                .produce(&topic, partition, Acks::None, batch.clone())
                .await;
            assert_eq!(sent.unwrap(), Offset::NONE);
        }
        let offset = cluster
            .produce(&topic, partition, Acks::All, batch)
            .await
            .unwrap();
        assert_eq!(offset, Offset(40));
        let error = cluster
            .produce(&topic, PartitionIndex(9), Acks::All, bytes::Bytes::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    });
}

#[test]
fn a_restarted_broker_is_asked_again() {
    let simulation = Simulation::new(15, 1, 1);
    young_topic(&simulation, 0, 0);
    let client = simulation.client();
    simulation.block_on(client, async {
        let mut cluster = open(&simulation).await.unwrap();
        simulation.reset_connections(0, client);
        cluster.topic("t").await.unwrap();
    });
}

#[test]
fn nobody_there_is_a_connect_error() {
    let simulation = Simulation::new(16, 1, 1);
    simulation.block_on(simulation.client(), async {
        let Err(error) = open(&simulation).await else {
            panic!("connected to nobody");
        };
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    });
}
