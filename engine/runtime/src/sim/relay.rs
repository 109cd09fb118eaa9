//! Mailboxes whose messages take their time: the other core is busy, and gets round to them later.
//!
//! A relay between two shards of one node. It bounds what waits in it, keeps the order, and dies with the node.

use std::time::Duration;

use super::io::SimIo;
use crate::io::{Io, TaskClass};
use crate::mailbox::{Sender, mailbox};

/// One in so many bursts of messages is held up at all.
const DELAY_SHARE: u64 = 3;

/// A way into the mailbox behind `to` on which messages wait now and then, each burst for `longest` at most. `capacity`
/// bounds what waits on the way; `io` is a shard of the node whose mailbox it is.
pub fn delayed<T: Send + 'static>(
    io: &SimIo,
    to: Sender<T>,
    capacity: usize,
    longest: Duration,
) -> Sender<T> {
    let (sender, mut inbox) = mailbox(capacity);
    let micros = u64::try_from(longest.as_micros()).expect("a delay is not centuries long");
    let relay_io = io.clone();
    io.spawn(TaskClass::Foreground, async move {
        loop {
            let first = inbox.next().await;
            let random = &relay_io.world().node(relay_io.node()).random.mailbox;
            if random.one_in(DELAY_SHARE) {
                let micros = random.between(0, micros);
                relay_io.sleep(Duration::from_micros(micros)).await;
            }
            to.send(first).await;
            while let Some(next) = inbox.try_next() {
                to.send(next).await;
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::sim::Simulation;

    const LONGEST: Duration = Duration::from_millis(2);

    #[test]
    fn messages_wait_and_keep_their_order() {
        let mut latest = Duration::ZERO;
        for seed in 0..20 {
            let simulation = Simulation::new(seed, 1, 2);
            let (io, other) = (simulation.io(0, 0), simulation.io(0, 1));
            let (to, mut inbox) = mailbox(3);
            let sender = delayed(&other, to, 3, LONGEST);
            simulation.spawn(0, 0, async move {
                for number in 0..50_u32 {
                    sender.send((number, io.now())).await;
                    assert!(sender.depth() <= 3);
                    io.sleep(Duration::from_micros(200)).await;
                }
            });
            let received = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&received);
            simulation.spawn(0, 1, async move {
                loop {
                    let (number, sent): (u32, model::MonotonicTime) = inbox.next().await;
                    seen.borrow_mut().push((number, other.now().since(sent)));
                }
            });
            simulation.run_until(|| received.borrow().len() == 50);
            let numbers: Vec<u32> = received
                .borrow()
                .iter()
                .map(|(number, _)| *number)
                .collect();
            assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "seed {seed}");
            let waits = received.borrow().iter().map(|(_, wait)| *wait).max();
            latest = latest.max(waits.expect("there were messages"));
        }
        assert!(latest > LONGEST / 2, "the longest wait was {latest:?}");
    }

    #[test]
    fn what_is_on_the_way_dies_with_the_node() {
        let simulation = Simulation::new(1, 1, 2);
        let (to, mut inbox) = mailbox::<u32>(8);
        let sender = delayed(&simulation.io(0, 1), to, 8, LONGEST);
        simulation.kill(0);
        sender.try_send(1).expect("there is room, or nobody");
        simulation.run_for(Duration::from_secs(1));
        assert_eq!(inbox.try_next(), None);
    }
}
