//! Messages of streams: what is written is read again, and hostile bytes are refused at little cost.

use bytes::{Bytes, BytesMut};
use model::record::{BatchBuilder, Batches, set_base_offset, set_leader_epoch};
use model::{BrokerEpoch, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use proptest::prelude::*;
use ringlog_replica::stream::{
    Acknowledged, Answer, Answered, CodecError, MESSAGE_PARTITIONS_MAX, Pushed, Records,
    StreamBody, StreamMessage, StreamNumber, SubscribeRefusal, Subscribed, decode, encode,
};
use ringlog_replica::{EpochEnd, SubscribeAnswer};

fn id(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId([7; 16]),
        partition: PartitionIndex(index),
    }
}

/// A batch of so many records.
fn batch(base: i64, epoch: i32, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in 0..records {
        builder.push(Timestamp(record as i64), None, Some(b"value"));
    }
    let mut batch = BytesMut::from(&builder.build().unwrap()[..]);
    set_base_offset(&mut batch, Offset(base)).unwrap();
    set_leader_epoch(&mut batch, LeaderEpoch(epoch)).unwrap();
    batch.freeze()
}

/// A batch that says that it ends before it begins.
fn less_than_none() -> Bytes {
    let mut bytes = BytesMut::from(&batch(10, 3, 2)[..]);
    bytes[23..27].copy_from_slice(&(-2i32).to_be_bytes());
    bytes.freeze()
}

/// Records from 10 on, in the epochs 3 and 4, with a gap.
fn records() -> Records {
    Records {
        slices: vec![Bytes::from(
            [batch(10, 3, 2), batch(12, 3, 1), batch(15, 4, 5)].concat(),
        )],
        max_timestamp_deltas: vec![1, 0, 4],
        last_epoch: LeaderEpoch(4),
    }
}

fn pushed(index: i32, (base, end): (i64, i64), records: Records) -> Pushed {
    Pushed {
        partition: id(index),
        leader_epoch: LeaderEpoch(4),
        base_offset: Offset(base),
        end_offset: Offset(end),
        high_watermark: Offset(9),
        log_start_offset: Offset(2),
        records,
    }
}

fn message(body: StreamBody) -> StreamMessage {
    StreamMessage {
        broker_epoch: BrokerEpoch(77),
        stream: StreamNumber(5),
        number: 3,
        body,
    }
}

fn answered(index: i32, answer: Answer) -> Answered {
    Answered {
        partition: id(index),
        leader_epoch: LeaderEpoch(4),
        answer,
    }
}

fn subscribed(last_epoch: i32) -> Subscribed {
    Subscribed {
        partition: id(1),
        leader_epoch: LeaderEpoch(4),
        log_end_offset: Offset(10),
        last_epoch: LeaderEpoch(last_epoch),
    }
}

fn acknowledged(end: i64) -> Acknowledged {
    Acknowledged {
        partition: id(1),
        leader_epoch: LeaderEpoch(4),
        durable_end_offset: Offset(end),
    }
}

/// One of each kind.
fn all() -> Vec<StreamMessage> {
    let at = EpochEnd {
        epoch: LeaderEpoch(2),
        end_offset: Offset(8),
    };
    let mut answers = vec![
        answered(0, Answer::Log(SubscribeAnswer::Accepted)),
        answered(1, Answer::Log(SubscribeAnswer::Diverged(at))),
        answered(2, Answer::Log(SubscribeAnswer::StartOver(Offset(30)))),
    ];
    let refusals = SubscribeRefusal::ALL.into_iter();
    answers.extend(refusals.map(|refusal| answered(3, Answer::Refused(refusal))));
    let bodies = vec![
        StreamBody::Subscribe(vec![subscribed(3), subscribed(-1)]),
        StreamBody::Acknowledge {
            taken: 6,
            partitions: vec![acknowledged(10), acknowledged(0)],
        },
        StreamBody::Acknowledge {
            taken: 6,
            partitions: Vec::new(),
        },
        StreamBody::Answer(answers),
        StreamBody::Push(vec![
            pushed(1, (10, 20), records()),
            pushed(2, (10, 10), Records::none()),
            pushed(3, (9, 20), records()),
        ]),
    ];
    bodies.into_iter().map(message).collect()
}

