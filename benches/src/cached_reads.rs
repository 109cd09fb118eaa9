//! Index lookups: one small batch out of a segment, by offset and by timestamp, its extent being in the cache.
//!
//! What is timed is the way through the log's public door: find the segment, its index, the chunk, the extent, the
//! batch. The device is not touched, which is asserted.

use model::{Offset, Timestamp};
use runtime::sim::Generator;
use storage::{ReadRequest, StorageOptions};

use crate::logs::Opened;
use crate::meter::{Meter, timed};
use crate::payload;

/// Batches in the log: 32 MiB, 512 chunks of the index.
const BATCHES: i64 = 8_192;
/// Those looked for: the older half, which is no longer in memory.
const COLD_BATCHES: u64 = 4_096;
const VALUE_BYTES: usize = 4_000;
/// Small, so that the tail keeps the newest batches only.
const TAIL_BYTES_MAX: usize = 4 << 20;
const LOOKUPS: u64 = 20_000;

/// A log whose older half has been read once, so that it is in the cache. Batch `n` has offset `n` and was written
/// `n` ms after the first.
fn warm() -> Opened {
    let opened = Opened::new(StorageOptions {
        tail_bytes_max: TAIL_BYTES_MAX,
        ..StorageOptions::default()
    });
    opened.simulation.block_on(0, async {
        let values = payload::values(1, VALUE_BYTES);
        for number in 0..BATCHES {
            let timestamp = Timestamp(payload::FIRST_TIMESTAMP.0 + number);
            let batch = payload::builder(&values, timestamp)
                .build()
                .expect("the batch is small and has records");
            opened.admit(batch.len()).await;
            opened.append(&batch, &payload::info(&batch));
        }
        opened.all_committed().await;
    });
    for number in 0..COLD_BATCHES {
        opened
            .simulation
            .block_on(0, look_up_offset(&opened, number));
    }
    opened
}

async fn look_up_offset(opened: &Opened, number: u64) {
    let from = Offset(number.cast_signed());
    let request = ReadRequest {
        from,
        end: opened.log.durable_end_offset(),
        bytes_max: 0,
        at_least_one_batch: true,
    };
    let read = opened.storage.read(&opened.log, request).await;
    assert_eq!(
        read.expect("the segment can be read").next_offset,
        from.plus(1)
    );
}

async fn look_up_timestamp(opened: &Opened, number: u64) {
    let number = number.cast_signed();
    let timestamp = Timestamp(payload::FIRST_TIMESTAMP.0 + number);
    let end = opened.log.durable_end_offset();
    let found = opened
        .storage
        .offset_for_timestamp(&opened.log, timestamp, end)
        .await
        .expect("the segment can be searched");
    assert_eq!(found.map(|found| found.offset), Some(Offset(number)));
}

fn look_up(meter: &mut Meter, look_up: impl AsyncFn(&Opened, u64)) {
    let opened = warm();
    let read_bytes = || opened.counted().total("ringlog_device_read_bytes_total");
    let before = read_bytes();
    let chance = Generator::new(1, 1);
    meter.runs(LOOKUPS, 0, |lookups| {
        timed(|| {
            opened.simulation.block_on(0, async {
                for _ in 0..lookups {
                    look_up(&opened, chance.below(COLD_BATCHES)).await;
                }
            });
        })
    });
    assert_eq!(before, read_bytes(), "lookups were served from the cache");
}

/// By offset.
pub(crate) fn by_offset(meter: &mut Meter) {
    look_up(meter, look_up_offset);
}

/// By timestamp: also walks the records of the batch.
pub(crate) fn by_timestamp(meter: &mut Meter) {
    look_up(meter, look_up_timestamp);
}
