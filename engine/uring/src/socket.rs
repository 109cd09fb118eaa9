//! Sockets: direct system calls, and glommio only to wait for readiness.
//!
//! glommio's stream keeps at most one poll per direction in the ring. After it has read less than was asked for it arms
//! the next poll at once; [`UringStream`] knows that and then waits without asking the socket first. Large messages are
//! read with direct `recv` calls, after which nothing is armed.
//!
//! Invariants: one descriptor per connection, owned by the shared [`Connection`] and closed when the last clone is gone,
//! after shutdown(2) (a pending poll would delay the FIN otherwise); no borrow of the glommio stream is held across an
//! await.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use runtime::{Listener, Stream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::io_error;
use crate::once_woken::once_woken;

/// Connections that may wait for accept.
const BACKLOG: i32 = 1024;

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Slices of one sendmsg: the kernel's UIO_MAXIOV.
const SLICE_COUNT_MAX: usize = 1024;

/// Bytes read through glommio after a wait. It needs initialised memory, so this many bytes are zeroed first; what lies
/// behind them is read directly.
const FIRST_BYTES: usize = 4096;

/// A listening socket of one core.
pub struct UringListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl UringListener {
    pub(crate) fn bind(address: SocketAddr, shared: bool) -> io::Result<UringListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket without an IP address"))?;
        // SAFETY: the descriptor is a listening TCP socket, and `into_raw_fd` gave up its ownership.
        let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Ok(UringListener { listener, address })
    }
}

impl Listener for UringListener {
    type Stream = UringStream;

    async fn accept(&self) -> io::Result<UringStream> {
        loop {
            match once_woken(self.listener.accept()).await {
                Ok(stream) => return UringStream::new(stream),
                Err(error) => match error.raw_os_error() {
                    // The peer went away before we came, or a signal did: the next one, please.
                    Some(libc::ECONNABORTED | libc::EINTR) => {}
                    _ => return Err(io_error(error)),
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// One connection, shared by its clones.
struct Connection {
    descriptor: RawFd,
    stream: RefCell<TcpStream>,
    /// glommio has armed a poll for readability that was not waited for yet.
    read_armed: Cell<bool>,
}

impl Connection {
    fn shutdown(&self) {
        // SAFETY: the descriptor is open as long as `self.stream`. The only error is "not connected", which is the aim.
        unsafe { libc::shutdown(self.descriptor, libc::SHUT_RDWR) };
    }

    /// Waits for readability by reading up to [`FIRST_BYTES`] through glommio.
    fn poll_first(
        &self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let start = buffer.len();
        let len = FIRST_BYTES.min(buffer.capacity() - start);
        buffer.resize(start + len, 0);
        let mut stream = self.stream.borrow_mut();
        let polled = Pin::new(&mut *stream).poll_read(context, &mut buffer[start..]);
        let read = match &polled {
            Poll::Ready(Ok(read)) => *read,
            _ => 0,
        };
        buffer.truncate(start + read);
        if let Poll::Ready(Ok(_)) = &polled {
            self.read_armed.set(read > 0 && read < len);
        }
        polled
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A connection of one shard. Clones share it.
#[derive(Clone)]
pub struct UringStream {
    connection: Rc<Connection>,
}

impl UringStream {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<UringStream> {
        let stream = once_woken(TcpStream::connect_timeout(address, CONNECT_TIMEOUT))
            .await
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ETIMEDOUT | libc::ECANCELED) => io::ErrorKind::TimedOut.into(),
                _ => io_error(error),
            })?;
        UringStream::new(stream)
    }

    fn new(stream: TcpStream) -> io::Result<UringStream> {
        stream.set_nodelay(true).map_err(io_error)?;
        let descriptor = stream.as_raw_fd();
        // SAFETY: the descriptor is open, `stream` owns it. accept(2) as glommio calls it leaves close-on-exec off.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(UringStream {
            connection: Rc::new(Connection {
                descriptor,
                stream: RefCell::new(stream),
                // glommio arms a poll when it takes a socket over.
                read_armed: Cell::new(true),
            }),
        })
    }
}

impl Stream for UringStream {
    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let connection = &*self.connection;
        if buffer.capacity() == buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a read without spare capacity",
            ));
        }
        if !connection.read_armed.get()
            && let Some(read) = receive(connection.descriptor, buffer)?
        {
            return Ok(read);
        }
        let first = poll_fn(|context| connection.poll_first(context, buffer)).await?;
        // A full first part: there may be more, and asking costs one call.
        if first == 0 || connection.read_armed.get() || buffer.capacity() == buffer.len() {
            return Ok(first);
        }
        // An end or an error found now is found again by the next read.
        let rest = receive(connection.descriptor, buffer).unwrap_or_default();
        Ok(first + rest.unwrap_or_default())
    }

    async fn write_all(&self, slices: &mut Vec<Bytes>) -> io::Result<()> {
        let connection = &*self.connection;
        // Slices before this one are sent.
        let mut sent = 0;
        loop {
            while slices.get(sent).is_some_and(Bytes::is_empty) {
                sent += 1;
            }
            if sent == slices.len() {
                break;
            }
            let count = match send(connection.descriptor, &slices[sent..])? {
                Some(count) => count,
                None => {
                    poll_fn(|context| {
                        let mut stream = connection.stream.borrow_mut();
                        Pin::new(&mut *stream).poll_write(context, &slices[sent])
                    })
                    .await?
                }
            };
            sent = skip(slices, sent, count);
        }
        slices.clear();
        Ok(())
    }

    fn shutdown(&self) {
        self.connection.shutdown();
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.connection
            .stream
            .borrow()
            .peer_addr()
            .map_err(io_error)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.connection
            .stream
            .borrow()
            .local_addr()
            .map_err(io_error)
    }
}

