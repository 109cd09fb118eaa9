//! The codecs of record batches: none, gzip, snappy, lz4 and zstd.
//!
//! Decompression writes into a reused scratch buffer and is bounded twice: by [`DECOMPRESSED_BYTES_MAX`] and by
//! [`DECOMPRESSION_RATIO_MAX`] times the compressed size. A length that the input declares only ever sizes memory after it
//! passed that bound. Snappy comes in two shapes: the xerial framing that Java writes, and one raw block; both are read.

use std::fmt;
use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe;

/// No batch may decompress to more than this.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// No batch may grow by more than this factor, once past [`DECOMPRESSED_BYTES_FLOOR`].
pub const DECOMPRESSION_RATIO_MAX: usize = 1000;
/// Sizes up to this are always accepted: a short batch of equal records may well shrink a thousandfold.
pub const DECOMPRESSED_BYTES_FLOOR: usize = 1 << 20;
/// Capacity that a scratch buffer keeps between batches; what an unusual batch needed beyond it is given back.
pub const SCRATCH_BYTES_RETAINED_MAX: usize = 4 << 20;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// xerial header: magic, then version and lowest compatible version, both 1.
const XERIAL_HEADER_LEN: usize = 16;
/// Uncompressed bytes per xerial chunk, as snappy-java writes them.
const XERIAL_CHUNK_BYTES: usize = 32 << 10;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Bit of the LZ4 frame flags: a checksum of the content follows the end mark.
const LZ4_CONTENT_CHECKSUM: u8 = 0x04;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First guess at how far zstd shrank a batch whose frame does not say.
const ZSTD_RATIO_GUESS: usize = 8;
const ZSTD_CAPACITY_MIN: usize = 64 << 10;
/// The name of the one zstd error that a larger buffer cures.
const ZSTD_BUFFER_TOO_SMALL: &str = "Destination buffer is too small";
const GZIP_LEVEL_DEFAULT: u32 = 6;
const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// A codec, with its number in the attributes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy in the xerial framing.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard frames (RFC 8878).
    Zstd = 4,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec of a number.
    #[inline]
    pub fn from_id(id: u8) -> Result<Compression, CompressionError> {
        match id {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            _ => Err(CompressionError::UnknownCodec(id)),
        }
    }

    /// The number in the attributes.
    #[inline]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec of a name as configurations write it.
    pub fn from_name(name: &str) -> Option<Compression> {
        match name {
            "uncompressed" => Some(Compression::None),
            _ => Compression::ALL
                .into_iter()
                .find(|codec| codec.name() == name),
        }
    }

    /// The name that clients use.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The attributes name a codec that does not exist.
    #[error("codec {0} does not exist")]
    UnknownCodec(u8),
    /// The bytes are not what the codec writes.
    #[error("the records are not valid {codec} data: {reason}")]
    Corrupt {
        /// The codec the batch names.
        codec: Compression,
        /// What its decoder said.
        reason: String,
    },
    /// Decompression went over its bound.
    #[error("the records would decompress to more than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The encoder failed.
    #[error("{codec} compression failed: {reason}")]
    Encoder {
        /// The codec.
        codec: Compression,
        /// What it said.
        reason: String,
    },
}

fn corrupt(codec: Compression, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        codec,
        reason: reason.to_string(),
    }
}

fn encoder_error(codec: Compression, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Encoder {
        codec,
        reason: reason.to_string(),
    }
}

/// Reused memory for decompression: one per shard, or per thread of a tool.
#[derive(Default)]
pub struct DecompressionScratch {
    buffer: Vec<u8>,
    snappy: snap::raw::Decoder,
    zstd: Option<zstd_safe::DCtx<'static>>,
}

impl fmt::Debug for DecompressionScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecompressionScratch")
            .field("bytes", &self.buffer.capacity())
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
        self.buffer.capacity()
    }

    fn prepare(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(SCRATCH_BYTES_RETAINED_MAX);
    }
}

/// The most that `compressed_bytes` of input may decompress to.
pub fn decompressed_bytes_limit(compressed_bytes: usize) -> usize {
    compressed_bytes
        .saturating_mul(DECOMPRESSION_RATIO_MAX)
        .clamp(DECOMPRESSED_BYTES_FLOOR, DECOMPRESSED_BYTES_MAX)
}

