//! A server that accepts everything and keeps nothing, to measure the generator alone.
//!
//! Serves what a producing load needs: ApiVersions, Metadata (any topic exists, led here), InitProducerId, Produce.
//! Answers to produce requests are made once and patched: the server must not be what limits. One task per connection;
//! answers of all requests that arrived together leave in one write.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use client::{ClientError, FrameReader};
use model::{MonotonicTime, TopicId};
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

/// Space offered to each read of a connection with small requests, and of one with large ones.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 1 << 20;
/// From this size on requests are large.
const LARGE_REQUEST_BYTES: usize = 8 << 10;
/// API key of Produce, and with version 13, as every request frame begins.
const PRODUCE_KEY: [u8; 2] = [0, 0];
const PRODUCE_13: [u8; 4] = [0, 0, 0, 13];
/// Topic id, length of the list of partitions, and partition.
const TOPIC_AND_PARTITION_BYTES: usize = 16 + 1 + 4;
/// Where the correlation id lies in a response frame: behind its length.
const ANSWER_CORRELATION: Range<usize> = 4..8;
/// Answers kept ready.
const ANSWERS_MAX: usize = 1 << 16;

/// A stretch of time in which the server reads and answers nothing, for tests of what a load sees of it.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// When it begins, after the first produce request.
    pub after: Duration,
    /// How long it is.
    pub length: Duration,
}

/// Serves on `address` until the process ends. `ready` is told the bound address.
pub async fn serve<I: Io>(
    io: I,
    address: SocketAddr,
    partitions: i32,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    serve_pausing(io, address, partitions, None, ready).await
}

/// [`serve`] with a pause.
pub async fn serve_pausing<I: Io>(
    io: I,
    address: SocketAddr,
    partitions: i32,
    pause: Option<Pause>,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let listener = io.listen(address, true).await?;
    let bound = listener.local_addr()?;
    ready(bound);
    let server = Rc::new(NullServer {
        bound,
        partitions,
        pause,
        first_produce: Cell::new(None),
        answers: RefCell::default(),
    });
    loop {
        let stream = listener.accept().await?;
        let (server, task_io) = (server.clone(), io.clone());
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
    pause: Option<Pause>,
    first_produce: Cell<Option<MonotonicTime>>,
    /// Answers to produce requests, complete but for the correlation id, by topic and partition.
    answers: RefCell<BTreeMap<Vec<u8>, Bytes>>,
}

impl NullServer {
    async fn serve_connection<I: Io>(&self, io: I, stream: &I::Stream) -> Result<(), ClientError> {
        let mut reader = FrameReader::new(stream.clone(), FRAME_BYTES_MAX, READ_BYTES_MIN);
        let mut answers: Vec<Bytes> = Vec::new();
        loop {
            reader.fill().await?;
            self.wait_for_pause(&io).await;
            let mut joined = BytesMut::new();
            while let Some(frame) = reader.frame()? {
                if frame.starts_with(&PRODUCE_KEY) && self.first_produce.get().is_none() {
                    self.first_produce.set(Some(io.now()));
                }
                if frame.len() > LARGE_REQUEST_BYTES {
                    reader.offer(READ_BYTES_MAX);
                }
                self.answer(frame, &mut joined)?;
            }
            if !joined.is_empty() {
                answers.push(joined.freeze());
                stream.write_all(&mut answers).await?;
            }
            io.yield_if_needed().await;
        }
    }

    async fn wait_for_pause<I: Io>(&self, io: &I) {
        if let (Some(pause), Some(first)) = (self.pause, self.first_produce.get()) {
            let begin = first.plus(pause.after);
            let end = begin.plus(pause.length);
            if io.now() >= begin {
                io.sleep(end.since(io.now())).await;
            }
        }
    }

    /// Appends the answer to a request, if it gets one.
    fn answer(&self, frame: Bytes, out: &mut BytesMut) -> Result<(), ClientError> {
        let known = produce_key(&frame);
        if let Some((key, correlation)) = &known
            && let Some(answer) = self.answers.borrow().get(*key)
        {
            let start = out.len();
            out.extend_from_slice(answer);
            out[start..][ANSWER_CORRELATION].copy_from_slice(*correlation);
            return Ok(());
        }
        let key = known.map(|(key, _)| key.to_vec());
        let answer = self.answer_slowly(frame)?.concat();
        out.extend_from_slice(&answer);
        if let Some(key) = key
            && !answer.is_empty()
            && self.answers.borrow().len() < ANSWERS_MAX
        {
            self.answers.borrow_mut().insert(key, Bytes::from(answer));
        }
        Ok(())
    }

    fn answer_slowly(&self, frame: Bytes) -> Result<Vec<Bytes>, ClientError> {
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

/// What the answer to a produce request depends on, topic and partition, and its correlation id. Only for what loads send: version 13, acknowledged, one partition
/// of one topic; `None` for anything else.
fn produce_key(frame: &[u8]) -> Option<(&[u8], &[u8; 4])> {
    if !frame.starts_with(&PRODUCE_13) {
        return None;
    }
    let correlation = frame.get(4..8)?.first_chunk()?;
    let client_id_bytes = u16::from_be_bytes(*frame.get(8..10)?.first_chunk()?);
    // Behind the client id: no tags, no transactional id, acks and timeout, one topic by id, one partition.
    let body = frame.get(10 + usize::from(client_id_bytes)..)?;
    let (head, rest) = body.split_first_chunk::<9>()?;
    let [0, 0, acks_high, acks_low, _, _, _, _, 2] = head else {
        return None;
    };
    let key = rest.get(..TOPIC_AND_PARTITION_BYTES)?;
    let is_acknowledged = (*acks_high, *acks_low) != (0, 0);
    (is_acknowledged && key[16] == 2).then_some((key, correlation))
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
