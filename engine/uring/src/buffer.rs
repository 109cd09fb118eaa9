//! Aligned memory, recycled per shard.
//!
//! Memory comes from `glommio::allocate_dma_buffer_global`, which is the process's heap with an alignment of 4096, and
//! not from the slab of an executor: slab memory may only be touched and freed by its executor, while heap memory may
//! be read and freed anywhere. Buffers go back to the pool of the shard that made them: directly when dropped there,
//! through a bounded queue when dropped on another core, or to the heap when that queue is full or the shard is gone.
//!
//! Invariants: every byte of a [`Memory`] was written at least once; a `Memory` reachable through a [`UringFrozen`] is
//! never written again; the idle bytes of a pool stay within its bound.

use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use flume::{Receiver, Sender};
use glommio::io::DmaBuffer;
use runtime::{ALIGNMENT, Buffer, Frozen, align_up};

/// Smallest size class, in bytes.
const CLASS_BYTES_MIN: usize = 4 << 10;
/// Largest size class, in bytes. Larger buffers are not pooled.
const CLASS_BYTES_MAX: usize = 4 << 20;
/// Size classes: 4 KiB, 8 KiB ... 4 MiB.
const CLASS_COUNT: usize = (CLASS_BYTES_MAX / CLASS_BYTES_MIN).ilog2() as usize + 1;
/// Buffers on their way home from other cores. They are taken over at every heartbeat and at every request for a buffer;
/// what does not fit goes to the heap.
const RETURN_COUNT_MAX: usize = 256;

thread_local! {
    /// The pool of the executor that runs on this thread.
    static LOCAL_POOL: RefCell<Option<Rc<Pool>>> = const { RefCell::new(None) };
}

/// Heap memory of one size, to be used by any thread.
struct Memory {
    dma: DmaBuffer,
}

// SAFETY: `DmaBuffer` is not Send because it holds a pointer and because its other kinds point into an executor. A
// `Memory` is only made by `Memory::new` from `allocate_dma_buffer_global`, whose buffer is exactly an owned heap
// allocation (pointer and layout): it has no tie to the thread that made it, and its drop is a call of the global
// allocator, which any thread may make.
unsafe impl Send for Memory {}
// SAFETY: as for Send; through a shared reference only the pointer and the bytes can be read, and nothing has interior
// mutability.
unsafe impl Sync for Memory {}

impl Memory {
    /// `capacity` bytes of zeros.
    fn new(capacity: usize) -> Memory {
        let mut dma = glommio::allocate_dma_buffer_global(capacity);
        // SAFETY: the allocation is `capacity` bytes long and owned by `dma`. Written through the pointer, because it is
        // not initialised yet and no slice of it may exist before it is.
        unsafe { ptr::write_bytes(dma.as_mut_ptr(), 0, capacity) };
        Memory { dma }
    }

    fn capacity(&self) -> usize {
        self.dma.len()
    }
}

/// Where a buffer belongs.
struct Home {
    returns: Sender<Memory>,
}

/// The idle buffers of one shard.
pub(crate) struct Pool {
    home: Arc<Home>,
    returns: Receiver<Memory>,
    idle: RefCell<[Vec<Memory>; CLASS_COUNT]>,
    idle_bytes: Cell<usize>,
    idle_bytes_max: usize,
}

