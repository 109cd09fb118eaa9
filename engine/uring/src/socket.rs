//! Sockets: direct system calls, and glommio only to wait for readiness.
//!
//! glommio arms a poll when it asks the socket in vain, so a wait is a read of one byte through it; what arrived is then
//! read directly. A read that left the socket empty is remembered: the next one begins with the wait.
//!
//! Sockets have the kernel note when bytes arrive (SO_TIMESTAMPNS), so that the time they lie in the socket
//! until their core turns to them is known. The note is of the newest bytes of a read: a lower bound of that time.
//!
//! A glommio stream belongs to its executor, with the polls it has armed there. One that goes to another core leaves as a
//! second descriptor of the same socket (house rule of glommio.md 5.4), and the first is closed with its polls.
//!
//! Invariants: one descriptor per connection, owned by the shared [`Connection`] and closed when the last clone is gone,
//! after shutdown(2) (a pending poll would delay the FIN otherwise), or owned by a [`UringDetached`], which does the same;
//! no borrow of the glommio stream is held across an await.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use model::MonotonicTime;
use runtime::{Listener, Stream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::error::io_error;
use crate::once_woken::once_woken;

/// Connections that may wait for accept.
const BACKLOG: i32 = 1024;

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Slices of one sendmsg: the kernel's UIO_MAXIOV.
const SLICE_COUNT_MAX: usize = 1024;

/// Room for the one control message that a read brings, a header and a timespec; in words so that it is aligned.
const CONTROL_WORDS: usize = 8;

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
        // Accepted sockets inherit both. The kernel finds peers that are gone without a word, by its own times.
        note_arrivals(socket.as_raw_fd());
        socket.set_keepalive(true)?;
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
    /// The last read took all there was.
    drained: Cell<bool>,
    /// When the newest bytes of the last read arrived, as far as the kernel notes it.
    arrived_at: Cell<Option<MonotonicTime>>,
    /// Another descriptor has the socket from here on: closing this one does not end the connection.
    is_detached: Cell<bool>,
}

/// Ends both directions of a socket. The only error is "not connected", which is the aim.
fn shutdown(descriptor: RawFd) {
    // SAFETY: shutdown(2) takes any number and touches no memory; each caller owns the descriptor that it passes.
    unsafe { libc::shutdown(descriptor, libc::SHUT_RDWR) };
}

impl Connection {
    fn shutdown(&self) {
        shutdown(self.descriptor);
    }

    /// Reads, waiting for bytes if there are none. `has_waited` tells whether this call is behind a wait.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        has_waited: &mut bool,
    ) -> Poll<io::Result<usize>> {
        if mem::replace(has_waited, true)
            && let Some(received) = self.receive(buffer).transpose()
        {
            return Poll::Ready(received);
        }
        let mut first = [0];
        let mut stream = self.stream.borrow_mut();
        match Pin::new(&mut *stream).poll_read(context, &mut first) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(0)),
            Poll::Ready(Ok(_)) => {
                buffer.put_u8(first[0]);
                self.arrived_at.set(None);
                // An end or an error found now is found again by the next read.
                let rest = self.receive(buffer).unwrap_or_default();
                Poll::Ready(Ok(1 + rest.unwrap_or_default()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Receives into the spare capacity of `buffer`. `None` if nothing is there.
    fn receive(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        let len = buffer.capacity() - buffer.len();
        if len == 0 {
            return Ok(None);
        }
        let received = receive(self.descriptor, buffer)?;
        let has_more = received
            .as_ref()
            .is_some_and(|received| received.bytes == len);
        self.drained.set(!has_more);
        Ok(received.map(|received| {
            self.note(received.arrived_nanos);
            received.bytes
        }))
    }

    /// Turns the kernel's note, in the time that may jump, into the time that does not.
    fn note(&self, arrived_nanos: Option<u64>) {
        let arrived_at = arrived_nanos.map(|arrived| {
            let age = clock::realtime_nanos().saturating_sub(arrived);
            let arrived_at = MonotonicTime(clock::monotonic().0.saturating_sub(age));
            // Bytes arrive in order, whoever sets the clock.
            arrived_at.max(self.arrived_at.get().unwrap_or_default())
        });
        self.arrived_at.set(arrived_at);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_detached.get() {
            self.shutdown();
        }
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
        note_arrivals(stream.as_raw_fd());
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
                drained: Cell::new(false),
                arrived_at: Cell::new(None),
                is_detached: Cell::new(false),
            }),
        })
    }

    /// The socket without its executor.
    pub(crate) fn detach(self) -> io::Result<UringDetached> {
        let connection = Rc::into_inner(self.connection);
        let connection = connection.expect("a connection leaves its shard without a clone");
        // SAFETY: the descriptor is open, `connection.stream` owns it.
        let second = unsafe { libc::fcntl(connection.descriptor, libc::F_DUPFD_CLOEXEC, 0) };
        if second < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        let second = unsafe { OwnedFd::from_raw_fd(second) };
        connection.is_detached.set(true);
        Ok(UringDetached {
            descriptor: Some(second),
        })
    }
}

