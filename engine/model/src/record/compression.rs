//! The codecs of record batches: none, gzip, snappy, lz4 and zstd; and compressing with them.
//!
//! What is written here is what Java reads: xerial framing for snappy, independent blocks for lz4, one member or frame
//! for gzip and zstd. Reading is stricter than any one library, see [`super::decompression`].

use std::fmt;
use std::io::Write;

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd::zstd_safe;

pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Uncompressed bytes per xerial chunk, as snappy-java writes them.
const XERIAL_CHUNK_BYTES: usize = 32 << 10;
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
    /// The codec's own library reads them, but not every common consumer would: what is stored must be readable by all.
    #[error("{codec} data that not every consumer can read: {reason}")]
    NotPortable {
        /// The codec the batch names.
        codec: Compression,
        /// What is in the way.
        reason: &'static str,
    },
    /// One batch decompresses to more than `ringlog.batch.decompressed.bytes.max`.
    #[error(
        "the records decompress to more than {limit} bytes (ringlog.batch.decompressed.bytes.max)"
    )]
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// All batches of a request together decompress to more than `ringlog.request.decompressed.bytes.max`.
    #[error(
        "the batches of the request decompress to more than {limit} bytes (ringlog.request.decompressed.bytes.max)"
    )]
    RequestTooLarge {
        /// The bound, in bytes.
        limit: u64,
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

pub(super) fn corrupt(codec: Compression, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        codec,
        reason: reason.to_string(),
    }
}

pub(super) fn encoder_error(codec: Compression, reason: impl fmt::Display) -> CompressionError {
    CompressionError::Encoder {
        codec,
        reason: reason.to_string(),
    }
}

/// gzip's level; -1 is Kafka's "the library's default".
pub(super) fn gzip_level(level: Option<i32>) -> flate2::Compression {
    let level = level.and_then(|level| u32::try_from(level).ok());
    flate2::Compression::new(level.unwrap_or(GZIP_LEVEL_DEFAULT).min(9))
}

pub(super) fn zstd_level(level: Option<i32>) -> i32 {
    level.unwrap_or(ZSTD_LEVEL_DEFAULT)
}

/// The frames that lz4 is written in: Java reads independent blocks only.
pub(super) fn lz4_frame() -> FrameInfo {
    FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent)
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
            let mut encoder = GzEncoder::new(out, gzip_level(level));
            encoder
                .write_all(records)
                .and_then(|()| encoder.try_finish())
                .map_err(|error| encoder_error(codec, error))?;
        }
        Compression::Snappy => {
            let mut encoder = SnappyEncoder::new(std::mem::take(out));
            encoder.write(records)?;
            *out = encoder.finish()?;
        }
        Compression::Lz4 => {
            let mut encoder = FrameEncoder::with_frame_info(lz4_frame(), out);
            encoder
                .write_all(records)
                .map_err(|error| encoder_error(codec, error))?;
            encoder
                .finish()
                .map_err(|error| encoder_error(codec, error))?;
        }
        Compression::Zstd => {
            let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(records.len()));
            zstd_safe::compress(&mut compressed, records, zstd_level(level))
                .map_err(|code| encoder_error(codec, zstd_safe::get_error_name(code)))?;
            out.extend_from_slice(&compressed);
        }
    }
    Ok(())
}

/// Writes snappy in the xerial framing.
pub(super) struct SnappyEncoder {
    out: Vec<u8>,
    /// Less than a chunk, not written yet.
    pending: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl SnappyEncoder {
    /// Appends to `out`.
    pub(super) fn new(mut out: Vec<u8>) -> SnappyEncoder {
        out.extend_from_slice(&XERIAL_MAGIC);
        out.extend_from_slice(&1u32.to_be_bytes());
        out.extend_from_slice(&1u32.to_be_bytes());
        SnappyEncoder {
            out,
            pending: Vec::new(),
            encoder: snap::raw::Encoder::new(),
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.out.len()
    }

    pub(super) fn write(&mut self, mut records: &[u8]) -> Result<(), CompressionError> {
        while self.pending.len() + records.len() >= XERIAL_CHUNK_BYTES {
            let (front, behind) = records.split_at(XERIAL_CHUNK_BYTES - self.pending.len());
            if self.pending.is_empty() {
                self.chunk(front)?;
            } else {
                let mut pending = std::mem::take(&mut self.pending);
                pending.extend_from_slice(front);
                self.chunk(&pending)?;
                pending.clear();
                self.pending = pending;
            }
            records = behind;
        }
        self.pending.extend_from_slice(records);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, CompressionError> {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.chunk(&pending)?;
        }
        Ok(self.out)
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<(), CompressionError> {
        let codec = Compression::Snappy;
        let block = self
            .encoder
            .compress_vec(chunk)
            .map_err(|error| encoder_error(codec, error))?;
        let length = u32::try_from(block.len()).map_err(|error| encoder_error(codec, error))?;
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(&block);
        Ok(())
    }
}
