//! How the broker's memory is divided (`ringlog.memory.bytes`, `--memory`).
//!
//! Everything large is taken from one of these budgets; what is outside of them (code, stacks, metadata, allocator
//! slack) is small and does not grow with load.

use model::config::BrokerConfig;

use crate::cgroup;

/// Used when nothing is configured: this share of the machine's memory, within bounds. Modest on purpose: the tail needs
/// to cover the time until records are in their segments and their consumers have seen them, and memory that is touched
/// for the first time costs more CPU than anything the broker does with it.
const MACHINE_SHARE: u64 = 32;
const DEFAULT_MIN: u64 = 256 << 20;
const DEFAULT_MAX: u64 = 4 << 30;

/// What the process takes besides twice the budgets under the worst of loads.
const OUTSIDE_BYTES: u64 = 200 << 20;
/// In a container smaller than that there is no budget that is safe: this is the least to work with, and the least that
/// `ringlog.memory.bytes` may be.
const CONTAINER_MIN: u64 = 64 << 20;

/// Budgets of one shard, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Records in memory: the tails of all partitions. Half of the whole.
    pub tail_bytes: usize,
    /// Cache of what was read from disk. A quarter.
    pub cache_bytes: usize,
    /// Requests larger than a read buffer or on their way to another shard. An eighth.
    pub request_bytes: usize,
    /// Answers that their clients have not read. A sixteenth: readers that read at once need little.
    pub answer_bytes: usize,
    /// Idle I/O buffers. A sixteenth.
    pub buffer_pool_bytes: usize,
}

impl MemoryPlan {
    /// Divides `bytes` (by default a share of the machine) among `shard_count` shards.
    pub fn new(bytes: Option<u64>, shard_count: usize) -> MemoryPlan {
        let total = bytes.unwrap_or_else(default_bytes);
        let shard = usize::try_from(total / shard_count.max(1) as u64).unwrap_or(usize::MAX);
        MemoryPlan {
            tail_bytes: shard / 2,
            cache_bytes: shard / 4,
            request_bytes: shard / 8,
            answer_bytes: shard / 16,
            buffer_pool_bytes: shard / 16,
        }
    }

    /// What all shards together may take.
    pub fn whole_bytes(&self, shard_count: usize) -> usize {
        // The tails are half of it.
        self.tail_bytes * 2 * shard_count
    }

    /// What settings promise that this memory can hold only one at a time, as a sentence for the log.
    pub fn warning(&self, config: &BrokerConfig) -> Option<String> {
        let promised = usize::try_from(config.socket_request_max_bytes).ok()?;
        // A quarter of the memory for requests is for small ones.
        let largest = self.request_bytes - self.request_bytes / 4;
        let needed = promised.checked_mul(32)? / 3;
        (promised > largest).then(|| {
            format!(
                "requests above {} bytes are taken one at a time, each in memory beyond ringlog.memory.bytes: \
                 socket.request.max.bytes={promised} needs --memory of {} MiB for each core, or lower the setting",
                largest,
                needed.div_ceil(1 << 20)
            )
        })
    }
}

fn default_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.and_then(|text| machine_bytes(&text));
    share_of(machine, cgroup::memory_limit())
}

/// A share of the machine, and never more than a container can hold.
pub(crate) fn share_of(machine: Option<u64>, container: Option<u64>) -> u64 {
    let machine = machine.unwrap_or(DEFAULT_MIN * MACHINE_SHARE);
    let share = (machine / MACHINE_SHARE).clamp(DEFAULT_MIN, DEFAULT_MAX);
    match container {
        Some(limit) if limit < machine => {
            let holds = (limit.max(OUTSIDE_BYTES) - OUTSIDE_BYTES) / 2;
            share.min(holds).max(CONTAINER_MIN)
        }
        _ => share,
    }
}

/// The machine's memory, by the text of `/proc/meminfo`.
pub(crate) fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Descriptors this process may have open.
pub fn descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.and_then(|number| number.parse().ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_machine_and_container_hold() {
        const GIB: u64 = 1 << 30;
        // (machine, container, default in MiB)
        let table = [
            (None, None, 256),
            (Some(4 * GIB), None, 256),
            (Some(64 * GIB), None, 2048),
            (Some(1024 * GIB), None, 4096),
            (Some(24 * GIB), Some(400 << 20), 100),
            (Some(24 * GIB), Some(300 << 20), 64),
            (Some(24 * GIB), Some(100 << 20), 64),
            (Some(24 * GIB), Some(GIB), 412),
            (Some(24 * GIB), Some(8 * GIB), 768),
            (Some(24 * GIB), Some(25 * GIB), 768),
        ];
        for (machine, container, expected) in table {
            let mib = share_of(machine, container) >> 20;
            assert_eq!(mib, expected, "{machine:?} {container:?}");
        }
    }

    #[test]
    fn what_the_settings_promise_and_memory_cannot_hold_is_said() {
        let config = |bytes: &str| {
            let key = "socket.request.max.bytes".to_owned();
            let settings = [(key, bytes.to_owned())].into_iter().collect();
            let none = Default::default();
            BrokerConfig::from_layers(&settings, &none, &Default::default()).unwrap()
        };
        let large = config("104857600");
        let warning = MemoryPlan::new(Some(256 << 20), 2).warning(&large);
        let warning = warning.unwrap();
        assert!(warning.contains("socket.request.max.bytes=104857600"));
        assert!(warning.contains("1067 MiB"), "{warning}");
        assert_eq!(MemoryPlan::new(Some(2200 << 20), 2).warning(&large), None);
        let small = config("12582912");
        assert_eq!(MemoryPlan::new(Some(256 << 20), 2).warning(&small), None);
    }

    #[test]
    fn budgets_stay_below_the_whole() {
        let plan = MemoryPlan::new(Some(1 << 30), 2);
        let clients = plan.request_bytes + plan.answer_bytes;
        let sum = plan.tail_bytes + plan.cache_bytes + clients + plan.buffer_pool_bytes;
        assert!(sum <= 512 << 20);
    }
}