impl Pool {
    pub(crate) fn new(idle_bytes_max: usize) -> Rc<Pool> {
        let (sender, returns) = flume::bounded(RETURN_COUNT_MAX);
        Rc::new(Pool {
            home: Arc::new(Home { returns: sender }),
            returns,
            idle: RefCell::default(),
            idle_bytes: Cell::new(0),
            idle_bytes_max,
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
        let memory = class_of(len)
            .and_then(|class| self.take_idle(class))
            .unwrap_or_else(|| Memory::new(capacity_for(len)));
        UringBuffer {
            memory: Some(memory),
            len,
            home: Arc::clone(&self.home),
        }
    }

    /// Takes over what other cores have handed back.
    pub(crate) fn take_returned(&self) {
        if self.returns.is_empty() {
            return;
        }
        for memory in self.returns.try_iter() {
            self.put(memory);
        }
    }

    /// Idle bytes, for tests and metrics.
    pub(crate) fn idle_bytes(&self) -> usize {
        self.idle_bytes.get()
    }

    fn take_idle(&self, class: usize) -> Option<Memory> {
        let memory = self.idle.borrow_mut()[class].pop()?;
        self.idle_bytes
            .set(self.idle_bytes.get() - memory.capacity());
        Some(memory)
    }

    /// Keeps `memory` for reuse, or frees it if the pool is full.
    fn put(&self, memory: Memory) {
        let idle_bytes = self.idle_bytes.get() + memory.capacity();
        if let Some(class) = class_of(memory.capacity())
            && idle_bytes <= self.idle_bytes_max
        {
            self.idle.borrow_mut()[class].push(memory);
            self.idle_bytes.set(idle_bytes);
        }
    }
}

/// The size class that holds `len` bytes, if they are pooled.
fn class_of(len: usize) -> Option<usize> {
    (len <= CLASS_BYTES_MAX).then(|| {
        let capacity = capacity_for(len);
        (capacity / CLASS_BYTES_MIN).ilog2() as usize
    })
}

/// Bytes allocated for a buffer of `len` bytes.
fn capacity_for(len: usize) -> usize {
    if len <= CLASS_BYTES_MAX {
        len.max(CLASS_BYTES_MIN).next_power_of_two()
    } else {
        align_up(len)
    }
}

/// Sends `memory` to where it belongs.
fn give_back(memory: Memory, home: &Arc<Home>) {
    let mut memory = Some(memory);
    // The thread-local is gone when the thread is ending; then the buffer takes the queue.
    let _ = LOCAL_POOL.try_with(|local| {
        if let Ok(local) = local.try_borrow()
            && let Some(pool) = local.as_ref()
            && Arc::ptr_eq(&pool.home, home)
            && let Some(memory) = memory.take()
        {
            pool.put(memory);
        }
    });
    if let Some(memory) = memory {
        // Refused when the queue is full or its shard is gone: the heap takes the memory, on whichever thread this is.
        drop(home.returns.try_send(memory));
    }
}

/// Writable aligned memory of one shard.
pub struct UringBuffer {
    /// Taken by `freeze` and by drop only.
    memory: Option<Memory>,
    len: usize,
    home: Arc<Home>,
}

impl UringBuffer {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a buffer owns its memory")
    }
}

impl AsRef<[u8]> for UringBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory().dma.as_bytes()[..self.len]
    }
}

impl AsMut<[u8]> for UringBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        let memory = self.memory.as_mut().expect("a buffer owns its memory");
        &mut memory.dma.as_bytes_mut()[..self.len]
    }
}

impl Buffer for UringBuffer {
    type Frozen = UringFrozen;

    fn truncate(&mut self, len: usize) {
        assert!(
            len <= self.len && len.is_multiple_of(ALIGNMENT),
            "truncation to {len} of {} bytes",
            self.len
        );
        self.len = len;
    }

    fn capacity(&self) -> usize {
        self.memory().capacity()
    }

    fn freeze(mut self) -> UringFrozen {
        let memory = self.memory.take().expect("a buffer owns its memory");
        UringFrozen {
            shared: Arc::new(SharedMemory {
                memory: Some(memory),
                home: Arc::clone(&self.home),
            }),
            len: self.len,
        }
    }
}

impl Drop for UringBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            give_back(memory, &self.home);
        }
    }
}

/// Memory with several readers. The last one to go sends it home.
struct SharedMemory {
    /// Taken by drop only.
    memory: Option<Memory>,
    home: Arc<Home>,
}

impl SharedMemory {
    fn dma(&self) -> &DmaBuffer {
        &self
            .memory
            .as_ref()
            .expect("shared memory is there until drop")
            .dma
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            give_back(memory, &self.home);
        }
    }
}

/// Immutable aligned memory.
#[derive(Clone)]
pub struct UringFrozen {
    shared: Arc<SharedMemory>,
    len: usize,
}

