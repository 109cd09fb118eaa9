//! What the records hold: text of 256 random words of 16 bytes, which lz4 and zstd shorten like structured data.

use bytes::Bytes;
use model::Timestamp;
use model::record::{
    BatchBuilder, BatchInfo, Compression, DecompressionScratch, ValidationRules, validate,
};
use runtime::sim::Generator;

/// Timestamp of the first record of a batch, in ms.
pub(crate) const FIRST_TIMESTAMP: Timestamp = Timestamp(1_700_000_000_000);

const SEED: u64 = 1;
const WORDS: usize = 256;
const WORD_BYTES: usize = 16;
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _";

/// `count` values of `bytes` each.
pub(crate) fn values(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let chance = Generator::new(SEED, 0);
    let letter = || LETTERS[chance.index(LETTERS.len())];
    let words: Vec<[u8; WORD_BYTES]> = (0..WORDS)
        .map(|_| std::array::from_fn(|_| letter()))
        .collect();
    let value = || {
        let mut value = Vec::with_capacity(bytes + WORD_BYTES);
        while value.len() < bytes {
            value.extend_from_slice(&words[chance.index(WORDS)]);
        }
        value.truncate(bytes);
        value
    };
    (0..count).map(|_| value()).collect()
}

/// A builder with these values, one millisecond apart.
pub(crate) fn builder(values: &[Vec<u8>], first: Timestamp) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for (value, timestamp) in values.iter().zip(first.0..) {
        builder.push(Timestamp(timestamp), None, Some(value));
    }
    builder
}

/// A batch of `count` records of `bytes` each.
pub(crate) fn batch(count: usize, bytes: usize, compression: Compression) -> Bytes {
    builder(&values(count, bytes), FIRST_TIMESTAMP)
        .compression(compression)
        .build()
        .expect("the batch is small and has records")
}

/// What validation says about a good batch.
pub(crate) fn info(batch: &[u8]) -> BatchInfo {
    let mut scratch = DecompressionScratch::new();
    validate(
        batch,
        &ValidationRules::default(),
        FIRST_TIMESTAMP,
        &mut scratch,
    )
    .expect("the batch is good")
}
