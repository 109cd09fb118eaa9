//! Frames: what is written is read again, and hostile bytes are refused at little cost.

use bytes::{Bytes, BytesMut};
use model::record::{BatchBuilder, set_base_offset, set_leader_epoch};
use model::{BrokerId, LeaderEpoch, Offset, Timestamp};
use proptest::prelude::*;
use ringlog_quorum::{
    Body, CodecError, DirectoryId, Entry, EntryId, EntryIndex, MESSAGE_ENTRIES_MAX, Message,
    ReplicaKey, SnapshotMark, Term, VoterSet, decode, decode_mark, encode, encode_mark,
};

fn key(broker: i32) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(broker),
        directory: DirectoryId([broker as u8; 16]),
    }
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        index: EntryIndex(index),
        term: Term(term),
    }
}

fn entry(base: i64, term: i32, value: &[u8]) -> Entry {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(7), None, Some(value));
    let batch = builder.build().unwrap();
    let mut batch = BytesMut::from(&batch[..]);
    set_base_offset(&mut batch, Offset(base)).unwrap();
    set_leader_epoch(&mut batch, LeaderEpoch(term)).unwrap();
    Entry::read(batch.freeze()).unwrap()
}

fn message(body: Body) -> Message {
    Message {
        from: key(1),
        to: key(2),
        term: Term(9),
        body,
    }
}

fn mark() -> SnapshotMark {
    SnapshotMark {
        index: EntryIndex(7),
        term: Term(3),
        end_offset: Offset(20),
        voters: VoterSet::new(vec![key(1), key(2), key(3)]).unwrap(),
    }
}

/// One of each kind.
fn all() -> Vec<Message> {
    let commit = EntryIndex(5);
    let index = EntryIndex(6);
    let entries = vec![
        entry(10, 4, b"one"),
        entry(11, 5, b"two"),
        entry(12, 9, b""),
    ];
    let mut bodies = vec![
        Body::Append {
            previous: id(6, 4),
            commit,
            entries,
        },
        Body::Append {
            previous: id(0, 0),
            commit,
            entries: Vec::new(),
        },
        Body::Appended { index, commit },
        Body::Rejected {
            index,
            hint: id(3, 2),
            commit,
        },
        Body::Heartbeat { commit },
        Body::HeartbeatResponse { commit },
        Body::Snapshot(mark()),
        Body::TimeoutNow,
    ];
    for (pre, second) in [(false, false), (false, true), (true, false), (true, true)] {
        bodies.push(Body::VoteRequest {
            pre,
            transfer: second,
            last: id(6, 4),
            commit: id(5, 4),
        });
        bodies.push(Body::VoteResponse {
            pre,
            granted: second,
            commit: id(0, 0),
        });
    }
    bodies.into_iter().map(message).collect()
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for message in all() {
        let frame = encode(&message);
        let bytes = frame.to_bytes();
        assert_eq!(bytes.len(), frame.size_bytes());
        assert_eq!(decode(&bytes), Ok(message));
    }
    assert_eq!(decode_mark(&encode_mark(&mark())), Ok(mark()));
}

#[test]
fn batches_stay_slices_of_the_frame() {
    let bytes = encode(&all()[0]).to_bytes();
    let range = bytes.as_ptr_range();
    let Body::Append { entries, .. } = decode(&bytes).unwrap().body else {
        panic!("an append");
    };
    assert!(
        entries
            .iter()
            .all(|entry| range.contains(&entry.batch().as_ptr()))
    );
}

#[test]
fn what_is_cut_short_or_too_long_is_refused() {
    for message in all() {
        let bytes = encode(&message).to_bytes();
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes.slice(..length)).is_err(),
                "{message:?} {length}"
            );
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.extend_from_slice(&[0]);
        assert!(decode(&longer.freeze()).is_err(), "{message:?}");
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    for message in all() {
        let bytes = encode(&message).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = BytesMut::from(&bytes[..]);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&flipped.freeze());
            assert!(read.is_err(), "{message:?} bit {bit}");
        }
    }
}

