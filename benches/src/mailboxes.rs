//! Mailboxes between cores, used within one thread: the cost without the transfer of cache lines and without wake-ups
//! of another core.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use runtime::mailbox;

use crate::meter::Meter;

const CAPACITY: usize = 1024;
const OPS: u64 = 200_000;

/// As large as the requests that cores send each other, a boxed future among them.
type Letter = [u64; 8];

/// A message into the mailbox and out of it.
pub(crate) fn hop(meter: &mut Meter) {
    let (sender, mut inbox) = mailbox::<Letter>(CAPACITY);
    meter.repeat(OPS, 0, || {
        sender.try_send([1; 8]).expect("there is room");
        inbox.try_next().expect("a message is there")
    });
}

/// The same for a task that waits: it asks in vain, is woken by the message and asks again.
pub(crate) fn wake(meter: &mut Meter) {
    let (sender, mut inbox) = mailbox::<Letter>(CAPACITY);
    let mut context = Context::from_waker(Waker::noop());
    meter.repeat(OPS, 0, || {
        let mut next = pin!(inbox.next());
        assert!(next.as_mut().poll(&mut context).is_pending());
        sender.try_send([1; 8]).expect("there is room");
        match next.poll(&mut context) {
            Poll::Ready(letter) => letter,
            Poll::Pending => panic!("the message was sent"),
        }
    });
}
