//! Snappy, in two shapes: the xerial framing that Java writes, and one raw block, as franz-go and librdkafka write.
//!
//! Blocks of ordinary size go to the `snap` crate as they are. One that announces more is decompressed a piece at a
//! time by [`LargeBlock`], with a bounded history to copy from: the format would let a copy reach back 4 GiB, writers
//! look back 4 MiB at most (s2; Google's and Java's 64 KiB).

use super::super::compression::{Compression, CompressionError, XERIAL_MAGIC, corrupt};
use super::PIECE_BYTES;

/// Magic, then version and lowest compatible version.
const XERIAL_HEADER_LEN: usize = 16;
/// The lowest version that was ever written.
const XERIAL_VERSION_MIN: u32 = 1;
/// A block that announces no more than this is decompressed in one go.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// How far back a copy may reach in a larger block.
const HISTORY_BYTES_MAX: usize = 4 << 20;
/// What the history grows by before it is moved to the front: so a byte is moved about four times.
const HISTORY_SLACK_BYTES: usize = 1 << 20;
/// Three bytes make a copy of 64 at best.
const RATIO_MAX: usize = 22;

fn fail<T>(reason: &'static str) -> Result<T, CompressionError> {
    Err(corrupt(Compression::Snappy, reason))
}

fn not_portable<T>(reason: &'static str) -> Result<T, CompressionError> {
    Err(CompressionError::NotPortable {
        codec: Compression::Snappy,
        reason,
    })
}

pub(super) fn memory_bytes(payload: &[u8]) -> usize {
    let grown = payload.len().saturating_mul(RATIO_MAX);
    grown.min(HISTORY_BYTES_MAX + HISTORY_SLACK_BYTES + WHOLE_BYTES_MAX)
}

pub(super) struct Snappy<'a> {
    /// Chunks not begun yet, or the raw block.
    rest: &'a [u8],
    is_xerial: bool,
    large: Option<LargeBlock<'a>>,
}

impl<'a> Snappy<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Snappy<'a>, CompressionError> {
        let Some(header) = payload.strip_prefix(&XERIAL_MAGIC) else {
            announced(payload)?;
            return Ok(Snappy {
                rest: payload,
                is_xerial: false,
                large: None,
            });
        };
        let Some((versions, rest)) =
            header.split_first_chunk::<{ XERIAL_HEADER_LEN - XERIAL_MAGIC.len() }>()
        else {
            return fail("the xerial header is cut off");
        };
        let [a, b, c, d, ..] = *versions;
        if u32::from_be_bytes([a, b, c, d]) < XERIAL_VERSION_MIN {
            return not_portable("a xerial version that never existed");
        }
        Ok(Snappy {
            rest,
            is_xerial: true,
            large: None,
        })
    }

    /// Appends the next piece. Whether the input has ended, and how much of it was taken.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        if let Some(large) = &mut self.large {
            let (is_end, taken) = large.read(out)?;
            if is_end {
                self.large = None;
            }
            return Ok((is_end && self.rest.is_empty(), taken));
        }
        if self.rest.is_empty() {
            return Ok((true, 0));
        }
        let before = self.rest.len();
        let block = self.next_block()?;
        let bytes = announced(block)?;
        if bytes > WHOLE_BYTES_MAX {
            self.large = Some(LargeBlock::new(block, bytes)?);
            return Ok((false, 0));
        }
        let start = out.len();
        out.resize(start + bytes, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut out[start..])
            .map_err(|error| corrupt(Compression::Snappy, error))?;
        out.truncate(start + written);
        Ok((self.rest.is_empty(), before - self.rest.len()))
    }

    fn next_block(&mut self) -> Result<&'a [u8], CompressionError> {
        if !self.is_xerial {
            return Ok(std::mem::take(&mut self.rest));
        }
        if self.rest.starts_with(&XERIAL_MAGIC) {
            // librdkafka takes the second header for a length.
            return not_portable("a second xerial stream");
        }
        let Some((length, tail)) = self.rest.split_first_chunk::<4>() else {
            return fail("a chunk is cut off");
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((chunk, tail)) = tail.split_at_checked(length) else {
            return fail("a chunk is cut off");
        };
        self.rest = tail;
        Ok(chunk)
    }
}

