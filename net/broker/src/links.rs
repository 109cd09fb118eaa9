//! What joins the shards of one broker: mailboxes, what shard 0 tells the others at the start, and the barriers of the
//! end.
//!
//! Made once, on any thread; each shard takes its own to its core. Nothing is shared but channels, so it is the same
//! whether each shard has a thread or all have one.

use std::time::Duration;

use model::ShardId;
use peer::Passage;
use runtime::Io;
use runtime::mailbox::{Inbox, Sender, mailbox};
use shard::message::Envelope;

use crate::plan::Opened;

/// Messages a shard's inbox holds, unless told otherwise. Each is one request or answer of another shard; connections
/// bound their number.
pub const INBOX_CAPACITY: usize = 4096;

/// Connections of other brokers that wait for their shard: more are refused, and tried again.
const PASSAGE_CAPACITY: usize = 64;

/// How often a shard at a barrier looks for the others. Only at the end of a broker.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// One shard's ends.
pub struct Links<I: Io> {
    pub(crate) shard: ShardId,
    pub(crate) senders: Vec<Sender<Envelope>>,
    pub(crate) inbox: Inbox<Envelope>,
    /// Connections of other brokers: to each shard, and those for this one.
    pub(crate) passages: Vec<Sender<Passage<I>>>,
    pub(crate) passages_here: Inbox<Passage<I>>,
    pub(crate) opened: OpenedLink,
    pub(crate) left: Barrier,
    pub(crate) drained: Barrier,
    pub(crate) closed: Barrier,
}

/// How a shard hears what shard 0 has found out.
pub(crate) enum OpenedLink {
    /// Shard 0 tells these.
    Tells(Vec<Sender<Opened>>),
    /// Any other one hears it here.
    Hears(Inbox<Opened>),
}

/// The ends of all shards of a broker, in order. `inbox_capacity` is that of each shard's inbox.
pub fn links<I: Io>(shards: u16, inbox_capacity: usize) -> Vec<Links<I>> {
    links_through(shards, inbox_capacity, |_, _, to| to)
}

/// The same, for a simulation in which messages between two cores take their time: `way` is asked for each pair of
/// shards, in order, for the sender that the first one uses, given that of the second one's inbox.
pub fn links_through<I: Io>(
    shards: u16,
    inbox_capacity: usize,
    mut way: impl FnMut(ShardId, ShardId, Sender<Envelope>) -> Sender<Envelope>,
) -> Vec<Links<I>> {
    assert!(shards > 0, "a broker has at least one shard");
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| mailbox(inbox_capacity)).unzip();
    let (passages, passages_here): (Vec<_>, Vec<_>) =
        (0..shards).map(|_| mailbox(PASSAGE_CAPACITY)).unzip();
    let (tell, hear): (Vec<_>, Vec<_>) = (1..shards).map(|_| mailbox(1)).unzip();
    let opened = std::iter::once(OpenedLink::Tells(tell));
    let opened = opened.chain(hear.into_iter().map(OpenedLink::Hears));
    let ends = barriers(shards).into_iter().zip(barriers(shards));
    let barriers = barriers(shards).into_iter().zip(ends);
    let inboxes = inboxes.into_iter().zip(passages_here);
    let ends = (0..shards).zip(inboxes).zip(opened).zip(barriers);
    ends.map(
        |(((shard, (inbox, passages_here)), opened), (left, (drained, closed)))| Links {
            shard: ShardId(shard),
            senders: (0..shards)
                .zip(&senders)
                .map(|(other, to)| match other == shard {
                    true => to.clone(),
                    false => way(ShardId(shard), ShardId(other), to.clone()),
                })
                .collect(),
            inbox,
            passages: passages.clone(),
            passages_here,
            opened,
            left,
            drained,
            closed,
        },
    )
    .collect()
}

/// Where shards wait for each other, once.
pub(crate) struct Barrier {
    /// To every party, this one included. Says whether all went well there.
    tell: Vec<Sender<bool>>,
    hear: Inbox<bool>,
}

/// Somebody did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing;

fn barriers(parties: u16) -> Vec<Barrier> {
    let capacity = usize::from(parties);
    let (tell, hear): (Vec<_>, Vec<_>) = (0..parties).map(|_| mailbox(capacity)).unzip();
    let one = |hear| Barrier {
        tell: tell.clone(),
        hear,
    };
    hear.into_iter().map(one).collect()
}

impl Barrier {
    /// Tells the others how it went here and waits for them; whether all went well everywhere.
    pub(crate) async fn pass<I: Io>(
        mut self,
        io: &I,
        went_well: bool,
        patience: Duration,
    ) -> Result<bool, Missing> {
        for party in &self.tell {
            let told = party.try_send(went_well);
            assert!(told.is_ok(), "each party comes once");
        }
        let deadline = io.now().plus(patience);
        let (mut came, mut all_well) = (0, true);
        loop {
            while let Some(well) = self.hear.try_next() {
                came += 1;
                all_well &= well;
            }
            if came == self.tell.len() {
                return Ok(all_well);
            }
            if io.now() >= deadline {
                return Err(Missing);
            }
            io.sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use runtime::sim::{SimIo, Simulation};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[test]
    fn every_pair_of_shards_has_a_way_of_its_own() {
        let mut asked = Vec::new();
        let links = links_through::<SimIo>(3, 1, |from, to, sender| {
            asked.push((from.0, to.0));
            sender
        });
        assert_eq!(asked, [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
        assert!(links.iter().all(|links| links.senders.len() == 3));
    }

    /// Lets parties come one after the other, those of `comes`, and says what each was told and when, in milliseconds.
    fn play(comes: &[bool], went_well: &[bool]) -> Vec<(u64, Result<bool, Missing>)> {
        let simulation = Simulation::new(1, 1, 1);
        let told = Rc::new(RefCell::new(Vec::new()));
        let begun = simulation.now();
        for (index, barrier) in barriers(comes.len() as u16).into_iter().enumerate() {
            if !comes[index] {
                continue;
            }
            let (io, told, well) = (simulation.io(0, 0), told.clone(), went_well[index]);
            simulation.spawn(0, 0, async move {
                io.sleep(Duration::from_millis(100 * index as u64)).await;
                let passed = barrier.pass(&io, well, PATIENCE).await;
                let millis = io.now().since(begun).as_millis() as u64;
                told.borrow_mut().push((millis, passed));
            });
        }
        simulation.run_for(Duration::from_secs(5));
        told.take()
    }

    #[test]
    fn nobody_passes_before_the_last_one_came() {
        for (well, expected) in [
            ([true, true, true], true),
            ([true, false, true], false),
            ([true, true, false], false),
        ] {
            let told = play(&[true; 3], &well);
            assert_eq!(told.len(), 3);
            for (millis, passed) in told {
                assert!((200..210).contains(&millis), "{millis}");
                assert_eq!(passed, Ok(expected));
            }
        }
    }

    #[test]
    fn who_does_not_come_is_missed_in_time() {
        let told = play(&[true, false, true], &[true; 3]);
        let missed: Vec<_> = told
            .iter()
            .map(|(millis, passed)| (millis / 100, *passed))
            .collect();
        assert_eq!(missed, [(10, Err(Missing)), (12, Err(Missing))]);
    }
}