fn bytes_of(message: &StreamMessage) -> Bytes {
    Bytes::from(encode(message).concat())
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for message in all() {
        assert_eq!(decode(&bytes_of(&message)), Ok(message));
    }
    let records = records();
    let batches: Vec<(usize, i32)> = records
        .batches()
        .map(|(batch, delta)| (batch.len(), delta))
        .collect();
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[2].1, 4);
    let bytes: usize = batches.iter().map(|(bytes, _)| bytes).sum();
    assert_eq!(bytes, records.size_bytes());
}

#[test]
fn records_stay_slices_of_the_message() {
    let bytes = bytes_of(&all()[4]);
    let range = bytes.as_ptr_range();
    let StreamBody::Push(pushed) = decode(&bytes).unwrap().body else {
        panic!("a push");
    };
    for slice in pushed.iter().flat_map(|one| &one.records.slices) {
        assert!(range.contains(&slice.as_ptr()));
    }
}

#[test]
fn what_is_cut_short_or_too_long_is_refused() {
    for message in all() {
        let bytes = bytes_of(&message);
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes.slice(..length)).is_err(),
                "{message:?} {length}"
            );
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert!(decode(&longer).is_err(), "{message:?}");
    }
}

/// But for the records, which the follower checks before it appends them.
#[test]
fn a_flipped_bit_is_noticed() {
    for message in all() {
        let bytes = bytes_of(&message);
        let heads = encode(&message)[0].len();
        let batch = heads..heads + 21;
        let checked = (0..heads).chain(batch.filter(|at| *at < bytes.len()));
        for at in checked {
            for bit in 0..8 {
                let mut flipped = BytesMut::from(&bytes[..]);
                flipped[at] ^= 1 << bit;
                let read = decode(&flipped.freeze());
                assert!(read.is_err(), "{message:?} byte {at} bit {bit}");
            }
        }
    }
}

/// Messages that are whole, with fields that cannot be.
#[test]
fn every_field_is_checked() {
    let push = |range, records| message(StreamBody::Push(vec![pushed(1, range, records)]));
    let of = |slices: &[Bytes], deltas: usize| Records {
        slices: vec![Bytes::from(slices.concat())],
        max_timestamp_deltas: vec![0; deltas],
        last_epoch: LeaderEpoch(4),
    };
    let table = [
        message(StreamBody::Subscribe(vec![subscribed(-2)])),
        message(StreamBody::Subscribe(vec![Subscribed {
            log_end_offset: Offset(-1),
            ..subscribed(1)
        }])),
        message(StreamBody::Subscribe(vec![Subscribed {
            leader_epoch: LeaderEpoch(-1),
            ..subscribed(1)
        }])),
        message(StreamBody::Acknowledge {
            taken: 0,
            partitions: vec![acknowledged(-1)],
        }),
        StreamMessage {
            number: 0,
            ..all()[0].clone()
        },
        // Records that are not all that is announced, or more.
        push((10, 21), records()),
        push((10, 19), records()),
        push((11, 20), records()),
        push((10, 10), records()),
        push((10, 11), Records::none()),
        // Another number of batches, an epoch that goes back, one from after the leader's, offsets that go back.
        push((10, 12), of(&[batch(10, 3, 2)], 2)),
        push((10, 12), of(&[batch(10, 3, 2)], 0)),
        push((10, 13), of(&[batch(10, 3, 2), batch(12, 2, 1)], 2)),
        push((10, 12), of(&[batch(10, 5, 2)], 1)),
        push((10, 12), of(&[batch(10, -1, 2)], 1)),
        push((10, 12), of(&[batch(10, 3, 2), batch(11, 3, 1)], 2)),
        push((10, i64::MAX), of(&[batch(i64::MAX - 1, 3, 2)], 1)),
        push((10, 12), of(&[less_than_none()], 1)),
    ];
    for message in table {
        assert!(decode(&bytes_of(&message)).is_err(), "{message:?}");
    }
}

