//! Idempotent producers: the rows of "Produce v7, idempotent" as a real broker answers them, and KIP-98's corners.

use model::record::{BatchBuilder, BatchHeader};
use model::{Offset, ProducerEpoch, ProducerId, Timestamp};
use storage::{AppendError, ProducerStates, SequenceCheck};

fn header(
    producer: i64,
    epoch: i16,
    sequence: i32,
    records: usize,
    base_offset: i64,
) -> BatchHeader {
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(epoch), sequence)
        .base_offset(Offset(base_offset));
    for _ in 0..records {
        builder.push(Timestamp(1), None, Some(b"v"));
    }
    BatchHeader::parse(&builder.build().unwrap()).unwrap()
}

#[derive(Debug, PartialEq)]
enum Answer {
    At(i64),
    Duplicate(i64),
    OutOfOrder,
    Fenced,
}

/// Runs one-record batches through a log's producer states, learning what is appended.
fn answers(rows: &[(i64, i16, i32)]) -> Vec<Answer> {
    let mut states = ProducerStates::default();
    let mut end = 0;
    let mut answers = Vec::new();
    for (producer, epoch, sequence) in rows {
        let batch = header(*producer, *epoch, *sequence, 1, end);
        answers.push(match states.check(&batch, None) {
            Ok(SequenceCheck::Duplicate(known)) => Answer::Duplicate(known.base_offset().0),
            Err(AppendError::OutOfOrderSequence { .. }) => Answer::OutOfOrder,
            Err(AppendError::InvalidProducerEpoch { .. }) => Answer::Fenced,
            Err(error) => panic!("{error}"),
            Ok(SequenceCheck::Append) => {
                states.learn(&batch, None, Timestamp(5));
                end += 1;
                Answer::At(end - 1)
            }
        });
    }
    answers
}

#[test]
fn answers_as_a_real_broker_does() {
    let rows = [
        (7, 0, 5),
        (7, 0, 6),
        (7, 0, 8),
        (7, 0, 5),
        (7, 0, 4),
        (7, 1, 3),
        (7, 1, 0),
        (7, 0, 7),
        (8, -1, 0),
    ];
    let expected = [
        Answer::At(0),
        Answer::At(1),
        Answer::OutOfOrder,
        Answer::Duplicate(0),
        Answer::OutOfOrder,
        Answer::OutOfOrder,
        Answer::At(2),
        Answer::Fenced,
        Answer::At(3),
    ];
    assert_eq!(answers(&rows), expected);
}

#[test]
fn five_batches_are_remembered_and_sequences_wrap() {
    let rows: Vec<(i64, i16, i32)> = (0..7)
        .map(|sequence| (1, 0, sequence))
        .chain([(1, 0, 2), (1, 0, 1)])
        .collect();
    let got = answers(&rows);
    assert_eq!(got[7], Answer::Duplicate(2));
    assert_eq!(
        got[8],
        Answer::OutOfOrder,
        "the sixth-last batch is forgotten"
    );
    let wrapped = answers(&[(1, 0, i32::MAX), (1, 0, 0), (1, 0, 1), (1, 0, i32::MAX)]);
    assert_eq!(
        wrapped,
        [
            Answer::At(0),
            Answer::At(1),
            Answer::At(2),
            Answer::Duplicate(0)
        ]
    );
    let mut states = ProducerStates::default();
    states.learn(&header(1, 0, i32::MAX - 1, 4, 0), None, Timestamp(1));
    assert_eq!(
        states.check(&header(1, 0, 2, 1, 4), None),
        Ok(SequenceCheck::Append),
        "a batch across the wrap ends at 1"
    );
}

#[test]
fn silent_producers_are_forgotten_and_may_continue_anywhere() {
    let mut states = ProducerStates::default();
    states.learn(&header(1, 3, 0, 1, 0), None, Timestamp(1_000));
    states.learn(&header(2, 3, 0, 1, 1), None, Timestamp(2_000));
    states.expire(Timestamp(11_000), 10_000);
    assert!(states.get(ProducerId(1)).is_none());
    assert!(states.get(ProducerId(2)).is_some());
    assert_eq!(
        states.check(&header(1, 0, 77, 1, 2), None),
        Ok(SequenceCheck::Append)
    );
}

#[test]
fn learning_twice_changes_nothing() {
    let mut once = ProducerStates::default();
    let batches: Vec<BatchHeader> = (0..7).map(|i| header(1, 0, i, 1, i.into())).collect();
    batches
        .iter()
        .for_each(|batch| once.learn(batch, None, Timestamp(9)));
    let mut twice = once.clone();
    batches
        .iter()
        .for_each(|batch| twice.learn(batch, None, Timestamp(9)));
    assert_eq!(once, twice);
}
