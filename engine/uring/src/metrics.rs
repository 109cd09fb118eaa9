//! What this crate counts about one executor, and the registry of its metrics.

use std::time::Duration;

use runtime::metrics::{Labels, MetricDefinition, Snapshot, Unit};
use runtime::{Counter, Histogram};

use crate::uring_io::Shared;

/// A heartbeat that comes this much too late shows that something kept the core, or that the core slept too long.
const STALL_MIN: Duration = Duration::from_millis(10);

/// Counters of one executor.
#[derive(Default)]
pub(crate) struct Counters {
    heartbeats: Counter,
    stalls: Histogram,
}

impl Counters {
    /// The heartbeat came `late` after its time.
    pub(crate) fn beat(&self, late: Duration) {
        self.heartbeats.increment();
        if late >= STALL_MIN {
            self.stalls.record(late);
        }
    }
}

/// Times in which nothing ran, or one task ran too long.
pub static EXECUTOR_STALL: MetricDefinition = MetricDefinition::histogram(
    "ringlog_executor_stall_seconds",
    Unit::Seconds,
    "How late the executor's heartbeat came, when it was 10 ms late or more.",
);
/// Signs of life.
pub static EXECUTOR_HEARTBEATS: MetricDefinition = MetricDefinition::counter(
    "ringlog_executor_heartbeats_total",
    Unit::Count,
    "Heartbeats of the executor: one that stands still for seconds belongs to a core that hangs.",
);
/// Work of the kernel for us.
pub static FILE_OPERATIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_file_operations",
    Unit::Count,
    "File and blocking operations under way.",
);
/// Buffers kept for reuse.
pub static POOL_IDLE_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_buffer_pool_idle_bytes",
    Unit::Bytes,
    "Bytes of idle buffers that the shard keeps for reuse.",
);
/// All buffers.
pub static BUFFERS_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_buffers_bytes",
    Unit::Bytes,
    "Memory of the shard's buffers, idle or in use.",
);

impl Shared {
    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        let counters = &self.counters;
        into.histogram(&EXECUTOR_STALL, Labels::new(), counters.stalls.snapshot());
        let beats = counters.heartbeats.get();
        into.counter(&EXECUTOR_HEARTBEATS, Labels::new(), beats);
        for (definition, value) in [
            (&FILE_OPERATIONS, self.operation_count()),
            (&POOL_IDLE_BYTES, self.pool.idle_bytes()),
            (&BUFFERS_BYTES, self.pool.allocated_bytes()),
        ] {
            into.gauge(definition, Labels::new(), value as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Counters;

    #[test]
    fn only_late_beats_are_stalls() {
        let counters = Counters::default();
        for millis in [0, 9, 10, 400] {
            counters.beat(Duration::from_millis(millis));
        }
        assert_eq!(counters.heartbeats.get(), 4);
        assert_eq!(counters.stalls.count(), 2);
        assert_eq!(counters.stalls.max_nanos(), 400_000_000);
    }
}
