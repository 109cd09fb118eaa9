//! Memory for buffers, in size classes.
//!
//! Memory comes from `glommio::allocate_dma_buffer_global`, which is the process's heap with an alignment of 4096, and
//! not from the slab of an executor: slab memory may only be touched and freed by its executor, while heap memory may
//! be read and freed anywhere.
//!
//! Invariant: every byte of a [`Memory`] was written at least once.

use std::ptr;

use glommio::io::DmaBuffer;
use runtime::ALIGNMENT;

/// Heap memory of one size, to be used by any thread.
pub(crate) struct Memory {
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
    pub(crate) fn new(capacity: usize) -> Memory {
        let mut dma = glommio::allocate_dma_buffer_global(capacity);
        // SAFETY: the allocation is `capacity` bytes long and owned by `dma`. Written through the pointer, because it is
        // not initialised yet and no slice of it may exist before it is.
        unsafe { ptr::write_bytes(dma.as_mut_ptr(), 0, capacity) };
        Memory { dma }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.dma.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.dma.as_bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.dma.as_bytes_mut()
    }

    pub(crate) fn dma(&self) -> &DmaBuffer {
        &self.dma
    }
}

/// Size classes of pooled memory: four for each doubling, so that at most a fifth of a buffer lies idle.
const CLASSES_PER_DOUBLING: usize = 4;
/// Largest size class, in bytes. Larger memory is not pooled.
pub(crate) const CLASS_BYTES_MAX: usize = 4 << 20;
/// Size classes: 4, 8, 12 ... 32 KiB in steps of 4, then 40, 48, 56, 64, 80 ... to 4 MiB.
pub(crate) const CLASS_COUNT: usize = class_of_blocks(CLASS_BYTES_MAX / ALIGNMENT) + 1;

/// The class of memory of so many blocks. Classes and blocks count from 0 and 1.
const fn class_of_blocks(blocks: usize) -> usize {
    let last = blocks - 1;
    if last < CLASSES_PER_DOUBLING {
        return last;
    }
    let shift = (last / CLASSES_PER_DOUBLING).ilog2() as usize;
    shift * CLASSES_PER_DOUBLING + (last >> shift)
}

/// The smallest class that holds `len` bytes, if so many are pooled.
pub(crate) fn class_of(len: usize) -> Option<usize> {
    (len <= CLASS_BYTES_MAX).then(|| class_of_blocks(len.div_ceil(ALIGNMENT).max(1)))
}

/// Bytes of memory of a class.
pub(crate) const fn class_bytes(class: usize) -> usize {
    if class < CLASSES_PER_DOUBLING {
        return (class + 1) * ALIGNMENT;
    }
    let shift = class / CLASSES_PER_DOUBLING - 1;
    let last = class - shift * CLASSES_PER_DOUBLING;
    ((last + 1) << shift) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let check = |len: usize, bytes: usize| {
            assert_eq!(class_of(len).map(class_bytes), Some(bytes), "{len}");
        };
        check(0, 4 << 10);
        check(1, 4 << 10);
        check(4096, 4 << 10);
        check(4097, 8 << 10);
        check(32 << 10, 32 << 10);
        check((32 << 10) + 1, 40 << 10);
        check(68 << 10, 80 << 10);
        check(CLASS_BYTES_MAX, CLASS_BYTES_MAX);
        assert_eq!(class_of(CLASS_BYTES_MAX), Some(CLASS_COUNT - 1));
        assert_eq!(class_of(CLASS_BYTES_MAX + 1), None);
    }

    #[test]
    fn every_class_holds_what_it_is_chosen_for() {
        for class in 0..CLASS_COUNT {
            assert_eq!(class_of(class_bytes(class)), Some(class));
            assert_eq!(
                class_of(class_bytes(class) + 1),
                Some(class + 1).filter(|&next| next < CLASS_COUNT)
            );
        }
    }
}
