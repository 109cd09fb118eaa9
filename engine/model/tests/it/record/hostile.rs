//! Hostile bytes: mutations, cuts and decompression bombs. An error or an equal result, never a panic or unbounded memory.

use model::ErrorCode;
use model::Timestamp;
use model::record::compression::compress;
use model::record::decompression::decompress;
use model::record::{
    BatchBuilder, BatchCheck, Batches, Compression, DecompressionScratch, ValidationRules, header,
    read_records_owned, validate,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// What a check may hold: a window, and what the codec looks back at.
const HELD_BYTES_MAX: usize = 9 << 20;
/// Those that compress.
const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn batch(codec: Compression, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec);
    for i in 0..records {
        let value = vec![b'v'; i * 50];
        builder.push_with_headers(
            NOW,
            Some(b"key"),
            Some(&value),
            &[("h", Some(b"x")), ("n", None)],
        );
    }
    builder.build().unwrap().to_vec()
}

fn codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

/// Runs everything that reads over `bytes`; panics are the failure.
fn read_all(bytes: &[u8]) {
    let mut scratch = DecompressionScratch::new();
    for rules in [
        ValidationRules::default(),
        ValidationRules {
            key_required: true,
            batch_bytes_max: usize::MAX,
            ..Default::default()
        },
    ] {
        if let Ok(info) = validate(bytes, &rules, NOW, &mut scratch) {
            let good = &bytes[..info.size_bytes];
            let records = read_records_owned(good).expect("a validated batch can be read");
            assert_eq!(records.len(), info.header.record_count as usize);
        }
    }
    for (_, batch) in Batches::new(bytes).flatten() {
        let _any_result = read_records_owned(batch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_flipped_byte_is_noticed(codec in codec(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let original = batch(codec, 5);
        let mut mutated = original.clone();
        let at = at.index(mutated.len());
        mutated[at] ^= flip;
        let mut scratch = DecompressionScratch::new();
        let outcome = validate(&mutated, &ValidationRules::default(), NOW, &mut scratch);
        // Only the leader epoch, which the leader overwrites, is covered by no check.
        prop_assert_eq!(outcome.is_ok(), (12..16).contains(&at));
        read_all(&mutated);
    }

    #[test]
    fn a_flipped_byte_under_a_right_checksum_never_panics(
        codec in codec(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut mutated = batch(codec, 5);
        let at = at.index(mutated.len());
        mutated[at] = byte;
        header::set_crc(&mut mutated).unwrap();
        read_all(&mutated);
    }

    #[test]
    fn a_cut_is_noticed(codec in codec(), at in any::<prop::sample::Index>()) {
        let mut cut = batch(codec, 5);
        cut.truncate(at.index(cut.len()));
        let mut scratch = DecompressionScratch::new();
        prop_assert!(validate(&cut, &ValidationRules::default(), NOW, &mut scratch).is_err());
        // The same cut with a length and a checksum that agree with it.
        if cut.len() >= 61 {
            let length = i32::try_from(cut.len() - 12).unwrap();
            cut[8..12].copy_from_slice(&length.to_be_bytes());
            header::set_crc(&mut cut).unwrap();
            prop_assert!(validate(&cut, &ValidationRules::default(), NOW, &mut scratch).is_err());
            read_all(&cut);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), codec in 0u8..8) {
        read_all(&bytes);
        let mut dressed = batch(Compression::None, 1);
        dressed.truncate(61);
        dressed[22] = codec;
        dressed.extend_from_slice(&bytes);
        let length = i32::try_from(dressed.len() - 12).unwrap();
        dressed[8..12].copy_from_slice(&length.to_be_bytes());
        header::set_crc(&mut dressed).unwrap();
        read_all(&dressed);
        for codec in Compression::ALL {
            let _any_result = decompress(codec, &bytes, &mut DecompressionScratch::new());
        }
    }

    #[test]
    fn codecs_round_trip(codec in codec(), bytes in proptest::collection::vec(any::<u8>(), 0..100_000)) {
        let mut compressed = Vec::new();
        compress(codec, None, &bytes, &mut compressed).unwrap();
        let mut scratch = DecompressionScratch::new();
        prop_assert_eq!(decompress(codec, &compressed, &mut scratch).unwrap(), &bytes[..]);
    }
}

/// A batch of one record of so many equal bytes, as a client that compresses sends it.
fn equal_bytes(codec: Compression, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec);
    builder.push(NOW, None, Some(&vec![b'a'; bytes]));
    builder.build().unwrap().to_vec()
}

#[test]
fn what_compresses_well_is_accepted_in_little_memory() {
    for codec in CODECS {
        for megabytes in [2, 70] {
            let batch = equal_bytes(codec, megabytes << 20);
            let rules = ValidationRules {
                batch_bytes_max: 8 << 20,
                ..ValidationRules::default()
            };
            let mut scratch = DecompressionScratch::new();
            validate(&batch, &rules, NOW, &mut scratch).unwrap();
            let held = scratch.bytes_held();
            assert!(held <= HELD_BYTES_MAX, "{codec} held {held}");
        }
    }
}

#[test]
fn what_decompresses_to_more_than_the_topic_allows_is_refused_in_words() {
    for codec in CODECS {
        let batch = equal_bytes(codec, 9 << 20);
        let rules = ValidationRules {
            decompressed_bytes_max: 8 << 20,
            ..ValidationRules::default()
        };
        let mut scratch = DecompressionScratch::new();
        let error = validate(&batch, &rules, NOW, &mut scratch).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::MessageTooLarge, "{codec}");
        let text = error.message().unwrap();
        assert!(
            text.contains("ringlog.batch.decompressed.bytes.max"),
            "{text}"
        );
        assert!(scratch.bytes_held() <= HELD_BYTES_MAX);
    }
}

/// Steps of any size come to the same result as one, and each does little more than it was asked for.
#[test]
fn a_check_in_steps_is_the_check() {
    let rules = ValidationRules {
        batch_bytes_max: 8 << 20,
        ..ValidationRules::default()
    };
    for codec in Compression::ALL {
        let batches = [batch(codec, 300), equal_bytes(codec, 5 << 20)];
        for batch in batches {
            let mut scratch = DecompressionScratch::new();
            let whole = validate(&batch, &rules, NOW, &mut scratch).unwrap();
            let mut check = BatchCheck::begin(&batch, &rules, None, NOW).unwrap();
            let mut steps = 0;
            let checked = loop {
                let before = check.decompressed_bytes();
                let done = check.step(1, &mut scratch).unwrap();
                steps += 1;
                assert!(check.decompressed_bytes() - before <= 1 << 20, "{codec}");
                if let Some(done) = done {
                    break done;
                }
            };
            assert_eq!(checked.info(rules.timestamp_type, NOW), whole);
            assert!(codec == Compression::None || steps > 1 || batch.len() < 70_000);
        }
    }
}

/// Blocks and members that hold nothing cost time as well: a step ends in spite of them.
#[test]
fn empty_blocks_end_a_step() {
    let deflate: Vec<u8> = std::iter::repeat_n([0, 0, 0, 0xff, 0xff], 200_000)
        .flatten()
        .collect();
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..], &deflate].concat();
    let blocks: Vec<u8> = std::iter::repeat_n([0, 0, 0], 300_000).flatten().collect();
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58][..], &blocks].concat();
    for (codec, payload) in [(Compression::Gzip, gzip), (Compression::Zstd, zstd)] {
        let mut batch = batch(Compression::None, 1);
        batch.truncate(header::HEADER_LEN);
        batch[22] = codec.id();
        batch.extend_from_slice(&payload);
        let length = i32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        header::set_crc(&mut batch).unwrap();
        let rules = ValidationRules::default();
        let mut check = BatchCheck::begin(&batch, &rules, None, NOW).unwrap();
        let mut scratch = DecompressionScratch::new();
        let mut steps = 0;
        while let Ok(done) = check.step(64 << 10, &mut scratch) {
            assert!(done.is_none(), "the payload is cut off");
            steps += 1;
        }
        assert!(
            steps >= payload.len() / (128 << 10),
            "{codec}: {steps} steps"
        );
    }
}

#[test]
fn declared_lengths_do_not_size_memory() {
    // One raw snappy block and one zstd frame, each declaring about 4 GiB.
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x41];
    let zstd = [
        0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0,
    ];
    let xerial = [
        &[
            0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
        ][..],
        &[0xff; 4],
        &snappy,
    ]
    .concat();
    for (codec, bytes) in [
        (Compression::Snappy, &snappy[..]),
        (Compression::Zstd, &zstd[..]),
        (Compression::Snappy, &xerial[..]),
    ] {
        let mut scratch = DecompressionScratch::new();
        assert!(decompress(codec, bytes, &mut scratch).is_err());
        assert!(scratch.bytes_held() <= 1 << 20, "{codec}");
    }
}
