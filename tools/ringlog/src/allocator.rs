//! The allocator of the process, and what the broker expects of it.
//!
//! Large buffers come and go at the rate of the traffic. An allocator that returns their pages to the kernel at once
//! spends more time clearing them again than the broker spends on the records, and the shard stands still meanwhile;
//! this one keeps them. Its settings are in `.cargo/config.toml`.

use std::time::Duration;
use std::{io, thread};

use uring::heap;

/// How often it is looked at what the allocator keeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Unused memory is given back after so many looks in a row at which there was too much: a load that comes and goes
/// within half a minute finds it touched.
const LOOKS: u32 = 3;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Starts the thread that gives unused memory back when far more is kept than traffic needs: a quarter of
/// `memory_bytes`, which is more than a steady load leaves between its requests.
pub fn start_giving_back(memory_bytes: usize) -> io::Result<()> {
    let run = move || {
        let mut looks = 0;
        loop {
            thread::sleep(LOOK_INTERVAL);
            let gave = heap::unused_bytes().and_then(|unused| {
                looks = looks_after(looks, unused, memory_bytes / 4);
                if looks < LOOKS {
                    return Ok(());
                }
                looks = 0;
                heap::give_back()
            });
            if let Err(error) = gave {
                tracing::warn!(%error, "unused memory cannot be given back");
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("give-back".to_owned());
    thread.spawn(run).map(drop)
}

fn looks_after(looks: u32, unused: usize, unused_max: usize) -> u32 {
    if unused > unused_max { looks + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::hint::black_box;
    use std::sync::Barrier;
    use std::thread;

    /// The largest block that a shard's reserve prepares (engine/uring/src/reserve.rs).
    const BLOCK_BYTES: usize = 16 << 20;

    /// Memory of the process that is not a file's.
    fn resident_bytes() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    }

    #[test]
    fn looks_in_a_row_count() {
        assert_eq!(super::looks_after(1, 51, 50), 2);
        assert_eq!(super::looks_after(2, 50, 50), 0);
    }

    /// What the reserve relies on, whichever of the allocator's arenas the shard's thread was given.
    #[test]
    fn a_block_that_is_freed_stays_touched() {
        // jemalloc makes four arenas per core and divides the threads that live at one time among them.
        let threads = 2 + 4 * thread::available_parallelism().unwrap().get();
        let step = Barrier::new(threads + 1);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let block = black_box(vec![1_u8; BLOCK_BYTES]);
                    step.wait();
                    step.wait();
                    drop(block);
                    step.wait();
                    step.wait();
                });
            }
            step.wait();
            let touched = resident_bytes();
            step.wait();
            step.wait();
            let left = resident_bytes();
            step.wait();
            let blocks = threads * BLOCK_BYTES;
            assert!(touched >= blocks, "{touched} of {blocks} bytes");
            // Other tests run beside this one.
            let lost = touched.saturating_sub(left);
            assert!(
                lost < BLOCK_BYTES / 2,
                "{lost} of {blocks} bytes went back to the kernel"
            );
        });
    }
}
