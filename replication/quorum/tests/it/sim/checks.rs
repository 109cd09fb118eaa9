//! What must hold in a simulated cluster, seen from above (reliability: one leader per term, votes kept, what is committed
//! never lost nor changed, equal states at equal places).

use std::collections::BTreeMap;

use bytes::Bytes;
use model::Offset;
use ringlog_quorum::{Body, Committed, Entry, EntryKind, Message, ReplicaKey, VoterSet};

use super::disk::{Disk, Op};
use super::image::Image;

/// A committed entry.
pub(crate) struct Fact {
    pub(crate) term: u64,
    pub(crate) batch: Bytes,
    pub(crate) base_offset: Offset,
    /// In a later term than this, every leader has it.
    pub(crate) known_in_term: u64,
    /// The state after it.
    pub(crate) image: Image,
}

/// Everything that was ever committed, and who led.
#[derive(Default)]
pub(crate) struct Checks {
    /// Entry `n` at `n - 1`.
    pub(crate) facts: Vec<Fact>,
    leaders: BTreeMap<u64, ReplicaKey>,
    votes: BTreeMap<(u64, ReplicaKey), ReplicaKey>,
    /// The voters after all facts, and the entry that made them so.
    pub(crate) voters: Option<(u64, VoterSet)>,
}

impl Checks {
    /// A replica says that an entry is committed; `image` is its state after it.
    pub(crate) fn committed(&mut self, entry: &Committed, term: u64, image: Image, disk: &Disk) {
        let index = entry.index.0;
        assert_eq!(image.index, index, "an entry was left out or came twice");
        let read = Entry::read(entry.batch.clone()).expect("an entry");
        let durable = disk.entry_at(read.base_offset());
        assert!(
            durable == Some(&read) || disk.log_start >= read.end_offset(),
            "entry {index} was applied and is not durable here"
        );
        let count = self.facts.len() as u64;
        assert!(index <= count + 1, "entry {index} after {count}");
        if index == count + 1 {
            if let EntryKind::Voters(voters) = &entry.kind {
                self.voters = Some((index, voters.clone()));
            }
            self.facts.push(Fact {
                term: entry.term.0,
                batch: entry.batch.clone(),
                base_offset: read.base_offset(),
                known_in_term: term,
                image,
            });
        }
        let fact = &self.facts[index as usize - 1];
        assert_eq!(fact.term, entry.term.0, "entry {index} changed its term");
        assert_eq!(fact.batch, entry.batch, "entry {index} changed");
        assert_eq!(fact.image, image, "the states at entry {index} differ");
    }

    /// A replica has the state of a snapshot.
    pub(crate) fn installed(&self, image: Image) {
        let fact = &self.facts[image.index as usize - 1];
        assert_eq!(fact.image, image, "a snapshot of something else");
    }

    /// A replica leads.
    pub(crate) fn leads(&mut self, leader: ReplicaKey, term: u64, disk: &Disk) {
        let before = *self.leaders.entry(term).or_insert(leader);
        assert_eq!(before, leader, "two leaders in term {term}");
        let log = written(disk);
        for (index, fact) in (1..).zip(&self.facts) {
            if fact.known_in_term >= term || fact.base_offset < log.0 {
                continue;
            }
            let present = log.1.get(&fact.base_offset);
            assert!(
                present == Some(&fact.batch),
                "the leader of term {term} lacks committed entry {index}"
            );
        }
    }

    /// A replica that may fail right now sends this.
    pub(crate) fn sends(&mut self, message: &Message, disk: &Disk) {
        let term = message.term.0;
        let (durable, is_now) = (disk.state, disk.state.term == term);
        match &message.body {
            // Nothing is promised.
            Body::VoteRequest { pre: true, .. }
            | Body::VoteResponse { pre: true, .. }
            | Body::TimeoutNow => return,
            Body::VoteResponse { granted: true, .. } => {
                let voted = *self.votes.entry((term, message.from)).or_insert(message.to);
                assert_eq!(voted, message.to, "two votes in term {term}");
                assert!(
                    !is_now || durable.vote == message.to.id(),
                    "a vote was sent that is not durable"
                );
            }
            Body::VoteRequest { .. } => assert!(
                !is_now || durable.vote == message.from.id(),
                "a candidate's own vote is not durable"
            ),
            Body::Appended { index, .. } if is_now && index.0 > 0 => {
                // Entries are at least as many offsets.
                let count = disk.log.len() as u64;
                let before = match (&disk.snapshot, disk.log_start) {
                    (_, Offset(0)) => 0,
                    (Some((mark, _)), start) => {
                        let covered = |e: &&Entry| e.end_offset() <= mark.end_offset;
                        assert!(start <= mark.end_offset, "a hole behind the snapshot");
                        mark.index.0 - disk.log.iter().filter(covered).count() as u64
                    }
                    (None, start) => panic!("a log from {start} on without a snapshot"),
                };
                assert!(
                    before + count >= index.0,
                    "an entry was acknowledged that is not durable"
                );
            }
            _ => {}
        }
        assert!(
            durable.term >= term,
            "{:?} was sent in term {term}, which is not durable",
            message.body
        );
    }

    /// A step that a replica asks of its disk takes nothing away that is committed.
    pub(crate) fn asks(&self, op: &Op, image: Image) {
        match op {
            Op::Truncate(to) => assert!(
                *to >= image.end_offset,
                "applied up to {}, and cut at {to}",
                image.end_offset
            ),
            Op::Reset(to) => assert!(
                *to >= image.end_offset,
                "applied up to {}, and begun anew at {to}",
                image.end_offset
            ),
            _ => {}
        }
    }

    /// Logs agree below an entry that both have.
    pub(crate) fn logs_match<'a>(&self, disks: impl Iterator<Item = &'a Disk> + Clone) {
        for (place, one) in disks.clone().enumerate() {
            for other in disks.clone().take(place) {
                let mut matched = false;
                for entry in one.log.iter().rev() {
                    let Some(twin) = other.entry_at(entry.base_offset()) else {
                        continue;
                    };
                    matched |= twin.term() == entry.term();
                    assert!(
                        !matched || twin == entry,
                        "logs agree behind {} and differ there",
                        entry.base_offset()
                    );
                }
            }
        }
    }
}

/// The log as it will be when everything under way is durable: its start, and its batches by offset.
fn written(disk: &Disk) -> (Offset, BTreeMap<Offset, Bytes>) {
    let mut whole = disk.clone();
    while !whole.under_way.is_empty() {
        whole.step();
    }
    let batches = whole.log.iter();
    let batches = batches.map(|entry| (entry.base_offset(), entry.batch().clone()));
    (whole.log_start, batches.collect())
}
