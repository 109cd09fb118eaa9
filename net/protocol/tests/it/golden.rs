//! Fixed bytes, written by hand from the schemas: the versions that `second_opinion` cannot judge, and some shapes
//! whose bytes matter most.

use model::TopicId;
use protocol::messages::{
    add_raft_voter, api_versions, describe_log_dirs, list_offsets, offset_commit, offset_fetch,
    produce,
};
use protocol::*;

use crate::{request_bytes, response_bytes};

const TOPIC: TopicId = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// Bytes from parts of any length.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn check_request(request: impl Into<Request>, version: i16, expected: &[u8]) {
    let request = request.into();
    let encoded = request_bytes(&request, version);
    assert_eq!(encoded, expected, "version {version}");
    let decoded = Request::decode(request.key(), &mut Reader::new(&encoded), version);
    assert_eq!(decoded, Ok(request));
}

fn check_response(response: impl Into<Response>, version: i16, expected: &[u8]) {
    let response = response.into();
    let encoded = response_bytes(&response, version);
    assert_eq!(encoded, expected, "version {version}");
    let decoded = Response::decode(response.key(), &mut Reader::new(&encoded), version);
    assert_eq!(decoded, Ok(response));
}

#[test]
fn list_offsets_11() {
    check_request(
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: 1,
            topics: vec![list_offsets::ListOffsetsTopic {
                name: "ab".into(),
                partitions: vec![list_offsets::ListOffsetsPartition {
                    partition_index: 2,
                    current_leader_epoch: 9,
                    timestamp: -6,
                }],
            }],
            timeout_ms: 500,
        },
        11,
        &bytes(&[
            &[0xff; 4],
            &[1],
            &[2, 3, b'a', b'b', 2],
            &[0, 0, 0, 2, 0, 0, 0, 9],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0],
            &[0],
            &[0, 0, 1, 0xf4, 0],
        ]),
    );
    check_response(
        ListOffsetsResponse {
            throttle_time_ms: 1,
            topics: vec![list_offsets::ListOffsetsTopicResponse {
                name: "ab".into(),
                partitions: vec![list_offsets::ListOffsetsPartitionResponse {
                    partition_index: 2,
                    error_code: 3,
                    ..Default::default()
                }],
            }],
        },
        11,
        &bytes(&[
            &[0, 0, 0, 1],
            &[2, 3, b'a', b'b', 2],
            &[0, 0, 0, 2, 0, 3],
            &[0xff; 20],
            &[0, 0, 0],
        ]),
    );
}

