//! What the builder writes, the readers read: every codec, and bytes that were written down by hand.

use model::record::{
    BatchBuilder, BatchCheck, BatchError, BatchHeader, Batches, Compression, ControlError,
    ControlRecord, DecompressionScratch, EndMarker, TimestampType, ValidationRules, control,
    crc_matches, read_control_batch, read_records, read_records_owned, set_base_offset,
    set_leader_epoch, set_log_append_time, validate,
};
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Two records, ("k", "hello") with one header and (null, null), uncompressed, timestamps 1000 and 1005.
const GOLDEN: &[u8] = &[
    0, 0, 0, 0, 0, 0, 0, 0, // base offset
    0, 0, 0, 74, // batch length
    0xff, 0xff, 0xff, 0xff, // leader epoch
    2,    // magic
    0, 0, 0, 0, // crc, filled in by `golden`
    0, 0, // attributes
    0, 0, 0, 1, // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8, // base timestamp
    0, 0, 0, 0, 0, 0, 0x03, 0xed, // max timestamp
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id
    0xff, 0xff, // producer epoch
    0xff, 0xff, 0xff, 0xff, // base sequence
    0, 0, 0, 2, // record count
    // length 17, attributes, timestamp delta 0, offset delta 0, key, value, one header
    34, 0, 0, 0, 2, b'k', 10, b'h', b'e', b'l', b'l', b'o', 2, 4, b'h', b'1', 2, b'v',
    // length 7: delta 5, offset delta 1, null key, null value, no headers
    12, 0, 10, 2, 1, 1, 0,
];

fn golden() -> Vec<u8> {
    let mut batch = GOLDEN.to_vec();
    let crc = crc32_bitwise(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// CRC-32C from its definition, bit by bit: a second opinion on the library.
fn crc32_bitwise(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[test]
fn builder_writes_the_golden_bytes() {
    let mut builder = BatchBuilder::new();
    builder.push_with_headers(
        Timestamp(1000),
        Some(b"k"),
        Some(b"hello"),
        &[("h1", Some(b"v"))],
    );
    builder.push(Timestamp(1005), None, None);
    assert_eq!(builder.build().unwrap(), golden());
}

#[test]
fn golden_bytes_read_back() {
    let batch = golden();
    assert!(crc_matches(&batch));
    let mut scratch = DecompressionScratch::new();
    let info = validate(&batch, &ValidationRules::default(), NOW, &mut scratch).unwrap();
    assert_eq!(info.max_timestamp, Timestamp(1005));
    assert_eq!(info.offset_delta_of_max_timestamp, 1);
    assert!(!info.timestamp_patch_needed);
    assert_eq!(info.size_bytes, batch.len());
    let records: Vec<_> = read_records(&batch, &mut scratch)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key, Some(&b"k"[..]));
    assert_eq!(records[0].value, Some(&b"hello"[..]));
    assert_eq!(records[0].timestamp, Timestamp(1000));
    let headers: Vec<_> = records[0].headers.collect();
    assert_eq!(headers, [(&b"h1"[..], Some(&b"v"[..]))]);
    assert_eq!(
        (records[1].offset, records[1].timestamp),
        (Offset(1), Timestamp(1005))
    );
    assert_eq!((records[1].key, records[1].value), (None, None));
    assert_eq!(records[1].headers.count(), 0);
}

/// Records of many shapes: empty, null, short, long, repetitive and not.
fn varied(builder: &mut BatchBuilder, count: i64) {
    let long: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for i in 0..count {
        let value = vec![b'x'; (i * 37 % 3000) as usize];
        let key = i.to_be_bytes();
        builder.push_with_headers(
            Timestamp(NOW.0 + i % 7 - 3),
            (i % 3 != 0).then_some(&key[..]),
            match i % 5 {
                0 => None,
                1 => Some(&[]),
                2 => Some(&long[..(i as usize * 997) % long.len()]),
                _ => Some(&value),
            },
            if i % 4 == 0 {
                &[("empty", None), ("", Some(b"v"))]
            } else {
                &[]
            },
        );
    }
}

#[test]
fn every_codec_round_trips_and_recompresses() {
    let mut scratch = DecompressionScratch::new();
    let mut plain = BatchBuilder::new();
    varied(&mut plain, 200);
    let plain = plain.build().unwrap();
    let expected = read_records_owned(&plain).unwrap();
    assert_eq!(expected.len(), 200);
    let rules = ValidationRules {
        batch_bytes_max: 64 << 20,
        ..ValidationRules::default()
    };
    for codec in Compression::ALL {
        let mut builder =
            BatchBuilder::new()
                .compression(codec)
                .producer(ProducerId(7), ProducerEpoch(2), 40);
        varied(&mut builder, 200);
        let batch = builder.build().unwrap();
        let info = validate(&batch, &rules, NOW, &mut scratch).unwrap();
        assert_eq!(info.compression, codec);
        assert_eq!(info.header.last_sequence(), 239);
        assert_eq!(info.max_timestamp, Timestamp(NOW.0 + 3));
        assert_eq!(read_records_owned(&batch).unwrap(), expected, "{codec}");
        for to in Compression::ALL {
            let check = BatchCheck::begin(&batch, &rules, Some((to, None)), NOW).unwrap();
            let checked = check.run(&mut scratch).unwrap();
            let info = checked.info(TimestampType::CreateTime, NOW);
            let other = match checked.recompressed {
                Some(other) => other,
                None => batch.clone(),
            };
            assert_eq!((info.compression, info.size_bytes), (to, other.len()));
            assert_eq!(info.header, BatchHeader::parse(&other).unwrap());
            let info = validate(&other, &rules, NOW, &mut scratch).unwrap();
            assert_eq!(
                (info.compression, info.header.producer_id),
                (to, ProducerId(7))
            );
            assert_eq!(
                read_records_owned(&other).unwrap(),
                expected,
                "{codec} to {to}"
            );
        }
    }
}

#[test]
fn levels_are_used() {
    let size = |codec, level| {
        let mut builder = BatchBuilder::new().compression(codec).level(level);
        varied(&mut builder, 100);
        builder.build().unwrap().len()
    };
    assert!(size(Compression::Gzip, 9) < size(Compression::Gzip, 1));
    assert!(size(Compression::Zstd, 19) < size(Compression::Zstd, -50));
    assert_eq!(size(Compression::Gzip, -1), size(Compression::Gzip, 6));
}

#[test]
fn patches_keep_the_checksum_right() {
    let mut builder = BatchBuilder::new().compression(Compression::Lz4);
    varied(&mut builder, 9);
    let mut batch = builder.build().unwrap().to_vec();
    set_base_offset(&mut batch, Offset(99)).unwrap();
    set_leader_epoch(&mut batch, LeaderEpoch(5)).unwrap();
    assert!(crc_matches(&batch));
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.base_offset, header.leader_epoch),
        (Offset(99), LeaderEpoch(5))
    );
    assert_eq!(
        (header.last_offset(), header.next_offset()),
        (Offset(107), Offset(108))
    );
    set_log_append_time(&mut batch, NOW).unwrap();
    assert!(crc_matches(&batch));
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    for record in read_records_owned(&batch).unwrap() {
        assert_eq!(record.timestamp, NOW);
        assert!(record.offset.0 >= 99);
    }
    assert_eq!(header.to_bytes(), batch[..61]);
}

