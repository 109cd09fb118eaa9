//! The bytes of a message.
//!
//! Pure. Big-endian: `checksum u32 | version u8 | kind u8 | broker epoch i64 | stream u64 | number u64 | fields`, with a
//! partition as `topic 16 bytes, index i32`. A push ends with the record batches of all its partitions. The checksum
//! (CRC-32C) covers what is between it and them, and of each batch the front that the batch's own leaves out: an offset or an
//! epoch that is damaged on its way would make two logs differ where they say that they agree. Around it stands the peers'
//! frame with its length.
//!
//! Invariants: what is decoded has been checked field by field; decoding allocates no more than a few words per item that
//! is there; batches stay slices of the message.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{PrimitiveError, Reader};
use model::record::{Batches, HEADER_LEN};
use model::{BrokerEpoch, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

use super::message::{
    Acknowledged, Answer, Answered, Pushed, Records, RecordsError, StreamBody, StreamMessage,
    StreamNumber, SubscribeRefusal, Subscribed, check_records,
};
use crate::subscription::{EpochEnd, SubscribeAnswer};

/// The version that is written, and the only one that is read.
const CODEC_VERSION: u8 = 1;
/// Most partitions of one message: a shard that follows more sends several.
pub const MESSAGE_PARTITIONS_MAX: usize = 4096;
/// Bytes of the longest message: what a frame between brokers may hold.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Records of one message at most: beside them the heads of all partitions fit, and four bytes for each batch, of which
/// the smallest has [`HEADER_LEN`].
pub const RECORDS_BYTES_MAX: usize = 28 << 20;

const CHECKSUM_BYTES: usize = 4;
const HEAD_BYTES: usize = CHECKSUM_BYTES + 2 + 3 * 8;
const PARTITION_BYTES: usize = 16 + 4;
const SUBSCRIBED_BYTES: usize = PARTITION_BYTES + 4 + 8 + 4;
const ACKNOWLEDGED_BYTES: usize = PARTITION_BYTES + 4 + 8;
/// The shortest answer.
const ANSWERED_BYTES_MIN: usize = PARTITION_BYTES + 4 + 1;
/// Without the numbers of its batches.
const PUSHED_BYTES: usize = PARTITION_BYTES + 4 + 4 * 8 + 2 * 4;
/// Offset, length, epoch, magic and checksum of a batch: what its checksum does not cover.
const BATCH_FRONT_BYTES: usize = 21;

const SUBSCRIBE: u8 = 1;
const ACKNOWLEDGE: u8 = 2;
const ANSWER: u8 = 3;
const PUSH: u8 = 4;

const ACCEPTED: u8 = 0;
const DIVERGED: u8 = 100;
const START_OVER: u8 = 101;

/// Why bytes are refused. The stream that brought them is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    #[error("{0}")]
    Field(#[from] PrimitiveError),
    #[error("the checksum differs")]
    Checksum,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("there is no message of kind {0}")]
    Kind(u8),
    #[error("there is no answer {0}")]
    Answer(u8),
    #[error("messages are numbered from 1")]
    Number,
    #[error("more than {MESSAGE_PARTITIONS_MAX} partitions, or none")]
    PartitionCount,
    #[error("{0} is no offset")]
    Offset(i64),
    #[error("{0} is no leader epoch")]
    Epoch(i32),
    #[error("records: {0}")]
    Records(#[from] RecordsError),
    #[error("bytes behind the message")]
    Trailing,
}

/// The bytes of a message, in the pieces that a vectored write takes. Panics on one that would be refused.
pub fn encode(message: &StreamMessage) -> Vec<Bytes> {
    let body = &message.body;
    let mut head = BytesMut::with_capacity(HEAD_BYTES + body_bytes(body));
    head.put_u32(0);
    head.put_u8(CODEC_VERSION);
    head.put_u8(kind_of(body));
    head.put_i64(message.broker_epoch.0);
    head.put_u64(message.stream.0);
    head.put_u64(message.number);
    let mut slices = Vec::new();
    match body {
        StreamBody::Subscribe(all) => put_all(&mut head, all, |out, one| {
            put_partition(out, one.partition);
            out.put_i32(one.leader_epoch.0);
            out.put_i64(one.log_end_offset.0);
            out.put_i32(one.last_epoch.0);
        }),
        StreamBody::Acknowledge { taken, partitions } => {
            head.put_u64(*taken);
            head.put_u32(count_of(partitions.len()));
            for one in partitions {
                put_partition(&mut head, one.partition);
                head.put_i32(one.leader_epoch.0);
                head.put_i64(one.durable_end_offset.0);
            }
        }
        StreamBody::Answer(all) => put_all(&mut head, all, put_answered),
        StreamBody::Push(all) => {
            put_all(&mut head, all, put_pushed);
            let of_all = all.iter().flat_map(|pushed| &pushed.records.slices);
            slices.extend(of_all.cloned());
        }
    }
    let checksum = checksum(&head, &slices);
    head[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    let mut pieces = vec![head.freeze()];
    pieces.append(&mut slices);
    pieces
}

fn kind_of(body: &StreamBody) -> u8 {
    match body {
        StreamBody::Subscribe(_) => SUBSCRIBE,
        StreamBody::Acknowledge { .. } => ACKNOWLEDGE,
        StreamBody::Answer(_) => ANSWER,
        StreamBody::Push(_) => PUSH,
    }
}

/// About what a body takes in the head.
fn body_bytes(body: &StreamBody) -> usize {
    match body {
        StreamBody::Subscribe(all) => 4 + all.len() * SUBSCRIBED_BYTES,
        StreamBody::Acknowledge { partitions, .. } => 12 + partitions.len() * ACKNOWLEDGED_BYTES,
        StreamBody::Answer(all) => 4 + all.len() * (ANSWERED_BYTES_MIN + 12),
        StreamBody::Push(all) => {
            let batches = all.iter().map(|one| one.records.max_timestamp_deltas.len());
            4 + all.len() * PUSHED_BYTES + 4 * batches.sum::<usize>()
        }
    }
}

fn count_of(count: usize) -> u32 {
    assert!(
        count <= MESSAGE_PARTITIONS_MAX,
        "{count} partitions in one message"
    );
    u32::try_from(count).expect("it fits the bound")
}

fn put_all<T>(out: &mut BytesMut, all: &[T], put: impl Fn(&mut BytesMut, &T)) {
    assert!(!all.is_empty(), "a message says something");
    out.put_u32(count_of(all.len()));
    for one in all {
        put(out, one);
    }
}

fn put_partition(out: &mut BytesMut, id: TopicPartition) {
    out.put_slice(&id.topic.0);
    out.put_i32(id.partition.0);
}

fn put_answered(out: &mut BytesMut, answered: &Answered) {
    put_partition(out, answered.partition);
    out.put_i32(answered.leader_epoch.0);
    match answered.answer {
        Answer::Log(SubscribeAnswer::Accepted) => out.put_u8(ACCEPTED),
        Answer::Log(SubscribeAnswer::Diverged(at)) => {
            out.put_u8(DIVERGED);
            out.put_i32(at.epoch.0);
            out.put_i64(at.end_offset.0);
        }
        Answer::Log(SubscribeAnswer::StartOver(at)) => {
            out.put_u8(START_OVER);
            out.put_i64(at.0);
        }
        Answer::Refused(refusal) => out.put_u8(refusal.code()),
    }
}

fn put_pushed(out: &mut BytesMut, pushed: &Pushed) {
    put_partition(out, pushed.partition);
    out.put_i32(pushed.leader_epoch.0);
    out.put_i64(pushed.base_offset.0);
    out.put_i64(pushed.end_offset.0);
    out.put_i64(pushed.high_watermark.0);
    out.put_i64(pushed.log_start_offset.0);
    let size = pushed.records.size_bytes();
    out.put_u32(u32::try_from(size).expect("RECORDS_BYTES_MAX"));
    let deltas = &pushed.records.max_timestamp_deltas;
    out.put_u32(u32::try_from(deltas.len()).expect("fewer batches than bytes"));
    for delta in deltas {
        out.put_i32(*delta);
    }
}

fn checksum(head: &[u8], slices: &[Bytes]) -> u32 {
    let mut checksum = crc32c::crc32c(&head[CHECKSUM_BYTES..]);
    for slice in slices {
        // What follows a batch that is none is refused for that.
        for (_, batch) in Batches::new(slice).map_while(Result::ok) {
            checksum = crc32c::crc32c_append(checksum, &batch[..BATCH_FRONT_BYTES]);
        }
    }
    checksum
}

/// Reads a message from exactly its bytes.
pub fn decode(message: &Bytes) -> Result<StreamMessage, CodecError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong(message.len()));
    }
    let mut reader = Reader::new(message);
    let expected = reader.u32()?;
    let version = reader.u8()?;
    if version != CODEC_VERSION {
        return Err(CodecError::Version(version));
    }
    let kind = reader.u8()?;
    let broker_epoch = BrokerEpoch(reader.i64()?);
    let stream = StreamNumber(reader.u64()?);
    let number = reader.u64()?;
    if number == 0 {
        return Err(CodecError::Number);
    }
    let mut records = Bytes::new();
    let body = match kind {
        SUBSCRIBE => {
            let read = |reader: &mut Reader<'_>| read_subscribed(reader);
            StreamBody::Subscribe(read_all(&mut reader, SUBSCRIBED_BYTES, read)?)
        }
        ACKNOWLEDGE => StreamBody::Acknowledge {
            taken: reader.u64()?,
            partitions: {
                let count = read_count(&mut reader, ACKNOWLEDGED_BYTES)?;
                read_some(&mut reader, count, read_acknowledged)?
            },
        },
        ANSWER => StreamBody::Answer(read_all(&mut reader, ANSWERED_BYTES_MIN, read_answered)?),
        PUSH => {
            let heads = read_all(&mut reader, PUSHED_BYTES, read_pushed)?;
            records = message.slice(message.len() - reader.remaining()..);
            StreamBody::Push(with_records(heads, records.clone())?)
        }
        other => return Err(CodecError::Kind(other)),
    };
    if kind != PUSH && !reader.is_empty() {
        return Err(CodecError::Trailing);
    }
    let head = &message[..message.len() - records.len()];
    if checksum(head, &[records]) != expected {
        return Err(CodecError::Checksum);
    }
    Ok(StreamMessage {
        broker_epoch,
        stream,
        number,
        body,
    })
}

