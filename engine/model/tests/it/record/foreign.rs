//! Compressed bytes as other writers make them: raw snappy, lz4 frames with checksums and other block sizes, zstd frames
//! without a content size; and those that not every consumer reads, which are refused.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use model::record::compression::compress;
use model::record::decompression::{check_frame, decompress};
use model::record::{Compression, CompressionError, DecompressionScratch};

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

fn lz4(info: FrameInfo, text: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// What was written, by which codec, and the bytes.
fn foreign_rows(text: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let large: Vec<u8> = text.repeat(20);
    vec![
        (
            "raw snappy",
            Compression::Snappy,
            snap::raw::Encoder::new().compress_vec(text).unwrap(),
        ),
        (
            "lz4 with checksums",
            Compression::Lz4,
            lz4(
                FrameInfo::new()
                    .block_checksums(true)
                    .content_checksum(true),
                text,
            ),
        ),
        (
            "lz4 in blocks of 4 MiB",
            Compression::Lz4,
            lz4(FrameInfo::new().block_size(BlockSize::Max4MB), &large),
        ),
        (
            "lz4 with its content size",
            Compression::Lz4,
            lz4(FrameInfo::new().content_size(Some(text.len() as u64)), text),
        ),
        (
            "one raw snappy block of several MiB",
            Compression::Snappy,
            snap::raw::Encoder::new().compress_vec(&large).unwrap(),
        ),
        (
            "zstd with a window of 8 MiB",
            Compression::Zstd,
            zstd::stream::encode_all(&large[..], 19).unwrap(),
        ),
    ]
}

/// What a library reads and some consumer does not, and why; see `tools/compat/codecs`.
fn refused_rows(text: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let (front, back) = text.split_at(text.len() / 3);
    let twice = |codec| [compressed(codec, front), compressed(codec, back)].concat();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let mut window = zstd::stream::encode_all(text, 3).unwrap();
    window[5] = 18 << 3; // 2^28
    let mut dictionary = zstd::stream::encode_all(text, 3).unwrap();
    dictionary[4] |= 1;
    dictionary.insert(6, 7);
    let mut rows = vec![
        (
            "linked blocks",
            Compression::Lz4,
            lz4(FrameInfo::new().block_mode(BlockMode::Linked), text),
        ),
        ("window above 128 MiB", Compression::Zstd, window),
        ("dictionary", Compression::Zstd, dictionary),
        (
            "second xerial stream",
            Compression::Snappy,
            twice(Compression::Snappy),
        ),
        (
            "first gzip member",
            Compression::Gzip,
            twice(Compression::Gzip),
        ),
        (
            "end of the frame",
            Compression::Lz4,
            twice(Compression::Lz4),
        ),
        ("first frame", Compression::Zstd, twice(Compression::Zstd)),
    ];
    for (reason, codec) in [
        ("first gzip member", Compression::Gzip),
        ("end of the frame", Compression::Lz4),
        ("first frame", Compression::Zstd),
    ] {
        for behind in [&[0][..], b"garbage", &skippable] {
            rows.push((reason, codec, [&compressed(codec, text), behind].concat()));
        }
    }
    // Content that is not known beforehand takes another way through the decoder.
    let streamed = zstd::stream::encode_all(text, 3).unwrap();
    let behind = [&streamed[..], b"x"].concat();
    rows.push(("first frame", Compression::Zstd, behind));
    rows
}

#[test]
fn what_not_every_consumer_reads_is_refused() {
    let text = text();
    let mut scratch = DecompressionScratch::new();
    for (reason, codec, bytes) in refused_rows(&text) {
        let error = decompress(codec, &bytes, &mut scratch).unwrap_err();
        assert!(
            matches!(error, CompressionError::NotPortable { .. }),
            "{codec}, {reason}: {error}"
        );
        assert!(
            error.to_string().contains(reason),
            "{codec}, {reason}: {error}"
        );
    }
}

#[test]
fn damaged_lz4_frames_are_refused() {
    let text = text();
    let info = FrameInfo::new()
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(text.len() as u64));
    let good = lz4(info, &text);
    let mut scratch = DecompressionScratch::new();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(
            decompress(Compression::Lz4, &bad, &mut scratch).is_err(),
            "byte {at}"
        );
        assert!(
            decompress(Compression::Lz4, &good[..at], &mut scratch).is_err(),
            "cut at {at}"
        );
    }
    let legacy = [&[0x02, 0x21, 0x4c, 0x18][..], &good[4..]].concat();
    assert!(decompress(Compression::Lz4, &legacy, &mut scratch).is_err());
}

/// Blocks beyond 1 MiB are decompressed by our own code: it agrees with the library on whatever comes.
#[test]
fn large_snappy_blocks_are_what_the_library_makes_of_them() {
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let mut scratch = DecompressionScratch::new();
    for period in [1, 3, 70, 5_000, 60_000, 1 << 30] {
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < (3 << 20) {
            let byte = match bytes.len().checked_sub(period) {
                Some(at) if next() % 50 > 0 => bytes[at],
                _ => next() as u8,
            };
            bytes.push(byte);
        }
        let block = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let read = decompress(Compression::Snappy, &block, &mut scratch).unwrap();
        assert!(read == bytes, "period {period}");
        for at in [4, block.len() / 2, block.len() - 1] {
            assert!(decompress(Compression::Snappy, &block[..at], &mut scratch).is_err());
            let mut bad = block.clone();
            bad[at] ^= 0x55;
            let library = snap::raw::Decoder::new().decompress_vec(&bad).ok();
            let ours = decompress(Compression::Snappy, &bad, &mut scratch).ok();
            assert!(ours == library.as_deref(), "period {period}, byte {at}");
        }
    }
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
        let read = decompress(codec, &bytes, &mut scratch).unwrap();
        assert!(read.chunks(text.len()).all(|part| part == text), "{row}");
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
