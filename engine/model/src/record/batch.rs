//! Batches back to back in a byte slice, as a log segment or a fetch response holds them.
//!
//! The iterator stops after its first error. A cut-off last batch is an error here ([`BatchError::Cut`] or
//! [`BatchError::HeaderCut`]); readers of fetch responses, where that is normal, treat those two as the end.

use super::header::{BatchError, BatchHeader, HEADER_LEN};

/// Iterates over the batches of a slice. Checks sizes and magic, not checksums: see [`super::crc_matches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The batches at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes }
    }

    /// What the iterator has not passed yet; after an error nothing.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split_first_batch(self.rest) {
            Ok((header, batch, rest)) => {
                self.rest = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The first batch of `bytes`: its header, exactly its bytes, and what follows.
pub fn split_first_batch(bytes: &[u8]) -> Result<(BatchHeader, &[u8], &[u8]), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let needed = header.size_bytes();
    match bytes.split_at_checked(needed) {
        Some((batch, rest)) => Ok((header, batch, rest)),
        None => Err(BatchError::Cut {
            needed,
            present: bytes.len(),
        }),
    }
}

/// Size in bytes of the batch at the front of `bytes`, of which only the header need be there.
pub fn next_batch_size(bytes: &[u8]) -> Result<usize, BatchError> {
    let size = BatchHeader::parse(bytes)?.size_bytes();
    debug_assert!(size >= HEADER_LEN, "parse refuses smaller ones");
    Ok(size)
}
