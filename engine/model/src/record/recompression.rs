//! Writing the records of a batch again with another codec, as they come out of the first.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::compression::{
    Compression, CompressionError, SnappyEncoder, encoder_error, gzip_level, lz4_frame, zstd_level,
};
use super::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, set_crc};

/// The highest level of zstd that is fast.
const ZSTD_LEVEL_FAST_MAX: i32 = 3;
/// What an encoder holds beside its output, zstd apart.
const ENCODER_BYTES: usize = 512 << 10;
/// zstd at its default level and below: a window of 2 MiB and small tables.
const ZSTD_FAST_BYTES: usize = 5 << 20;
/// zstd at its highest levels: windows of up to 128 MiB and the tables of its search.
const ZSTD_BYTES: usize = 700 << 20;

enum Encoder {
    None(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Snappy(Box<SnappyEncoder>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

/// A batch that is being written.
pub(super) struct Recompression {
    codec: Compression,
    encoder: Encoder,
}

impl Recompression {
    pub(super) fn new(
        codec: Compression,
        level: Option<i32>,
    ) -> Result<Recompression, CompressionError> {
        // The header's place; it is written last.
        let out = vec![0; HEADER_LEN];
        let encoder = match codec {
            Compression::None => Encoder::None(out),
            Compression::Gzip => Encoder::Gzip(GzEncoder::new(out, gzip_level(level))),
            Compression::Snappy => Encoder::Snappy(Box::new(SnappyEncoder::new(out))),
            Compression::Lz4 => {
                Encoder::Lz4(Box::new(FrameEncoder::with_frame_info(lz4_frame(), out)))
            }
            Compression::Zstd => {
                let encoder = ZstdEncoder::new(out, zstd_level(level));
                Encoder::Zstd(encoder.map_err(|error| encoder_error(codec, error))?)
            }
        };
        Ok(Recompression { codec, encoder })
    }

    /// Memory that an encoder needs beside its output, at most.
    pub(super) fn memory_bytes(codec: Compression, level: Option<i32>) -> usize {
        match codec {
            Compression::Zstd if zstd_level(level) > ZSTD_LEVEL_FAST_MAX => ZSTD_BYTES,
            Compression::Zstd => ZSTD_FAST_BYTES,
            _ => ENCODER_BYTES,
        }
    }

    /// Bytes of the batch so far; the encoder may hold more back.
    pub(super) fn size_bytes(&self) -> usize {
        match &self.encoder {
            Encoder::None(out) => out.len(),
            Encoder::Gzip(encoder) => encoder.get_ref().len(),
            Encoder::Snappy(encoder) => encoder.size_bytes(),
            Encoder::Lz4(encoder) => encoder.get_ref().len(),
            Encoder::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    pub(super) fn write(&mut self, records: &[u8]) -> Result<(), CompressionError> {
        let result: io::Result<()> = match &mut self.encoder {
            Encoder::None(out) => out.write_all(records),
            Encoder::Gzip(encoder) => encoder.write_all(records),
            Encoder::Snappy(encoder) => return encoder.write(records),
            Encoder::Lz4(encoder) => encoder.write_all(records),
            Encoder::Zstd(encoder) => encoder.write_all(records),
        };
        result.map_err(|error| encoder_error(self.codec, error))
    }

    /// The batch, under `header` with its length, codec and checksum made right.
    pub(super) fn finish(
        self,
        mut header: BatchHeader,
    ) -> Result<(BatchHeader, Bytes, Compression), CompressionError> {
        let codec = self.codec;
        let failed = |error: &dyn std::fmt::Display| encoder_error(codec, error);
        let mut out = match self.encoder {
            Encoder::None(out) => out,
            Encoder::Gzip(encoder) => encoder.finish().map_err(|error| failed(&error))?,
            Encoder::Snappy(encoder) => encoder.finish()?,
            Encoder::Lz4(encoder) => encoder.finish().map_err(|error| failed(&error))?,
            Encoder::Zstd(encoder) => encoder.finish().map_err(|error| failed(&error))?,
        };
        header.batch_length =
            i32::try_from(out.len() - LOG_OVERHEAD).map_err(|error| failed(&error))?;
        header.attributes = header.attributes.with_compression(codec);
        out[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        set_crc(&mut out).map_err(|error| failed(&error))?;
        // The header is kept with the checksum that it has now.
        let header = BatchHeader::parse(&out).map_err(|error| failed(&error))?;
        Ok((header, Bytes::from(out), codec))
    }
}