#[test]
fn patching_something_shorter_than_a_header_is_an_error() {
    let mut cut = golden()[..60].to_vec();
    let expected = Err(BatchError::HeaderCut(60));
    assert_eq!(set_base_offset(&mut cut, Offset(1)), expected);
    assert_eq!(set_log_append_time(&mut cut, NOW), expected);
}

#[test]
fn sequences_wrap() {
    let mut builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), i32::MAX - 1);
    varied(&mut builder, 4);
    let header = BatchHeader::parse(&builder.build().unwrap()).unwrap();
    assert_eq!(header.last_sequence(), 1);
    assert!(header.is_idempotent());
}

#[test]
fn end_markers_round_trip() {
    for marker in [EndMarker::Abort, EndMarker::Commit] {
        let batch =
            control::end_marker_batch(marker, ProducerId(9), ProducerEpoch(3), 12, NOW).unwrap();
        assert!(crc_matches(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(header.is_control() && header.is_transactional());
        let mut scratch = DecompressionScratch::new();
        let record = read_records(&batch, &mut scratch)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(
            control::decode_control_record(&record).unwrap(),
            ControlRecord::EndMarker {
                marker,
                coordinator_epoch: 12
            }
        );
    }
}

/// The bytes are those that Kafka 4.3 writes: key (0, 3) or (0, 4), values with a tagged-field count at the end.
#[test]
fn snapshot_header_and_footer_round_trip() {
    let epoch = LeaderEpoch(7);
    let header = control::snapshot_header_batch(epoch, Timestamp(0x0102), &[], NOW).unwrap();
    let marked = control::snapshot_header_batch(epoch, Timestamp(0x0102), &[7, 8], NOW).unwrap();
    let footer = control::snapshot_footer_batch(Offset(41), epoch, NOW).unwrap();
    let expected = [
        (
            &header,
            Offset(0),
            vec![0, 3],
            vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0],
            ControlRecord::SnapshotHeader {
                last_contained_log_timestamp: Timestamp(0x0102),
            },
        ),
        (
            &marked,
            Offset(0),
            vec![0, 3],
            vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0x90, 0x4e, 2, 7, 8],
            ControlRecord::SnapshotHeader {
                last_contained_log_timestamp: Timestamp(0x0102),
            },
        ),
        (
            &footer,
            Offset(41),
            vec![0, 4],
            vec![0, 0, 0],
            ControlRecord::SnapshotFooter,
        ),
    ];
    for (batch, offset, kind, value, meaning) in expected {
        assert!(crc_matches(batch));
        let header = BatchHeader::parse(batch).unwrap();
        assert!(header.is_control() && !header.is_transactional());
        assert_eq!((header.base_offset, header.leader_epoch), (offset, epoch));
        let mut scratch = DecompressionScratch::new();
        let records: Vec<_> = read_records(batch, &mut scratch).unwrap().collect();
        assert_eq!(records.len(), 1);
        let record = records[0].as_ref().unwrap();
        assert_eq!(record.key.unwrap(), [vec![0, 0], kind].concat());
        assert_eq!(record.value.unwrap(), value);
        assert_eq!(control::decode_control_record(record).unwrap(), meaning);
        if meaning != ControlRecord::SnapshotFooter {
            let mark: &[u8] = if value.ends_with(&[7, 8]) {
                &[7, 8]
            } else {
                &[]
            };
            assert_eq!(control::snapshot_mark(record).unwrap(), mark);
        }
    }
}

