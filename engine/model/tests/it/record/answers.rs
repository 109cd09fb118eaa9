//! The rows of a real broker's produce answers that concern the batch itself: each defect and its code.

use model::record::validate::REJECTED_RECORDS_EXPLAINED_MAX;
use model::record::{
    BatchBuilder, Compression, DecompressionScratch, TimestampType, ValidationRules, header,
    validate,
};
use model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const HOUR_MS: i64 = 3_600_000;

/// What the broker answered.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    code: ErrorCode,
    log_start: bool,
    record_errors: Vec<i32>,
    text: bool,
}

fn accepted() -> Answer {
    Answer {
        code: ErrorCode::None,
        log_start: true,
        record_errors: vec![],
        text: false,
    }
}

fn refused(code: ErrorCode, log_start: bool) -> Answer {
    Answer {
        code,
        log_start,
        record_errors: vec![],
        text: false,
    }
}

fn answer(bytes: &[u8], rules: &ValidationRules) -> Answer {
    match validate(bytes, rules, NOW, &mut DecompressionScratch::new()) {
        Ok(_) => accepted(),
        Err(error) => Answer {
            code: error.error_code(),
            log_start: error.has_log_start_offset(),
            text: error.message().is_some(),
            record_errors: error
                .into_rejected_records()
                .iter()
                .map(|(index, _)| index)
                .collect(),
        },
    }
}

fn two_records_at(timestamp: i64, builder: BatchBuilder) -> Vec<u8> {
    let mut builder = builder;
    builder.push(Timestamp(timestamp), Some(b"k1"), Some(b"v1"));
    builder.push(Timestamp(timestamp), Some(b"k2"), Some(b"v2"));
    builder.build().unwrap().to_vec()
}

fn good() -> Vec<u8> {
    two_records_at(NOW.0, BatchBuilder::new())
}

/// A good batch after `change`, with a right checksum.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut batch = good();
    change(&mut batch);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    header::set_crc(&mut batch).unwrap();
    batch
}

fn with_i32(start: usize, value: i32) -> Vec<u8> {
    changed(|batch| batch[start..start + 4].copy_from_slice(&value.to_be_bytes()))
}

fn with_byte(at: usize, value: u8) -> Vec<u8> {
    changed(|batch| batch[at] = value)
}