/// The size that a block announces.
fn announced(block: &[u8]) -> Result<usize, CompressionError> {
    let bytes =
        snap::raw::decompress_len(block).map_err(|error| corrupt(Compression::Snappy, error))?;
    if bytes > block.len().saturating_mul(RATIO_MAX) {
        return fail("a block announces more than its bytes can hold");
    }
    Ok(bytes)
}

/// A raw block that is too large to be decompressed in one go.
struct LargeBlock<'a> {
    rest: &'a [u8],
    left_bytes: usize,
    /// What has come out, as far as copies may reach back.
    history: Vec<u8>,
    /// What is left of a literal that did not fit into the last piece.
    literal_bytes: usize,
}

impl<'a> LargeBlock<'a> {
    fn new(block: &'a [u8], bytes: usize) -> Result<LargeBlock<'a>, CompressionError> {
        // The announced size is a varint of at most five bytes, and it was read already.
        let Some(end) = block.iter().position(|byte| byte & 0x80 == 0) else {
            return fail("a block is cut off");
        };
        Ok(LargeBlock {
            rest: &block[end + 1..],
            left_bytes: bytes,
            history: Vec::new(),
            literal_bytes: 0,
        })
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        let before = self.rest.len();
        if self.history.len() > HISTORY_BYTES_MAX + HISTORY_SLACK_BYTES - 2 * PIECE_BYTES {
            let surplus = self.history.len() - HISTORY_BYTES_MAX;
            self.history.drain(..surplus);
        }
        let start = self.history.len();
        while self.left_bytes > 0 && self.history.len() - start < PIECE_BYTES {
            self.element()?;
        }
        out.extend_from_slice(&self.history[start..]);
        let is_end = self.left_bytes == 0;
        if is_end && !self.rest.is_empty() {
            return fail("bytes behind the end of a block");
        }
        Ok((is_end, before - self.rest.len()))
    }

    /// Reads one literal, or a part of it, or one copy.
    fn element(&mut self) -> Result<(), CompressionError> {
        if self.literal_bytes > 0 {
            return self.literal();
        }
        let tag = self.little_endian(1)?;
        let length = tag >> 2;
        match tag & 3 {
            0 => {
                let length = match length {
                    0..60 => length,
                    _ => self.little_endian(length - 59)?,
                };
                self.literal_bytes = length + 1;
                self.literal()
            }
            1 => {
                let offset = (tag >> 5) << 8 | self.little_endian(1)?;
                self.copy(offset, (length & 7) + 4)
            }
            2 => {
                let offset = self.little_endian(2)?;
                self.copy(offset, length + 1)
            }
            _ => {
                let offset = self.little_endian(4)?;
                self.copy(offset, length + 1)
            }
        }
    }

    /// The next 1 to 4 bytes as a number.
    fn little_endian(&mut self, bytes: usize) -> Result<usize, CompressionError> {
        let Some((number, rest)) = self.rest.split_at_checked(bytes) else {
            return fail("a block is cut off");
        };
        self.rest = rest;
        Ok(number
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn literal(&mut self) -> Result<(), CompressionError> {
        let bytes = self.literal_bytes.min(PIECE_BYTES);
        let Some((literal, rest)) = self.rest.split_at_checked(bytes) else {
            return fail("a block is cut off");
        };
        self.take_room(bytes)?;
        self.history.extend_from_slice(literal);
        self.rest = rest;
        self.literal_bytes -= bytes;
        Ok(())
    }

    fn copy(&mut self, offset: usize, bytes: usize) -> Result<(), CompressionError> {
        if offset > HISTORY_BYTES_MAX {
            return not_portable("a copy from more than 4 MiB back in a block");
        }
        let Some(from) = self.history.len().checked_sub(offset) else {
            return fail("a copy from before the block");
        };
        if offset == 0 {
            return fail("a copy from nowhere");
        }
        self.take_room(bytes)?;
        // A copy may overlap what it writes: then it repeats it.
        for at in from..from + bytes {
            let byte = self.history[at];
            self.history.push(byte);
        }
        Ok(())
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), CompressionError> {
        match self.left_bytes.checked_sub(bytes) {
            Some(left) => {
                self.left_bytes = left;
                Ok(())
            }
            None => fail("a block holds more than it announces"),
        }
    }
}
