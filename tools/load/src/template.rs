//! Ready-made produce requests: encoded once, patched for each send.
//!
//! What differs from send to send (correlation id, producer, sequence, timestamps) lies in the request header and the
//! batch header. They are copied and patched; the records behind them are shared. The CRC covers the batch header too:
//! it is combined from the CRC of the 40 header bytes and the CRC of the records, which is known.
//! Invariant: every frame is a valid request whose CRC matches.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use client::{Acks, ClientError, rpc};
use model::record::{
    BatchBuilder, BatchHeader, BuildError, Compression, DecompressionScratch, HEADER_LEN,
    LOG_OVERHEAD, read_records,
};
use model::{PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::{Records, Text};

use crate::keys::{KeySource, key_bytes};
use crate::verify::{Stamp, StreamKey};

/// Frames up to this are copied whole: one slice costs less than two.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Where the correlation id lies in a request frame: behind length, API key and version.
const CORRELATION: Range<usize> = 8..12;
/// First byte of a batch that its CRC covers.
const CRC_FROM: usize = 21;
const CRC: Range<usize> = 17..21;
/// Bytes that end a produce request behind its records: none, or three empty tag sections.
const SUFFIX_BYTES_MAX: usize = 3;
/// Room for the patched parts of one flush.
const SCRATCH_BYTES: usize = 64 << 10;

/// What stands in the batch header of one send.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Timestamp of all records.
    pub timestamp: Timestamp,
}

/// Frames waiting to be sent in one go.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    scratch: BytesMut,
    slices: Vec<Bytes>,
    bytes: usize,
}

