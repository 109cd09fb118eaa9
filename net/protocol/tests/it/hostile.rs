//! Bytes that no honest peer sends: decoding refuses or accepts, never panics, and stays within its memory.

use bytes::Bytes;
use protocol::fuzz;
use protocol::reader::memory_max;
use protocol::sample::Rng;
use protocol::*;

use crate::{for_every_version, request_bytes, response_bytes};

/// Values for every place where a length or count might be.
const LENGTHS: [i32; 11] = [
    0,
    -1,
    -2,
    1,
    2,
    0x7f,
    i16::MAX as i32,
    1_000_000,
    1_000_001,
    i32::MAX,
    i32::MIN,
];

/// Decodes and checks the peak of memory; says whether the bytes were a message.
fn decode_bounded<T>(
    bytes: &[u8],
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> bool {
    let frame = Bytes::copy_from_slice(bytes);
    let mut accepted = false;
    let memory = allocation_counter::measure(|| {
        accepted = decode(&mut Reader::new(&frame)).is_ok();
    });
    let peak = usize::try_from(memory.bytes_max).unwrap();
    assert!(
        peak <= memory_max(bytes.len()),
        "{} bytes took {peak}: {:02x?} ...",
        bytes.len(),
        &bytes[..bytes.len().min(64)]
    );
    accepted
}

fn request_bounded(key: ApiKey, version: i16, bytes: &[u8]) -> bool {
    decode_bounded(bytes, |reader| Request::decode(key, reader, version))
}

fn response_bounded(key: ApiKey, version: i16, bytes: &[u8]) -> bool {
    decode_bounded(bytes, |reader| Response::decode(key, reader, version))
}

#[test]
fn the_counter_counts() {
    // Otherwise every bound here would hold for nothing.
    let memory = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 100_000])));
    assert!(memory.bytes_max >= 100_000);
}

#[test]
fn every_cut_is_refused() {
    let mut rng = Rng::new(10);
    for_every_version(|key, version| {
        let request = request_bytes(&Request::sample(key, &mut rng, version), version);
        for end in 0..request.len() {
            assert!(
                !request_bounded(key, version, &request[..end]),
                "{key} {version} {end}"
            );
        }
        let response = response_bytes(&Response::sample(key, &mut rng, version), version);
        for end in 0..response.len() {
            assert!(
                !response_bounded(key, version, &response[..end]),
                "{key} {version} {end}"
            );
        }
    });
}

#[test]
fn every_place_holds_every_length() {
    let mut rng = Rng::new(11);
    for_every_version(|key, version| {
        let request = request_bytes(&Request::sample(key, &mut rng, version), version);
        with_lengths(&request, |bytes| {
            request_bounded(key, version, bytes);
        });
        let response = response_bytes(&Response::sample(key, &mut rng, version), version);
        with_lengths(&response, |bytes| {
            response_bounded(key, version, bytes);
        });
    });
}

