//! The walk over the records of a batch: whole, or piece by piece as they come out of a decompressor.
//!
//! Both ways take every record through [`Walk::take`]. A record that lies in one piece is read at once; one that does not
//! is read token by token ([`PartialRecord`]), its key and value passed over without being held.

use crate::primitives::{PrimitiveError, Reader};
use crate::time::Timestamp;

use super::super::header::{BatchHeader, TimestampType};
use super::super::record::skip_headers;
use super::ValidationRules;
use super::error::{RejectedRecords, ValidationError};
use super::partial_record::{PartialError, PartialRecord};

/// The largest timestamp so far and where it was first seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub(super) timestamp: Timestamp,
    pub(super) offset_delta: i32,
}

/// Timestamps that a topic accepts; "no timestamp" is always accepted.
#[derive(Clone, Copy)]
struct TimestampWindow {
    min: i64,
    max: i64,
}

impl TimestampWindow {
    fn new(rules: &ValidationRules, now: Timestamp) -> TimestampWindow {
        match rules.timestamp_type {
            TimestampType::LogAppendTime => TimestampWindow {
                min: i64::MIN,
                max: i64::MAX,
            },
            TimestampType::CreateTime => TimestampWindow {
                min: now.0.saturating_sub(rules.timestamp_before_ms_max),
                max: now.0.saturating_add(rules.timestamp_after_ms_max),
            },
        }
    }

    #[inline(always)]
    fn accepts(self, timestamp: i64) -> bool {
        (timestamp >= self.min && timestamp <= self.max) || timestamp == Timestamp::NONE.0
    }

    fn rejection(self, timestamp: i64) -> String {
        format!(
            "timestamp {timestamp} is outside the accepted range {} to {}",
            self.min, self.max
        )
    }
}

/// The `frame` level sees no records: the header's largest timestamp stands for them.
pub(super) fn check_header_timestamp(
    header: &BatchHeader,
    rules: &ValidationRules,
    now: Timestamp,
) -> Result<Newest, ValidationError> {
    let window = TimestampWindow::new(rules, now);
    let timestamp = header.max_timestamp;
    if !window.accepts(timestamp.0) {
        let mut records = RejectedRecords::default();
        records.push(0, || window.rejection(timestamp.0));
        return Err(ValidationError::RecordsRejected {
            count: header.record_count,
            timestamp: true,
            records,
        });
    }
    Ok(Newest {
        timestamp: timestamp.max(Timestamp::NONE),
        offset_delta: header.last_offset_delta,
    })
}

/// The fields of a record that validation needs.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// One pass over the records of a batch.
pub(super) struct Walk {
    record_count: i32,
    /// The next record.
    index: i32,
    inside: Option<PartialRecord>,
    base_timestamp: i64,
    /// On batches that claim `LogAppendTime` every record has the batch's timestamp.
    batch_timestamp: Option<i64>,
    window: TimestampWindow,
    key_required: bool,
    newest: Newest,
    rejected: Rejected,
}

/// Records rejected so far.
#[derive(Default)]
struct Rejected {
    count: i32,
    timestamp: bool,
    records: RejectedRecords,
}

impl Walk {
    pub(super) fn new(header: &BatchHeader, rules: &ValidationRules, now: Timestamp) -> Walk {
        let batch_timestamp = (header.timestamp_type() == TimestampType::LogAppendTime)
            .then_some(header.max_timestamp.0);
        Walk {
            record_count: header.record_count,
            index: 0,
            inside: None,
            base_timestamp: header.base_timestamp.0,
            batch_timestamp,
            window: TimestampWindow::new(rules, now),
            key_required: rules.key_required,
            newest: Newest {
                timestamp: Timestamp::NONE,
                offset_delta: 0,
            },
            rejected: Rejected::default(),
        }
    }

    /// Walks over all the records of an uncompressed batch.
    pub(super) fn run(mut self, records: &[u8]) -> Result<Newest, ValidationError> {
        let mut rest = Reader::new(records);
        while self.index < self.record_count {
            if rest.is_empty() {
                return Err(self.records_missing());
            }
            let fields = read_fields(&mut rest, self.index)?;
            self.take(&fields)?;
        }
        if !rest.is_empty() {
            return Err(ValidationError::RecordsLeftOver(self.record_count));
        }
        self.verdict()
    }