impl AsRef<[u8]> for UringFrozen {
    fn as_ref(&self) -> &[u8] {
        &self.shared.dma().as_bytes()[..self.len]
    }
}

impl Frozen for UringFrozen {
    fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }
}

/// A frozen buffer as glommio wants it for one write.
///
/// `DmaFile::write_rc_at` takes an `Rc<DmaBuffer>` and writes all of it; a `DmaBuffer` can be shortened but never made
/// longer again. So the write gets a shortened bitwise copy of the `DmaBuffer`, which must never be dropped, because it
/// would free the memory a second time. Both the copy and the reference to the memory are `ManuallyDrop`: when the
/// waiting future is dropped while the kernel reads the memory, both leak, which is safe.
pub(crate) struct WriteView {
    copy: ManuallyDrop<Rc<DmaBuffer>>,
    memory: ManuallyDrop<UringFrozen>,
}

impl WriteView {
    pub(crate) fn new(frozen: UringFrozen) -> WriteView {
        // SAFETY: reads a valid value through a reference. The result is one pointer, one layout and two lengths; it is
        // only read through, only while `memory` keeps the allocation, and `finish` forgets it, so that the allocation
        // has one owner that frees it.
        let mut copy = unsafe { ManuallyDrop::new(ptr::read(frozen.shared.dma())) };
        copy.trim_to_size(frozen.len);
        WriteView {
            copy: ManuallyDrop::new(Rc::new(ManuallyDrop::into_inner(copy))),
            memory: ManuallyDrop::new(frozen),
        }
    }

    /// One reference for glommio.
    pub(crate) fn share(&self) -> Rc<DmaBuffer> {
        Rc::clone(&self.copy)
    }

    /// The write has ended and glommio has dropped its reference.
    pub(crate) fn finish(self) {
        match Rc::try_unwrap(ManuallyDrop::into_inner(self.copy)) {
            Ok(copy) => {
                mem::forget(copy);
                drop(ManuallyDrop::into_inner(self.memory));
            }
            // Somebody still reads it: both leak, which is safe.
            Err(shared) => mem::forget(shared),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use runtime::{Buffer, Frozen};

    use super::{CLASS_BYTES_MAX, CLASS_COUNT, Pool, WriteView, capacity_for, class_of};

    #[test]
    fn classes() {
        let check = |len: usize, capacity: usize, class: Option<usize>| {
            assert_eq!(
                (capacity_for(len), class_of(len)),
                (capacity, class),
                "{len}"
            );
        };
        check(1, 4096, Some(0));
        check(4096, 4096, Some(0));
        check(4097, 8192, Some(1));
        check(12288, 16384, Some(2));
        check(CLASS_BYTES_MAX, CLASS_BYTES_MAX, Some(CLASS_COUNT - 1));
        check(CLASS_BYTES_MAX + 1, CLASS_BYTES_MAX + 4096, None);
    }

    #[test]
    fn memory_returns_whole_after_truncation() {
        let pool = Pool::new(1 << 20);
        pool.install();
        let mut buffer = pool.buffer(10_000);
        assert_eq!((buffer.as_ref().len(), buffer.capacity()), (12288, 16384));
        buffer.as_mut().fill(7);
        buffer.truncate(4096);
        let frozen = buffer.freeze();
        assert_eq!(frozen.as_ref(), [7; 4096]);
        let view = WriteView::new(frozen.clone());
        assert_eq!(view.share().as_bytes().len(), 4096);
        view.finish();
        let bytes = frozen.bytes();
        drop(frozen);
        assert_eq!(pool.idle_bytes(), 0);
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 16384);
        let again = pool.buffer(16384);
        assert_eq!((again.as_ref().len(), pool.idle_bytes()), (16384, 0));
        drop(again);
        Pool::uninstall();
    }

    #[test]
    fn foreign_drops_come_home_or_go_to_the_heap() {
        let pool = Pool::new(1 << 20);
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
        let pool = Pool::new(10_000);
        pool.install();
        let buffers: Vec<_> = (0..5).map(|_| pool.buffer(4096)).collect();
        drop(buffers);
        assert_eq!(pool.idle_bytes(), 8192);
        Pool::uninstall();
    }
}
