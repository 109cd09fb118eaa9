//! The check of a batch in steps, so that a shard may serve others in between.
//!
//! Memory is one window and what the codec looks back at; a batch is never decompressed as a whole. With a codec to
//! store the batch in (`compression.type`), the records go on to its encoder as they come.

use bytes::Bytes;

use crate::time::Timestamp;

use super::super::compression::{Compression, CompressionError};
use super::super::decompression::{self, DecompressionScratch, Decompressor, check_frame};
use super::super::header::{BatchHeader, TimestampType};
use super::super::recompression::Recompression;
use super::walk::{Newest, Walk, check_header_timestamp};
use super::{
    BatchInfo, CompressedValidation, Front, ValidationError, ValidationRules, check_segment,
};

/// What a byte costs more when it is also compressed.
const RECOMPRESSION_WORK_FACTOR: usize = 8;

/// A batch that is good.
#[derive(Clone, Debug)]
pub struct CheckedBatch {
    header: BatchHeader,
    size_bytes: usize,
    compression: Compression,
    newest: Newest,
    /// The batch to store in its place, where the topic has a codec of its own.
    pub recompressed: Option<Bytes>,
}

impl CheckedBatch {
    pub(super) fn new(
        header: BatchHeader,
        size_bytes: usize,
        compression: Compression,
        newest: Newest,
        rules: &ValidationRules,
    ) -> Result<CheckedBatch, ValidationError> {
        check_segment(size_bytes, rules)?;
        Ok(CheckedBatch {
            header,
            size_bytes,
            compression,
            newest,
            recompressed: None,
        })
    }

    /// What to append, on a topic of this timestamp type, at `now`.
    pub fn info(&self, timestamp_type: TimestampType, now: Timestamp) -> BatchInfo {
        let (header, size_bytes) = (self.header, self.size_bytes);
        let (compression, newest) = (self.compression, self.newest);
        BatchInfo::new(header, size_bytes, compression, newest, timestamp_type, now)
    }
}

/// How much may come out of a decompressor.
#[derive(Clone, Copy)]
struct Bounds {
    batch_bytes_max: u64,
    /// What is left for the batch's request, and what all of it may be.
    request: Option<(u64, u64)>,
}

impl Bounds {
    fn check(self, produced_bytes: u64) -> Result<(), CompressionError> {
        if produced_bytes > self.batch_bytes_max {
            return Err(CompressionError::TooLarge {
                limit: self.batch_bytes_max,
            });
        }
        match self.request {
            Some((left, limit)) if produced_bytes > left => {
                Err(CompressionError::RequestTooLarge { limit })
            }
            _ => Ok(()),
        }
    }
}

/// The records on their way out of the decompressor.
struct Stream<'a> {
    decompressor: Decompressor<'a>,
    window: Vec<u8>,
    /// The front of the window that the walk has used.
    used_bytes: usize,
}

/// A batch that is being checked.
pub struct BatchCheck<'a> {
    front: Front<'a>,
    rules: ValidationRules,
    now: Timestamp,
    bounds: Bounds,
    /// The codec to store it in, if that is not its own.
    to: Option<(Compression, Option<i32>)>,
    walk: Walk,
    stream: Option<Stream<'a>>,
    recompression: Option<Recompression>,
}