/// A count of items that may be there.
fn read_count(reader: &mut Reader<'_>, bytes_min: usize) -> Result<usize, CodecError> {
    let count = reader.u32()? as usize;
    if count > MESSAGE_PARTITIONS_MAX {
        return Err(CodecError::PartitionCount);
    }
    if count > reader.remaining() / bytes_min {
        return Err(PrimitiveError::ArrayTooLong.into());
    }
    Ok(count)
}

fn read_some<T>(
    reader: &mut Reader<'_>,
    count: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(read(reader)?);
    }
    Ok(all)
}

fn read_all<T>(
    reader: &mut Reader<'_>,
    bytes_min: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = read_count(reader, bytes_min)?;
    if count == 0 {
        return Err(CodecError::PartitionCount);
    }
    read_some(reader, count, read)
}

fn read_partition(reader: &mut Reader<'_>) -> Result<TopicPartition, CodecError> {
    Ok(TopicPartition {
        topic: TopicId(reader.array()?),
        partition: PartitionIndex(reader.i32()?),
    })
}

fn read_offset(reader: &mut Reader<'_>) -> Result<Offset, CodecError> {
    match reader.i64()? {
        offset @ 0.. => Ok(Offset(offset)),
        other => Err(CodecError::Offset(other)),
    }
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<LeaderEpoch, CodecError> {
    match reader.i32()? {
        epoch @ 0.. => Ok(LeaderEpoch(epoch)),
        other => Err(CodecError::Epoch(other)),
    }
}

fn read_subscribed(reader: &mut Reader<'_>) -> Result<Subscribed, CodecError> {
    let partition = read_partition(reader)?;
    let leader_epoch = read_epoch(reader)?;
    let log_end_offset = read_offset(reader)?;
    let last_epoch = LeaderEpoch(reader.i32()?);
    if last_epoch < LeaderEpoch::NONE {
        return Err(CodecError::Epoch(last_epoch.0));
    }
    Ok(Subscribed {
        partition,
        leader_epoch,
        log_end_offset,
        last_epoch,
    })
}

fn read_acknowledged(reader: &mut Reader<'_>) -> Result<Acknowledged, CodecError> {
    Ok(Acknowledged {
        partition: read_partition(reader)?,
        leader_epoch: read_epoch(reader)?,
        durable_end_offset: read_offset(reader)?,
    })
}

fn read_answered(reader: &mut Reader<'_>) -> Result<Answered, CodecError> {
    let partition = read_partition(reader)?;
    let leader_epoch = read_epoch(reader)?;
    let answer = match reader.u8()? {
        ACCEPTED => Answer::Log(SubscribeAnswer::Accepted),
        DIVERGED => Answer::Log(SubscribeAnswer::Diverged(EpochEnd {
            epoch: read_epoch(reader)?,
            end_offset: read_offset(reader)?,
        })),
        START_OVER => Answer::Log(SubscribeAnswer::StartOver(read_offset(reader)?)),
        code => {
            let refusal = SubscribeRefusal::from_code(code);
            Answer::Refused(refusal.ok_or(CodecError::Answer(code))?)
        }
    };
    Ok(Answered {
        partition,
        leader_epoch,
        answer,
    })
}

/// A part of a push, and how many bytes of records belong to it, which follow the last part.
fn read_pushed(reader: &mut Reader<'_>) -> Result<(Pushed, usize), CodecError> {
    let mut pushed = Pushed {
        partition: read_partition(reader)?,
        leader_epoch: read_epoch(reader)?,
        base_offset: read_offset(reader)?,
        end_offset: read_offset(reader)?,
        high_watermark: read_offset(reader)?,
        log_start_offset: read_offset(reader)?,
        records: Records::none(),
    };
    let size = reader.u32()? as usize;
    let count = reader.u32()? as usize;
    // Each batch has a number here and a header behind.
    if count > reader.remaining() / (4 + HEADER_LEN) {
        return Err(PrimitiveError::ArrayTooLong.into());
    }
    pushed.records.max_timestamp_deltas = read_some(reader, count, |reader| Ok(reader.i32()?))?;
    Ok((pushed, size))
}

/// Gives each part its records.
fn with_records(
    heads: Vec<(Pushed, usize)>,
    mut records: Bytes,
) -> Result<Vec<Pushed>, CodecError> {
    let mut all = Vec::with_capacity(heads.len());
    for (mut pushed, size) in heads {
        if size > records.len() {
            return Err(PrimitiveError::Underflow.into());
        }
        if size > 0 {
            pushed.records.slices.push(records.split_to(size));
        }
        let range = (pushed.base_offset, pushed.end_offset);
        let slices = &pushed.records.slices;
        let (count, last_epoch) = check_records(slices, range, pushed.leader_epoch)?;
        if count != pushed.records.max_timestamp_deltas.len() {
            return Err(RecordsError::Count.into());
        }
        pushed.records.last_epoch = last_epoch;
        all.push(pushed);
    }
    match records.is_empty() {
        true => Ok(all),
        false => Err(CodecError::Trailing),
    }
}

const _: () = assert!(
    HEAD_BYTES
        + 4
        + MESSAGE_PARTITIONS_MAX * PUSHED_BYTES
        + RECORDS_BYTES_MAX / HEADER_LEN * 4
        + RECORDS_BYTES_MAX
        <= MESSAGE_BYTES_MAX
);
const _: () = assert!(ACCEPTED == 0 && DIVERGED > 99 && START_OVER > 99);