/// Takes `count` bytes off `slices[first..]`; the index of the first slice with bytes left.
fn skip(slices: &mut [Bytes], mut first: usize, mut count: usize) -> usize {
    while let Some(slice) = slices.get_mut(first)
        && count >= slice.len()
    {
        count -= slice.len();
        first += 1;
    }
    if count > 0 {
        slices[first].advance(count);
    }
    first
}

/// Receives into the spare capacity of `buffer`. `None` if nothing is there.
fn receive(descriptor: RawFd, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
    let len = buffer.capacity() - buffer.len();
    loop {
        let spare = buffer.spare_capacity_mut();
        // SAFETY: the kernel writes at most `len` bytes to the spare capacity, which is at least as long.
        let read = unsafe {
            libc::recv(
                descriptor,
                spare.as_mut_ptr().cast(),
                len,
                libc::MSG_DONTWAIT,
            )
        };
        if read >= 0 {
            let read = read as usize;
            // SAFETY: the kernel has just initialised the first `read` bytes of the spare capacity.
            unsafe { buffer.advance_mut(read) };
            return Ok(Some(read));
        }
        if would_block_or_retry()? {
            return Ok(None);
        }
    }
}

/// Sends as much of `slices` as the socket takes. `None` if it takes nothing.
fn send(descriptor: RawFd, slices: &[Bytes]) -> io::Result<Option<usize>> {
    let mut vector: [mem::MaybeUninit<libc::iovec>; SLICE_COUNT_MAX] =
        [const { mem::MaybeUninit::uninit() }; SLICE_COUNT_MAX];
    let count = slices.len().min(SLICE_COUNT_MAX);
    for (entry, slice) in vector.iter_mut().zip(slices) {
        entry.write(libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        });
    }
    loop {
        // SAFETY: all-zero is a valid msghdr. The first `count` entries of `vector` are initialised and point to live
        // slices, which the kernel only reads; everything outlives the call.
        let sent = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = vector.as_mut_ptr().cast();
            message.msg_iovlen = count;
            libc::sendmsg(
                descriptor,
                &message,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent >= 0 {
            return Ok(Some(sent as usize));
        }
        if would_block_or_retry()? {
            return Ok(None);
        }
    }
}

/// After a failed call: true if it would block, false if it is to be repeated, an error otherwise.
fn would_block_or_retry() -> io::Result<bool> {
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::skip;

    #[test]
    fn skipping() {
        let check = |first: usize, count: usize, expected: usize, left: &[u8]| {
            let mut slices = vec![
                Bytes::from_static(b"abc"),
                Bytes::from_static(b"de"),
                Bytes::from_static(b"f"),
            ];
            assert_eq!(skip(&mut slices, first, count), expected);
            assert_eq!(slices.get(expected).map_or(&b""[..], |slice| slice), left);
        };
        check(0, 0, 0, b"abc");
        check(0, 2, 0, b"c");
        check(0, 3, 1, b"de");
        check(0, 4, 1, b"e");
        check(1, 2, 2, b"f");
        check(0, 6, 3, b"");
    }
}
