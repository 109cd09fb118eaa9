//! Aligned memory for direct I/O.
//!
//! A [`Buffer`] is unique and writable. [`Buffer::freeze`] ends that: a [`Frozen`] buffer never changes again, so it
//! may be under DMA and be read by anyone at the same time.

use bytes::Bytes;

/// Alignment of every position and length given to a [`crate::File`], in bytes.
///
/// The device's logical block may be 512, but 4096 is its physical block and the unit that never needs a read first.
pub const ALIGNMENT: usize = 4096;

/// `len` rounded up to the next multiple of [`ALIGNMENT`].
pub const fn align_up(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

/// Writable memory, aligned to [`ALIGNMENT`], owned by one shard.
///
/// New buffers hold unspecified but initialised bytes (they are recycled): whoever writes one to disk sets every byte.
pub trait Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static {
    /// What [`Buffer::freeze`] makes.
    type Frozen: Frozen;

    /// Shortens the buffer to `len` bytes, a multiple of [`ALIGNMENT`]. Capacity (and so memory use) stays.
    fn truncate(&mut self, len: usize);

    /// Bytes of memory behind the buffer, for budgets.
    fn capacity(&self) -> usize;

    /// Ends writing.
    fn freeze(self) -> Self::Frozen;
}

/// Immutable aligned memory. Clones share it.
pub trait Frozen: AsRef<[u8]> + Clone + 'static {
    /// The same memory as reference-counted bytes, which any core may hold and drop. The memory returns to its
    /// shard's pool after the last reference is gone.
    fn bytes(&self) -> Bytes;
}
