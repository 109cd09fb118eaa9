//! Readers and writers of topics, against a broker with one partition that fails as a test tells it to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{
    Acks, ClientError, Cluster, Moved, Outgoing, Position, Reader, Writer, WriterOptions, Written,
};
use model::record::{BatchBuilder, BatchHeader, read_records_owned, set_base_offset};
use model::{ErrorCode, Offset, PartitionIndex, Timestamp};
use protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use protocol::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use protocol::{
    FetchResponse, InitProducerIdResponse, ListOffsetsResponse, ProduceResponse, Records, Request,
    Text,
};
use runtime::sim::{SimIo, Simulation};

use crate::script::{Action, PORT, cluster_options, response, serve, with_versions};

const P: PartitionIndex = PartitionIndex(0);

/// What happens to the next request that writes or reads records.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is refused.
    Code(ErrorCode),
    /// It is carried out, and the connection ends instead of an answer.
    Unanswered,
}

/// The broker's partition.
#[derive(Default)]
struct Log {
    start: i64,
    batches: Vec<Bytes>,
    faults: VecDeque<Fault>,
    /// Base sequences of the batches that came, in order.
    sequences: Vec<i32>,
}

impl Log {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| {
            BatchHeader::parse(batch).unwrap().next_offset().0
        })
    }

    /// Takes a batch, unless it is there already.
    fn append(&mut self, batch: &Bytes) -> Result<i64, ErrorCode> {
        let header = BatchHeader::parse(batch).unwrap();
        self.sequences.push(header.base_sequence);
        let same = |known: &Bytes| {
            BatchHeader::parse(known).unwrap().base_sequence == header.base_sequence
        };
        if header.is_idempotent() && self.batches.iter().any(same) {
            return Err(ErrorCode::DuplicateSequenceNumber);
        }
        let base = self.end();
        let mut stored = batch.to_vec();
        set_base_offset(&mut stored, Offset(base)).unwrap();
        self.batches.push(Bytes::from(stored));
        Ok(base)
    }

    fn read(&self, offset: i64) -> Bytes {
        let wanted = self.batches.iter();
        let wanted = wanted.filter(|b| BatchHeader::parse(b).unwrap().next_offset().0 > offset);
        Bytes::from(wanted.flat_map(|batch| batch.to_vec()).collect::<Vec<u8>>())
    }

    fn values(&self) -> Vec<String> {
        let records = self
            .batches
            .iter()
            .flat_map(|batch| read_records_owned(batch).unwrap());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        records.map(|record| text(record.value.unwrap())).collect()
    }
}

/// A broker and its partition.
fn broker(simulation: &Simulation) -> Rc<RefCell<Log>> {
    let log = Rc::new(RefCell::new(Log::default()));
    let (ip, shared) = (simulation.ip(0).to_string(), log.clone());
    let script = with_versions(move |header, request| {
        let mut log = shared.borrow_mut();
        let body = match request {
            Request::Metadata(_) => response(header, &metadata(&ip)),
            Request::ListOffsets(request) => {
                let timestamp = request.topics[0].partitions[0].timestamp;
                response(header, &list_offsets(&log, timestamp))
            }
            Request::InitProducerId(_) => response(
                header,
                &InitProducerIdResponse {
                    producer_id: 7,
                    ..InitProducerIdResponse::default()
                },
            ),
            Request::Produce(request) => {
                let fault = log.faults.pop_front();
                let records = request.topic_data[0].partition_data[0]
                    .records
                    .clone()
                    .unwrap();
                let (code, base) = match fault {
                    Some(Fault::Code(code)) => (code, -1),
                    _ => match log.append(&records.into_bytes()) {
                        Ok(base) => (ErrorCode::None, base),
                        Err(code) => (code, -1),
                    },
                };
                if matches!(fault, Some(Fault::Unanswered)) {
                    return vec![Action::Close];
                }
                response(header, &produced(code, base))
            }
            Request::Fetch(request) => match log.faults.pop_front() {
                Some(Fault::Unanswered) => return vec![Action::Close],
                Some(Fault::Code(code)) => response(header, &fetched(code, Bytes::new())),
                None => {
                    let offset = request.topics[0].partitions[0].fetch_offset;
                    let there = (log.start..=log.end()).contains(&offset);
                    let code = if there {
                        ErrorCode::None
                    } else {
                        ErrorCode::OffsetOutOfRange
                    };
                    response(header, &fetched(code, log.read(offset)))
                }
            },
            other => panic!("{other:?}"),
        };
        vec![Action::Send(body)]
    });
    serve(simulation, script);
    log
}

