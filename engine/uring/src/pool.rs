//! Idle memory, recycled per shard.
//!
//! Buffers go back to the pool of the shard that made them: directly when dropped there, through a bounded queue when
//! dropped on another core, or to the heap when that queue is full or the shard is gone. While the memory that a
//! shard holds grows, the heap is prepared for it ([`Reserve`]).
//!
//! Invariant: the idle bytes of a pool stay within its bound.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flume::{Receiver, Sender};
use runtime::align_up;

use crate::buffer::UringBuffer;
use crate::memory::{CLASS_COUNT, Memory, class_bytes, class_of};
use crate::reserve::Reserve;

/// Buffers on their way home from other cores. They are taken over at every heartbeat and at every request for a buffer;
/// what does not fit goes to the heap.
const RETURN_COUNT_MAX: usize = 256;

/// So many classes further up memory is taken from if a class has none: up to half as large again.
const LARGER_CLASSES_MAX: usize = 2;

thread_local! {
    /// The pool of the executor that runs on this thread.
    static LOCAL_POOL: RefCell<Option<Rc<Pool>>> = const { RefCell::new(None) };
}

/// Where a buffer belongs.
#[derive(Clone)]
pub(crate) struct Home(Arc<Ledger>);

/// What every buffer of a shard can reach from wherever it is dropped.
struct Ledger {
    returns: Sender<Memory>,
    /// Memory of the shard's buffers, idle or in use.
    allocated_bytes: AtomicUsize,
}

impl Home {
    /// Sends `memory` to where it belongs.
    pub(crate) fn give_back(&self, memory: Memory) {
        let mut memory = Some(memory);
        // The thread-local is gone when the thread is ending; then the buffer takes the queue.
        let _ = LOCAL_POOL.try_with(|local| {
            if let Ok(local) = local.try_borrow()
                && let Some(pool) = local.as_ref()
                && Arc::ptr_eq(&pool.home.0, &self.0)
                && let Some(memory) = memory.take()
            {
                pool.put(memory);
            }
        });
        // The queue is full or its shard is gone: freed on whichever thread this is.
        if let Some(memory) = memory
            && let Err(refused) = self.0.returns.try_send(memory)
        {
            self.free(refused.into_inner());
        }
    }

    fn allocate(&self, capacity: usize) -> Memory {
        self.0
            .allocated_bytes
            .fetch_add(capacity, Ordering::Relaxed);
        Memory::new(capacity)
    }

    fn free(&self, memory: Memory) {
        let bytes = memory.capacity();
        self.0.allocated_bytes.fetch_sub(bytes, Ordering::Relaxed);
        drop(memory);
    }
}

/// The idle memory of one shard.
pub(crate) struct Pool {
    home: Home,
    returns: Receiver<Memory>,
    /// By size class.
    idle: RefCell<[Vec<Memory>; CLASS_COUNT]>,
    idle_bytes: Cell<usize>,
    idle_bytes_max: usize,
    reserve: Option<Reserve>,
}

impl Pool {
    /// Keeps up to `idle_bytes_max`. Without a reserve, for tests, new memory is touched by whoever asks for it.
    pub(crate) fn new(idle_bytes_max: usize, reserve: Option<Reserve>) -> Rc<Pool> {
        let (sender, returns) = flume::bounded(RETURN_COUNT_MAX);
        Rc::new(Pool {
            home: Home(Arc::new(Ledger {
                returns: sender,
                allocated_bytes: AtomicUsize::new(0),
            })),
            returns,
            idle: RefCell::new(std::array::from_fn(|_| Vec::new())),
            idle_bytes: Cell::new(0),
            idle_bytes_max,
            reserve,
        })
    }

    /// Makes this the pool of the calling thread, until [`Pool::uninstall`].
    pub(crate) fn install(self: &Rc<Self>) {
        LOCAL_POOL.set(Some(Rc::clone(self)));
    }

    /// From now on buffers dropped on this thread take the way of those dropped elsewhere.
    pub(crate) fn uninstall() {
        LOCAL_POOL.set(None);
    }