/// Decompresses the records of a batch. The result borrows from `scratch`, or from `payload` for [`Compression::None`].
pub fn decompress<'a>(
    codec: Compression,
    payload: &'a [u8],
    scratch: &'a mut DecompressionScratch,
) -> Result<&'a [u8], CompressionError> {
    let limit = decompressed_bytes_limit(payload.len());
    scratch.prepare();
    match codec {
        Compression::None => return Ok(payload),
        Compression::Gzip => {
            read_bounded(
                codec,
                MultiGzDecoder::new(payload),
                &mut scratch.buffer,
                limit,
            )?;
        }
        Compression::Snappy => snappy_decompress(payload, scratch, limit)?,
        Compression::Lz4 => {
            check_lz4_ends(payload)?;
            read_bounded(
                codec,
                FrameDecoder::new(payload),
                &mut scratch.buffer,
                limit,
            )?;
        }
        Compression::Zstd => zstd_decompress(payload, scratch, limit)?,
    }
    Ok(&scratch.buffer)
}

/// Checks the front of the compressed records without decompressing: the `frame` level of `ringlog.compressed.validation`.
pub fn check_frame(codec: Compression, payload: &[u8]) -> Result<(), CompressionError> {
    let plausible = match codec {
        Compression::None => true,
        Compression::Gzip => payload.starts_with(&GZIP_MAGIC),
        Compression::Snappy => {
            payload.starts_with(&XERIAL_MAGIC)
                || snap::raw::decompress_len(payload)
                    .is_ok_and(|length| length <= decompressed_bytes_limit(payload.len()))
        }
        Compression::Lz4 => payload.starts_with(&LZ4_MAGIC),
        Compression::Zstd => payload.starts_with(&ZSTD_MAGIC),
    };
    if plausible {
        Ok(())
    } else {
        Err(corrupt(codec, "no frame header"))
    }
}

/// An LZ4 frame ends with a mark of four zero bytes, and a checksum of the content if its flags say so. The decoder takes
/// the end of its input for the mark, but Java's does not.
fn check_lz4_ends(payload: &[u8]) -> Result<(), CompressionError> {
    let fail = |reason| Err(corrupt(Compression::Lz4, reason));
    let (Some(&LZ4_MAGIC), Some(flags)) = (payload.first_chunk::<4>(), payload.get(4)) else {
        return fail("no frame header");
    };
    let checksum_bytes = if flags & LZ4_CONTENT_CHECKSUM == 0 {
        0
    } else {
        4
    };
    let end = payload
        .len()
        .checked_sub(checksum_bytes)
        .and_then(|end| payload.get(..end));
    match end.and_then(|end| end.last_chunk::<4>()) {
        Some([0, 0, 0, 0]) => Ok(()),
        _ => fail("no end mark"),
    }
}

/// Reads to the end, but not past `limit` bytes; memory grows with what was really read.
fn read_bounded(
    codec: Compression,
    reader: impl Read,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), CompressionError> {
    reader
        .take(limit as u64 + 1)
        .read_to_end(out)
        .map_err(|error| corrupt(codec, error))?;
    if out.len() > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    Ok(())
}

fn snappy_decompress(
    payload: &[u8],
    scratch: &mut DecompressionScratch,
    limit: usize,
) -> Result<(), CompressionError> {
    if !payload.starts_with(&XERIAL_MAGIC) {
        return snappy_block(payload, scratch, limit);
    }
    let mut rest = payload.get(XERIAL_HEADER_LEN..).unwrap_or_default();
    while !rest.is_empty() {
        if rest.starts_with(&XERIAL_MAGIC) {
            // A writer that was flushed and reopened: streams may follow each other.
            rest = rest.get(XERIAL_HEADER_LEN..).unwrap_or_default();
            continue;
        }
        let cut = || corrupt(Compression::Snappy, "a chunk is cut off");
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (chunk, tail) = tail
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(cut)?;
        snappy_block(chunk, scratch, limit)?;
        rest = tail;
    }
    Ok(())
}