fn counts(delta: i32, count: i32) -> Vec<u8> {
    changed(|batch| {
        batch[23..27].copy_from_slice(&delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
    })
}

type Row = (&'static str, Vec<u8>, Answer);

/// Defects that Kafka finds when it appends: the answer names the log start offset.
fn append_rows() -> Vec<Row> {
    let mut base_99 = good();
    header::set_base_offset(&mut base_99, Offset(99)).unwrap();
    let no_records = changed(|batch| {
        batch.truncate(61);
        batch[23..27].fill(0xff);
        batch[57..61].fill(0);
    });
    let invalid = || refused(ErrorCode::InvalidRecord, true);
    vec![
        (
            "record count larger than the records",
            counts(2, 3),
            invalid(),
        ),
        (
            "record count smaller than the records",
            counts(0, 1),
            invalid(),
        ),
        (
            "last offset delta does not match count",
            with_i32(23, 5),
            invalid(),
        ),
        (
            "last offset delta at its limit",
            with_i32(23, i32::MAX),
            invalid(),
        ),
        ("negative record count", with_i32(57, -1), invalid()),
        ("no records", no_records, invalid()),
        ("control batch", with_byte(22, 0x20), invalid()),
        ("base offset 99", base_99, invalid()),
    ]
}

/// Defects that Kafka finds before.
fn request_rows() -> Vec<Row> {
    use ErrorCode::{CorruptMessage, InvalidRecord, MessageTooLarge};
    let request = |code| refused(code, false);
    let spoken = |code| Answer {
        text: true,
        ..refused(code, false)
    };
    let mut wrong_crc = good();
    wrong_crc[17] ^= 1;
    let mut large = BatchBuilder::new();
    large.push(NOW, Some(b"k"), Some(&vec![0; 1_048_588]));
    let large = large.build().unwrap().to_vec();
    let zeros_behind = [&good()[..], &[0; 20]].concat();
    vec![
        ("magic 5", with_byte(16, 5), spoken(CorruptMessage)),
        ("magic -1", with_byte(16, 0xff), spoken(CorruptMessage)),
        ("magic 1", with_byte(16, 1), request(InvalidRecord)),
        ("magic 0", with_byte(16, 0), request(InvalidRecord)),
        ("wrong CRC", wrong_crc, request(CorruptMessage)),
        (
            "two batches",
            [good(), good()].concat(),
            request(InvalidRecord),
        ),
        (
            "20 zero bytes behind the batch",
            zeros_behind,
            spoken(CorruptMessage),
        ),
        ("empty records", vec![], request(InvalidRecord)),
        ("11 zero bytes", vec![0; 11], request(InvalidRecord)),
        ("61 zero bytes", vec![0; 61], spoken(CorruptMessage)),
        (
            "batch cut off",
            good()[..70].to_vec(),
            request(InvalidRecord),
        ),
        (
            "larger than max.message.bytes",
            large,
            request(MessageTooLarge),
        ),
    ]
}

#[test]
fn framing_and_header() {
    let rules = ValidationRules::default();
    let good_rows = vec![
        ("good, two records", good(), accepted()),
        (
            "LogAppendTime flag set by the client",
            with_byte(22, 8),
            accepted(),
        ),
        (
            "3 bytes behind the batch",
            [&good()[..], &[1, 2, 3]].concat(),
            accepted(),
        ),
        (
            "a cut-off batch behind the batch",
            [&good()[..], &good()[..40]].concat(),
            accepted(),
        ),
    ];
    for (row, bytes, expected) in [good_rows, append_rows(), request_rows()].concat() {
        assert_eq!(answer(&bytes, &rules), expected, "{row}");
    }
}

#[test]
fn payload() {
    let rules = ValidationRules::default();
    let undecodable = refused(ErrorCode::UnknownServerError, true);
    let malformed = refused(ErrorCode::InvalidRecord, true);
    let garbage = |codec: u8, byte: u8| {
        changed(|batch| {
            batch[22] = codec;
            batch[61..].fill(byte);
        })
    };
    let rows: Vec<(&str, Vec<u8>, &Answer)> = vec![
        ("garbage payload", garbage(0, 0xff), &undecodable),
        ("gzip flag on plain records", with_byte(22, 1), &undecodable),
        (
            "snappy flag on plain records",
            with_byte(22, 2),
            &undecodable,
        ),
        ("lz4 flag on plain records", with_byte(22, 3), &undecodable),
        ("zstd flag on plain records", with_byte(22, 4), &undecodable),
        ("codec 7", with_byte(22, 7), &undecodable),
        ("codec 5", with_byte(22, 5), &undecodable),
        ("zeros", garbage(0, 0), &malformed),
        ("negative record length", with_byte(61, 1), &malformed),
        (
            "record length past the end",
            with_byte(61, 0x7e),
            &malformed,
        ),
        ("record length too short", with_byte(61, 2), &malformed),
        ("offset delta 5", with_byte(64, 10), &malformed),
        (
            "key length past the record",
            with_byte(65, 0x7e),
            &malformed,
        ),
        ("key length -2", with_byte(65, 3), &malformed),
        ("negative header count", with_byte(71, 1), &malformed),
        ("more headers than bytes", with_byte(71, 0x7e), &malformed),
    ];
    for (row, bytes, expected) in rows {
        assert_eq!(answer(&bytes, &rules), *expected, "{row}");
    }
}

#[test]
fn timestamps() {
    let rules = ValidationRules::default();
    let rejected = Answer {
        code: ErrorCode::InvalidTimestamp,
        log_start: true,
        record_errors: vec![0, 1],
        text: true,
    };
    let at = |timestamp| two_records_at(timestamp, BatchBuilder::new());
    assert_eq!(answer(&at(-1), &rules), accepted());
    assert_eq!(answer(&at(-2), &rules), accepted());
    assert_eq!(answer(&at(NOW.0 + HOUR_MS), &rules), accepted());
    assert_eq!(answer(&at(NOW.0 + HOUR_MS + 1), &rules), rejected);
    assert_eq!(
        answer(&at(NOW.0 + 2 * HOUR_MS), &rules),
        rejected,
        "two hours ahead"
    );
    assert_eq!(answer(&at(i64::MAX), &rules), rejected);
    assert_eq!(answer(&at(i64::MIN), &rules), rejected);
    let narrow = ValidationRules {
        timestamp_before_ms_max: 10,
        ..rules
    };
    assert_eq!(answer(&at(NOW.0 - 10), &narrow), accepted());
    assert_eq!(answer(&at(NOW.0 - 11), &narrow), rejected);
    assert_eq!(
        answer(&at(-1), &narrow),
        accepted(),
        "no timestamp is always accepted"
    );
    let stamped = ValidationRules {
        timestamp_type: TimestampType::LogAppendTime,
        ..narrow
    };
    assert_eq!(answer(&at(i64::MAX), &stamped), accepted());
}

#[test]
fn keys_and_producers() {
    let compacted = ValidationRules {
        key_required: true,
        ..ValidationRules::default()
    };
    let missing = Answer {
        code: ErrorCode::InvalidRecord,
        log_start: true,
        record_errors: vec![1],
        text: true,
    };
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(codec);
        builder.push(NOW, Some(b""), None);
        builder.push(NOW, None, Some(b"v"));
        let batch = builder.build().unwrap();
        assert_eq!(
            answer(&batch, &compacted),
            missing,
            "{codec}: no key on a compacted topic"
        );
        assert_eq!(answer(&batch, &ValidationRules::default()), accepted());
    }
    let rows = [
        (-1, 3, 0, ErrorCode::None),
        (770_002, -1, 0, ErrorCode::None),
        (770_003, 0, -1, ErrorCode::InvalidRecord),
    ];
    for (id, epoch, sequence, code) in rows {
        let builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        let batch = two_records_at(NOW.0, builder);
        assert_eq!(
            answer(&batch, &compacted).code,
            code,
            "producer {id} sequence {sequence}"
        );
    }
}

#[test]
fn zstd_needs_a_later_request_and_segments_bound_appends() {
    let batch = two_records_at(NOW.0, BatchBuilder::new().compression(Compression::Zstd));
    let old = ValidationRules {
        zstd_allowed: false,
        ..ValidationRules::default()
    };
    assert_eq!(
        answer(&batch, &old),
        refused(ErrorCode::UnsupportedCompressionType, false)
    );
    let tiny = ValidationRules {
        segment_bytes_max: 60,
        ..ValidationRules::default()
    };
    assert_eq!(
        answer(&good(), &tiny),
        refused(ErrorCode::RecordListTooLarge, false)
    );
}

#[test]
fn wrong_timestamps_in_the_header_are_reported() {
    let mut scratch = DecompressionScratch::new();
    let rules = ValidationRules::default();
    let mut batch = good();
    header::set_max_timestamp(&mut batch, TimestampType::CreateTime, Timestamp(5)).unwrap();
    let info = validate(&batch, &rules, NOW, &mut scratch).unwrap();
    assert!(info.timestamp_patch_needed);
    assert_eq!(info.max_timestamp, NOW);
    header::set_max_timestamp(&mut batch, rules.timestamp_type, info.max_timestamp).unwrap();
    assert!(
        !validate(&batch, &rules, NOW, &mut scratch)
            .unwrap()
            .timestamp_patch_needed
    );
    assert_eq!(batch, good());
    let stamped = ValidationRules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules
    };
    let info = validate(&good(), &stamped, NOW, &mut scratch).unwrap();
    assert!(info.timestamp_patch_needed);
    assert_eq!(
        (info.max_timestamp, info.offset_delta_of_max_timestamp),
        (NOW, 0)
    );
}

#[test]
fn every_record_without_a_key_is_listed() {
    let compacted = ValidationRules {
        key_required: true,
        ..ValidationRules::default()
    };
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new().compression(codec);
        for index in 0..5_000 {
            let key = (index % 3 == 0).then_some(&b"key"[..]);
            builder.push(NOW, key, Some(b"v"));
        }
        let batch = builder.build().unwrap();
        let mut scratch = DecompressionScratch::new();
        let error = validate(&batch, &compacted, NOW, &mut scratch).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
        assert!(error.message().is_some(), "for those without a text");
        let records = error.into_rejected_records();
        let expected: Vec<i32> = (0..5_000).filter(|index| index % 3 != 0).collect();
        let listed: Vec<i32> = records.iter().map(|(index, _)| index).collect();
        assert_eq!(listed, expected, "{codec}");
        let explained = records.iter().filter(|(_, reason)| reason.is_some());
        assert_eq!(explained.count(), REJECTED_RECORDS_EXPLAINED_MAX);
    }
}
