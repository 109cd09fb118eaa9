//! Compressed bytes as other writers make them: raw snappy, concatenated xerial streams and gzip members, lz4 frames with
//! checksums and other block sizes, zstd frames without a content size.

use std::io::Write;

use model::record::compression::{check_frame, compress, decompress};
use model::record::{Compression, DecompressionScratch};

fn text() -> Vec<u8> {
    (0..20_000u32)
        .flat_map(|i| format!("line {} ", i % 977).into_bytes())
        .collect()
}

fn compressed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, None, bytes, &mut out).unwrap();
    out
}

/// What was written, by which codec, and the bytes.
fn foreign_rows(text: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let (front, back) = text.split_at(text.len() / 3);
    let lz4 = |info: lz4_flex::frame::FrameInfo| {
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
    vec![
        (
            "raw snappy",
            Compression::Snappy,
            snap::raw::Encoder::new().compress_vec(text).unwrap(),
        ),
        (
            "xerial streams one after the other",
            Compression::Snappy,
            [
                compressed(Compression::Snappy, front),
                compressed(Compression::Snappy, back),
            ]
            .concat(),
        ),
        (
            "gzip members one after the other",
            Compression::Gzip,
            [
                compressed(Compression::Gzip, front),
                compressed(Compression::Gzip, back),
            ]
            .concat(),
        ),
        (
            "lz4 with checksums",
            Compression::Lz4,
            lz4(FrameInfo::new()
                .block_checksums(true)
                .content_checksum(true)),
        ),
        (
            "lz4 with linked blocks of 4 MiB",
            Compression::Lz4,
            lz4(FrameInfo::new()
                .block_mode(BlockMode::Linked)
                .block_size(BlockSize::Max4MB)),
        ),
        (
            "lz4 with its content size",
            Compression::Lz4,
            lz4(FrameInfo::new().content_size(Some(text.len() as u64))),
        ),
        (
            "zstd frames one after the other",
            Compression::Zstd,
            [
                compressed(Compression::Zstd, front),
                compressed(Compression::Zstd, back),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn foreign_streams_are_read() {
    let text = text();
    let zstd_streamed = zstd::stream::encode_all(&text[..], 3).unwrap();
    let mut rows = foreign_rows(&text);
    rows.push((
        "zstd without a content size",
        Compression::Zstd,
        zstd_streamed.clone(),
    ));
    let size = zstd::zstd_safe::get_frame_content_size(&zstd_streamed);
    assert_eq!(
        size.ok().flatten(),
        None,
        "the row is about a frame without a size"
    );
    let mut scratch = DecompressionScratch::new();
    for (row, codec, bytes) in rows {
        assert_eq!(
            decompress(codec, &bytes, &mut scratch).unwrap(),
            text,
            "{row}"
        );
        check_frame(codec, &bytes).unwrap();
    }
}

#[test]
fn frames_of_another_codec_are_refused() {
    let text = text();
    for codec in Compression::ALL {
        let bytes = compressed(codec, &text);
        for other in Compression::ALL {
            // Plain records and raw snappy blocks begin with no magic.
            let named = codec != Compression::None
                && !matches!(other, Compression::None | Compression::Snappy);
            if codec != other && named {
                assert!(check_frame(other, &bytes).is_err(), "{codec} as {other}");
            }
        }
    }
}
