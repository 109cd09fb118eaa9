//! Bounded mailboxes between cores.
//!
//! Many senders, one inbox. Works between executors on different threads and under simulation alike: the waker crosses
//! threads, nothing else does.
//!
//! Rule (glommio house rule 7): only a detached task, started with [`crate::Io::spawn`], awaits [`Inbox::next`] or
//! [`Sender::send`], and drives it to its end. One dispatcher task per core owns the inbox and fans out locally; that
//! also makes one wake serve a batch ([`Inbox::try_next`] until it is empty).
//!
//! A mailbox lives as long as the process. When its inbox is gone all the same (the shard died under simulation),
//! messages to it are lost; when all senders are gone, `next` waits for ever.

use flume::TrySendError;
use thiserror::Error;

/// A message that did not fit: the mailbox holds as many as it may. Gives the message back.
#[derive(Debug, Error)]
#[error("the mailbox is full")]
pub struct Full<T>(pub T);

/// The sending side. Clones share the mailbox.
pub struct Sender<T> {
    channel: flume::Sender<T>,
}

/// The receiving side, of one task.
pub struct Inbox<T> {
    channel: flume::Receiver<T>,
}

/// A mailbox for at most `capacity` messages.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Inbox<T>) {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let (sender, receiver) = flume::bounded(capacity);
    (Sender { channel: sender }, Inbox { channel: receiver })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            channel: self.channel.clone(),
        }
    }
}

impl<T: Send> Sender<T> {
    /// Sends without waiting.
    pub fn try_send(&self, message: T) -> Result<(), Full<T>> {
        match self.channel.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => Err(Full(message)),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Sends, waiting for room. Messages of one sender arrive in order.
    pub async fn send(&self, message: T) {
        // Fails only if the inbox is gone, when the message is lost by the rule above.
        self.channel.send_async(message).await.ok();
    }

    /// Messages that wait in the mailbox.
    pub fn depth(&self) -> usize {
        self.channel.len()
    }
}

impl<T: Send> Inbox<T> {
    /// The next message, waiting for it.
    pub async fn next(&mut self) -> T {
        match self.channel.recv_async().await {
            Ok(message) => message,
            Err(flume::RecvError::Disconnected) => std::future::pending().await,
        }
    }

    /// The next message if there is one.
    pub fn try_next(&mut self) -> Option<T> {
        self.channel.try_recv().ok()
    }

    /// Messages that wait in the mailbox.
    pub fn depth(&self) -> usize {
        self.channel.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Full, mailbox};
    use crate::sim::Simulation;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, mut inbox) = mailbox(2);
        sender.try_send(1).unwrap();
        sender.clone().try_send(2).unwrap();
        let Err(Full(message)) = sender.try_send(3) else {
            panic!("three messages fit into two places");
        };
        assert_eq!((message, sender.depth(), inbox.depth()), (3, 2, 2));
        assert_eq!(inbox.try_next(), Some(1));
        sender.try_send(3).unwrap();
        assert_eq!([inbox.try_next(), inbox.try_next()], [Some(2), Some(3)]);
        assert_eq!(inbox.try_next(), None);
    }

    #[test]
    fn shards_exchange_messages_in_order_with_back_pressure() {
        for seed in 0..20 {
            let simulation = Simulation::new(seed, 1, 2);
            let (sender, mut inbox) = mailbox(3);
            simulation.spawn(0, 1, async move {
                for number in 0..100 {
                    sender.send(number).await;
                    assert!(sender.depth() <= 3);
                }
            });
            let received = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&received);
            simulation.spawn(0, 0, async move {
                loop {
                    let number = inbox.next().await;
                    seen.borrow_mut().push(number);
                }
            });
            simulation.run_until(|| received.borrow().len() == 100);
            assert_eq!(*received.borrow(), (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "two cores are two threads")]
    fn messages_cross_threads() {
        let (sender, mut inbox) = mailbox(4);
        let thread = std::thread::spawn(move || {
            for number in 0..1000 {
                let mut message = number;
                while let Err(Full(back)) = sender.try_send(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 1000 {
            if let Some(number) = inbox.try_next() {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
        thread.join().unwrap();
    }
}