#[test]
fn a_control_batch_says_one_thing_or_is_refused() {
    let end = control::end_marker_batch(EndMarker::Abort, ProducerId(9), ProducerEpoch(3), 12, NOW);
    let end = end.unwrap();
    let said = ControlRecord::EndMarker {
        marker: EndMarker::Abort,
        coordinator_epoch: 12,
    };
    assert_eq!(read_control_batch(&end), Ok(Some(said)));
    let of = |records: &[(&[u8], &[u8])], codec| {
        let mut builder = BatchBuilder::new().control(true).compression(codec);
        for (key, value) in records {
            builder.push(NOW, Some(key), Some(value));
        }
        builder.build().unwrap()
    };
    let (abort, epoch, leader): (&[u8], &[u8], &[u8]) =
        (&[0, 0, 0, 0], &[0, 0, 0, 0, 0, 1], &[0, 0, 0, 2]);
    let plain = Compression::None;
    let other = of(&[(leader, b"x"), (leader, b"y")], plain);
    assert_eq!(
        read_control_batch(&other),
        Ok(Some(ControlRecord::Other(2)))
    );
    let two = of(&[(abort, epoch), (abort, epoch)], plain);
    assert_eq!(read_control_batch(&two), Err(ControlError::NotAlone(2)));
    let packed = of(&[(abort, epoch)], Compression::Lz4);
    assert_eq!(read_control_batch(&packed), Err(ControlError::Compressed));
    for (key, value) in [(&abort[..3], epoch), (abort, &epoch[..5]), (&[], epoch)] {
        let cut = read_control_batch(&of(&[(key, value)], plain));
        assert!(matches!(cut, Err(ControlError::Malformed(_))), "{cut:?}");
    }
    // Compaction leaves the header of a producer's last batch (KIP-534).
    let mut emptied = BatchHeader::parse(&end).unwrap();
    emptied.record_count = 0;
    emptied.batch_length = 49;
    assert_eq!(read_control_batch(&emptied.to_bytes()), Ok(None));
    for len in 0..end.len() {
        assert!(read_control_batch(&end[..len]).is_err(), "{len} bytes");
    }
    for byte in 61..end.len() {
        let mut damaged = end.to_vec();
        damaged[byte] ^= 0x80;
        // The checksum is for who received the bytes; here no damage may do more than lie.
        let _read = read_control_batch(&damaged);
    }
}

#[test]
fn batches_back_to_back() {
    let mut log = Vec::new();
    for base in [0, 2, 4] {
        let mut batch = golden();
        set_base_offset(&mut batch, Offset(base)).unwrap();
        log.extend_from_slice(&batch);
    }
    let bases: Vec<_> = Batches::new(&log)
        .map(|batch| batch.unwrap().0.base_offset.0)
        .collect();
    assert_eq!(bases, [0, 2, 4]);
    log.truncate(log.len() - 1);
    let last = Batches::new(&log).last().unwrap();
    assert!(matches!(last, Err(BatchError::Cut { .. })));
    assert_eq!(
        Batches::new(&log).count(),
        3,
        "iteration ends after an error"
    );
}
