//! Messages that have come and that the driver has not taken.
//!
//! One shard. Bounded by bytes: when there is no room, the connections that have more to bring are not read, and the queues
//! of those who send fill up. Invariant: the messages of one connection come out in the order in which they were sent, each
//! once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Budget, Io, Reservation, Signal};

use crate::connection::{End, Receiver, Remote};
use crate::service::{Service, Serving};

/// A message that has come. While it is held its memory is charged.
pub struct Received {
    /// Who sent it, as its connection's handshake showed.
    pub from: Remote,
    /// Its bytes: a slice of what was read.
    pub payload: Bytes,
    _room: Reservation,
}

/// The queue of one purpose.
pub(crate) struct Incoming {
    queue: RefCell<VecDeque<Received>>,
    room: Rc<Budget>,
    wake: Rc<Signal>,
}

impl Incoming {
    pub(crate) fn new(bytes_max: usize, wake: Rc<Signal>) -> Rc<Incoming> {
        Rc::new(Incoming {
            queue: RefCell::default(),
            room: Budget::new(bytes_max),
            wake,
        })
    }

    pub(crate) fn take(&self) -> Option<Received> {
        self.queue.borrow_mut().pop_front()
    }

    /// Bytes that wait or are held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.room.used()
    }
}

impl<I: Io> Service<I> for Incoming {
    fn serve(self: Rc<Self>, receiver: Receiver<I>) -> Serving {
        Box::pin(read(self, receiver))
    }
}

async fn read<I: Io>(incoming: Rc<Incoming>, mut receiver: Receiver<I>) -> End {
    let from = receiver.remote();
    loop {
        let (payload, room) = match receiver.next_message(&incoming.room).await {
            Ok(message) => message,
            Err(end) => return end,
        };
        incoming.queue.borrow_mut().push_back(Received {
            from,
            payload,
            _room: room,
        });
        incoming.wake.raise();
    }
}