fn metadata(ip: &str) -> MetadataResponse {
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: Text::copy_from(ip),
            port: i32::from(PORT),
            ..MetadataResponseBroker::default()
        }],
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            name: Some(Text::from_static("t")),
            partitions: vec![MetadataResponsePartition {
                leader_id: 1,
                ..MetadataResponsePartition::default()
            }],
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}

fn list_offsets(log: &Log, timestamp: i64) -> ListOffsetsResponse {
    let later = |batch: &&Bytes| BatchHeader::parse(batch).unwrap().max_timestamp.0 >= timestamp;
    let found = log.batches.iter().find(later);
    let offset = match timestamp {
        -2 => log.start,
        -1 => log.end(),
        _ => found.map_or(-1, |batch| BatchHeader::parse(batch).unwrap().base_offset.0),
    };
    ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResponse {
            name: Text::from_static("t"),
            partitions: vec![ListOffsetsPartitionResponse {
                offset,
                ..ListOffsetsPartitionResponse::default()
            }],
        }],
        ..ListOffsetsResponse::default()
    }
}

fn produced(code: ErrorCode, base_offset: i64) -> ProduceResponse {
    ProduceResponse {
        responses: vec![TopicProduceResponse {
            partition_responses: vec![PartitionProduceResponse {
                error_code: code.code(),
                base_offset,
                ..PartitionProduceResponse::default()
            }],
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponse::default()
    }
}

fn fetched(code: ErrorCode, records: Bytes) -> FetchResponse {
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![PartitionData {
                error_code: code.code(),
                records: Some(Records::from(records)),
                ..PartitionData::default()
            }],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    }
}

async fn open(simulation: &Simulation) -> Cluster<SimIo> {
    let io = simulation.io(simulation.client(), 0);
    let bootstrap = simulation.address(0, PORT).to_string();
    Cluster::connect(&io, &bootstrap, cluster_options())
        .await
        .unwrap()
}

fn record(value: &str) -> Outgoing {
    Outgoing {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Outgoing::default()
    }
}

/// A log of ten batches of two records, `0` to `19`, with timestamps 100, 200 and so on.
fn filled(log: &Rc<RefCell<Log>>) {
    for number in 0..10 {
        let mut batch = BatchBuilder::new();
        for value in [number * 2, number * 2 + 1] {
            let timestamp = Timestamp(100 * (number + 1));
            batch.push(timestamp, None, Some(value.to_string().as_bytes()));
        }
        log.borrow_mut().append(&batch.build().unwrap()).unwrap();
    }
}

/// Reads to the end, or until `count` records are there.
async fn read(reader: &mut Reader<SimIo>, count: usize) -> Result<Vec<i64>, ClientError> {
    let mut offsets = Vec::new();
    while !reader.is_done() && offsets.len() < count {
        reader
            .poll(Duration::from_millis(10), &mut |partition, record| {
                assert_eq!(partition, P);
                let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                assert_eq!(value, record.offset.to_string());
                offsets.push(record.offset.0);
                match offsets.len() < count {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })
            .await?;
    }
    Ok(offsets)
}

#[test]
fn readers_begin_and_end_where_they_are_told() {
    let offset = |offset| Position::Offset(Offset(offset));
    let at = |millis| Position::Time(Timestamp(millis));
    let rows = [
        (Position::Start, Position::End, 4..20),
        (Position::BeforeEnd(3), Position::End, 17..20),
        (Position::BeforeEnd(1000), Position::End, 4..20),
        (offset(7), offset(9), 7..9),
        (offset(2), offset(6), 4..6),
        (offset(9), offset(7), 9..9),
        (at(450), at(650), 8..12),
        (at(0), Position::End, 4..20),
        (at(5000), Position::End, 20..20),
        (Position::End, Position::End, 20..20),
        (offset(99), Position::End, 20..20),
    ];
    for (number, (from, until, expected)) in rows.into_iter().enumerate() {
        let simulation = Simulation::new(21 + number as u64, 1, 1);
        let log = broker(&simulation);
        filled(&log);
        log.borrow_mut().start = 4;
        simulation.block_on(simulation.client(), async {
            let cluster = open(&simulation).await;
            let mut reader = Reader::open(cluster, "t", &[], from, Some(until))
                .await
                .unwrap();
            let offsets = read(&mut reader, usize::MAX).await.unwrap();
            assert_eq!(
                offsets,
                expected.collect::<Vec<i64>>(),
                "{from:?} {until:?}"
            );
        });
    }
}

#[test]
fn failures_that_pass_are_waited_out_and_no_record_comes_twice() {
    let simulation = Simulation::new(41, 1, 1);
    let log = broker(&simulation);
    filled(&log);
    log.borrow_mut().faults = VecDeque::from([
        Fault::Code(ErrorCode::NotLeaderOrFollower),
        Fault::Unanswered,
        Fault::Unanswered,
        Fault::Code(ErrorCode::KafkaStorageError),
    ]);
    simulation.block_on(simulation.client(), async {
        let cluster = open(&simulation).await;
        let mut reader = Reader::open(cluster, "t", &[P], Position::Start, None)
            .await
            .unwrap();
        let mut offsets = read(&mut reader, 5).await.unwrap();
        log.borrow_mut().faults.push_back(Fault::Unanswered);
        offsets.extend(read(&mut reader, 15).await.unwrap());
        assert_eq!(offsets, (0..20).collect::<Vec<i64>>());
    });
}

#[test]
fn failures_that_stay_are_errors_in_time() {
    let simulation = Simulation::new(42, 1, 1);
    let log = broker(&simulation);
    filled(&log);
    simulation.block_on(simulation.client(), async {
        let cluster = open(&simulation).await;
        let mut reader = Reader::open(cluster, "t", &[P], Position::Start, None)
            .await
            .unwrap();
        log.borrow_mut()
            .faults
            .extend([Fault::Code(ErrorCode::NotLeaderOrFollower); 1000]);
        let begin = simulation.now();
        let error = read(&mut reader, 1).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NotLeaderOrFollower));
        assert!(simulation.now().since(begin) < cluster_options().operation_timeout * 2);
        log.borrow_mut().faults =
            VecDeque::from([Fault::Code(ErrorCode::TopicAuthorizationFailed)]);
        let begin = simulation.now();
        let error = read(&mut reader, 1).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
        assert!(simulation.now().since(begin) < Duration::from_secs(1));
    });
}

