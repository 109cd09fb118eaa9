//! Our own encoder against our own decoder, at every version, and what a version cannot express.

use bytes::Bytes;
use model::TopicId;
use protocol::messages::{fetch, metadata, offset_fetch, produce};
use protocol::reader::memory_max;
use protocol::sample::Rng;
use protocol::writer::Writer;
use protocol::*;

use crate::{body_of, for_every_version};

const SAMPLES: usize = 40;

#[test]
fn every_message_of_every_version_survives_a_round_trip() {
    let mut rng = Rng::new(3);
    for_every_version(|key, version| {
        for _ in 0..SAMPLES {
            let header = RequestHeader {
                api_key: key,
                api_version: version,
                correlation_id: rng.bits() as i32,
                client_id: (!rng.chance(4)).then(|| Text::from("client")),
            };
            let request = Request::sample(key, &mut rng, version);
            let frame = body_of(&encode_request(&header, &request).unwrap());
            if key.api().advertised.is_some() {
                assert_eq!(parse_request(frame).unwrap(), (header, request));
            }
            let response = Response::sample(key, &mut rng, version);
            let frame = body_of(&encode_response(7, version, &response).unwrap());
            assert_eq!(decode_response(key, version, frame).unwrap(), (7, response));
        }
    });
}

#[test]
fn memory_of_ordinary_requests_is_within_the_budget() {
    // A large but ordinary request: many topics with short names.
    let topics: Vec<_> = (0..20_000)
        .map(|number| metadata::MetadataRequestTopic {
            name: Some(Text::from(format!("orders-{number}"))),
            ..Default::default()
        })
        .collect();
    let request = Request::from(MetadataRequest {
        topics: Some(topics),
        ..Default::default()
    });
    for version in ApiKey::Metadata.api().versions.iter() {
        let bytes = crate::request_bytes(&request, version);
        assert!(memory_max(bytes.len()) > bytes.len());
        let back = Request::decode(ApiKey::Metadata, &mut Reader::new(&bytes), version).unwrap();
        let Request::Metadata(back) = back else {
            panic!("{back:?}");
        };
        assert_eq!(back.topics.unwrap().len(), 20_000, "version {version}");
    }
}

/// Encodes and returns the error, if any.
fn error_of(message: &impl Message, version: i16) -> Option<EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.finish().err()
}

#[test]
fn what_a_version_cannot_express_is_an_error_unless_it_may_be_dropped() {
    let field = |field, version| Some(EncodeError::FieldNotInVersion { field, version });
    // ReplicaId is gone from v15 on and not ignorable.
    let follower = FetchRequest {
        replica_id: 3,
        ..Default::default()
    };
    assert_eq!(error_of(&follower, 14), None);
    assert_eq!(error_of(&follower, 15), field("replica_id", 15));
    // RackId came with v11 and is ignorable.
    let rack = FetchRequest {
        rack_id: "r".into(),
        ..Default::default()
    };
    assert_eq!(error_of(&rack, 4), None);
    // Batched groups came with v8.
    let groups = OffsetFetchRequest {
        groups: vec![offset_fetch::OffsetFetchRequestGroup::default()],
        ..Default::default()
    };
    assert_eq!(error_of(&groups, 7), field("groups", 7));
    assert_eq!(error_of(&groups, 8), None);
    // "All topics" is null, which v0 does not have.
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let null = EncodeError::NullNotAllowed {
        field: "topics",
        version: 0,
    };
    assert_eq!(error_of(&all, 0), Some(null));
    assert_eq!(error_of(&all, 1), None);
    // Names have at most 32,767 bytes, in flexible versions too.
    let long = SyncGroupRequest {
        group_id: Text::from("x".repeat(32_768)),
        ..Default::default()
    };
    assert_eq!(error_of(&long, 0), Some(EncodeError::TextTooLong(32_768)));
    assert_eq!(error_of(&long, 5), Some(EncodeError::TextTooLong(32_768)));
    let unknown = ProduceRequest::default();
    assert_eq!(
        error_of(&unknown, 2),
        Some(EncodeError::UnsupportedVersion(2))
    );
    assert_eq!(
        error_of(&unknown, 14),
        Some(EncodeError::UnsupportedVersion(14))
    );
}