/// A message of this kind with a checksum that is right. Where there are records, their lengths must stay for that.
fn forged(message: &StreamMessage, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let head = encode(message)[0].len();
    let mut bytes = BytesMut::from(&bytes_of(message)[..]);
    change(&mut bytes);
    let mut covered = bytes[4..head.min(bytes.len())].to_vec();
    let records = &bytes[head.min(bytes.len())..];
    for (_, batch) in Batches::new(records).map_while(Result::ok) {
        covered.extend_from_slice(&batch[..21]);
    }
    if records.is_empty() {
        covered = bytes[4..].to_vec();
    }
    let checksum = crc32c(&covered);
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    bytes.freeze()
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut state = u32::MAX;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = state & 1;
            state >>= 1;
            if carry == 1 {
                state ^= 0x82f6_3b78;
            }
        }
    }
    !state
}

#[test]
fn what_is_announced_costs_nothing() {
    let subscribe = &all()[0];
    let count_at = 4 + 2 + 3 * 8;
    let announcing = |message: &StreamMessage, at: usize, count: u32| {
        forged(message, |bytes| {
            bytes[at..at + 4].copy_from_slice(&count.to_be_bytes());
        })
    };
    let too_many = MESSAGE_PARTITIONS_MAX as u32 + 1;
    assert_eq!(
        decode(&announcing(subscribe, count_at, too_many)),
        Err(CodecError::PartitionCount)
    );
    let push = message(StreamBody::Push(vec![pushed(1, (10, 10), Records::none())]));
    let batches_at = count_at + 4 + 20 + 4 + 4 * 8 + 4;
    let frames = [
        announcing(subscribe, count_at, too_many - 1),
        announcing(&push, batches_at, u32::MAX),
        announcing(&push, batches_at - 4, u32::MAX),
    ];
    for frame in frames {
        let used = allocation_counter::measure(|| {
            assert!(decode(&frame).is_err());
        });
        assert!(used.bytes_max < 1_000, "{used:?}");
    }
    assert_eq!(
        decode(&forged(subscribe, |bytes| bytes[4] = 2)),
        Err(CodecError::Version(2))
    );
    assert_eq!(
        decode(&forged(subscribe, |bytes| bytes[5] = 9)),
        Err(CodecError::Kind(9))
    );
    let answer = &all()[3];
    let code_at = count_at + 4 + 20 + 4;
    assert_eq!(
        decode(&forged(answer, |bytes| bytes[code_at] = 99)),
        Err(CodecError::Answer(99))
    );
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn hostile_fields_behind_a_right_checksum(kind in 0u8..6, more in proptest::collection::vec(any::<u8>(), 0..200)) {
        let frame = forged(&all()[0], |bytes| {
            bytes[5] = kind;
            bytes.truncate(4 + 2 + 3 * 8);
            bytes.extend_from_slice(&more);
        });
        // Whatever is read can be written, and is the same then.
        if let Ok(message) = decode(&frame) {
            prop_assert_eq!(decode(&bytes_of(&message)), Ok(message));
        }
    }

    #[test]
    fn few_bytes_changed_behind_a_right_checksum(which in 0usize..5, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let frame = forged(&all()[which], |bytes| {
            for (at, value) in changes {
                let length = bytes.len();
                bytes[at.index(length)] = value;
            }
        });
        if let Ok(message) = decode(&frame) {
            prop_assert_eq!(decode(&bytes_of(&message)), Ok(message));
        }
    }
}
