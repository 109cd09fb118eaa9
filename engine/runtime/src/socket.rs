//! Stream sockets.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use model::MonotonicTime;

/// A listening socket of one core. Several cores listen on one address (SO_REUSEPORT).
#[allow(async_fn_in_trait)]
pub trait Listener: 'static {
    /// What a client's connection is.
    type Stream: Stream;

    /// The next connection. Called by one task only.
    async fn accept(&self) -> io::Result<Self::Stream>;

    /// The bound address (its port, if 0 was asked for).
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connected byte stream. Clones share the connection: one task reads while another writes.
///
/// At most one read and one write may be in flight. TCP_NODELAY is on.
#[allow(async_fn_in_trait)]
pub trait Stream: Clone + 'static {
    /// Appends what has arrived to `buffer`, within its spare capacity (which must not be zero), waiting for at
    /// least one byte. 0 means that the peer has finished sending.
    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// When the newest bytes of the last read arrived at this host, where the system notes it; a read may come long
    /// after that.
    fn arrived_at(&self) -> Option<MonotonicTime>;

    /// Sends all of `slices` in order with as few system calls as possible (vectored), then clears the vector.
    ///
    /// After an error the stream is of no further use.
    async fn write_all(&self, slices: &mut Vec<Bytes>) -> io::Result<()>;

    /// Ends both directions at once: pending reads and writes of every clone finish. Idempotent.
    fn shutdown(&self);

    /// The other end.
    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// This end.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
