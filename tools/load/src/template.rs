//! Ready-made produce requests: encoded once, patched for each send.
//!
//! What differs from send to send (correlation id, producer, sequence, timestamps) lies in the request header and the
//! batch header. They are copied and patched; the records behind them are shared. The CRC covers the batch header too:
//! it is combined from the CRC of the 40 header bytes and the CRC of the records, which is known. Where the first record
//! carries the intended time, that part of the records is patched like a header.
//! Invariant: every frame is a valid request whose CRC matches.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use client::{Acks, ClientError, rpc};
use model::record::{
    BatchBuilder, BatchHeader, BuildError, Compression, DecompressionScratch, HEADER_LEN,
    LOG_OVERHEAD, read_records,
};
use model::{MonotonicTime, ProducerEpoch, ProducerId, Timestamp, TopicId};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::{Records, Text};

use crate::keys::{KeySource, key_bytes};
use crate::payload::{Payload, Value};
use crate::script::{Script, Step};
use crate::trace::{TRACE_BYTES, Trace};
use crate::verify::{Place, Stamp, StreamKey};

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

    /// Moves the slices to send, in order, to the end of `slices`.
    pub fn take_into(&mut self, slices: &mut Vec<Bytes>) {
        self.cut();
        self.bytes = 0;
        slices.append(&mut self.slices);
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

/// A record to be built.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// Number of its key.
    pub key: Option<u64>,
    /// What its value is.
    pub value: Value,
}

/// What the batches of a load have in common.
#[derive(Clone, Copy, Debug)]
pub struct BatchStyle {
    /// Codec.
    pub compression: Compression,
    /// Share of constant bytes in values, 0 to 1.
    pub compressibility: f64,
    /// Whether each record gets a stamp when it is sent.
    pub stamped: bool,
    /// Whether each batch's first record gets a trace of this run when it is sent.
    pub traced_run: Option<u64>,
}

/// Where a record's key and value lie in the uncompressed records.
#[derive(Clone, Debug)]
struct Span {
    key: Range<usize>,
    value: Range<usize>,
}

/// One batch, ready but for its header fields.
#[derive(Clone, Debug)]
pub struct BatchTemplate {
    header: BatchHeader,
    style: BatchStyle,
    /// The first bytes of the records, if they are patched: up to the end of the trace.
    lead: Bytes,
    /// The records behind that (compressed), then the end of the request frame.
    tail: Bytes,
    tail_bytes: usize,
    tail_crc: u32,
    shift: CrcShift,
    /// The records before compression and where they lie, where sending changes them throughout.
    plain: Bytes,
    spans: Vec<Span>,
    /// Records in the batch.
    pub records: u64,
    /// Bytes of keys and values.
    pub record_bytes: u64,
}

impl BatchTemplate {
    /// Builds a batch of these records, at least one, with values from `payload`.
    pub fn build(
        drafts: &[Draft],
        payload: &Payload,
        style: BatchStyle,
        random: &mut KeySource,
    ) -> Result<BatchTemplate, BuildError> {
        let mut plain = BatchBuilder::new();
        let (mut value, mut record_bytes) = (Vec::new(), 0);
        for draft in drafts {
            payload.write(draft, &mut value, |value, bytes| {
                fill(value, bytes, style.compressibility, random);
            });
            let key = draft.key.map(key_bytes);
            let key = key.as_ref().map(|k| &k[..]);
            record_bytes += key.map_or(0, <[u8]>::len) + value.len();
            plain.push(Timestamp(0), key, Some(&value));
        }
        let batch = plain.build()?;
        let mut spans = spans(&batch);
        let records = spans.len() as u64;
        let traced = style.traced_run.is_some();
        let rebuilt = style.stamped || (traced && style.compression != Compression::None);
        let sent = plain.compression(style.compression).build()?;
        let payload = sent.slice(HEADER_LEN..);
        let lead_bytes = match spans.first() {
            Some(first) if traced && !rebuilt => first.value.start + TRACE_BYTES,
            _ => 0,
        };
        let lead_bytes = lead_bytes.min(payload.len());
        spans.truncate(if rebuilt { spans.len() } else { 1 });
        let tail = payload.slice(lead_bytes..);
        Ok(BatchTemplate {
            header: BatchHeader::parse(&sent)?,
            style,
            lead: payload.slice(..lead_bytes),
            tail_bytes: tail.len(),
            tail_crc: crc32c::crc32c(&tail),
            shift: CrcShift::new(tail.len()),
            tail,
            plain: match rebuilt {
                true => batch.slice(HEADER_LEN..),
                false => Bytes::new(),
            },
            spans,
            records,
            record_bytes: record_bytes as u64,
        })
    }