#[test]
fn offset_commit_10() {
    check_request(
        OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: 5,
            member_id: "m".into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                topic_id: TOPIC,
                partitions: vec![offset_commit::OffsetCommitRequestPartition {
                    partition_index: 1,
                    committed_offset: 256,
                    committed_leader_epoch: 4,
                    committed_metadata: None,
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        10,
        &bytes(&[
            &[2, b'g', 0, 0, 0, 5, 2, b'm', 0],
            &[2],
            &TOPIC.0,
            &[2, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 1, 0],
            &[0, 0, 0, 4, 0, 0],
            &[0],
            &[0],
        ]),
    );
    check_response(
        OffsetCommitResponse {
            topics: vec![offset_commit::OffsetCommitResponseTopic {
                topic_id: TOPIC,
                partitions: vec![offset_commit::OffsetCommitResponsePartition {
                    partition_index: 1,
                    error_code: 100,
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        10,
        &bytes(&[
            &[0; 4],
            &[2],
            &TOPIC.0,
            &[2, 0, 0, 0, 1, 0, 100, 0],
            &[0, 0],
        ]),
    );
}

#[test]
fn offset_fetch_10() {
    check_request(
        OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: "g".into(),
                member_epoch: 7,
                topics: Some(vec![offset_fetch::OffsetFetchRequestTopics {
                    topic_id: TOPIC,
                    partition_indexes: vec![1, 2],
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        },
        10,
        &bytes(&[
            &[2, 2, b'g', 0, 0, 0, 0, 7],
            &[2],
            &TOPIC.0,
            &[3, 0, 0, 0, 1, 0, 0, 0, 2, 0],
            &[0],
            &[1, 0],
        ]),
    );
    check_response(
        OffsetFetchResponse {
            groups: vec![offset_fetch::OffsetFetchResponseGroup {
                group_id: "g".into(),
                topics: vec![offset_fetch::OffsetFetchResponseTopics {
                    topic_id: TOPIC,
                    partitions: vec![offset_fetch::OffsetFetchResponsePartitions {
                        partition_index: 1,
                        committed_offset: 3,
                        metadata: Some("".into()),
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                error_code: 0,
            }],
            ..Default::default()
        },
        10,
        &bytes(&[
            &[0; 4],
            &[2, 2, b'g', 2],
            &TOPIC.0,
            &[2, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
            &[0],
            &[0, 0, 0],
            &[0],
        ]),
    );
}

#[test]
fn produce_request_13() {
    check_request(
        ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![produce::TopicProduceData {
                topic_id: TOPIC,
                partition_data: vec![produce::PartitionProduceData {
                    index: 6,
                    records: Some(bytes::Bytes::from_static(&[9, 8, 7]).into()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        13,
        &bytes(&[
            &[0, 0xff, 0xff, 0, 0, 0x75, 0x30],
            &[2],
            &TOPIC.0,
            &[2, 0, 0, 0, 6, 4, 9, 8, 7, 0],
            &[0, 0],
        ]),
    );
}

#[test]
fn produce_response_10_with_new_leader() {
    check_response(
        ProduceResponse {
            responses: vec![produce::TopicProduceResponse {
                name: "t".into(),
                partition_responses: vec![produce::PartitionProduceResponse {
                    error_code: 6,
                    base_offset: -1,
                    current_leader: produce::LeaderIdAndEpoch {
                        leader_id: 2,
                        leader_epoch: 11,
                    },
                    ..Default::default()
                }],
                ..Default::default()
            }],
            node_endpoints: vec![produce::NodeEndpoint {
                node_id: 2,
                host: "h".into(),
                port: 9092,
                rack: None,
            }],
            ..Default::default()
        },
        10,
        &bytes(&[
            &[2, 2, b't', 2],
            &[0, 0, 0, 0, 0, 6],
            &[0xff; 24],
            &[1, 0],
            // One tagged field: tag 0, nine bytes.
            &[1, 0, 9, 0, 0, 0, 2, 0, 0, 0, 11, 0],
            &[0],
            &[0; 4],
            // One tagged field: tag 0, fourteen bytes: an array of one.
            &[1, 0, 13, 2, 0, 0, 0, 2, 2, b'h', 0, 0, 0x23, 0x84, 0, 0],
        ]),
    );
}

#[test]
fn api_versions_response_3_with_features() {
    check_response(
        ApiVersionsResponse {
            api_keys: vec![api_versions::ApiVersion {
                api_key: 18,
                min_version: 0,
                max_version: 4,
            }],
            finalized_features_epoch: 0,
            finalized_features: vec![api_versions::FinalizedFeatureKey {
                name: "x".into(),
                max_version_level: 2,
                min_version_level: 1,
            }],
            ..Default::default()
        },
        3,
        &bytes(&[
            &[0, 0, 2, 0, 18, 0, 0, 0, 4, 0],
            &[0; 4],
            &[2],
            &[1, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 8, 2, 2, b'x', 0, 2, 0, 1, 0],
        ]),
    );
}

#[test]
fn describe_log_dirs_5() {
    check_request(
        DescribeLogDirsRequest {
            topics: Some(vec![describe_log_dirs::DescribableLogDirTopic {
                topic: "ab".into(),
                partitions: vec![7],
            }]),
        },
        5,
        &bytes(&[&[2, 3, b'a', b'b', 2, 0, 0, 0, 7, 0], &[0]]),
    );
    check_response(
        DescribeLogDirsResponse {
            throttle_time_ms: 1,
            error_code: 2,
            results: vec![describe_log_dirs::DescribeLogDirsResult {
                error_code: 56,
                log_dir: "/d".into(),
                topics: vec![describe_log_dirs::DescribeLogDirsTopic {
                    name: "ab".into(),
                    partitions: vec![describe_log_dirs::DescribeLogDirsPartition {
                        partition_index: 7,
                        partition_size: 258,
                        ..Default::default()
                    }],
                }],
                usable_bytes: 5,
                is_cordoned: true,
                ..Default::default()
            }],
        },
        5,
        &bytes(&[
            &[0, 0, 0, 1, 0, 2],
            &[2, 0, 56, 3, b'/', b'd'],
            &[2, 3, b'a', b'b', 2],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0; 8],
            &[0, 0],
            &[0],
            &[0xff; 8],
            &[0, 0, 0, 0, 0, 0, 0, 5],
            &[1, 0],
            &[0],
        ]),
    );
}

#[test]
fn a_tagged_field_of_many_bytes_has_a_longer_size() {
    let host = "h".repeat(300);
    let response = FetchResponse {
        node_endpoints: vec![messages::fetch::NodeEndpoint {
            host: Text::from(host.clone()),
            ..Default::default()
        }],
        ..Default::default()
    };
    check_response(
        response,
        16,
        &bytes(&[
            &[0; 4],
            &[0; 2],
            &[0; 4],
            &[1],
            // Size 313 and host length 301, both in two bytes.
            &[1, 0, 0xb9, 0x02, 2, 0, 0, 0, 0, 0xad, 0x02],
            host.as_bytes(),
            &[0; 4],
            &[0, 0],
        ]),
    );
}

#[test]
fn add_raft_voter_1() {
    check_request(
        AddRaftVoterRequest {
            cluster_id: Some("c".into()),
            timeout_ms: 258,
            voter_id: 7,
            voter_directory_id: TOPIC.0,
            listeners: vec![add_raft_voter::AddRaftVoterListener {
                name: "n".into(),
                host: "h".into(),
                port: 9093,
            }],
            ack_when_committed: false,
        },
        1,
        &bytes(&[
            &[2, b'c', 0, 0, 1, 2, 0, 0, 0, 7],
            &TOPIC.0,
            &[2, 2, b'n', 2, b'h', 0x23, 0x85, 0],
            &[0, 0],
        ]),
    );
    check_response(
        AddRaftVoterResponse {
            throttle_time_ms: 1,
            error_code: 126,
            error_message: Some("m".into()),
        },
        1,
        &[0, 0, 0, 1, 0, 126, 2, b'm', 0],
    );
}
