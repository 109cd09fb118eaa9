//! The fuzzer of record batches: mutated batches of every codec go through validation and reading, as a client's do.
//!
//! Pure and deterministic. A case fails if a batch that validation accepts cannot be read in full, or if validation
//! holds more memory than its bound. A panic fails by itself. (The fuzzer of requests is `protocol::fuzz`.)

use model::record::header::set_crc;
use model::record::{
    BatchBuilder, CompressedValidation, Compression, DecompressionScratch, ValidationRules,
    read_records, validate,
};
use model::{ProducerEpoch, ProducerId, Timestamp};
use runtime::sim::Generator;

/// Valid batches of each codec that mutation starts from.
const CORPUS_PER_CODEC: u64 = 12;
/// Most mutations of one batch.
const MUTATIONS_MAX: u64 = 5;
/// Most bytes that one mutation inserts.
const INSERTION_BYTES_MAX: u64 = 40;
/// The broker's clock.
const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Numbers that break parsers, written over four bytes.
const NUMBERS: [i32; 10] = [0, 1, -1, -2, 127, 128, 65_535, i32::MAX, i32::MIN, 1 << 24];
/// What validation holds afterwards at most: a window and what the codec looks back at.
const HELD_BYTES_MAX: usize = 16 << 20;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFuzzReport {
    /// Batches tried.
    pub cases: u64,
    /// Batches that were valid in spite of the mutation.
    pub accepted: u64,
}

/// The corpus, the generator that mutates it, and the memory that batches are decompressed into.
pub struct BatchFuzzer {
    seed: u64,
    random: Generator,
    corpus: Vec<Vec<u8>>,
    scratch: DecompressionScratch,
    report: BatchFuzzReport,
}

impl BatchFuzzer {
    /// Builds the corpus of a seed.
    pub fn new(seed: u64) -> BatchFuzzer {
        let random = Generator::new(seed, 0);
        let mut corpus = Vec::new();
        for codec in Compression::ALL {
            for _ in 0..CORPUS_PER_CODEC {
                corpus.push(sample(&random, codec));
            }
        }
        BatchFuzzer {
            seed,
            random,
            corpus,
            scratch: DecompressionScratch::new(),
            report: BatchFuzzReport::default(),
        }
    }

    /// What has been done so far.
    pub fn report(&self) -> BatchFuzzReport {
        self.report
    }

    /// Tries one mutated batch. The error has all that is needed to try it again.
    pub fn step(&mut self) -> Result<(), String> {
        let random = &self.random;
        let mut batch = self.corpus[random.index(self.corpus.len())].clone();
        for _ in 0..random.between(1, MUTATIONS_MAX) {
            mutate(random, &self.corpus, &mut batch);
        }
        if random.one_in(2) {
            set_batch_length(&mut batch);
        }
        // Most cases shall get beyond the checksum; one that is too short for it stays as it is.
        if !random.one_in(8) {
            set_crc(&mut batch).ok();
        }
        let rules = ValidationRules {
            compressed_validation: if random.one_in(4) {
                CompressedValidation::Frame
            } else {
                CompressedValidation::Full
            },
            key_required: random.one_in(8),
            ..ValidationRules::default()
        };
        self.report.cases += 1;
        let accepted = check(&batch, &rules, &mut self.scratch).map_err(|what| {
            let bytes: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
            let (seed, case) = (self.seed, self.report.cases);
            format!("seed {seed}, case {case}: {what}; batch {bytes}")
        })?;
        self.report.accepted += u64::from(accepted);
        Ok(())
    }
}

/// Puts one batch through everything. Whether it is valid.
pub fn check(
    batch: &[u8],
    rules: &ValidationRules,
    scratch: &mut DecompressionScratch,
) -> Result<bool, String> {
    let verdict = validate(batch, rules, NOW, scratch);
    if scratch.bytes_held() > HELD_BYTES_MAX {
        return Err(format!("validation holds {} bytes", scratch.bytes_held()));
    }
    let mut read = 0;
    let mut failure = None;
    match read_records(batch, scratch) {
        Err(error) => failure = Some(error.to_string()),
        Ok(records) => {
            for record in records {
                match record {
                    Ok(_) => read += 1,
                    Err(error) => {
                        failure = Some(error.to_string());
                        break;
                    }
                }
            }
        }
    }
    let Ok(info) = verdict else {
        return Ok(false);
    };
    let in_full = rules.compressed_validation == CompressedValidation::Full
        || info.compression == Compression::None;
    match failure {
        Some(failure) if in_full => Err(format!("valid, but not readable: {failure}")),
        None if in_full && info.header.record_count != read => Err(format!(
            "valid with {} records, {read} can be read",
            info.header.record_count
        )),
        _ => Ok(true),
    }
}

fn sample(random: &Generator, codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec);
    if random.one_in(2) {
        let sequence = random.below(1 << 20) as i32;
        builder = builder.producer(
            ProducerId(random.below(99) as i64),
            ProducerEpoch(1),
            sequence,
        );
    }
    for _ in 0..random.between(1, 20) {
        let value = vec![random.next() as u8; random.below(200) as usize];
        let key = random.next().to_be_bytes();
        let timestamp = Timestamp(NOW.0 - random.below(1000) as i64);
        let key = random.one_in(2).then_some(&key[..]);
        if random.one_in(3) {
            let headers = [("name", Some(&value[..])), ("", None)];
            builder.push_with_headers(timestamp, key, Some(&value), &headers);
        } else {
            builder.push(timestamp, key, (!random.one_in(5)).then_some(&value));
        }
    }
    builder
        .build()
        .expect("a batch with records can be built")
        .to_vec()
}

fn mutate(random: &Generator, corpus: &[Vec<u8>], batch: &mut Vec<u8>) {
    let at = random.index(batch.len() + 1);
    match random.below(7) {
        0 => batch.truncate(at),
        1 => {
            if let Some(byte) = batch.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => overwrite(batch, at, &[random.next() as u8]),
        3 => overwrite(
            batch,
            at,
            &NUMBERS[random.index(NUMBERS.len())].to_be_bytes(),
        ),
        4 => overwrite(batch, at, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        5 => {
            let noise: Vec<u8> = (0..random.below(INSERTION_BYTES_MAX))
                .map(|_| random.next() as u8)
                .collect();
            batch.splice(at..at, noise);
        }
        _ => {
            let other = &corpus[random.index(corpus.len())];
            let from = random.index(other.len() + 1);
            batch.truncate(at);
            batch.extend_from_slice(&other[from..]);
        }
    }
}

/// Writes `bytes` over what is there, as far as the batch goes.
fn overwrite(batch: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in batch.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// Makes the length field right, so that the mutation lies in the records and not in their frame.
fn set_batch_length(batch: &mut [u8]) {
    /// Base offset and the length itself, which the length does not count.
    const OVERHEAD: usize = model::record::LOG_OVERHEAD;
    if let Ok(length) = i32::try_from(batch.len().saturating_sub(OVERHEAD)) {
        overwrite(batch, OVERHEAD - 4, &length.to_be_bytes());
    }
}