/// Frames that are whole, with fields that cannot be.
#[test]
fn every_field_is_checked() {
    let append = |previous, entries| {
        message(Body::Append {
            previous,
            commit: EntryIndex(1),
            entries,
        })
    };
    let with_term = |term| Message {
        term: Term(term),
        ..message(Body::TimeoutNow)
    };
    let vote = |last| {
        message(Body::VoteRequest {
            pre: false,
            transfer: false,
            last,
            commit: id(0, 0),
        })
    };
    let snapshot = |index, end| {
        message(Body::Snapshot(SnapshotMark {
            index: EntryIndex(index),
            end_offset: Offset(end),
            ..mark()
        }))
    };
    let table = [
        (with_term(0), CodecError::Term(0)),
        (with_term(1 << 31), CodecError::Term(1 << 31)),
        (vote(id(3, 0)), CodecError::EntryId),
        (vote(id(0, 3)), CodecError::EntryId),
        (vote(id(1, u64::MAX)), CodecError::Term(u64::MAX)),
        (snapshot(30, 29), CodecError::Snapshot),
        (snapshot(u64::MAX, 29), CodecError::Snapshot),
        // A hole; a term that goes back; one from before the entry before; one from after the message.
        (
            append(id(1, 1), vec![entry(3, 2, b"a"), entry(5, 2, b"b")]),
            CodecError::Order,
        ),
        (
            append(id(1, 1), vec![entry(3, 2, b"a"), entry(4, 1, b"b")]),
            CodecError::Order,
        ),
        (append(id(1, 5), vec![entry(3, 4, b"a")]), CodecError::Order),
        (
            append(id(1, 5), vec![entry(3, 10, b"a")]),
            CodecError::Order,
        ),
    ];
    for (message, error) in table {
        assert_eq!(
            decode(&encode(&message).to_bytes()),
            Err(error),
            "{message:?}"
        );
    }
}

/// A head with a checksum that is right.
fn forged(change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let frame = encode(&message(Body::Append {
        previous: id(1, 1),
        commit: EntryIndex(1),
        entries: Vec::new(),
    }));
    let mut bytes = BytesMut::from(&frame.to_bytes()[..]);
    change(&mut bytes);
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    bytes.freeze()
}

#[test]
fn what_is_announced_costs_nothing() {
    let announcing = |count: u32| {
        forged(|bytes| {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&count.to_be_bytes());
        })
    };
    let too_many = MESSAGE_ENTRIES_MAX as u32 + 1;
    assert_eq!(
        decode(&announcing(too_many)),
        Err(CodecError::TooManyEntries)
    );
    let frame = announcing(too_many - 1);
    let used = allocation_counter::measure(|| {
        assert!(decode(&frame).is_err());
    });
    assert!(used.bytes_max < 1_000, "{used:?}");
    assert_eq!(
        decode(&forged(|bytes| bytes[4] = 2)),
        Err(CodecError::Version(2))
    );
    assert_eq!(
        decode(&forged(|bytes| bytes[5] = 99)),
        Err(CodecError::Kind(99))
    );
    assert_eq!(
        decode(&forged(|bytes| bytes[6] = 1)),
        Err(CodecError::Flags(1))
    );
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(decode(&bytes).is_err());
        prop_assert!(decode_mark(&bytes).is_err());
        prop_assert!(Entry::read(bytes).is_err());
    }

    #[test]
    fn hostile_fields_behind_a_right_checksum(kind in 0u8..12, flags in 0u8..8, more in proptest::collection::vec(any::<u8>(), 0..200)) {
        let frame = forged(|bytes| {
            bytes[5] = kind;
            bytes[6] = flags;
            bytes.truncate(55);
            bytes.extend_from_slice(&more);
        });
        // Whatever is read can be written, and is the same then.
        if let Ok(message) = decode(&frame) {
            prop_assert_eq!(decode(&encode(&message).to_bytes()), Ok(message));
        }
    }

    #[test]
    fn entries_of_any_size(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..20)) {
        let entries: Vec<Entry> = (40..).zip(&values).map(|(base, value)| entry(base, 3, value)).collect();
        let sent = message(Body::Append { previous: id(2, 2), commit: EntryIndex(2), entries });
        prop_assert_eq!(decode(&encode(&sent).to_bytes()), Ok(sent));
    }
}
