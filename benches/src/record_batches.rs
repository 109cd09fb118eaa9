//! Record batches: validation of what a producer sent, the checksum, building.

use model::record::{Compression, DecompressionScratch, ValidationRules, crc_matches};

use crate::meter::Meter;
use crate::payload;

/// Operations per run that touch about this many bytes.
const BYTES_PER_RUN: usize = 32 << 20;
/// Bound of the operations per run.
const OPS_MAX: usize = 100_000;

fn ops(bytes: usize) -> u64 {
    (BYTES_PER_RUN / bytes.max(1)).min(OPS_MAX) as u64
}

/// Validates a batch under the rules of a topic with default settings. Bytes are those of the batch uncompressed.
pub(crate) fn validate(meter: &mut Meter, count: usize, bytes: usize, compression: Compression) {
    let batch = payload::batch(count, bytes, compression);
    let size_bytes = payload::batch(count, bytes, Compression::None).len();
    let rules = ValidationRules::default();
    let mut scratch = DecompressionScratch::new();
    meter.repeat(ops(size_bytes), size_bytes, || {
        model::record::validate(&batch, &rules, payload::FIRST_TIMESTAMP, &mut scratch)
            .expect("the batch is good")
    });
}

/// Checks the checksum of a batch.
pub(crate) fn crc(meter: &mut Meter, count: usize, bytes: usize) {
    let batch = payload::batch(count, bytes, Compression::None);
    meter.repeat(ops(batch.len()), batch.len(), || {
        assert!(crc_matches(&batch));
    });
}

/// Builds a batch from values.
pub(crate) fn build(meter: &mut Meter, count: usize, bytes: usize) {
    let values = payload::values(count, bytes);
    let size_bytes = payload::batch(count, bytes, Compression::None).len();
    meter.repeat(ops(size_bytes), size_bytes, || {
        payload::builder(&values, payload::FIRST_TIMESTAMP)
            .build()
            .expect("the batch is small and has records")
    });
}