impl FrameBuffer {
    fn copy(&mut self, bytes: &[u8]) {
        if self.scratch.capacity() - self.scratch.len() < bytes.len() {
            self.cut();
            self.scratch.reserve(SCRATCH_BYTES.max(bytes.len()));
        }
        self.scratch.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    fn share(&mut self, bytes: Bytes) {
        self.cut();
        self.bytes += bytes.len();
        self.slices.push(bytes);
    }

    fn cut(&mut self) {
        if !self.scratch.is_empty() {
            self.slices.push(self.scratch.split().freeze());
        }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The slices to send, in order; the caller sends and clears them.
    pub fn slices(&mut self) -> &mut Vec<Bytes> {
        self.cut();
        self.bytes = 0;
        &mut self.slices
    }
}

/// CRC-32C of bytes followed by `length` others, from the CRCs of both, for one fixed length.
#[derive(Clone, Debug)]
struct CrcShift([u32; 32]);

impl CrcShift {
    fn new(length: usize) -> CrcShift {
        CrcShift(std::array::from_fn(|bit| {
            crc32c::crc32c_combine(1 << bit, 0, length)
        }))
    }

    fn combine(&self, first: u32, second: u32) -> u32 {
        let bits = self.0.iter().enumerate();
        bits.fold(second, |crc, (bit, shifted)| {
            crc ^ (shifted & (first >> bit & 1).wrapping_neg())
        })
    }
}

/// One batch, ready but for its header fields.
#[derive(Clone, Debug)]
pub struct BatchTemplate {
    header: BatchHeader,
    /// The records (compressed), then the end of the request frame.
    tail: Bytes,
    payload_bytes: usize,
    payload_crc: u32,
    shift: CrcShift,
    /// The records before compression and where their values lie, for stamping.
    plain: Bytes,
    values: Vec<Range<usize>>,
    compression: Compression,
    /// Bytes of keys and values.
    pub record_bytes: u64,
}

/// Sizes of a batch to build.
#[derive(Clone, Copy, Debug)]
pub struct BatchShape {
    /// Records.
    pub records: u64,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// Codec.
    pub compression: Compression,
}

impl BatchTemplate {
    /// Builds a batch with keys drawn from `keys`. Values are half random, half constant, so codecs have work to do
    /// and reach a ratio near two.
    pub fn build(shape: BatchShape, keys: &mut KeySource) -> Result<BatchTemplate, BuildError> {
        let mut plain = BatchBuilder::new();
        let mut value = vec![0; shape.record_bytes];
        let mut record_bytes = 0;
        for _ in 0..shape.records {
            fill(&mut value, keys);
            let key = keys.draw().map(key_bytes);
            let key = key.as_ref().map(|k| &k[..]);
            record_bytes += key.map_or(0, <[u8]>::len) + value.len();
            plain.push(Timestamp(0), key, Some(&value));
        }
        let batch = plain.build()?;
        let values = value_ranges(&batch);
        let sent = plain.compression(shape.compression).build()?;
        let payload = sent.slice(HEADER_LEN..);
        Ok(BatchTemplate {
            header: BatchHeader::parse(&sent)?,
            payload_bytes: payload.len(),
            payload_crc: crc32c::crc32c(&payload),
            shift: CrcShift::new(payload.len()),
            tail: payload,
            plain: batch.slice(HEADER_LEN..),
            values,
            compression: shape.compression,
            record_bytes: record_bytes as u64,
        })
    }

    /// Records in the batch.
    pub fn records(&self) -> u64 {
        self.values.len() as u64
    }

    /// Bytes of the batch on the wire.
    pub fn batch_bytes(&self) -> usize {
        HEADER_LEN + self.payload_bytes
    }

    /// The batch header with its CRC, for a payload with the given CRC.
    fn header_bytes(&self, identity: Identity, payload_crc: u32) -> [u8; HEADER_LEN] {
        let mut header = self.header;
        header.base_timestamp = identity.timestamp;
        header.max_timestamp = identity.timestamp;
        header.producer_id = identity.producer_id;
        header.producer_epoch = identity.producer_epoch;
        header.base_sequence = identity.base_sequence;
        let mut bytes = header.to_bytes();
        let crc = self
            .shift
            .combine(crc32c::crc32c(&bytes[CRC_FROM..]), payload_crc);
        bytes[CRC].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn batch(&self, identity: Identity) -> Bytes {
        let mut batch = BytesMut::with_capacity(self.batch_bytes());
        batch.extend_from_slice(&self.header_bytes(identity, self.payload_crc));
        batch.extend_from_slice(&self.tail[..self.payload_bytes]);
        batch.freeze()
    }

    /// The records with stamps from `first` on, before compression.
    fn stamped(&self, stream: StreamKey, first: u64) -> BytesMut {
        let mut plain = BytesMut::from(&self.plain[..]);
        for (sequence, value) in (first..).zip(&self.values) {
            let stamp = Stamp {
                run: stream.run,
                producer: stream.producer,
                partition: stream.partition,
                sequence,
            };
            stamp.write(&mut plain[value.clone()]);
        }
        plain
    }
}

/// Where the values of an uncompressed batch lie in its records.
fn value_ranges(batch: &[u8]) -> Vec<Range<usize>> {
    let mut scratch = DecompressionScratch::new();
    let Ok(records) = read_records(batch, &mut scratch) else {
        return Vec::new();
    };
    let values = records
        .map_while(Result::ok)
        .filter_map(|record| record.value);
    let start = batch.as_ptr().addr() + HEADER_LEN;
    values
        .map(|value| {
            let from = value.as_ptr().addr() - start;
            from..from + value.len()
        })
        .collect()
}

fn fill(value: &mut [u8], random: &mut KeySource) {
    for (index, chunk) in value.chunks_mut(8).enumerate() {
        let bytes = if index % 2 == 0 {
            random.random().to_le_bytes()
        } else {
            *b"ringlog."
        };
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// Where produce requests go and what they ask for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the topic.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Version of Produce.
    pub version: i16,
    /// What the broker confirms.
    pub acks: Acks,
    /// How long the broker may wait for that, in milliseconds.
    pub timeout_ms: i32,
    /// Name the broker logs.
    pub client_id: String,
}

impl Target {
    /// A whole request frame.
    pub fn frame(
        &self,
        partition: PartitionIndex,
        correlation: i32,
        batch: Bytes,
    ) -> Result<Vec<Bytes>, ClientError> {
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks.code(),
            timeout_ms: self.timeout_ms,
            topic_data: vec![TopicProduceData {
                name: Text::copy_from(&self.topic),
                topic_id: self.topic_id,
                partition_data: vec![PartitionProduceData {
                    index: partition.0,
                    records: Some(Records::from(batch)),
                }],
            }],
        };
        rpc::encode(&request, self.version, correlation, &self.client_id)
    }
}

/// Requests for the partitions of one broker, ready but for the fields of each send.
#[derive(Debug)]
pub struct RequestTemplates {
    target: Target,
    partitions: Vec<PartitionIndex>,
    batches: Vec<BatchTemplate>,
    /// What stands before the batch: `batches.len()` for each partition.
    prefixes: Vec<Bytes>,
}

/// One request to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// Position in the list of partitions.
    pub slot: usize,
    /// Which batch, modulo their count.
    pub variant: usize,
    /// Id the response will carry.
    pub correlation: i32,
    /// Fields of the batch header.
    pub identity: Identity,
    /// Stamps to write: the stream and the sequence of the first record.
    pub stamp: Option<(StreamKey, u64)>,
}

impl RequestTemplates {
    /// Encodes every batch for every partition once. Both must not be empty.
    pub fn new(
        target: Target,
        partitions: Vec<PartitionIndex>,
        mut batches: Vec<BatchTemplate>,
    ) -> Result<RequestTemplates, ClientError> {
        let identity = Identity {
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            timestamp: Timestamp::NONE,
        };
        let mut prefixes = Vec::with_capacity(partitions.len() * batches.len());
        let encoded: Vec<Bytes> = batches.iter().map(|b| b.batch(identity)).collect();
        for partition in &partitions {
            for (template, batch) in batches.iter_mut().zip(&encoded) {
                let frame = target.frame(*partition, 0, batch.clone())?.concat();
                let (prefix, suffix) = split(&frame, batch)?;
                prefixes.push(Bytes::copy_from_slice(prefix));
                if template.tail.len() == template.payload_bytes && !suffix.is_empty() {
                    template.tail = Bytes::from([&template.tail, suffix].concat());
                }
            }
        }
        Ok(RequestTemplates {
            target,
            partitions,
            batches,
            prefixes,
        })
    }

    /// The partitions, by slot.
    pub fn partitions(&self) -> &[PartitionIndex] {
        &self.partitions
    }

    /// The batch of a variant.
    pub fn batch(&self, variant: usize) -> &BatchTemplate {
        &self.batches[variant % self.batches.len()]
    }

    /// Appends a request to `out`; the bytes of its batch on the wire.
    pub fn append(&self, send: Send, out: &mut FrameBuffer) -> Result<usize, ClientError> {
        let variant = send.variant % self.batches.len();
        let template = &self.batches[variant];
        let prefix = &self.prefixes[send.slot * self.batches.len() + variant];
        match send.stamp {
            None => {
                let header = template.header_bytes(send.identity, template.payload_crc);
                put_head(out, prefix, send.correlation, &header);
                if template.tail.len() <= COPY_BYTES_MAX {
                    out.copy(&template.tail);
                } else {
                    out.share(template.tail.clone());
                }
                Ok(template.batch_bytes())
            }
            Some((stream, first)) => {
                let mut plain = template.stamped(stream, first);
                if template.compression != Compression::None {
                    return self.append_compressed(send, template, &plain, out);
                }
                let header = template.header_bytes(send.identity, crc32c::crc32c(&plain));
                put_head(out, prefix, send.correlation, &header);
                plain.extend_from_slice(&template.tail[template.payload_bytes..]);
                out.share(plain.freeze());
                Ok(template.batch_bytes())
            }
        }
    }

    /// Stamped and compressed batches differ in size each time: these are encoded from the start.
    fn append_compressed(
        &self,
        send: Send,
        template: &BatchTemplate,
        plain: &[u8],
        out: &mut FrameBuffer,
    ) -> Result<usize, ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            api: "Produce",
            reason,
        };
        let mut batch = vec![0; HEADER_LEN];
        model::record::compression::compress(template.compression, None, plain, &mut batch)
            .map_err(|error| malformed(error.to_string()))?;
        let mut header = template.header;
        header.batch_length = i32::try_from(batch.len() - LOG_OVERHEAD)
            .map_err(|_| malformed(format!("batch of {} bytes", batch.len())))?;
        let sized = BatchTemplate {
            header,
            shift: CrcShift::new(batch.len() - HEADER_LEN),
            tail: Bytes::new(),
            payload_bytes: 0,
            payload_crc: 0,
            plain: Bytes::new(),
            values: Vec::new(),
            compression: template.compression,
            record_bytes: 0,
        };
        let bytes = sized.header_bytes(send.identity, crc32c::crc32c(&batch[HEADER_LEN..]));
        batch[..HEADER_LEN].copy_from_slice(&bytes);
        let batch_bytes = batch.len();
        let partition = self.partitions[send.slot];
        for slice in self
            .target
            .frame(partition, send.correlation, Bytes::from(batch))?
        {
            out.share(slice);
        }
        Ok(batch_bytes)
    }
}

