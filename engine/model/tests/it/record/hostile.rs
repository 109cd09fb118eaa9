//! Hostile bytes: mutations, cuts and decompression bombs. An error or an equal result, never a panic or unbounded memory.

use model::Timestamp;
use model::record::compression::{
    DECOMPRESSED_BYTES_FLOOR, SCRATCH_BYTES_RETAINED_MAX, compress, decompress,
    decompressed_bytes_limit,
};
use model::record::{
    BatchBuilder, Batches, Compression, CompressionError, DecompressionScratch, ValidationRules,
    header, read_records_owned, validate,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

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

#[test]
fn bombs_are_refused_and_their_memory_is_given_back() {
    let zeros = vec![0; 70 << 20];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut bomb = Vec::new();
        compress(codec, None, &zeros, &mut bomb).unwrap();
        let limit = decompressed_bytes_limit(bomb.len());
        let mut scratch = DecompressionScratch::new();
        assert_eq!(
            decompress(codec, &bomb, &mut scratch),
            Err(CompressionError::TooLarge { limit }),
            "{codec}, {} bytes",
            bomb.len()
        );
        assert!(
            scratch.bytes_held() <= 2 * limit + 1024,
            "{codec} held {}",
            scratch.bytes_held()
        );
        decompress(Compression::None, b"", &mut scratch).unwrap();
        assert!(scratch.bytes_held() <= SCRATCH_BYTES_RETAINED_MAX);
    }
}

#[test]
fn repetitive_batches_below_the_floor_are_accepted() {
    let equal = vec![b'a'; DECOMPRESSED_BYTES_FLOOR];
    for codec in Compression::ALL {
        let mut compressed = Vec::new();
        compress(codec, None, &equal, &mut compressed).unwrap();
        let mut scratch = DecompressionScratch::new();
        assert_eq!(
            decompress(codec, &compressed, &mut scratch).unwrap(),
            equal,
            "{codec}"
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
        assert!(scratch.bytes_held() <= DECOMPRESSED_BYTES_FLOOR, "{codec}");
    }
}
