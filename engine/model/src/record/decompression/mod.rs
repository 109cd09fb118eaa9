//! Decompressing the records of a batch, a piece at a time.
//!
//! Nothing here holds a whole batch: a [`Decompressor`] gives pieces, and each call does a bounded amount of work, so
//! that whoever drives it may let others run in between. Memory is what the codec's format needs to look back at, and
//! that is bounded ([`memory_bytes`]); a length that the input declares sizes nothing before it passed a
//! bound.
//!
//! What is accepted is what the strictest common consumer can read (kafka-clients, librdkafka, franz-go, kafka-python;
//! `tools/compat/codecs` asks them): one gzip member, one zstd frame, one lz4 frame of independent blocks, one xerial
//! stream or one raw snappy block, and nothing behind it.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;

use ::zstd::zstd_safe::DCtx;

use super::compression::{Compression, CompressionError};

/// A buffer that whole batches are decompressed into keeps this much between batches.
pub const SCRATCH_BYTES_RETAINED_MAX: usize = 4 << 20;
/// A zstd decoder that grew beyond this (a window of 8 MiB, which levels up to 19 need) is given back.
const ZSTD_BYTES_RETAINED_MAX: usize = 9 << 20;
/// Input that one call looks at, and output that it aims at: some 100 us of the slowest codec.
const PIECE_BYTES: usize = 64 << 10;
/// What [`decompress`] makes of one batch at most: it holds the whole of it, so it is for tools, tests and stored
/// batches, and not for what a client sent.
pub const DECOMPRESSED_BYTES_MAX: u64 = 1 << 30;

/// Reused memory for decompression: one per shard, or per thread of a tool.
#[derive(Default)]
pub struct DecompressionScratch {
    pub(super) buffer: Vec<u8>,
    zstd: Option<DCtx<'static>>,
}

impl fmt::Debug for DecompressionScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecompressionScratch")
            .field("bytes", &self.bytes_held())
            .finish()
    }
}

impl DecompressionScratch {
    /// Scratch without memory; it grows with what passes through.
    pub fn new() -> DecompressionScratch {
        DecompressionScratch::default()
    }

    /// Bytes of memory held for the next batch.
    pub fn bytes_held(&self) -> usize {
        self.buffer.capacity() + self.zstd.as_ref().map_or(0, DCtx::sizeof)
    }

    /// Empties it, and gives back what an unusual batch needed.
    pub(super) fn prepare(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(SCRATCH_BYTES_RETAINED_MAX);
        self.zstd
            .take_if(|context| context.sizeof() > ZSTD_BYTES_RETAINED_MAX);
    }
}

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The input has come to its proper end; nothing more will come.
    pub(super) is_end: bool,
    /// Bytes read or written, whichever is more: empty blocks cost time too.
    pub(super) work_bytes: usize,
}

enum Decoder<'a> {
    Plain(&'a [u8]),
    Gzip(gzip::Gzip<'a>),
    Snappy(snappy::Snappy<'a>),
    Lz4(lz4::Lz4<'a>),
    Zstd(zstd::Zstd<'a>),
}

/// Decompresses one batch, a piece at a time.
pub(super) struct Decompressor<'a> {
    decoder: Decoder<'a>,
    produced_bytes: u64,
}

impl<'a> Decompressor<'a> {
    /// Looks at the front of `payload`. Takes the decoder's memory out of `scratch`; [`Decompressor::give_back`] returns
    /// it.
    pub(super) fn new(
        codec: Compression,
        payload: &'a [u8],
        scratch: &mut DecompressionScratch,
    ) -> Result<Decompressor<'a>, CompressionError> {
        let decoder = match codec {
            Compression::None => Decoder::Plain(payload),
            Compression::Gzip => Decoder::Gzip(gzip::Gzip::new(payload)?),
            Compression::Snappy => Decoder::Snappy(snappy::Snappy::new(payload)?),
            Compression::Lz4 => Decoder::Lz4(lz4::Lz4::new(payload)?),
            Compression::Zstd => Decoder::Zstd(zstd::Zstd::new(payload, scratch.zstd.take())?),
        };
        Ok(Decompressor {
            decoder,
            produced_bytes: 0,
        })
    }

    /// Bytes that have come out so far.
    pub(super) fn produced_bytes(&self) -> u64 {
        self.produced_bytes
    }

    /// Appends the next piece to `out`. It may be empty before the end.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<Step, CompressionError> {
        let before = out.len();
        let (is_end, consumed) = match &mut self.decoder {
            Decoder::Plain(rest) => {
                let (piece, behind) = rest.split_at(rest.len().min(PIECE_BYTES));
                out.extend_from_slice(piece);
                *rest = behind;
                (behind.is_empty(), piece.len())
            }
            Decoder::Gzip(gzip) => gzip.read(out)?,
            Decoder::Snappy(snappy) => snappy.read(out)?,
            Decoder::Lz4(lz4) => lz4.read(out)?,
            Decoder::Zstd(zstd) => zstd.read(out)?,
        };
        let written = out.len() - before;
        self.produced_bytes += written as u64;
        Ok(Step {
            is_end,
            work_bytes: consumed.max(written),
        })
    }

    /// Returns the decoder's memory, for the next batch.
    pub(super) fn give_back(self, scratch: &mut DecompressionScratch) {
        if let Decoder::Zstd(zstd) = self.decoder {
            scratch.zstd = Some(zstd.into_context());
        }
    }
}

/// Memory that a codec needs for `payload`, at most: what it may look back at, and a piece.
pub(super) fn memory_bytes(codec: Compression, payload: &[u8]) -> Result<usize, CompressionError> {
    Ok(match codec {
        Compression::None => 0,
        Compression::Gzip => gzip::MEMORY_BYTES,
        Compression::Snappy => snappy::memory_bytes(payload),
        Compression::Lz4 => lz4::memory_bytes(payload)?,
        Compression::Zstd => zstd::memory_bytes(payload)?,
    } + 2 * PIECE_BYTES)
}

/// Decompresses the records of a batch as a whole. The result borrows from `scratch`, or from `payload` for
/// [`Compression::None`].
pub fn decompress<'a>(
    codec: Compression,
    payload: &'a [u8],
    scratch: &'a mut DecompressionScratch,
) -> Result<&'a [u8], CompressionError> {
    if codec == Compression::None {
        return Ok(payload);
    }
    scratch.prepare();
    let mut out = std::mem::take(&mut scratch.buffer);
    let result = decompress_into(codec, payload, scratch, &mut out);
    scratch.buffer = out;
    result?;
    Ok(&scratch.buffer)
}

fn decompress_into(
    codec: Compression,
    payload: &[u8],
    scratch: &mut DecompressionScratch,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let mut decompressor = Decompressor::new(codec, payload, scratch)?;
    while !decompressor.read(out)?.is_end {
        if decompressor.produced_bytes() > DECOMPRESSED_BYTES_MAX {
            return Err(CompressionError::TooLarge {
                limit: DECOMPRESSED_BYTES_MAX,
            });
        }
    }
    decompressor.give_back(scratch);
    Ok(())
}

/// Checks the front of the compressed records without decompressing: the `frame` level of
/// `ringlog.compressed.validation`.
pub fn check_frame(codec: Compression, payload: &[u8]) -> Result<(), CompressionError> {
    match codec {
        Compression::None => Ok(()),
        Compression::Gzip => gzip::check_front(payload),
        Compression::Snappy => snappy::Snappy::new(payload).map(drop),
        Compression::Lz4 => lz4::Lz4::new(payload).map(drop),
        Compression::Zstd => zstd::check_frame(payload),
    }
}