/// Appends one raw snappy block to the scratch buffer.
fn snappy_block(
    block: &[u8],
    scratch: &mut DecompressionScratch,
    limit: usize,
) -> Result<(), CompressionError> {
    let codec = Compression::Snappy;
    let declared = snap::raw::decompress_len(block).map_err(|error| corrupt(codec, error))?;
    let start = scratch.buffer.len();
    let end = start.saturating_add(declared);
    if end > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    scratch.buffer.resize(end, 0);
    let written = scratch
        .snappy
        .decompress(block, &mut scratch.buffer[start..])
        .map_err(|error| corrupt(codec, error))?;
    scratch.buffer.truncate(start + written);
    Ok(())
}

/// One-shot decompression into a buffer of guessed size, grown until it fits: no window memory beside the output itself.
fn zstd_decompress(
    payload: &[u8],
    scratch: &mut DecompressionScratch,
    limit: usize,
) -> Result<(), CompressionError> {
    let codec = Compression::Zstd;
    let declared = zstd_safe::get_frame_content_size(payload)
        .map_err(|_| corrupt(codec, "no frame header"))?
        .map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if declared.is_some_and(|size| size > limit) {
        return Err(CompressionError::TooLarge { limit });
    }
    let guess = declared.unwrap_or(payload.len().saturating_mul(ZSTD_RATIO_GUESS));
    let mut capacity = guess
        .max(scratch.buffer.capacity())
        .clamp(ZSTD_CAPACITY_MIN, limit);
    let context = match &mut scratch.zstd {
        Some(context) => context,
        none => none.insert(
            zstd_safe::DCtx::try_create()
                .ok_or_else(|| corrupt(codec, "no memory for a decoder"))?,
        ),
    };
    loop {
        scratch.buffer.clear();
        scratch.buffer.reserve_exact(capacity);
        let error = match context.decompress(&mut scratch.buffer, payload) {
            Ok(_) if scratch.buffer.len() > limit => {
                return Err(CompressionError::TooLarge { limit });
            }
            Ok(_) => return Ok(()),
            Err(code) => zstd_safe::get_error_name(code),
        };
        if error != ZSTD_BUFFER_TOO_SMALL {
            return Err(corrupt(codec, error));
        }
        if capacity >= limit {
            return Err(CompressionError::TooLarge { limit });
        }
        capacity = capacity.saturating_mul(2).min(limit);
    }
}

/// Compresses `records` and appends the result to `out`. `level` is the codec's own scale, `None` its default;
/// snappy and lz4 have one level only.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    records: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    match codec {
        Compression::None => out.extend_from_slice(records),
        Compression::Gzip => {
            // -1 is Kafka's "the library's default".
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = flate2::Compression::new(level.unwrap_or(GZIP_LEVEL_DEFAULT).min(9));
            let mut encoder = GzEncoder::new(out, level);
            encoder
                .write_all(records)
                .and_then(|()| encoder.try_finish())
                .map_err(|error| encoder_error(codec, error))?;
        }
        Compression::Snappy => snappy_compress(records, out)?,
        Compression::Lz4 => {
            // Java reads independent blocks only.
            let info = FrameInfo::new()
                .block_size(BlockSize::Max64KB)
                .block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(info, out);
            encoder
                .write_all(records)
                .map_err(|error| encoder_error(codec, error))?;
            encoder
                .finish()
                .map_err(|error| encoder_error(codec, error))?;
        }
        Compression::Zstd => {
            let level = level.unwrap_or(ZSTD_LEVEL_DEFAULT);
            let start = out.len();
            let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(records.len()));
            zstd_safe::compress(&mut compressed, records, level)
                .map_err(|code| encoder_error(codec, zstd_safe::get_error_name(code)))?;
            out.extend_from_slice(&compressed);
            debug_assert!(out.len() > start, "a zstd frame is never empty");
        }
    }
    Ok(())
}

fn snappy_compress(records: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let codec = Compression::Snappy;
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in records.chunks(XERIAL_CHUNK_BYTES) {
        let block = encoder
            .compress_vec(chunk)
            .map_err(|error| encoder_error(codec, error))?;
        let length = u32::try_from(block.len()).map_err(|error| encoder_error(codec, error))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(())
}