#[test]
fn what_is_trimmed_under_a_reader_is_told() {
    let simulation = Simulation::new(43, 1, 1);
    let log = broker(&simulation);
    filled(&log);
    simulation.block_on(simulation.client(), async {
        let cluster = open(&simulation).await;
        let mut reader = Reader::open(cluster, "t", &[P], Position::Start, None)
            .await
            .unwrap();
        assert_eq!(read(&mut reader, 3).await.unwrap(), [0, 1, 2]);
        log.borrow_mut().start = 16;
        log.borrow_mut().batches.drain(..8);
        assert_eq!(read(&mut reader, 4).await.unwrap(), [16, 17, 18, 19]);
        let moved = Moved {
            partition: P,
            from: Offset(3),
            to: Offset(16),
        };
        assert_eq!(reader.moved(), [moved]);
        assert_eq!(reader.moved(), []);
    });
}

#[test]
fn damage_is_an_error_and_not_a_record() {
    let simulation = Simulation::new(44, 1, 1);
    let log = broker(&simulation);
    filled(&log);
    let mut damaged = log.borrow().batches[1].to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    log.borrow_mut().batches[1] = Bytes::from(damaged);
    simulation.block_on(simulation.client(), async {
        let cluster = open(&simulation).await;
        let mut reader = Reader::open(cluster, "t", &[P], Position::Start, None)
            .await
            .unwrap();
        assert_eq!(read(&mut reader, 2).await.unwrap(), [0, 1]);
        let error = read(&mut reader, 1).await.unwrap_err();
        assert!(error.to_string().contains("checksum mismatch"), "{error}");
        let none = Reader::open(
            open(&simulation).await,
            "t",
            &[PartitionIndex(9)],
            Position::Start,
            None,
        )
        .await;
        assert!(none.is_err_and(|error| error.code() == Some(ErrorCode::UnknownTopicOrPartition)));
    });
}