fn put_head(out: &mut FrameBuffer, prefix: &[u8], correlation: i32, header: &[u8; HEADER_LEN]) {
    out.copy(&prefix[..CORRELATION.start]);
    out.copy(&correlation.to_be_bytes());
    out.copy(&prefix[CORRELATION.end..]);
    out.copy(header);
}

/// What stands before and behind the batch in a frame.
fn split<'a>(frame: &'a [u8], batch: &[u8]) -> Result<(&'a [u8], &'a [u8]), ClientError> {
    for suffix_bytes in 0..=SUFFIX_BYTES_MAX {
        let Some(end) = frame.len().checked_sub(suffix_bytes) else {
            break;
        };
        if let Some(prefix) = frame[..end].strip_suffix(batch)
            && prefix.len() >= CORRELATION.end
        {
            return Ok((prefix, &frame[end..]));
        }
    }
    Err(ClientError::Malformed {
        api: "Produce",
        reason: "the encoder did not put the batch at the end of the request".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyDistribution;
    use model::record::{crc_matches, read_records_owned};
    use protocol::{Request, parse_request};

    fn shape(compression: Compression) -> BatchShape {
        BatchShape {
            records: 7,
            record_bytes: 1000,
            compression,
        }
    }

    fn templates(version: i16, compression: Compression) -> RequestTemplates {
        let mut keys = KeySource::new(KeyDistribution::Uniform { count: 5 }, 1);
        let batch = BatchTemplate::build(shape(compression), &mut keys).unwrap();
        let target = Target {
            topic: "load-test".to_owned(),
            topic_id: TopicId([7; 16]),
            version,
            acks: Acks::All,
            timeout_ms: 1000,
            client_id: "me".to_owned(),
        };
        let partitions = vec![PartitionIndex(0), PartitionIndex(200)];
        RequestTemplates::new(target, partitions, vec![batch]).unwrap()
    }

    fn identity() -> Identity {
        Identity {
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(3),
            base_sequence: 1234,
            timestamp: Timestamp(1_700_000_000_000),
        }
    }

    /// Patched frames decode to what they were patched with, in every version and codec, and their CRC matches.
    #[test]
    fn frames_are_valid_whatever_is_patched() {
        let stream = StreamKey {
            run: 5,
            producer: 6,
            partition: PartitionIndex(200),
        };
        for version in [3, 8, 9, 12, 13] {
            for compression in Compression::ALL {
                let templates = templates(version, compression);
                for stamp in [None, Some((stream, 90))] {
                    let send = Send {
                        slot: 1,
                        variant: 0,
                        correlation: 4321,
                        identity: identity(),
                        stamp,
                    };
                    let mut out = FrameBuffer::default();
                    let batch_bytes = templates.append(send, &mut out).unwrap();
                    let frame = out.slices().concat();
                    check(&frame, version, batch_bytes, stamp);
                }
            }
        }
    }

    fn check(frame: &[u8], version: i16, batch_bytes: usize, stamp: Option<(StreamKey, u64)>) {
        let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 4);
        let (header, request) = parse_request(Bytes::copy_from_slice(&frame[4..])).unwrap();
        assert_eq!(header.correlation_id, 4321);
        assert_eq!(header.api_version, version);
        let Request::Produce(request) = request else {
            panic!("not a produce request");
        };
        let partition = &request.topic_data[0].partition_data[0];
        assert_eq!(partition.index, 200);
        let batch = partition.records.clone().unwrap().into_bytes();
        assert_eq!(batch.len(), batch_bytes);
        assert!(crc_matches(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.producer_id.0, header.base_sequence), (77, 1234));
        let records = read_records_owned(&batch).unwrap();
        assert_eq!(records.len(), 7);
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.timestamp, Timestamp(1_700_000_000_000));
            let value = record.value.as_ref().unwrap();
            assert_eq!(value.len(), 1000);
            if let Some((_, first)) = stamp {
                assert_eq!(Stamp::read(value).unwrap().sequence, first + index as u64);
            }
        }
    }

    #[test]
    fn combined_crc_is_the_crc_of_the_whole() {
        for (a, b) in [
            (&b""[..], &b"x"[..]),
            (b"abc", b""),
            (b"header", b"records"),
        ] {
            let shift = CrcShift::new(b.len());
            let combined = shift.combine(crc32c::crc32c(a), crc32c::crc32c(b));
            assert_eq!(combined, crc32c::crc32c(&[a, b].concat()));
        }
    }
}
