//! The walk over pieces comes to the verdict of the walk over the whole, wherever the pieces are cut.

use proptest::prelude::*;

use crate::error_code::ErrorCode;
use crate::record::header::HEADER_LEN;
use crate::record::{BatchBuilder, BatchHeader, ValidationRules};
use crate::time::Timestamp;

use super::super::ValidationError;
use super::super::partial_record::TOKEN_BYTES_MAX;
use super::{Newest, Walk};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

type Verdict = Result<(Timestamp, i32), ErrorCode>;

fn verdict(result: Result<Newest, ValidationError>) -> Verdict {
    result
        .map(|newest| (newest.timestamp, newest.offset_delta))
        .map_err(|error| error.error_code())
}

fn in_pieces(walk: Walk, records: &[u8], cuts: &[usize]) -> Verdict {
    let mut walk = walk;
    let mut begin = 0;
    let mut cuts = cuts
        .iter()
        .map(|cut| cut % (records.len() + 1))
        .collect::<Vec<_>>();
    cuts.sort_unstable();
    cuts.push(records.len());
    for end in cuts {
        if end < begin {
            continue;
        }
        match walk.feed(&records[begin..end]) {
            Ok(used) => begin += used,
            Err(error) => return Err(error.error_code()),
        }
        assert!(
            end - begin < TOKEN_BYTES_MAX,
            "{} bytes unused",
            end - begin
        );
    }
    verdict(walk.finish(&records[begin..]))
}

fn batch() -> (BatchHeader, Vec<u8>) {
    let mut builder = BatchBuilder::new();
    for index in 0..40_i64 {
        let value = vec![b'v'; (index * index) as usize % 300];
        let key = (index % 3 > 0).then_some(&value[..value.len() / 2]);
        let headers = [("name", Some(&value[..])), ("", None)];
        let headers = &headers[..index as usize % 3];
        let timestamp = Timestamp(NOW.0 + (index * 7_919) % 1_000);
        builder.push_with_headers(timestamp, key, Some(&value), headers);
    }
    let batch = builder.build().expect("it has records");
    let header = BatchHeader::parse(&batch).expect("it was built");
    (header, batch[HEADER_LEN..].to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn pieces_do_not_matter(
        cuts in prop::collection::vec(any::<usize>(), 0..60),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut_off in prop::option::of(any::<prop::sample::Index>()),
        key_required in any::<bool>(),
    ) {
        let (header, mut records) = batch();
        for (at, byte) in changes {
            let at = at.index(records.len());
            records[at] = byte;
        }
        if let Some(at) = cut_off {
            records.truncate(at.index(records.len()));
        }
        let rules = ValidationRules { key_required, ..ValidationRules::default() };
        let whole = verdict(Walk::new(&header, &rules, NOW).run(&records));
        let pieces = in_pieces(Walk::new(&header, &rules, NOW), &records, &cuts);
        // Where the bytes end inside of a record, the whole says so at once; pieces may have met another defect before.
        if whole.is_ok() || pieces.is_ok() {
            prop_assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn single_bytes_do_not_matter(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (header, mut records) = batch();
        let at = at.index(records.len());
        records[at] = byte;
        let rules = ValidationRules::default();
        let whole = verdict(Walk::new(&header, &rules, NOW).run(&records));
        let cuts: Vec<usize> = (0..records.len()).collect();
        let pieces = in_pieces(Walk::new(&header, &rules, NOW), &records, &cuts);
        if whole.is_ok() || pieces.is_ok() {
            prop_assert_eq!(pieces, whole);
        }
    }
}