impl<'a> BatchCheck<'a> {
    /// Checks everything but the records. `to` is the codec of the topic, if it has one.
    pub fn begin(
        batch: &'a [u8],
        rules: &ValidationRules,
        to: Option<(Compression, Option<i32>)>,
        now: Timestamp,
    ) -> Result<BatchCheck<'a>, ValidationError> {
        let mut check = BatchCheck::of_front(Front::check(batch, rules)?, rules, now)?;
        check.to = to.filter(|(codec, _)| *codec != check.front.compression);
        Ok(check)
    }

    pub(super) fn of_front(
        front: Front<'a>,
        rules: &ValidationRules,
        now: Timestamp,
    ) -> Result<BatchCheck<'a>, ValidationError> {
        Ok(BatchCheck {
            front,
            rules: *rules,
            now,
            bounds: Bounds {
                batch_bytes_max: rules.decompressed_bytes_max,
                request: None,
            },
            to: None,
            walk: Walk::new(&front.header, rules, now),
            stream: None,
            recompression: None,
        })
    }

    /// The batches of one request may decompress to `limit` bytes, of which `left` are left.
    pub fn bound_request(&mut self, left: u64, limit: u64) {
        self.bounds.request = Some((left, limit));
    }

    /// Memory that the check needs, at most.
    pub fn memory_bytes(&self) -> Result<usize, ValidationError> {
        let payload = self.front.payload();
        let mut bytes = decompression::memory_bytes(self.front.compression, payload)?;
        if let Some((codec, level)) = self.to {
            bytes += Recompression::memory_bytes(codec, level) + self.rules.batch_bytes_max;
        }
        Ok(bytes)
    }

    /// Bytes that the records have decompressed to so far.
    pub fn decompressed_bytes(&self) -> u64 {
        let stream = self.stream.as_ref();
        stream.map_or(0, |stream| stream.decompressor.produced_bytes())
    }

    /// Forgets what was done and gives the memory back.
    pub fn restart(&mut self, scratch: &mut DecompressionScratch) {
        if let Some(stream) = self.stream.take() {
            stream.give_back(scratch);
        }
        self.recompression = None;
        self.walk = Walk::new(&self.front.header, &self.rules, self.now);
    }

    /// Does about `work_bytes_max` bytes of work. Gives the result when all is done; it is called again until then, with
    /// the same scratch.
    pub fn step(
        &mut self,
        work_bytes_max: usize,
        scratch: &mut DecompressionScratch,
    ) -> Result<Option<CheckedBatch>, ValidationError> {
        if self.is_frame_only() {
            check_frame(self.front.compression, self.front.payload())?;
            let newest = check_header_timestamp(&self.front.header, &self.rules, self.now)?;
            return self.front.checked(newest, &self.rules).map(Some);
        }
        if self.front.compression == Compression::None && self.to.is_none() {
            let payload = self.front.payload();
            if payload.len() <= work_bytes_max && self.stream.is_none() {
                let newest = Walk::new(&self.front.header, &self.rules, self.now).run(payload)?;
                return self.front.checked(newest, &self.rules).map(Some);
            }
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.start(scratch)?,
        };
        let mut work_bytes = 0;
        while work_bytes < work_bytes_max {
            match self.piece(&mut stream, &mut work_bytes) {
                Ok(false) => {}
                Ok(true) => {
                    let result = self.done(&stream);
                    self.stream = Some(stream);
                    return result.map(Some);
                }
                Err(error) => {
                    stream.give_back(scratch);
                    return Err(error);
                }
            }
        }
        self.stream = Some(stream);
        Ok(None)
    }

    /// All steps at once.
    pub fn run(
        mut self,
        scratch: &mut DecompressionScratch,
    ) -> Result<CheckedBatch, ValidationError> {
        loop {
            if let Some(checked) = self.step(usize::MAX, scratch)? {
                self.restart(scratch);
                return Ok(checked);
            }
        }
    }

    /// The records are not looked at. Compacted topics must see the keys, and recompression sees everything anyway.
    fn is_frame_only(&self) -> bool {
        self.front.compression != Compression::None
            && self.rules.compressed_validation == CompressedValidation::Frame
            && !self.rules.key_required
            && self.to.is_none()
    }

    fn start(&mut self, scratch: &mut DecompressionScratch) -> Result<Stream<'a>, ValidationError> {
        if let Some((codec, level)) = self.to {
            self.recompression = Some(Recompression::new(codec, level)?);
        }
        let front = &self.front;
        let decompressor = Decompressor::new(front.compression, front.payload(), scratch)?;
        let mut window = std::mem::take(&mut scratch.buffer);
        window.clear();
        Ok(Stream {
            decompressor,
            window,
            used_bytes: 0,
        })
    }

    /// One piece of the records. Whether it was the last.
    fn piece(
        &mut self,
        stream: &mut Stream<'_>,
        work_bytes: &mut usize,
    ) -> Result<bool, ValidationError> {
        stream.window.drain(..stream.used_bytes);
        let step = stream.decompressor.read(&mut stream.window)?;
        self.bounds.check(stream.decompressor.produced_bytes())?;
        stream.used_bytes = self.walk.feed(&stream.window)?;
        *work_bytes += step.work_bytes;
        if let Some(recompression) = &mut self.recompression {
            recompression.write(&stream.window[..stream.used_bytes])?;
            *work_bytes += RECOMPRESSION_WORK_FACTOR * stream.used_bytes;
            let size_bytes = recompression.size_bytes();
            if size_bytes > self.rules.batch_bytes_max {
                return Err(ValidationError::BatchTooLarge {
                    size_bytes,
                    size_bytes_max: self.rules.batch_bytes_max,
                });
            }
        }
        Ok(step.is_end)
    }

    fn done(&mut self, stream: &Stream<'_>) -> Result<CheckedBatch, ValidationError> {
        let empty = Walk::new(&self.front.header, &self.rules, self.now);
        let walk = std::mem::replace(&mut self.walk, empty);
        let newest = walk.finish(&stream.window[stream.used_bytes..])?;
        let Some(recompression) = self.recompression.take() else {
            return self.front.checked(newest, &self.rules);
        };
        let (header, batch, compression) = recompression.finish(self.front.header)?;
        if batch.len() > self.rules.batch_bytes_max {
            return Err(ValidationError::BatchTooLarge {
                size_bytes: batch.len(),
                size_bytes_max: self.rules.batch_bytes_max,
            });
        }
        let mut checked = CheckedBatch::new(header, batch.len(), compression, newest, &self.rules)?;
        checked.recompressed = Some(batch);
        Ok(checked)
    }
}

impl Stream<'_> {
    fn give_back(self, scratch: &mut DecompressionScratch) {
        scratch.buffer = self.window;
        self.decompressor.give_back(scratch);
        scratch.prepare();
    }
}