/// `bytes` with each place in turn taken by each hostile length: as i32, as i16, as a varint, and off by one.
fn with_lengths(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    const PLACES_MAX: usize = 600;
    for place in 0..bytes.len().min(PLACES_MAX) {
        let mut put = |length: &[u8]| {
            let mut changed = bytes.to_vec();
            for (to, from) in changed[place..].iter_mut().zip(length) {
                *to = *from;
            }
            check(&changed);
        };
        for length in LENGTHS {
            put(&length.to_be_bytes());
            put(&(length as i16).to_be_bytes());
        }
        put(&[bytes[place].wrapping_add(1)]);
        put(&[bytes[place].wrapping_sub(1)]);
        put(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        put(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        put(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}

#[test]
fn noise_in_every_version() {
    let mut rng = Rng::new(12);
    for_every_version(|key, version| {
        for _ in 0..200 {
            let length = rng.below(512);
            // Small bytes reach deeper: they are plausible compact lengths.
            let ceiling = [256, 4, 16][rng.below(3)];
            let noise: Vec<u8> = (0..length).map(|_| rng.below(ceiling) as u8).collect();
            request_bounded(key, version, &noise);
            response_bounded(key, version, &noise);
        }
    });
}

#[test]
fn large_frames_that_announce_much_take_little() {
    const FRAME_BYTES: usize = 1 << 20;
    for_every_version(|key, version| {
        for filling in [0u8, 1, 2, 0xff] {
            let mut frame = vec![filling; FRAME_BYTES];
            request_bounded(key, version, &frame);
            response_bounded(key, version, &frame);
            // Counts near the size of the frame at each of the first places: fixed and compact.
            for place in 0..24 {
                for count in [
                    &[0, 0x0f, 0x42, 0x40][..],
                    &[0xc0, 0x84, 0x3d],
                    &[0xa0, 0x8d, 0x06],
                ] {
                    let before = frame[place..place + count.len()].to_vec();
                    frame[place..place + count.len()].copy_from_slice(count);
                    request_bounded(key, version, &frame);
                    response_bounded(key, version, &frame);
                    frame[place..place + count.len()].copy_from_slice(&before);
                }
            }
        }
    });
}

#[test]
fn what_is_wrong_is_named() {
    let metadata = ApiKey::Metadata;
    let tags = [&[0u8, 0, 0, 0x91, 0x4e][..], &[0; 30_000]].concat();
    let cases: &[(ApiKey, i16, &[u8], DecodeError)] = &[
        (
            metadata,
            1,
            &[0x7f, 0xff, 0xff, 0xff],
            DecodeError::ArrayTooLong(i32::MAX as usize),
        ),
        (
            metadata,
            1,
            &[0x80, 0, 0, 0],
            DecodeError::NegativeLength(i32::MIN),
        ),
        (
            metadata,
            1,
            &[0, 0, 0, 1, 0xff, 0xff],
            DecodeError::NullNotAllowed,
        ),
        (
            metadata,
            1,
            &[0, 0, 0, 1, 0xff, 0xfe],
            DecodeError::NegativeLength(-2),
        ),
        (
            metadata,
            1,
            &[0, 0, 0, 1, 0, 1, 0xff],
            DecodeError::InvalidUtf8,
        ),
        (
            metadata,
            1,
            &[0, 0, 0, 1, 0, 5, b'x'],
            DecodeError::UnexpectedEnd,
        ),
        (metadata, 1, &[0, 0], DecodeError::UnexpectedEnd),
        (
            metadata,
            9,
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            DecodeError::VarintTooLong,
        ),
        (metadata, 9, &[0xff; 6], DecodeError::VarintTooLong),
        (metadata, 9, &[0xff, 0xff], DecodeError::UnexpectedEnd),
        (metadata, 14, &[], DecodeError::UnsupportedVersion(14)),
        // Topics null, two flags, then 10,001 tagged fields.
        (
            metadata,
            11,
            &tags,
            DecodeError::TooManyTaggedFields(10_001),
        ),
        // A compact name of 40,000 bytes.
        (
            ApiKey::Heartbeat,
            4,
            &[0xc1, 0xb8, 0x02, 0],
            DecodeError::TextTooLong(40_000),
        ),
    ];
    for (key, version, bytes, expected) in cases {
        let frame = Bytes::copy_from_slice(bytes);
        let result = Request::decode(*key, &mut Reader::new(&frame), *version);
        assert_eq!(result, Err(*expected), "{key} {version}");
    }
    // A million names of one byte each would take 32 MB in memory: more than eight times the frame.
    let mut names = vec![0u8; 1_000_008];
    names[..4].copy_from_slice(&[1, 0xc1, 0x84, 0x3d]);
    let frame = Bytes::from(names[1..].to_vec());
    let result = Request::decode(ApiKey::DescribeGroups, &mut Reader::new(&frame), 5);
    assert_eq!(result, Err(DecodeError::MemoryBudget));
    // A known tag (finalized features epoch, eight bytes) that is announced as nine.
    let body = [0, 0, 1, 0, 0, 0, 0, 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let frame = Bytes::copy_from_slice(&body);
    let result = Response::decode(ApiKey::ApiVersions, &mut Reader::new(&frame), 3);
    assert_eq!(result, Err(DecodeError::TaggedFieldSize(1)));
}

#[test]
fn the_fuzzer_finds_nothing_and_repeats_itself() {
    const CASES: u64 = 60_000;
    let run = || fuzz::run(20, |report| report.cases < CASES).unwrap();
    let report = run();
    assert_eq!(report.cases, CASES);
    // Enough cases must still be messages, or the fuzzer only tests the first field.
    assert!(report.accepted > CASES / 20, "{report:?}");
    assert_eq!(run(), report);
}