    /// A buffer of at least `len` bytes, not less than one block.
    pub(crate) fn buffer(&self, len: usize) -> UringBuffer {
        self.take_returned();
        let len = align_up(len.max(1));
        let class = class_of(len);
        let memory = class.and_then(|class| self.take_idle(class));
        let memory = memory.unwrap_or_else(|| {
            let memory = self.home.allocate(class.map_or(len, class_bytes));
            self.keep_reserve();
            memory
        });
        UringBuffer::new(memory, len, self.home.clone())
    }

    /// What is to be done now and then: takes over what other cores have handed back, and keeps the reserve.
    pub(crate) fn maintain(&self) {
        self.take_returned();
        self.keep_reserve();
    }

    fn take_returned(&self) {
        if self.returns.is_empty() {
            return;
        }
        for memory in self.returns.try_iter() {
            self.put(memory);
        }
    }

    fn keep_reserve(&self) {
        if let Some(reserve) = &self.reserve {
            reserve.follow(self.allocated_bytes());
        }
    }

    /// Bytes of idle buffers, for tests and metrics.
    pub(crate) fn idle_bytes(&self) -> usize {
        self.idle_bytes.get()
    }

    /// Bytes of all buffers of the shard, idle or in use.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.home.0.allocated_bytes.load(Ordering::Relaxed)
    }

    fn take_idle(&self, class: usize) -> Option<Memory> {
        let mut idle = self.idle.borrow_mut();
        let largest = (class + LARGER_CLASSES_MAX).min(CLASS_COUNT - 1);
        let memory = (class..=largest).find_map(|class| idle[class].pop())?;
        self.idle_bytes
            .set(self.idle_bytes.get() - memory.capacity());
        Some(memory)
    }

    /// Keeps `memory` for reuse, or frees it if the pool is full.
    fn put(&self, memory: Memory) {
        let idle_bytes = self.idle_bytes.get() + memory.capacity();
        match class_of(memory.capacity()) {
            Some(class) if idle_bytes <= self.idle_bytes_max => {
                self.idle.borrow_mut()[class].push(memory);
                self.idle_bytes.set(idle_bytes);
            }
            _ => self.home.free(memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use runtime::{Buffer, Frozen};

    use super::*;

    #[test]
    fn foreign_drops_come_home_or_go_to_the_heap() {
        let pool = Pool::new(1 << 20, None);
        pool.install();
        let bytes = pool.buffer(4096).freeze().bytes();
        thread::spawn(move || drop(bytes)).join().unwrap();
        assert_eq!(pool.idle_bytes(), 0);
        pool.take_returned();
        assert_eq!(pool.idle_bytes(), 4096);
        let orphan = pool.buffer(8192).freeze().bytes();
        Pool::uninstall();
        drop(pool);
        thread::spawn(move || assert_eq!(orphan.len(), 8192))
            .join()
            .unwrap();
    }

    #[test]
    fn idle_bytes_are_bounded() {
        let pool = Pool::new(10_000, None);
        pool.install();
        let buffers: Vec<_> = (0..5).map(|_| pool.buffer(4096)).collect();
        drop(buffers);
        assert_eq!(pool.idle_bytes(), 8192);
        Pool::uninstall();
    }

    #[test]
    fn a_little_too_large_is_better_than_new() {
        let pool = Pool::new(1 << 20, None);
        pool.install();
        drop(pool.buffer(112 << 10));
        assert_eq!(pool.buffer(68 << 10).capacity(), 112 << 10);
        assert_eq!(pool.buffer(50 << 10).capacity(), 56 << 10);
        Pool::uninstall();
    }

    #[test]
    fn what_is_allocated_is_known() {
        let pool = Pool::new(10_000, None);
        pool.install();
        let (one, other) = (pool.buffer(4096), pool.buffer(8192));
        assert_eq!(pool.allocated_bytes(), 12288);
        drop((one, other));
        // The second did not fit.
        assert_eq!((pool.idle_bytes(), pool.allocated_bytes()), (4096, 4096));
        Pool::uninstall();
    }
}
