//! A server that accepts everything and keeps nothing, to measure the generator alone.
//!
//! Serves what a producing load needs: ApiVersions, Metadata (any topic exists, led here), InitProducerId, Produce.
//! One task per connection; answers of all requests that arrived together leave in one write.

use std::net::SocketAddr;

use bytes::Bytes;
use client::{ClientError, FrameReader};
use model::TopicId;
use protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use protocol::{
    ApiVersionsResponse, FRAME_BYTES_MAX, InitProducerIdResponse, Request, Response, Text, api,
    encode_response, parse_request,
};
use runtime::{Io, Listener as _, Stream, TaskClass};

/// Space offered to each read.
const READ_BYTES: usize = 1 << 20;

/// Serves on `address` until the process ends. `ready` is told the bound address.
pub async fn serve<I: Io>(
    io: I,
    address: SocketAddr,
    partitions: i32,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let listener = io.listen(address, true).await?;
    let bound = listener.local_addr()?;
    ready(bound);
    loop {
        let stream = listener.accept().await?;
        let server = NullServer { bound, partitions };
        let task_io = io.clone();
        io.spawn(TaskClass::Foreground, async move {
            // A client that leaves is the normal end of its connection.
            drop(server.serve_connection(task_io, &stream).await);
            stream.shutdown();
        });
    }
}

struct NullServer {
    bound: SocketAddr,
    partitions: i32,
}

impl NullServer {
    async fn serve_connection<I: Io>(&self, io: I, stream: &I::Stream) -> Result<(), ClientError> {
        let mut reader = FrameReader::new(stream.clone(), FRAME_BYTES_MAX, READ_BYTES);
        let mut answers: Vec<Bytes> = Vec::new();
        loop {
            reader.fill().await?;
            let mut joined = Vec::new();
            while let Some(frame) = reader.frame()? {
                for slice in self.answer(frame)? {
                    joined.extend_from_slice(&slice);
                }
            }
            if !joined.is_empty() {
                answers.push(Bytes::from(joined));
                stream.write_all(&mut answers).await?;
            }
            io.yield_if_needed().await;
        }
    }

    fn answer(&self, frame: Bytes) -> Result<Vec<Bytes>, ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            api: "request",
            reason,
        };
        let (header, request) = parse_request(frame).map_err(|e| malformed(e.to_string()))?;
        let response: Response = match request {
            Request::Produce(request) if request.acks == 0 => return Ok(Vec::new()),
            Request::Produce(request) => produced(request).into(),
            Request::ApiVersions(_) => ApiVersionsResponse {
                api_keys: api::advertised_api_versions(),
                ..ApiVersionsResponse::default()
            }
            .into(),
            Request::Metadata(request) => self.metadata(request).into(),
            Request::InitProducerId(_) => InitProducerIdResponse {
                producer_id: 1,
                ..InitProducerIdResponse::default()
            }
            .into(),
            other => return Err(malformed(format!("{} is not served", other.key()))),
        };
        encode_response(header.correlation_id, header.api_version, &response)
            .map_err(|e| malformed(e.to_string()))
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            replica_nodes: vec![0],
            isr_nodes: vec![0],
            ..MetadataResponsePartition::default()
        };
        let topics = request.topics.unwrap_or_default();
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                host: Text::from(self.bound.ip().to_string()),
                port: i32::from(self.bound.port()),
                ..MetadataResponseBroker::default()
            }],
            topics: topics
                .into_iter()
                .map(|topic| MetadataResponseTopic {
                    name: topic.name,
                    topic_id: TopicId([1; 16]),
                    partitions: (0..self.partitions).map(partition).collect(),
                    ..MetadataResponseTopic::default()
                })
                .collect(),
            ..MetadataResponse::default()
        }
    }
}

fn produced(request: ProduceRequest) -> ProduceResponse {
    let answer = |index| PartitionProduceResponse {
        index,
        ..PartitionProduceResponse::default()
    };
    ProduceResponse {
        responses: request
            .topic_data
            .into_iter()
            .map(|topic| TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses: topic
                    .partition_data
                    .iter()
                    .map(|partition| answer(partition.index))
                    .collect(),
            })
            .collect(),
        ..ProduceResponse::default()
    }
}
