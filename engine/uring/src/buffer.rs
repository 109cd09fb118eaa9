//! Aligned buffers of a shard: writable, then frozen and shared.
//!
//! Their memory belongs to the pool of the shard that made them ([`crate::pool`]) and goes back there with the last
//! reference, wherever that is dropped.
//!
//! Invariant: a [`Memory`] reachable through a [`UringFrozen`] is never written again.

use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use glommio::io::DmaBuffer;
use runtime::{ALIGNMENT, Buffer, Frozen};

use crate::memory::Memory;
use crate::pool::Home;

/// Writable aligned memory of one shard.
pub struct UringBuffer {
    /// Taken by `freeze` and by drop only.
    memory: Option<Memory>,
    len: usize,
    home: Home,
}

impl UringBuffer {
    /// `len` bytes of `memory`, which belongs to `home`.
    pub(crate) fn new(memory: Memory, len: usize, home: Home) -> UringBuffer {
        UringBuffer {
            memory: Some(memory),
            len,
            home,
        }
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a buffer owns its memory")
    }
}

impl AsRef<[u8]> for UringBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory().bytes()[..self.len]
    }
}

impl AsMut<[u8]> for UringBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        let memory = self.memory.as_mut().expect("a buffer owns its memory");
        &mut memory.bytes_mut()[..self.len]
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
                home: self.home.clone(),
            }),
            len: self.len,
        }
    }
}

impl Drop for UringBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.give_back(memory);
        }
    }
}

/// Memory with several readers. The last one to go sends it home.
struct SharedMemory {
    /// Taken by drop only.
    memory: Option<Memory>,
    home: Home,
}

impl SharedMemory {
    fn dma(&self) -> &DmaBuffer {
        self.memory
            .as_ref()
            .expect("shared memory is there until drop")
            .dma()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.give_back(memory);
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
    use runtime::{Buffer, Frozen};

    use super::WriteView;
    use crate::pool::Pool;

    #[test]
    fn memory_returns_whole_after_truncation() {
        let pool = Pool::new(1 << 20, None);
        pool.install();
        let mut buffer = pool.buffer(34_000);
        assert_eq!((buffer.as_ref().len(), buffer.capacity()), (36864, 40960));
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
        assert_eq!(pool.idle_bytes(), 40960);
        let again = pool.buffer(40960);
        assert_eq!((again.as_ref().len(), pool.idle_bytes()), (40960, 0));
        drop(again);
        Pool::uninstall();
    }
}
