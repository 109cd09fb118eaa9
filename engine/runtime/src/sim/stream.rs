//! `Stream` and `Listener` of the simulation.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use model::MonotonicTime;

use super::detached::{self, SimDetached};
use super::faults::Fault;
use super::io::SimIo;
use super::network::{self, Chunk, Link, ListeningRef};
use super::trace::Step;
use crate::socket::{Listener, Stream};

/// The largest piece that one simulated system call sends, in bytes.
const SEND_MAX: u64 = 64 * 1024;

/// One in so many reads and writes is cut to a few bytes.
const SHORT_SHARE: u64 = 6;

/// The bytes that such a short operation moves at most.
const SHORT_MAX: u64 = 64;

struct Shared {
    io: SimIo,
    link: Link,
    side: usize,
    is_detached: Cell<bool>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_detached.get() {
            return;
        }
        if self.io.is_alive() && !self.io.world().ended.get() {
            network::shut(self.io.world(), &self.link, self.side);
        }
    }
}

/// A connection of a simulated node.
#[derive(Clone)]
pub struct SimStream {
    shared: Rc<Shared>,
}

impl SimStream {
    pub(crate) fn new(io: SimIo, link: Link, side: usize) -> SimStream {
        SimStream {
            shared: Rc::new(Shared {
                io,
                link,
                side,
                is_detached: Cell::new(false),
            }),
        }
    }

    /// Takes it off its shard.
    pub(crate) fn detach(self) -> io::Result<SimDetached> {
        let seed = self.io().seed();
        let Some(shared) = Rc::into_inner(self.shared) else {
            panic!("a connection left its shard while a clone of it stayed (seed {seed})");
        };
        shared.io.check_alive()?;
        shared.is_detached.set(true);
        let (node, incarnation) = (shared.io.node(), shared.io.incarnation());
        let world = shared.io.world();
        Ok(detached::detach(
            world,
            node,
            incarnation,
            &shared.link,
            shared.side,
        ))
    }

    fn io(&self) -> &SimIo {
        &self.shared.io
    }

    /// `whole`, or now and then less.
    fn portion(&self, whole: usize) -> usize {
        let random = &self.io().world().random.network;
        let most = if random.one_in(SHORT_SHARE) {
            random.between(1, SHORT_MAX) as usize
        } else {
            usize::MAX
        };
        whole.min(most)
    }

    fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let world = self.io().world();
        let side = self.shared.side;
        let mut connection = self.shared.link.borrow_mut();
        if !self.io().is_alive() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if connection.ends[side].is_shut {
            return Poll::Ready(Ok(0));
        }
        let mut left = self.portion(buffer.capacity() - buffer.len());
        let mut count = 0;
        let is_reset = connection.ends[side].is_reset;
        let pipe = &mut connection.pipes[1 - side];
        while left > 0
            && let Some(first) = pipe.arrived.front_mut()
        {
            let len = first.len().min(left);
            buffer.extend_from_slice(&first[..len]);
            first.advance(len);
            if first.is_empty() {
                pipe.arrived.pop_front();
            }
            left -= len;
            count += len;
        }
        if count == 0 {
            if pipe.is_finished {
                return Poll::Ready(Ok(0));
            }
            if is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let other = pipe.reader.replace(context.waker().clone());
            assert!(
                other.is_none_or(|other| other.will_wake(context.waker())),
                "two reads in flight on one stream (seed {})",
                world.seed
            );
            return Poll::Pending;
        }
        world.trace(
            Step::Receive,
            "receive",
            [connection.id, side as u64, count as u64],
        );
        network::acknowledge(world, &mut connection, 1 - side, count);
        Poll::Ready(Ok(count))
    }

    /// Sends a part of the first slice.
    fn poll_write(&self, context: &mut Context<'_>, data: &Bytes) -> Poll<io::Result<usize>> {
        let world = self.io().world();
        let side = self.shared.side;
        if !self.io().is_alive() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let (room, node) = {
            let mut connection = self.shared.link.borrow_mut();
            let end = &connection.ends[side];
            if end.is_shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if end.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let node = end.node;
            let pipe = &mut connection.pipes[side];
            let room = pipe.window.saturating_sub(pipe.outstanding);
            if room == 0 {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            (room, node)
        };
        if world.fault(Fault::ConnectionReset, node, None) {
            network::abort(world, &self.shared.link, side);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let len = self.portion(data.len().min(room).min(SEND_MAX as usize));
        let chunk = Chunk::Data(data.slice(..len));
        network::send(world, &self.shared.link, side, chunk);
        Poll::Ready(Ok(len))
    }

    fn set_writing(&self, is_writing: bool) -> bool {
        let mut connection = self.shared.link.borrow_mut();
        let pipe = &mut connection.pipes[self.shared.side];
        std::mem::replace(&mut pipe.is_writing, is_writing)
    }

    async fn send_all(&self, slices: &mut Vec<Bytes>) -> io::Result<()> {
        for slice in slices.iter() {
            let mut rest = slice.clone();
            while !rest.is_empty() {
                let mut watch = self.io().watch("stream write");
                let sent = poll_fn(|context| {
                    watch.polled();
                    let result = self.poll_write(context, &rest);
                    if result.is_ready() {
                        watch.finish();
                    }
                    result
                })
                .await?;
                rest.advance(sent);
            }
        }
        slices.clear();
        Ok(())
    }
}

impl Stream for SimStream {
    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        assert!(
            buffer.capacity() > buffer.len(),
            "read into a buffer without spare capacity (seed {})",
            self.io().seed()
        );
        let mut watch = self.io().watch("stream read");
        poll_fn(|context| {
            watch.polled();
            let result = self.poll_read(context, buffer);
            if result.is_ready() {
                watch.finish();
            }
            result
        })
        .await
    }

    fn arrived_at(&self) -> Option<MonotonicTime> {
        None
    }

    async fn write_all(&self, slices: &mut Vec<Bytes>) -> io::Result<()> {
        let was_writing = self.set_writing(true);
        assert!(
            !was_writing,
            "two writes in flight on one stream (seed {})",
            self.io().seed()
        );
        let result = self.send_all(slices).await;
        self.set_writing(false);
        result
    }

    fn shutdown(&self) {
        if self.io().is_alive() {
            network::shut(self.io().world(), &self.shared.link, self.shared.side);
        }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shared.link.borrow().ends[1 - self.shared.side].address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.shared.link.borrow().ends[self.shared.side].address)
    }
}

/// A listening socket of a simulated node.
pub struct SimListener {
    io: SimIo,
    listening: ListeningRef,
}

impl SimListener {
    pub(crate) fn new(io: SimIo, listening: ListeningRef) -> SimListener {
        SimListener { io, listening }
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<SimStream> {
        let mut watch = self.io.watch("accept");
        let link = poll_fn(|context| {
            watch.polled();
            if !self.io.is_alive() {
                watch.finish();
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected)));
            }
            let mut listening = self.listening.borrow_mut();
            match listening.backlog.pop_front() {
                Some(link) => {
                    watch.finish();
                    Poll::Ready(Ok(link))
                }
                None => {
                    listening.waiter = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(SimStream::new(self.io.clone(), link, 1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listening.borrow().address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.io.is_alive() && !self.io.world().ended.get() {
            network::close_listener(self.io.world(), self.io.node(), &self.listening);
        }
    }
}
