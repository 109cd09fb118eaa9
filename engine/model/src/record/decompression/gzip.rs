//! gzip (RFC 1952): one member, its checksum and length checked, and nothing behind it.
//!
//! Java reads members that follow each other and ignores what is no member; librdkafka stops after the first. So a
//! second member would be records for some and nothing for others: it is refused.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

use super::super::compression::{Compression, CompressionError, corrupt};
use super::PIECE_BYTES;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
/// An inflater: 32 KiB of window and its tables.
pub(super) const MEMORY_BYTES: usize = 64 << 10;

pub(super) struct Gzip<'a> {
    decoder: GzDecoder<Piece<'a>>,
}

impl<'a> Gzip<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Gzip<'a>, CompressionError> {
        check_front(payload)?;
        let input = Piece {
            rest: payload,
            allowance: PIECE_BYTES,
        };
        Ok(Gzip {
            decoder: GzDecoder::new(input),
        })
    }

    /// Appends the next piece. Whether the member has ended, and how much input was taken.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        let codec = Compression::Gzip;
        let before = self.decoder.get_ref().rest.len();
        self.decoder.get_mut().allowance = PIECE_BYTES;
        let start = out.len();
        out.resize(start + PIECE_BYTES, 0);
        let result = self.decoder.read(&mut out[start..]);
        let written = *result.as_ref().unwrap_or(&0);
        out.truncate(start + written);
        let left = self.decoder.get_ref().rest.len();
        let is_end = match result {
            Ok(0) if left > 0 => {
                return Err(CompressionError::NotPortable {
                    codec,
                    reason: "bytes behind the first gzip member",
                });
            }
            Ok(0) => true,
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => return Err(corrupt(codec, error)),
        };
        Ok((is_end, before - left))
    }
}

pub(super) fn check_front(payload: &[u8]) -> Result<(), CompressionError> {
    if payload.starts_with(&MAGIC) {
        Ok(())
    } else {
        Err(corrupt(Compression::Gzip, "no frame header"))
    }
}

/// Input that runs dry after an allowance: deflate may spend any amount of input on no output at all.
struct Piece<'a> {
    rest: &'a [u8],
    allowance: usize,
}

impl Read for Piece<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Piece<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.allowance == 0 && !self.rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.rest[..self.rest.len().min(self.allowance)])
    }

    fn consume(&mut self, count: usize) {
        self.rest = &self.rest[count..];
        self.allowance -= count;
    }
}
