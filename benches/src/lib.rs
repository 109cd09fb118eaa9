//! Micro benches of the hot paths: the registry of all of them. One file per subject; `meter` takes the time.
//!
//! A bench prepares what it needs, then hands the meter one operation. Counts of operations are fixed, inputs come from
//! a fixed seed: two runs execute the same instructions, so that counts under callgrind can be compared.

// A program that measures: it reads the clock. What it measures does not.
#![allow(clippy::disallowed_methods)]

mod cached_reads;
pub mod drive;
mod histograms;
mod images;
pub mod instructions;
mod logs;
mod mailboxes;
mod meter;
mod payload;
pub mod peers;
mod producers;
mod record_batches;
mod wire;
pub mod workloads;

use model::record::Compression;

pub use meter::{Effort, Measured, Meter};

/// One bench.
#[derive(Clone, Copy)]
pub struct Bench {
    /// `subject/case`; unique.
    pub name: &'static str,
    /// What one operation is.
    pub unit: &'static str,
    /// Prepares, and measures once.
    pub run: fn(&mut Meter),
}

/// Every bench, by subject.
pub const BENCHES: &[Bench] = &[
    bench("validate/64x1KiB", "batch", |meter| {
        record_batches::validate(meter, 64, 1024, Compression::None);
    }),
    bench("validate/655x100B", "batch", |meter| {
        record_batches::validate(meter, 655, 100, Compression::None);
    }),
    bench("validate/1x200B", "batch", |meter| {
        record_batches::validate(meter, 1, 200, Compression::None);
    }),
    bench("validate/lz4/64x1KiB", "batch", |meter| {
        record_batches::validate(meter, 64, 1024, Compression::Lz4);
    }),
    bench("validate/zstd/64x1KiB", "batch", |meter| {
        record_batches::validate(meter, 64, 1024, Compression::Zstd);
    }),
    bench("crc/64KiB", "batch", |meter| {
        record_batches::crc(meter, 64, 1024);
    }),
    bench("crc/300B", "batch", |meter| {
        record_batches::crc(meter, 1, 230);
    }),
    bench("build/64x1KiB", "batch", |meter| {
        record_batches::build(meter, 64, 1024);
    }),
    bench("build/655x100B", "batch", |meter| {
        record_batches::build(meter, 655, 100);
    }),
    bench("produce_request/decode/1x200B", "frame", |meter| {
        wire::decode_produce_request(meter, 1, 200);
    }),
    bench("produce_request/decode/64KiB", "frame", |meter| {
        wire::decode_produce_request(meter, 64, 1024);
    }),
    bench("produce_response/encode", "frame", |meter| {
        wire::encode_produce_response(meter);
    }),
    bench("fetch_response/encode/64KiB", "frame", |meter| {
        wire::encode_fetch_response(meter, 64, 1024);
    }),
    bench("fetch_response/encode/300B", "frame", |meter| {
        wire::encode_fetch_response(meter, 1, 230);
    }),
    bench("metadata_request/decode", "frame", |meter| {
        wire::decode_metadata_request(meter);
    }),
    bench("metadata_response/encode/100", "frame", |meter| {
        wire::encode_metadata_response(meter);
    }),
    bench("metadata_response/decode/100", "frame", |meter| {
        wire::decode_metadata_response(meter);
    }),
    bench("log/append/64KiB", "append", |meter| {
        logs::append(meter, &logs::LARGE);
    }),
    bench("log/append/200B", "append", |meter| {
        logs::append(meter, &logs::SMALL);
    }),
    bench("log/commit/64KiB", "append", |meter| {
        logs::commit(meter, &logs::LARGE);
    }),
    bench("log/commit/200B", "append", |meter| {
        logs::commit(meter, &logs::SMALL);
    }),
    bench("log/tail_read/64KiB", "read", |meter| {
        logs::tail_read(meter, &logs::LARGE);
    }),
    bench("log/tail_read/300x200B", "read", |meter| {
        logs::tail_read(meter, &logs::SMALL);
    }),
    bench("index/offset", "lookup", cached_reads::by_offset),
    bench("index/timestamp", "lookup", cached_reads::by_timestamp),
    bench("producers/check", "batch", producers::check),
    bench("producers/check_and_learn", "batch", |meter| {
        producers::check_and_learn(meter);
    }),
    bench("mailbox/hop", "message", mailboxes::hop),
    bench("mailbox/wake", "message", mailboxes::wake),
    bench("histogram/record", "sample", histograms::record),
    bench("image/partition/24000", "lookup", images::by_partition),
    bench("image/topic_name/24000", "lookup", images::by_topic_name),
];

const fn bench(name: &'static str, unit: &'static str, run: fn(&mut Meter)) -> Bench {
    Bench { name, unit, run }
}

impl Bench {
    /// Runs it.
    ///
    /// Panics if the bench measures nothing, or if what it measures does not work.
    pub fn measure(&self, effort: Effort) -> Measured {
        let mut meter = Meter::new(effort);
        (self.run)(&mut meter);
        meter
            .measured()
            .unwrap_or_else(|| panic!("the bench {} measures nothing", self.name))
    }
}