#[test]
fn defaults_are_kafkas() {
    let fetch = FetchRequest::default();
    assert_eq!(fetch.replica_id, -1);
    assert_eq!(fetch.max_bytes, i32::MAX);
    assert_eq!(fetch.session_epoch, -1);
    assert_eq!(fetch.cluster_id, None);
    let partition = fetch::FetchPartition::default();
    assert_eq!(partition.high_watermark, i64::MAX);
    assert_eq!(partition.last_fetched_epoch, -1);
    assert_eq!(fetch::PartitionData::default().records, None);
    assert_eq!(
        fetch::PartitionData::default().aborted_transactions,
        Some(Vec::new())
    );
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(
        metadata::MetadataRequestTopic::default().name,
        Some(Text::EMPTY)
    );
    assert_eq!(
        MetadataResponse::default().cluster_authorized_operations,
        i32::MIN
    );
    assert_eq!(CreateTopicsRequest::default().timeout_ms, 60_000);
    assert_eq!(
        DescribeTopicPartitionsRequest::default().response_partition_limit,
        2000
    );
    assert_eq!(OffsetForLeaderEpochRequest::default().replica_id, -2);
}

#[test]
fn a_produce_request_shares_its_frame() {
    let records = Bytes::from(vec![7u8; 5000]);
    let request = Request::from(ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![produce::TopicProduceData {
            name: "orders".into(),
            topic_id: TopicId::ZERO,
            partition_data: vec![produce::PartitionProduceData {
                index: 4,
                records: Some(records.clone().into()),
            }],
        }],
        ..Default::default()
    });
    let header = RequestHeader {
        api_key: ApiKey::Produce,
        api_version: 9,
        correlation_id: 1,
        client_id: None,
    };
    let slices = encode_request(&header, &request).unwrap();
    assert_eq!(
        slices.len(),
        3,
        "head, records, the tagged fields behind them"
    );
    assert_eq!(slices[1].as_ptr(), records.as_ptr());
    let frame = body_of(&slices);
    let (_, Request::Produce(decoded)) = parse_request(frame.clone()).unwrap() else {
        panic!("not a produce request");
    };
    let partition = &decoded.topic_data[0].partition_data[0];
    let bytes = partition.records.clone().unwrap().into_bytes();
    assert_eq!(bytes, records);
    assert!(frame.as_ptr_range().contains(&bytes.as_ptr()));
}

#[test]
fn a_fetch_response_does_not_copy_large_batches() {
    let small = Bytes::from(vec![1u8; 100]);
    let first = Bytes::from(vec![2u8; 4096]);
    let second = Bytes::from(vec![3u8; 1 << 20]);
    let partition = |pieces: Vec<Bytes>| fetch::PartitionData {
        records: Some(pieces.into()),
        ..Default::default()
    };
    let response = Response::from(FetchResponse {
        responses: vec![fetch::FetchableTopicResponse {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partitions: vec![
                partition(vec![first.clone(), second.clone()]),
                partition(vec![small.clone()]),
            ],
        }],
        ..Default::default()
    });
    let slices = encode_response(1, 12, &response).unwrap();
    let addresses: Vec<_> = slices.iter().map(|slice| slice.as_ptr()).collect();
    assert_eq!(slices.len(), 4, "head, first, second, the rest");
    assert_eq!(addresses[1..3], [first.as_ptr(), second.as_ptr()]);
    let (_, back) = decode_response(ApiKey::Fetch, 12, body_of(&slices)).unwrap();
    assert_eq!(back, response);
}

#[test]
fn answers_are_gathered_for_one_send() {
    let mut slices = Vec::new();
    let response = Response::from(HeartbeatResponse::default());
    encode_response_into(&mut slices, 1, 0, &response).unwrap();
    encode_response_into(&mut slices, 2, 0, &response).unwrap();
    assert!(encode_response_into(&mut slices, 3, 99, &response).is_err());
    assert_eq!(
        slices.concat(),
        [0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0]
    );
}