/// A connection that no executor has.
pub struct UringDetached {
    /// Until it is attached.
    descriptor: Option<OwnedFd>,
}

impl UringDetached {
    pub(crate) fn attach(mut self) -> io::Result<UringStream> {
        let descriptor = self.descriptor.take().expect("it is attached once");
        // SAFETY: the descriptor is a connected TCP socket, and `into_raw_fd` gave up its ownership.
        UringStream::new(unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) })
    }
}

impl Drop for UringDetached {
    fn drop(&mut self) {
        if let Some(descriptor) = &self.descriptor {
            // The executor that it left may still have a poll of the socket, which would keep it open.
            shutdown(descriptor.as_raw_fd());
        }
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
        if !connection.drained.get()
            && let Some(received) = connection.receive(buffer)?
        {
            return Ok(received);
        }
        let mut has_waited = false;
        poll_fn(|context| connection.poll_receive(context, buffer, &mut has_waited)).await
    }

    fn arrived_at(&self) -> Option<MonotonicTime> {
        self.connection.arrived_at.get()
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

/// Has the kernel note when bytes arrive at this socket. Where it cannot (not every sandbox has the option), reads tell
/// no time of arrival and all else goes on.
fn note_arrivals(descriptor: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int that outlives the call.
    let set = unsafe {
        libc::setsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if set != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "the kernel does not note when bytes arrive");
    }
}

/// What a read brought.
struct Received {
    bytes: usize,
    /// When the newest of them arrived, since 1970.
    arrived_nanos: Option<u64>,
}

/// Receives into the spare capacity of `buffer`. `None` if nothing is there.
fn receive(descriptor: RawFd, buffer: &mut BytesMut) -> io::Result<Option<Received>> {
    let mut control = [0u64; CONTROL_WORDS];
    let spare = buffer.spare_capacity_mut();
    let mut vector = libc::iovec {
        iov_base: spare.as_mut_ptr().cast(),
        iov_len: spare.len(),
    };
    loop {
        // SAFETY: all-zero is a valid msghdr. It points to one iovec of the spare capacity and to `control`, with their
        // lengths, and everything outlives the call.
        let (read, message) = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut vector;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = mem::size_of_val(&control);
            let read = libc::recvmsg(descriptor, &raw mut message, libc::MSG_DONTWAIT);
            (read, message)
        };
        if read >= 0 {
            let bytes = read as usize;
            // SAFETY: the kernel has just initialised the first `bytes` bytes of the spare capacity.
            unsafe { buffer.advance_mut(bytes) };
            return Ok(Some(Received {
                bytes,
                arrived_nanos: arrival(&message),
            }));
        }
        if would_block_or_retry()? {
            return Ok(None);
        }
    }
}

/// The time in a message's control data.
fn arrival(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel filled `msg_control` up to `msg_controllen`, which the macros stay within, and the buffer is
    // alive. A control message of this kind carries a timespec, read without assuming its alignment.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_TIMESTAMPNS
        {
            return None;
        }
        let time = libc::CMSG_DATA(header).cast::<libc::timespec>();
        Some(clock::nanos(&time.read_unaligned()))
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
