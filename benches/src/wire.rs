//! The codec, in the newest version of each API: what a broker decodes and encodes, and a client's side of Metadata.
//!
//! Record bytes are shared, not copied, so that no rate in bytes is given: decoding and encoding must cost the same
//! whatever the size of the batch is.

use bytes::Bytes;
use model::TopicId;
use model::record::Compression;
use protocol::messages::{fetch, metadata, produce};
use protocol::{
    ApiKey, FRAME_LENGTH_BYTES, FetchResponse, Message, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, Records, Request, RequestHeader, Response, Text,
    decode_response_message, encode_request, encode_response, parse_request,
};

use crate::meter::Meter;
use crate::payload;

const OPS: u64 = 50_000;
const OPS_METADATA: u64 = 2_000;
const TOPIC: TopicId = TopicId([7; 16]);
const CORRELATION_ID: i32 = 42;
/// Partitions in a metadata response.
const PARTITIONS: i32 = 100;
/// Brokers in it.
const BROKERS: i32 = 3;

fn version(key: ApiKey) -> i16 {
    key.api().versions.max
}

/// A request as it comes from the socket: without its length.
fn request_frame(request: impl Into<Request>) -> Bytes {
    let request = request.into();
    let header = RequestHeader {
        api_key: request.key(),
        api_version: version(request.key()),
        correlation_id: CORRELATION_ID,
        client_id: Some(Text::from("bench")),
    };
    let slices = encode_request(&header, &request).expect("the request can be encoded");
    Bytes::from(slices.concat()).slice(FRAME_LENGTH_BYTES..)
}

fn decode_request(meter: &mut Meter, frame: &Bytes) {
    meter.repeat(OPS, 0, || {
        parse_request(frame.clone()).expect("the request is good")
    });
}

fn encode<M: Message + Into<Response>>(meter: &mut Meter, ops: u64, response: M) {
    let version = version(M::API.key);
    let response = response.into();
    let encode = || encode_response(CORRELATION_ID, version, &response).expect("it can be encoded");
    meter.repeat(ops, 0, encode);
}

/// A produce request of one partition.
pub(crate) fn decode_produce_request(meter: &mut Meter, count: usize, bytes: usize) {
    let batch = payload::batch(count, bytes, Compression::None);
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::TopicProduceData {
            topic_id: TOPIC,
            partition_data: vec![produce::PartitionProduceData {
                index: 0,
                records: Some(Records::from(batch)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    decode_request(meter, &request_frame(request));
}

/// Its answer.
pub(crate) fn encode_produce_response(meter: &mut Meter) {
    let response = ProduceResponse {
        responses: vec![produce::TopicProduceResponse {
            topic_id: TOPIC,
            partition_responses: vec![produce::PartitionProduceResponse {
                base_offset: 1 << 33,
                log_start_offset: 0,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encode(meter, OPS, response);
}

/// A fetch response with one batch.
pub(crate) fn encode_fetch_response(meter: &mut Meter, count: usize, bytes: usize) {
    let batch = payload::batch(count, bytes, Compression::None);
    let response = FetchResponse {
        session_id: 1,
        responses: vec![fetch::FetchableTopicResponse {
            topic_id: TOPIC,
            partitions: vec![fetch::PartitionData {
                high_watermark: 1 << 33,
                last_stable_offset: 1 << 33,
                log_start_offset: 0,
                records: Some(Records::from(batch)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encode(meter, OPS, response);
}

/// A request for the metadata of one topic.
pub(crate) fn decode_metadata_request(meter: &mut Meter) {
    let request = MetadataRequest {
        topics: Some(vec![metadata::MetadataRequestTopic {
            topic_id: TopicId::ZERO,
            name: Some(Text::from("orders")),
        }]),
        ..Default::default()
    };
    decode_request(meter, &request_frame(request));
}

fn metadata_response() -> MetadataResponse {
    let broker = |node_id| metadata::MetadataResponseBroker {
        node_id,
        host: Text::from("broker.example.org"),
        port: 9092,
        rack: None,
    };
    let nodes: Vec<i32> = (0..BROKERS).collect();
    let partition = |partition_index| metadata::MetadataResponsePartition {
        partition_index,
        leader_id: partition_index % BROKERS,
        leader_epoch: 5,
        replica_nodes: nodes.clone(),
        isr_nodes: nodes.clone(),
        ..Default::default()
    };
    MetadataResponse {
        brokers: (0..BROKERS).map(broker).collect(),
        cluster_id: Some(Text::from("AAAAAAAAAAAAAAAAAAAAAA")),
        controller_id: 0,
        topics: vec![metadata::MetadataResponseTopic {
            name: Some(Text::from("orders")),
            topic_id: TOPIC,
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The metadata of one topic of 100 partitions on three brokers.
pub(crate) fn encode_metadata_response(meter: &mut Meter) {
    encode(meter, OPS_METADATA, metadata_response());
}

/// The same, as a client reads it.
pub(crate) fn decode_metadata_response(meter: &mut Meter) {
    let version = version(ApiKey::Metadata);
    let slices = encode_response(CORRELATION_ID, version, &metadata_response().into())
        .expect("the response can be encoded");
    let frame = Bytes::from(slices.concat()).slice(FRAME_LENGTH_BYTES..);
    meter.repeat(OPS_METADATA, 0, || {
        decode_response_message::<MetadataResponse>(version, frame.clone())
            .expect("the response is good")
    });
}