#[test]
fn a_batch_without_an_answer_is_sent_again_and_is_there_once() {
    let simulation = Simulation::new(45, 1, 1);
    let log = broker(&simulation);
    log.borrow_mut().faults = VecDeque::from([
        Fault::Unanswered,
        Fault::Code(ErrorCode::NotEnoughReplicas),
        Fault::Unanswered,
    ]);
    simulation.block_on(simulation.client(), async {
        let options = WriterOptions::default();
        let mut writer = Writer::open(open(&simulation).await, "t", options)
            .await
            .unwrap();
        for value in ["a", "b"] {
            writer.push(&record(value)).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer.push(&record("c")).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(log.borrow().values(), ["a", "b", "c"]);
        let sequences = log.borrow().sequences.clone();
        assert_eq!(
            sequences,
            [0, 0, 0, 2],
            "the same batch again, then the next"
        );
        let written = Written {
            records: 3,
            first: Offset::NONE,
            end: Offset(3),
        };
        assert_eq!(writer.written().get(&P), Some(&written));
    });
}

#[test]
fn a_batch_that_cannot_be_told_apart_is_not_sent_again() {
    let simulation = Simulation::new(46, 1, 1);
    let log = broker(&simulation);
    log.borrow_mut().faults = VecDeque::from([
        Fault::Code(ErrorCode::NotLeaderOrFollower),
        Fault::Unanswered,
    ]);
    simulation.block_on(simulation.client(), async {
        let options = WriterOptions {
            acks: Acks::Leader,
            ..WriterOptions::default()
        };
        let mut writer = Writer::open(open(&simulation).await, "t", options)
            .await
            .unwrap();
        writer.push(&record("a")).await.unwrap();
        let error = writer.flush().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Closed | ClientError::Lost(_)),
            "{error}"
        );
        // The refusal was followed, the silence was not.
        assert_eq!(log.borrow().values(), ["a"]);
        assert_eq!(log.borrow().sequences, [-1]);
    });
}

#[test]
fn refusals_are_errors_and_batches_stay_below_their_bound() {
    let simulation = Simulation::new(47, 1, 1);
    let log = broker(&simulation);
    simulation.block_on(simulation.client(), async {
        let options = WriterOptions {
            batch_bytes: 200,
            ..WriterOptions::default()
        };
        let mut writer = Writer::open(open(&simulation).await, "t", options)
            .await
            .unwrap();
        for number in 0..50 {
            writer
                .push(&record(&format!("value {number}")))
                .await
                .unwrap();
        }
        writer.push(&record(&"x".repeat(1000))).await.unwrap();
        writer.flush().await.unwrap();
        let sizes: Vec<usize> = log.borrow().batches.iter().map(Bytes::len).collect();
        let (last, others) = sizes.split_last().unwrap();
        assert!(
            others.len() > 5 && others.iter().all(|size| *size <= 200),
            "{sizes:?}"
        );
        assert!(*last > 1000, "a large record is a batch of its own");
        assert_eq!(log.borrow().values().len(), 51);
        log.borrow_mut()
            .faults
            .push_back(Fault::Code(ErrorCode::MessageTooLarge));
        writer.push(&record("y")).await.unwrap();
        let error = writer.flush().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    });
}
