//! A reserve of touched memory in the heap, so that an executor does not stand still when it allocates.
//!
//! Memory is slow when it is touched for the first time: the kernel clears it, 2 MiB at a time with huge pages, and on a
//! virtual machine the host has to find it first. Hundreds of megabytes per second are usual there, which is no faster
//! than a broker's tails grow after its start: the shard would stand still for many milliseconds again and again until
//! its budget is reached. So while its use grows, a shard allocates a block ahead of need, lets another thread touch it,
//! and frees it: the allocator keeps it (its settings are in `.cargo/config.toml`) and gives it out in the sizes that
//! are asked for.
//!
//! Invariant: `touched_bytes` is at most what was allocated at one time plus one block; it never falls, because what is
//! freed stays touched.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::thread;

use flume::{Receiver, Sender};
use runtime::ALIGNMENT;

/// The smallest block: a huge page.
const BLOCK_BYTES_MIN: usize = 2 << 20;
/// The largest: what a shard may use in the time in which the next one is touched.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// One shard's reserve.
pub(crate) struct Reserve {
    /// The thread ends when this is dropped.
    untouched: Sender<Block>,
    touched: Receiver<Block>,
    is_under_way: Cell<bool>,
    touched_bytes: Cell<usize>,
}

impl Reserve {
    /// Starts the thread. It inherits from the caller where it may run, who is therefore not pinned yet.
    pub(crate) fn start() -> io::Result<Reserve> {
        let (untouched, blocks) = flume::bounded::<Block>(1);
        let (done, touched) = flume::bounded(1);
        thread::Builder::new()
            .name("memory".to_owned())
            .spawn(move || {
                yield_to_all();
                for mut block in blocks {
                    block.touch();
                    if done.send(block).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Reserve {
            untouched,
            touched,
            is_under_way: Cell::new(false),
            touched_bytes: Cell::new(0),
        })
    }

    /// The shard holds `allocated_bytes` of memory. Called when this grows, and now and then.
    pub(crate) fn follow(&self, allocated_bytes: usize) {
        if let Ok(block) = self.touched.try_recv() {
            let touched = self.touched_bytes.get().max(allocated_bytes);
            self.touched_bytes.set(touched + block.layout.size());
            self.is_under_way.set(false);
            // Here the block goes back to the allocator, on the thread that has allocated it and will ask for its memory.
            drop(block);
        }
        let wanted = block_bytes(allocated_bytes);
        let left = self.touched_bytes.get().saturating_sub(allocated_bytes);
        // As less than a block is left, the allocator has to take the next one from the kernel.
        if self.is_under_way.get() || left >= wanted / 2 {
            return;
        }
        if let Some(block) = Block::allocate(wanted)
            && self.untouched.try_send(block).is_ok()
        {
            self.is_under_way.set(true);
        }
    }
}

/// Lets the calling thread run only while its core has nothing else to do, and be interrupted in the middle of a page
/// fault: kernel workers that end a flush, and executors, may need the core.
fn yield_to_all() {
    // SAFETY: all-zero is a valid value; the kernel reads it from a live local.
    let failed = unsafe {
        let parameters: libc::sched_param = mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) != 0
    };
    if failed {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "the thread that touches memory keeps its priority");
    }
}

/// The block that follows when `allocated_bytes` are held: small for small shards.
fn block_bytes(allocated_bytes: usize) -> usize {
    let huge_pages = allocated_bytes.div_ceil(BLOCK_BYTES_MIN);
    (huge_pages * BLOCK_BYTES_MIN).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
}

/// Heap memory that nobody uses yet.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: owns a heap allocation, which any thread may write and free; there are no other references to it.
unsafe impl Send for Block {}

impl Block {
    /// None if there is no memory: who really needs it will find out.
    fn allocate(bytes: usize) -> Option<Block> {
        let layout = Layout::from_size_align(bytes, ALIGNMENT).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc::alloc(layout) })?;
        Some(Block { start, layout })
    }

    /// Writes to every page.
    fn touch(&mut self) {
        for offset in (0..self.layout.size()).step_by(ALIGNMENT) {
            // SAFETY: inside the allocation, which only this value refers to. Volatile, because nobody reads it.
            unsafe { self.start.as_ptr().add(offset).write_volatile(0) };
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn blocks_grow_with_the_shard() {
        const MIB: usize = 1 << 20;
        let check = |allocated: usize, block: usize| {
            assert_eq!(block_bytes(allocated), block, "{allocated}");
        };
        check(0, 2 * MIB);
        check(4096, 2 * MIB);
        check(2 * MIB + 1, 4 * MIB);
        check(15 * MIB, 16 * MIB);
        check(1000 * MIB, 16 * MIB);
    }

    /// Waits for the block under way.
    fn settle(reserve: &Reserve, allocated_bytes: usize) {
        while reserve.is_under_way.get() {
            thread::sleep(Duration::from_millis(1));
            reserve.follow(allocated_bytes);
        }
    }

    #[test]
    fn it_stays_ahead_and_ends() {
        let reserve = Reserve::start().unwrap();
        let mut allocated = 0;
        while allocated < 64 << 20 {
            allocated += 64 << 10;
            reserve.follow(allocated);
            settle(&reserve, allocated);
            let ahead = reserve.touched_bytes.get() - allocated;
            assert!(ahead >= BLOCK_BYTES_MIN / 2, "{ahead} bytes ahead");
            assert!(ahead < 2 * BLOCK_BYTES_MAX, "{ahead} bytes ahead");
        }
        // What is used less is not touched again.
        let touched = reserve.touched_bytes.get();
        for less in [32 << 20, 1 << 20, 64 << 20] {
            reserve.follow(less);
            settle(&reserve, less);
        }
        assert_eq!(reserve.touched_bytes.get(), touched);
    }
}
