//! Counts and sizes of a shard's storage, as its metrics show them.

use runtime::metrics::{Labels, labels};
use runtime::{Io, Snapshot};

use crate::inner::Inner;
use crate::metrics::*;

impl<I: Io> Inner<I> {
    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        let counters = &self.counters;
        into.histogram(
            &COMMIT_GROUP_BYTES,
            Labels::new(),
            counters.group_bytes.snapshot(),
        );
        into.histogram(
            &COMMIT_GROUP_BATCHES,
            Labels::new(),
            counters.group_batches.snapshot(),
        );
        self.device_into(into);
        let journal = self.journal.borrow();
        let files = &journal.pipeline.files;
        let (capacity, count) = (files.total_bytes(), files.count());
        let used = files.used_bytes() + files.next_place().1;
        let gauges = [
            (&JOURNAL_USED_BYTES, used),
            (&JOURNAL_CAPACITY_BYTES, capacity),
            (&JOURNAL_FILES, count as u64),
            (&CACHE_USED_BYTES, self.extents.bytes()),
            (&CACHE_CAPACITY_BYTES, self.options.cache_bytes_max),
            (&TAIL_USED_BYTES, self.tail.borrow().bytes() as u64),
            (&TAIL_CAPACITY_BYTES, self.options.tail_bytes_max as u64),
            (&OPEN_FILES, self.files.len() as u64),
            (&SPARES_BYTES, self.removals.spares_bytes()),
            (&LOGS, self.logs.borrow().len() as u64),
        ];
        for (definition, value) in gauges {
            into.gauge(definition, Labels::new(), value);
        }
        let totals = [
            (&JOURNAL_DURABLE_WRITES, &counters.journal_durable_writes),
            (&CACHE_HITS, &self.extents.hits),
            (&CACHE_MISSES, &self.extents.misses),
            (&CACHE_EVICTIONS, self.extents.evictions()),
            (&CHECKPOINTS, &counters.checkpoints),
            (&CHECKPOINT_INCREMENTS, &counters.checkpoint_increments),
            (&CARRIED_BYTES, &counters.carried_bytes),
            (&PLACED_BYTES, &counters.placed_bytes),
            (&SEGMENTS_TAKEN_OVER, &counters.segments_taken_over),
            (
                &TRANSACTION_INDEXES_REBUILT,
                &counters.transaction_indexes_rebuilt,
            ),
        ];
        for (definition, counter) in totals {
            into.counter(definition, Labels::new(), counter.get());
        }
        for (source, counter) in [
            ("tail", &counters.tail_reads),
            ("segment", &counters.cold_reads),
        ] {
            into.counter(&LOG_READS, labels([("source", source)]), counter.get());
        }
    }

    fn device_into(&self, into: &mut Snapshot) {
        let counters = &self.counters;
        let kinds = [
            ("journal", &counters.journal),
            ("segment", &counters.segment),
            ("index", &counters.index),
            ("checkpoint", &counters.checkpoint),
        ];
        for (kind, device) in kinds {
            let values = [
                (&DEVICE_WRITES, &device.writes),
                (&DEVICE_WRITE_BYTES, &device.write_bytes),
                (&DEVICE_READS, &device.reads),
                (&DEVICE_READ_BYTES, &device.read_bytes),
                (&DEVICE_FLUSHES, &device.flushes),
            ];
            for (definition, counter) in values {
                into.counter(definition, labels([("kind", kind)]), counter.get());
            }
        }
        let prepared = labels([("kind", "journal_prepared")]);
        let bytes = counters.journal_prepared_bytes.get();
        into.counter(&DEVICE_WRITE_BYTES, prepared, bytes);
        let all = labels([("kind", "file_system")]);
        into.counter(&DEVICE_FLUSHES, all, counters.file_system_flushes.get());
    }
}
