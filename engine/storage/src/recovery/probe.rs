//! Measures the device.

use std::time::Duration;

use model::ShardId;
use runtime::{Buffer, File, Io, OpenMode};

use crate::error::{OpenError, open_io};
use crate::layout::Layout;

/// Rounds of the device probe, and the size of its writes.
const PROBE_ROUNDS: u64 = 8;
const PROBE_BYTES: usize = 16 << 10;

/// Measures whether this device makes small groups durable faster by O_DSYNC or by fdatasync. Overwrites the start of
/// a journal file, which holds nothing of value before the first group.
pub(super) async fn probe<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
    number: u32,
) -> Result<bool, OpenError> {
    let path = layout.journal_file(shard, number);
    let mut zeros = io.buffer(PROBE_BYTES);
    zeros.truncate(PROBE_BYTES);
    zeros.as_mut().fill(0);
    let zeros = zeros.freeze();
    let plain = io
        .open(&path, OpenMode::Write)
        .await
        .map_err(open_io("open", &path))?;
    let durable = io
        .open(&path, OpenMode::WriteDurable)
        .await
        .map_err(open_io("open", &path))?;
    if plain.len().await.map_err(open_io("size", &path))? < PROBE_BYTES as u64 {
        return Ok(true);
    }
    // The best of several rounds: what else runs on the machine can only make a round slower.
    let (mut durable_best, mut sync_best) = (Duration::MAX, Duration::MAX);
    for _ in 0..PROBE_ROUNDS {
        let start = io.now();
        durable
            .write_at(zeros.clone(), 0)
            .await
            .map_err(open_io("write", &path))?;
        let middle = io.now();
        plain
            .write_at(zeros.clone(), 0)
            .await
            .map_err(open_io("write", &path))?;
        plain.sync_data().await.map_err(open_io("flush", &path))?;
        durable_best = durable_best.min(middle.since(start));
        sync_best = sync_best.min(io.now().since(middle));
    }
    let chosen = durable_best <= sync_best;
    tracing::info!(
        shard = shard.0,
        durable_write_us = durable_best.as_micros() as u64,
        write_then_sync_us = sync_best.as_micros() as u64,
        durable_write = chosen,
        "journal flush method"
    );
    Ok(chosen)
}