    /// Bytes of the batch on the wire, as built.
    pub fn batch_bytes(&self) -> usize {
        HEADER_LEN + self.lead.len() + self.tail_bytes
    }

    fn batch(&self) -> Bytes {
        let mut batch = BytesMut::with_capacity(self.batch_bytes());
        batch.extend_from_slice(&self.header.to_bytes());
        batch.extend_from_slice(&self.lead);
        batch.extend_from_slice(&self.tail[..self.tail_bytes]);
        batch.freeze()
    }

    /// The records as one send changes them, before compression.
    fn rebuild(&self, send: &Send) -> BytesMut {
        let mut plain = BytesMut::from(&self.plain[..]);
        if let Some((stream, first)) = send.stamp {
            for (sequence, span) in (first..).zip(&self.spans) {
                let stamp = Stamp {
                    run: stream.run,
                    producer: stream.producer,
                    place: stream.place,
                    sequence,
                };
                // A key lies before its record's value.
                let (before, value) = plain.split_at_mut(span.value.start);
                stamp.write(&before[span.key.clone()], &mut value[..span.value.len()]);
            }
        }
        if let (Some(run), Some(span)) = (self.style.traced_run, self.spans.first()) {
            send.trace(run).write(&mut plain[span.value.clone()]);
        }
        plain
    }
}

