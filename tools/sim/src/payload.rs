//! What the simulated producers write: records that say who sent them and can be checked byte by byte.
//!
//! Invariant: key and value of a record follow from its [`RecordId`] and its length alone, and no two records of a run
//! have the same id.

use model::record::OwnedRecord;

/// What of a long value has no pattern; the rest is zeros, so that it is long only until it is compressed.
const VARIED_BYTES: usize = 8 << 10;

/// Bytes of the id at the front of each value.
pub const ID_BYTES: usize = 16;

/// One batch that a producer made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId {
    /// The producer.
    pub producer: u32,
    /// Counts its batches.
    pub number: u64,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The batch.
    pub batch: BatchId,
    /// The place in it, from 0.
    pub index: u32,
}

impl RecordId {
    /// The value of a record of `bytes` bytes, at least [`ID_BYTES`].
    pub fn value(self, bytes: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(bytes.max(ID_BYTES));
        value.extend_from_slice(&self.batch.producer.to_be_bytes());
        value.extend_from_slice(&self.batch.number.to_be_bytes());
        value.extend_from_slice(&self.index.to_be_bytes());
        let mut word = self.batch.number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (u64::from(self.batch.producer) << 32)
            ^ u64::from(self.index);
        while value.len() < bytes.min(VARIED_BYTES) {
            word = (word ^ (word >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let piece = word.to_le_bytes();
            let count = piece.len().min(bytes - value.len());
            value.extend_from_slice(&piece[..count]);
        }
        value.resize(bytes.max(value.len()), 0);
        value
    }

    /// The key: every third record has none.
    pub fn key(self) -> Option<[u8; 8]> {
        (!self
            .batch
            .number
            .wrapping_add(u64::from(self.index))
            .is_multiple_of(3))
        .then(|| self.batch.number.to_be_bytes())
    }

    /// The id of a record that was read, if every byte of it is as it was sent.
    pub fn of(record: &OwnedRecord) -> Result<RecordId, String> {
        let value = record.value.as_deref().unwrap_or_default();
        let Some((id, _)) = value.split_first_chunk::<ID_BYTES>() else {
            return Err(format!("a value of {} bytes", value.len()));
        };
        let number = |from: usize, to: usize| {
            id[from..to]
                .iter()
                .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
        };
        let found = RecordId {
            batch: BatchId {
                // Four bytes each.
                producer: number(0, 4) as u32,
                number: number(4, 12),
            },
            index: number(12, 16) as u32,
        };
        if found.value(value.len()) != value {
            return Err(format!("{found:?} has other bytes than were sent"));
        }
        if found.key().as_ref().map(|key| &key[..]) != record.key.as_deref() {
            return Err(format!("{found:?} has another key than was sent"));
        }
        Ok(found)
    }
}
