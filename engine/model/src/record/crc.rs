//! The checksum of a record batch: CRC-32C over everything from the attributes (byte 21) to the end.

use super::header::{CRC_FROM, CRC_START, HEADER_LEN};

/// CRC-32C of a whole batch, `batch` being exactly its bytes; `None` if it is shorter than a header.
#[inline]
pub fn batch_crc(batch: &[u8]) -> Option<u32> {
    if batch.len() < HEADER_LEN {
        return None;
    }
    Some(crc32c::crc32c(batch.get(CRC_FROM..)?))
}

/// Whether the stored checksum of a batch is right, `batch` being exactly its bytes.
#[inline]
pub fn crc_matches(batch: &[u8]) -> bool {
    let stored = batch
        .get(CRC_START..)
        .and_then(|rest| rest.first_chunk::<4>());
    match (stored, batch_crc(batch)) {
        (Some(stored), Some(computed)) => u32::from_be_bytes(*stored) == computed,
        _ => false,
    }
}
