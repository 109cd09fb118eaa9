//! Idempotent producers: the sequence check of each batch, with 1,000 producers known to the log.

use model::record::BatchHeader;
use model::{Offset, ProducerEpoch, ProducerId};
use storage::{ProducerStates, SequenceCheck};

use crate::meter::Meter;
use crate::payload;

const PRODUCERS: i64 = 1_000;
const OPS: u64 = 200_000;

/// The state, and each producer's next batch.
fn known() -> (ProducerStates, Vec<BatchHeader>) {
    let mut states = ProducerStates::default();
    let values = payload::values(1, 100);
    let headers = (0..PRODUCERS)
        .map(|id| {
            let batch = payload::builder(&values, payload::FIRST_TIMESTAMP)
                .producer(ProducerId(id), ProducerEpoch(0), 0)
                .base_offset(Offset(id))
                .build()
                .expect("the batch is small and has records");
            let mut header = BatchHeader::parse(&batch).expect("the batch is good");
            states.learn(&header, None, payload::FIRST_TIMESTAMP);
            header.base_sequence = 1;
            header
        })
        .collect();
    (states, headers)
}

fn assert_next(states: &ProducerStates, header: &BatchHeader) {
    let check = states.check(header, None);
    assert!(matches!(check, Ok(SequenceCheck::Append)), "{check:?}");
}

/// Checks the next batch of each producer in turn.
pub(crate) fn check(meter: &mut Meter) {
    let (states, headers) = known();
    let mut next = headers.iter().cycle();
    meter.repeat(OPS, 0, || {
        assert_next(&states, next.next().expect("a cycle has no end"));
    });
}

/// Checks it and learns it.
pub(crate) fn check_and_learn(meter: &mut Meter) {
    let (mut states, mut headers) = known();
    let mut log_end_offset = Offset(PRODUCERS);
    let mut producer = 0;
    meter.repeat(OPS, 0, || {
        let header = &mut headers[producer];
        header.base_offset = log_end_offset;
        assert_next(&states, header);
        states.learn(header, None, payload::FIRST_TIMESTAMP);
        header.base_sequence += 1;
        log_end_offset = log_end_offset.plus(1);
        // The high watermark follows: what lies below it is not undone.
        states.settle(log_end_offset);
        producer = (producer + 1) % headers.len();
    });
}
