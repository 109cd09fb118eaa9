//! Files under direct I/O.

use std::io;

use bytes::Bytes;

use crate::buffer::Buffer;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// For reading and writing; created if it is not there. Writes are durable after [`File::sync_data`].
    Write,
    /// As `Write`, and every write is durable when it completes (O_DSYNC).
    WriteDurable,
}

/// An open file. Positions and lengths of writes are multiples of [`crate::ALIGNMENT`].
///
/// Any number of operations may be in flight at once on one file; they are not ordered among each other. A future
/// that was polled once must be driven to its end by the task that polled it: never drop one, never put one in a
/// `select` or `join`.
#[allow(async_fn_in_trait)]
#[expect(
    clippy::len_without_is_empty,
    reason = "a length asked of the kernel, not a collection"
)]
pub trait File: 'static {
    /// The memory this file writes from.
    type Buffer: Buffer;

    /// Writes the whole of `data` at `position`. Never short: a short write is an error.
    ///
    /// After an error nothing is known about the bytes on the device.
    async fn write_at(
        &self,
        data: <Self::Buffer as Buffer>::Frozen,
        position: u64,
    ) -> io::Result<()>;

    /// Reads up to `len` bytes at `position` (any alignment). Shorter only where the file ends.
    async fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes>;

    /// Makes every write completed before this call durable (fdatasync).
    async fn sync_data(&self) -> io::Result<()>;

    /// Reserves space so that the file is at least `size` bytes long. New space reads as zeros.
    async fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts or extends the file to exactly `size` bytes (any alignment).
    async fn truncate(&self, size: u64) -> io::Result<()>;

    /// The file's length in bytes, by descriptor.
    async fn len(&self) -> io::Result<u64>;

    /// Closes the descriptor. Dropping does too, later and without reporting an error.
    async fn close(self) -> io::Result<()>;
}
