//! LZ4 frames, as Java's `Lz4BlockInputStream` takes them: one frame, version 1, independent blocks, no dictionary, no
//! reserved bits. Beyond that both checksums and the content size are checked, as librdkafka's and Go's libraries do, and
//! nothing may follow the frame, since they would take it for a second one.
//!
//! Blocks are decompressed from where they lie, so nothing but one block's output is held.

use std::hash::Hasher;

use lz4_flex::block;
use twox_hash::XxHash32;

use super::super::compression::{Compression, CompressionError, corrupt};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const SEED: u32 = 0;
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
const RESERVED: u8 = 0b0000_0010;
const DICTIONARY: u8 = 0b0000_0001;
/// Bit of a block's length: the block is stored and not compressed.
const STORED: u32 = 1 << 31;
/// An LZ4 block never grows by more than this factor.
const RATIO_MAX: usize = 255;
/// What a block of a few bytes may grow to beyond that.
const GROWTH_MIN: usize = 64;

fn fail<T>(reason: &'static str) -> Result<T, CompressionError> {
    Err(corrupt(Compression::Lz4, reason))
}

fn not_portable<T>(reason: &'static str) -> Result<T, CompressionError> {
    Err(CompressionError::NotPortable {
        codec: Compression::Lz4,
        reason,
    })
}

/// What the front of a frame says.
#[derive(Clone, Copy)]
struct Front {
    block_checksum: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

impl Front {
    /// Reads it, and gives the blocks behind it.
    fn parse(payload: &[u8]) -> Result<(Front, &[u8]), CompressionError> {
        let Some((&MAGIC, rest)) = payload.split_first_chunk::<4>() else {
            return fail("no frame header");
        };
        let [flags, descriptor, ..] = *rest else {
            return fail("the frame header is cut off");
        };
        if flags & VERSION_MASK != VERSION_1 {
            return fail("an unknown version of the frame");
        }
        if flags & INDEPENDENT == 0 {
            return not_portable("linked blocks");
        }
        if flags & DICTIONARY != 0 {
            return not_portable("a dictionary");
        }
        if flags & RESERVED != 0 || descriptor & 0b1000_1111 != 0 {
            return fail("reserved bits of the frame header are set");
        }
        let block_bytes_max = match descriptor >> 4 {
            id @ 4..=7 => 1 << (8 + 2 * id),
            _ => return fail("an unknown block size"),
        };
        let header_bytes = if flags & CONTENT_SIZE == 0 { 2 } else { 10 };
        let Some((header, behind)) = rest.split_at_checked(header_bytes) else {
            return fail("the frame header is cut off");
        };
        let Some((&sum, blocks)) = behind.split_first() else {
            return fail("the frame header is cut off");
        };
        if sum != (XxHash32::oneshot(SEED, header) >> 8) as u8 {
            return fail("the checksum of the frame header does not match");
        }
        let front = Front {
            block_checksum: flags & BLOCK_CHECKSUM != 0,
            content_checksum: flags & CONTENT_CHECKSUM != 0,
            content_bytes: header
                .last_chunk::<8>()
                .map(|size| u64::from_le_bytes(*size)),
            block_bytes_max,
        };
        Ok((front, blocks))
    }
}

pub(super) fn memory_bytes(payload: &[u8]) -> Result<usize, CompressionError> {
    let (front, _) = Front::parse(payload)?;
    Ok(front.block_bytes_max.min(grown(payload.len())))
}

/// What so many bytes of a block can decompress to at most.
fn grown(bytes: usize) -> usize {
    bytes.saturating_mul(RATIO_MAX).saturating_add(GROWTH_MIN)
}

pub(super) struct Lz4<'a> {
    front: Front,
    rest: &'a [u8],
    content: XxHash32,
    produced_bytes: u64,
}

impl<'a> Lz4<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Lz4<'a>, CompressionError> {
        let (front, rest) = Front::parse(payload)?;
        Ok(Lz4 {
            front,
            rest,
            content: XxHash32::with_seed(SEED),
            produced_bytes: 0,
        })
    }

    fn word(&mut self) -> Result<u32, CompressionError> {
        let Some((word, rest)) = self.rest.split_first_chunk::<4>() else {
            return fail("the frame is cut off");
        };
        self.rest = rest;
        Ok(u32::from_le_bytes(*word))
    }

    /// Appends the next block. Whether the frame has ended, and how much input was taken.
    ///
    /// A function of its own: inlined into the choice of a codec, the loop over a block calls `memcpy` for each few bytes
    /// (a third more instructions), and whether it is depends on code elsewhere in this crate.
    #[inline(never)]
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(bool, usize), CompressionError> {
        let before = self.rest.len();
        let word = self.word()?;
        if word == 0 {
            self.end()?;
            return Ok((true, before));
        }
        let length = (word & !STORED) as usize;
        if length > self.front.block_bytes_max {
            return fail("a block is larger than the frame allows");
        }
        let Some((block, rest)) = self.rest.split_at_checked(length) else {
            return fail("a block is cut off");
        };
        self.rest = rest;
        if self.front.block_checksum && self.word()? != XxHash32::oneshot(SEED, block) {
            return fail("the checksum of a block does not match");
        }
        let start = out.len();
        if word & STORED != 0 {
            out.extend_from_slice(block);
        } else {
            out.resize(start + grown(length).min(self.front.block_bytes_max), 0);
            let written = block::decompress_into(block, &mut out[start..])
                .map_err(|error| corrupt(Compression::Lz4, error))?;
            out.truncate(start + written);
        }
        let written = &out[start..];
        self.produced_bytes += written.len() as u64;
        if self.front.content_checksum {
            self.content.write(written);
        }
        Ok((false, before - self.rest.len()))
    }

    /// The end mark was read.
    fn end(&mut self) -> Result<(), CompressionError> {
        if self.front.content_checksum && self.word()? != self.content.finish_32() {
            return fail("the checksum of the content does not match");
        }
        if let Some(announced) = self.front.content_bytes
            && announced != self.produced_bytes
        {
            return fail("the content has another size than the frame announces");
        }
        if !self.rest.is_empty() {
            return not_portable("bytes behind the end of the frame");
        }
        Ok(())
    }
}