/// The bytes of a batch header whose CRC covers `lead` too, and what follows it with a known CRC.
fn header_bytes(
    mut header: BatchHeader,
    identity: Identity,
    lead: &[u8],
    rest: (&CrcShift, u32),
) -> [u8; HEADER_LEN] {
    header.base_timestamp = identity.timestamp;
    header.max_timestamp = identity.timestamp;
    header.producer_id = identity.producer_id;
    header.producer_epoch = identity.producer_epoch;
    header.base_sequence = identity.base_sequence;
    let mut bytes = header.to_bytes();
    let mut first = crc32c::crc32c(&bytes[CRC_FROM..]);
    if !lead.is_empty() {
        first = crc32c::crc32c_append(first, lead);
    }
    let crc = rest.0.combine(first, rest.1);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Where keys and values lie in the records of an uncompressed batch.
fn spans(batch: &[u8]) -> Vec<Span> {
    let mut scratch = DecompressionScratch::new();
    let Ok(records) = read_records(batch, &mut scratch) else {
        return Vec::new();
    };
    let start = batch.as_ptr().addr() + HEADER_LEN;
    let range = |bytes: Option<&[u8]>| {
        bytes.map_or(0..0, |bytes| {
            let from = bytes.as_ptr().addr() - start;
            from..from + bytes.len()
        })
    };
    records
        .map_while(Result::ok)
        .map(|record| Span {
            key: range(record.key),
            value: range(record.value),
        })
        .collect()
}

/// Makes a value whose 8-byte words are constant as often as `compressibility` says, and random otherwise.
fn fill(value: &mut Vec<u8>, bytes: usize, compressibility: f64, random: &mut KeySource) {
    value.clear();
    value.resize(bytes, 0);
    let mut constant = 0.0;
    for chunk in value.chunks_mut(8) {
        constant += compressibility;
        let word = if constant >= 1.0 {
            constant -= 1.0;
            *b"ringlog."
        } else {
            random.random().to_le_bytes()
        };
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// What all produce requests of a load ask for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Version of Produce.
    pub version: i16,
    /// What the broker confirms.
    pub acks: Acks,
    /// How long the broker may wait for that, in milliseconds.
    pub timeout_ms: i32,
    /// Name the broker logs.
    pub client_id: String,
}

/// A partition that requests go to.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The partition.
    pub place: Place,
    /// Name of its topic.
    pub topic: String,
    /// Id of its topic.
    pub topic_id: TopicId,
    /// How many partitions the topic has.
    pub partitions: u32,
}

impl Target {
    /// A whole request frame.
    pub fn frame(
        &self,
        slot: &Slot,
        correlation: i32,
        batch: Bytes,
    ) -> Result<Vec<Bytes>, ClientError> {
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks.code(),
            timeout_ms: self.timeout_ms,
            topic_data: vec![TopicProduceData {
                name: Text::copy_from(&slot.topic),
                topic_id: slot.topic_id,
                partition_data: vec![PartitionProduceData {
                    index: slot.place.partition.0,
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
    slots: Vec<Slot>,
    script: Script,
    /// What stands before the batch, for each step of the script.
    prefixes: Vec<Bytes>,
}

/// One request to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// Which step of the script.
    pub step: usize,
    /// Id the response will carry.
    pub correlation: i32,
    /// Fields of the batch header.
    pub identity: Identity,
    /// Stamps to write: the stream and the sequence of the first record.
    pub stamp: Option<(StreamKey, u64)>,
    /// When the request was to be sent, for the trace.
    pub intended: MonotonicTime,
}

impl Send {
    fn trace(&self, run: u64) -> Trace {
        Trace {
            run,
            intended: self.intended,
        }
    }
}

impl RequestTemplates {
    /// Encodes every step of the script once. The steps name positions in `slots`.
    pub fn new(
        target: Target,
        slots: Vec<Slot>,
        mut script: Script,
    ) -> Result<RequestTemplates, ClientError> {
        let mut prefixes = Vec::with_capacity(script.steps.len());
        let encoded: Vec<Bytes> = script.batches.iter().map(BatchTemplate::batch).collect();
        for step in &script.steps {
            let batch = &encoded[step.batch];
            let frame = target.frame(&slots[step.slot], 0, batch.clone())?;
            let (prefix, suffix) = split(&frame, batch)?;
            prefixes.push(prefix);
            let template = &mut script.batches[step.batch];
            if template.tail.len() == template.tail_bytes && !suffix.is_empty() {
                template.tail = Bytes::from([&template.tail[..], &suffix].concat());
            }
        }
        Ok(RequestTemplates {
            target,
            slots,
            script,
            prefixes,
        })
    }

    /// The partitions, by slot.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// What is sent in which order.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// A step of the script.
    pub fn step(&self, step: usize) -> &Step {
        &self.script.steps[step]
    }

    /// The batch of a step.
    pub fn batch(&self, step: usize) -> &BatchTemplate {
        &self.script.batches[self.script.steps[step].batch]
    }

    /// Appends a request to `out`; the bytes of its batch on the wire.
    pub fn append(&self, send: Send, out: &mut FrameBuffer) -> Result<usize, ClientError> {
        let template = self.batch(send.step);
        let prefix = &self.prefixes[send.step];
        if template.spans.len() > 1 || !template.plain.is_empty() {
            return self.append_rebuilt(&send, template, prefix, out);
        }
        if let (Some(run), Some(span)) = (template.style.traced_run, template.spans.first()) {
            let mut lead = BytesMut::from(&template.lead[..]);
            send.trace(run).write(&mut lead[span.value.start..]);
            let rest = (&template.shift, template.tail_crc);
            let header = header_bytes(template.header, send.identity, &lead, rest);
            put_head(out, prefix, send.correlation, &header);
            out.copy(&lead);
        } else {
            let rest = (&template.shift, template.tail_crc);
            let header = header_bytes(template.header, send.identity, &[], rest);
            put_head(out, prefix, send.correlation, &header);
        }
        if template.tail.len() <= COPY_BYTES_MAX {
            out.copy(&template.tail);
        } else {
            out.share(template.tail.clone());
        }
        Ok(template.batch_bytes())
    }

    /// Stamps change every record; compressed batches then differ in size each time and are encoded from the start.
    fn append_rebuilt(
        &self,
        send: &Send,
        template: &BatchTemplate,
        prefix: &[u8],
        out: &mut FrameBuffer,
    ) -> Result<usize, ClientError> {
        let mut plain = template.rebuild(send);
        if template.style.compression != Compression::None {
            return self.append_compressed(send, template, &plain, out);
        }
        let rest = (&template.shift, crc32c::crc32c(&plain));
        let header = header_bytes(template.header, send.identity, &[], rest);
        put_head(out, prefix, send.correlation, &header);
        plain.extend_from_slice(&template.tail[template.tail_bytes..]);
        out.share(plain.freeze());
        Ok(template.batch_bytes())
    }

    fn append_compressed(
        &self,
        send: &Send,
        template: &BatchTemplate,
        plain: &[u8],
        out: &mut FrameBuffer,
    ) -> Result<usize, ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            api: "Produce",
            reason,
        };
        let mut batch = vec![0; HEADER_LEN];
        model::record::compression::compress(template.style.compression, None, plain, &mut batch)
            .map_err(|error| malformed(error.to_string()))?;
        let mut header = template.header;
        header.batch_length = i32::try_from(batch.len() - LOG_OVERHEAD)
            .map_err(|_| malformed(format!("batch of {} bytes", batch.len())))?;
        let shift = CrcShift::new(batch.len() - HEADER_LEN);
        let rest = (&shift, crc32c::crc32c(&batch[HEADER_LEN..]));
        let bytes = header_bytes(header, send.identity, &[], rest);
        batch[..HEADER_LEN].copy_from_slice(&bytes);
        let batch_bytes = batch.len();
        let slot = &self.slots[self.script.steps[send.step].slot];
        for slice in self
            .target
            .frame(slot, send.correlation, Bytes::from(batch))?
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

/// What stands before and behind the batch in a frame. The encoder passes large batches through as a slice of their
/// own; small ones are copied.
fn split(frame: &[Bytes], batch: &Bytes) -> Result<(Bytes, Bytes), ClientError> {
    let own = frame
        .iter()
        .position(|slice| slice.as_ptr() == batch.as_ptr() && slice.len() == batch.len());
    if let Some(own) = own {
        let (before, behind) = (&frame[..own], &frame[own + 1..]);
        return Ok((Bytes::from(before.concat()), Bytes::from(behind.concat())));
    }
    let frame = frame.concat();
    for suffix_bytes in 0..=SUFFIX_BYTES_MAX {
        let Some(end) = frame.len().checked_sub(suffix_bytes) else {
            break;
        };
        if let Some(prefix) = frame[..end].strip_suffix(&batch[..])
            && prefix.len() >= CORRELATION.end
        {
            let suffix = Bytes::copy_from_slice(&frame[end..]);
            return Ok((Bytes::copy_from_slice(prefix), suffix));
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
    use crate::schedule::Gathering;
    use model::PartitionIndex;
    use model::record::{crc_matches, read_records_owned};
    use protocol::{Request, parse_request};

    const RUN: u64 = 99;

    fn templates(
        version: i16,
        compression: Compression,
        (stamped, traced): (bool, bool),
    ) -> RequestTemplates {
        let mut random = KeySource::new(KeyDistribution::Uniform { count: 5 }, 1);
        let drafts: Vec<Draft> = (0..7)
            .map(|_| Draft {
                key: random.draw(),
                value: Value::Random(1000),
            })
            .collect();
        let style = BatchStyle {
            compression,
            compressibility: 0.5,
            stamped,
            traced_run: traced.then_some(RUN),
        };
        let batch = BatchTemplate::build(&drafts, &Payload::Random, style, &mut random).unwrap();
        let target = Target {
            version,
            acks: Acks::All,
            timeout_ms: 1000,
            client_id: "me".to_owned(),
        };
        let slot = |index| Slot {
            place: Place {
                topic: 0,
                partition: PartitionIndex(index),
            },
            topic: "load-test".to_owned(),
            topic_id: TopicId([7; 16]),
            partitions: 201,
        };
        let gathering = Gathering {
            advance: 7,
            waited: 0,
        };
        let step = |slot| Step {
            slot,
            batch: 0,
            gathering,
        };
        let script = Script {
            batches: vec![batch],
            steps: vec![step(0), step(1)],
            round: 2,
            stride: 1,
        };
        RequestTemplates::new(target, vec![slot(0), slot(200)], script).unwrap()
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
            place: Place {
                topic: 0,
                partition: PartitionIndex(200),
            },
        };
        for version in [3, 8, 9, 12, 13] {
            for compression in Compression::ALL {
                for (stamp, traced) in [(None, false), (Some((stream, 90)), false), (None, true)] {
                    let templates = templates(version, compression, (stamp.is_some(), traced));
                    let send = Send {
                        step: 1,
                        correlation: 4321,
                        identity: identity(),
                        stamp,
                        intended: MonotonicTime(77),
                    };
                    // Twice: the first send must not change what the second one finds.
                    for _ in 0..2 {
                        let mut out = FrameBuffer::default();
                        let batch_bytes = templates.append(send, &mut out).unwrap();
                        let mut slices = Vec::new();
                        out.take_into(&mut slices);
                        check(&slices.concat(), version, batch_bytes, (stamp, traced));
                    }
                }
            }
        }
    }

    fn check(
        frame: &[u8],
        version: i16,
        batch_bytes: usize,
        expected: (Option<(StreamKey, u64)>, bool),
    ) {
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
            let key = record.key.as_ref().unwrap();
            if let Some((_, first)) = expected.0 {
                let stamp = Stamp::read(key, value).unwrap();
                assert_eq!(stamp.sequence, first + index as u64);
            }
            let trace = Trace {
                run: RUN,
                intended: MonotonicTime(77),
            };
            let is_traced = expected.1 && index == 0;
            assert_eq!(Trace::read(value), is_traced.then_some(trace));
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