    /// Walks over the next piece of the records. Returns how much of it was used: what is left is the beginning of
    /// something of less than [`TOKEN_BYTES_MAX`] bytes and must come again, in front of more.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<usize, ValidationError> {
        let mut rest = Reader::new(piece);
        loop {
            let before = rest.remaining();
            if self.inside.is_some() {
                self.go_on(&mut rest)?;
            } else if self.index == self.record_count {
                if !rest.is_empty() {
                    return Err(ValidationError::RecordsLeftOver(self.record_count));
                }
            } else if !rest.is_empty() {
                self.begin(&mut rest)?;
            }
            if rest.remaining() == before {
                return Ok(piece.len() - before);
            }
        }
    }

    /// The records have ended, and this was not used.
    pub(super) fn finish(self, rest: &[u8]) -> Result<Newest, ValidationError> {
        if self.inside.is_some() || !rest.is_empty() {
            return Err(malformed(self.index, PrimitiveError::Underflow));
        }
        if self.index < self.record_count {
            return Err(self.records_missing());
        }
        self.verdict()
    }

    /// At the beginning of a record: takes it whole, or its length if the piece ends inside of it.
    #[inline(always)]
    fn begin(&mut self, rest: &mut Reader<'_>) -> Result<(), ValidationError> {
        let mut ahead = *rest;
        match ahead.varint() {
            Err(PrimitiveError::Underflow) => return Ok(()),
            Ok(length) if length >= 0 && ahead.remaining() < length.unsigned_abs() as usize => {
                self.inside = Some(PartialRecord::new(length.unsigned_abs()));
                *rest = ahead;
                return Ok(());
            }
            _ => {}
        }
        let fields = read_fields(rest, self.index)?;
        self.take(&fields)
    }

    /// Inside of a record that no piece holds whole.
    fn go_on(&mut self, rest: &mut Reader<'_>) -> Result<(), ValidationError> {
        let Some(partial) = &mut self.inside else {
            return Ok(());
        };
        match partial.read(rest) {
            Ok(None) => Ok(()),
            Ok(Some(fields)) => {
                self.inside = None;
                self.take(&fields)
            }
            Err(PartialError::Primitive(error)) => Err(malformed(self.index, error)),
            Err(PartialError::Overlong) => Err(ValidationError::RecordOverlong(self.index)),
        }
    }

    #[inline(always)]
    fn take(&mut self, fields: &Fields) -> Result<(), ValidationError> {
        let index = self.index;
        if fields.offset_delta != index {
            return Err(ValidationError::OffsetDeltaInvalid {
                index,
                offset_delta: fields.offset_delta,
            });
        }
        let timestamp = match self.batch_timestamp {
            None => self.base_timestamp.wrapping_add(fields.timestamp_delta),
            Some(timestamp) => timestamp,
        };
        if timestamp > self.newest.timestamp.0 {
            self.newest = Newest {
                timestamp: Timestamp(timestamp),
                offset_delta: index,
            };
        }
        if (self.key_required && !fields.has_key) || !self.window.accepts(timestamp) {
            self.reject(index, fields.has_key, timestamp);
        }
        self.index += 1;
        Ok(())
    }

    #[cold]
    fn records_missing(&self) -> ValidationError {
        ValidationError::RecordsMissing {
            present: self.index,
            announced: self.record_count,
        }
    }

    fn verdict(self) -> Result<Newest, ValidationError> {
        if self.rejected.count == 0 {
            return Ok(self.newest);
        }
        let Rejected {
            count,
            timestamp,
            records,
        } = self.rejected;
        Err(ValidationError::RecordsRejected {
            count,
            timestamp,
            records,
        })
    }

    /// Notes a rejected record. A missing key hides a bad timestamp, as in Kafka.
    #[cold]
    fn reject(&mut self, index: i32, has_key: bool, timestamp: i64) {
        let missing_key = self.key_required && !has_key;
        // Indices are i32, so there are no more records than that.
        self.rejected.count += 1;
        self.rejected.timestamp |= !missing_key;
        let window = self.window;
        self.rejected.records.push(index, || {
            if missing_key {
                "a compacted topic takes no record without a key".to_owned()
            } else {
                window.rejection(timestamp)
            }
        });
    }
}

#[inline(always)]
fn read_fields(rest: &mut Reader<'_>, index: i32) -> Result<Fields, ValidationError> {
    let length = match rest.varint() {
        Ok(length) => length,
        Err(error) => return Err(length_error(index, error)),
    };
    let body = usize::try_from(length)
        .map_err(|_| PrimitiveError::NegativeLength)
        .and_then(|length| rest.take(length));
    let mut body = match body {
        Ok(body) => Reader::new(body),
        Err(error) => return Err(malformed(index, error)),
    };
    match read_body(&mut body) {
        Ok(fields) if body.is_empty() => Ok(fields),
        Ok(_) => Err(ValidationError::RecordOverlong(index)),
        Err(error) => Err(malformed(index, error)),
    }
}

#[inline(always)]
fn read_body(body: &mut Reader<'_>) -> Result<Fields, PrimitiveError> {
    body.u8()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let has_key = body.varint_nullable_bytes()?.is_some();
    body.varint_nullable_bytes()?;
    // Almost every record has no headers: one zero byte.
    if body.rest() == [0] {
        body.u8()?;
    } else {
        skip_headers(body)?;
    }
    Ok(Fields {
        timestamp_delta,
        offset_delta,
        has_key,
    })
}

#[cold]
fn malformed(index: i32, error: PrimitiveError) -> ValidationError {
    ValidationError::RecordMalformed { index, error }
}

#[cold]
fn length_error(index: i32, error: PrimitiveError) -> ValidationError {
    match error {
        PrimitiveError::VarintTooLong => ValidationError::RecordLengthUnreadable(index),
        error => malformed(index, error),
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
