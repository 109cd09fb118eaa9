//! The streams of this shard to the leaders of the partitions that it follows.
//!
//! Pure. Owned by the shard. One stream per shard of another broker, with all partitions that are led there and followed
//! here. Invariants: a partition belongs to one stream; what is acknowledged was accepted on the stream in its present life;
//! bytes that wait are bounded by the leader's credit, or the stream ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{MonotonicTime, TopicPartition};
use replica::Subscription;
use replica::stream::{
    Acknowledged, MESSAGE_BYTES_MAX, MESSAGE_PARTITIONS_MAX, StreamBody, StreamNumber, Subscribed,
};

use super::limits::{ANSWER_TIME_MAX, CREDIT_BYTES, PAUSE_MAX, PAUSE_MIN, TOLD_BYTES};
use super::peer_shard::PeerShard;

/// The life of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Begun, as soon as there is something to ask, not before this time.
    Down(MonotonicTime),
    Up {
        number: StreamNumber,
        /// Messages that this side has sent.
        sent: u64,
        /// Messages of the leader that have come.
        received: u64,
    },
}

/// What a stream has to do.
#[derive(Debug)]
struct Stream {
    phase: Phase,
    pause: Duration,
    /// To be asked.
    wants: BTreeMap<TopicPartition, Subscription>,
    /// Asked and not answered.
    unanswered: BTreeSet<TopicPartition>,
    /// When something was last asked or answered.
    asked_at: MonotonicTime,
    acknowledges: BTreeMap<TopicPartition, Acknowledged>,
    /// The last message that was taken, and the last that the leader was told to be.
    taken: u64,
    told: u64,
    /// Bytes of messages that were taken since.
    untold_bytes: usize,
    /// Bytes of messages that wait to be taken.
    waiting_bytes: usize,
}

impl Stream {
    fn new(now: MonotonicTime) -> Stream {
        Stream {
            phase: Phase::Down(now),
            pause: PAUSE_MIN,
            wants: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            asked_at: now,
            acknowledges: BTreeMap::new(),
            taken: 0,
            told: 0,
            untold_bytes: 0,
            waiting_bytes: 0,
        }
    }

    /// Ends its life. What was under way is forgotten.
    fn end(&mut self, now: MonotonicTime) {
        *self = Stream {
            phase: Phase::Down(now.plus(self.pause)),
            pause: (self.pause * 2).min(PAUSE_MAX),
            ..Stream::new(now)
        };
    }

    fn is_of(&self, wanted: StreamNumber) -> bool {
        matches!(self.phase, Phase::Up { number, .. } if number == wanted)
    }
}

/// What is wrong with a message, so that its stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    #[error("message {found} where {expected} is next")]
    Number {
        expected: u64,
        /// The message's.
        found: u64,
    },
    #[error("more is under way than was agreed on")]
    Credit,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Followed {
    streams: BTreeMap<PeerShard, Stream>,
    /// Which stream a partition belongs to.
    via: BTreeMap<TopicPartition, PeerShard>,
    number_next: u64,
    /// Partitions that are asked for again at that time, and nothing is taken of until then.
    retries: BTreeMap<TopicPartition, MonotonicTime>,
}

impl Followed {
    /// `number` is the first stream's: drawn by chance, so that an earlier process's is another one.
    pub(crate) fn new(number: u64) -> Followed {
        Followed {
            streams: BTreeMap::new(),
            via: BTreeMap::new(),
            number_next: number,
            retries: BTreeMap::new(),
        }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerShard> + '_ {
        self.streams.keys().copied()
    }

    /// A partition is to be asked for.
    pub(crate) fn want(
        &mut self,
        now: MonotonicTime,
        peer: PeerShard,
        id: TopicPartition,
        subscription: Subscription,
    ) {
        self.retries.remove(&id);
        let before = self.via.insert(id, peer);
        if let Some(before) = before.filter(|before| *before != peer) {
            self.leave(before, id);
        }
        let stream = self.streams.entry(peer).or_insert_with(|| Stream::new(now));
        stream.acknowledges.remove(&id);
        stream.wants.insert(id, subscription);
    }

    fn leave(&mut self, peer: PeerShard, id: TopicPartition) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.wants.remove(&id);
            stream.acknowledges.remove(&id);
            stream.unanswered.remove(&id);
        }
    }

    /// A partition is asked for again later.
    pub(crate) fn retry_at(&mut self, id: TopicPartition, at: MonotonicTime) {
        self.retries.insert(id, at);
    }

    /// Partitions that are to be asked for again now.
    pub(crate) fn take_retries(&mut self, now: MonotonicTime) -> Vec<TopicPartition> {
        let due = self.retries.iter().filter(|(_, at)| **at <= now);
        let due: Vec<TopicPartition> = due.map(|(id, _)| *id).collect();
        for id in &due {
            self.retries.remove(id);
        }
        due
    }

    /// A partition is durable up to there.
    pub(crate) fn acknowledge(&mut self, acknowledged: Acknowledged) {
        let id = acknowledged.partition;
        let stream = self.via.get(&id).and_then(|via| self.streams.get_mut(via));
        if let Some(stream) = stream
            && matches!(stream.phase, Phase::Up { .. })
        {
            stream.acknowledges.insert(id, acknowledged);
        }
    }

    /// What a stream says next. `is_wanted` says whether a subscription is still that of its partition.
    pub(crate) fn poll(
        &mut self,
        now: MonotonicTime,
        peer: PeerShard,
        is_wanted: impl Fn(TopicPartition, &Subscription) -> bool,
    ) -> Option<(StreamNumber, u64, StreamBody)> {
        let stream = self.streams.get_mut(&peer)?;
        stream.wants.retain(|id, wanted| is_wanted(*id, wanted));
        if let Phase::Down(from) = stream.phase {
            if stream.wants.is_empty() || now < from {
                return None;
            }
            let number = StreamNumber(self.number_next);
            self.number_next += 1;
            stream.phase = Phase::Up {
                number,
                sent: 0,
                received: 0,
            };
        }
        let body = stream.next_body(now)?;
        let Phase::Up { number, sent, .. } = &mut stream.phase else {
            unreachable!("it was begun");
        };
        *sent += 1;
        Some((*number, *sent, body))
    }

    /// A message of the leader has come. `Ok(false)`: it belongs to an earlier life of the stream.
    pub(crate) fn receive(
        &mut self,
        peer: PeerShard,
        stream: StreamNumber,
        found: u64,
        bytes: usize,
    ) -> Result<bool, OutOfOrder> {
        let Some(known) = self.streams.get_mut(&peer).filter(|s| s.is_of(stream)) else {
            return Ok(false);
        };
        let Phase::Up { received, .. } = &mut known.phase else {
            unreachable!("it has a number");
        };
        let expected = *received + 1;
        if found != expected {
            return Err(OutOfOrder::Number { expected, found });
        }
        *received = found;
        known.waiting_bytes += bytes;
        // The last message may be longer than what was left of the credit.
        if known.waiting_bytes > CREDIT_BYTES + MESSAGE_BYTES_MAX {
            return Err(OutOfOrder::Credit);
        }
        Ok(true)
    }

    /// Whether messages of this life of the stream count.
    pub(crate) fn is_up(&self, peer: PeerShard, stream: StreamNumber) -> bool {
        self.streams.get(&peer).is_some_and(|s| s.is_of(stream))
    }

    /// Whether records of the partition that come on this stream are taken.
    pub(crate) fn takes(&self, peer: PeerShard, stream: StreamNumber, id: TopicPartition) -> bool {
        self.is_up(peer, stream)
            && self.via.get(&id) == Some(&peer)
            && !self.retries.contains_key(&id)
    }

    /// A partition's subscription was answered: the leader is there.
    pub(crate) fn answered(&mut self, now: MonotonicTime, peer: PeerShard, id: TopicPartition) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.unanswered.remove(&id);
            stream.asked_at = now;
            stream.pause = PAUSE_MIN;
        }
    }

    /// A message was taken. Returns whether that is to be told though nothing is durable.
    pub(crate) fn taken(
        &mut self,
        peer: PeerShard,
        stream: StreamNumber,
        message: u64,
        bytes: usize,
    ) -> bool {
        let Some(known) = self.streams.get_mut(&peer).filter(|s| s.is_of(stream)) else {
            return false;
        };
        assert!(message > known.taken, "messages are taken in order");
        assert!(known.waiting_bytes >= bytes, "what is taken has waited");
        known.waiting_bytes -= bytes;
        known.taken = message;
        known.untold_bytes += bytes;
        known.untold_bytes >= TOLD_BYTES
    }

    /// A stream has ended, or is to. Returns its partitions: they are to be asked for anew.
    pub(crate) fn end(&mut self, now: MonotonicTime, peer: PeerShard) -> Vec<TopicPartition> {
        let Some(stream) = self.streams.get_mut(&peer) else {
            return Vec::new();
        };
        stream.end(now);
        let mut ids = Vec::new();
        self.via.retain(|id, via| {
            if *via == peer {
                ids.push(*id);
            }
            *via != peer
        });
        if ids.is_empty() {
            self.streams.remove(&peer);
        }
        ids
    }

    /// The other side is there: what waits for a pause does so no longer.
    pub(crate) fn reachable(&mut self, now: MonotonicTime, peer: PeerShard) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.pause = PAUSE_MIN;
            if let Phase::Down(from) = &mut stream.phase {
                *from = now.min(*from);
            }
        }
    }

    /// Whether a stream's pause is over.
    pub(crate) fn is_due(&self, now: MonotonicTime) -> bool {
        let mut streams = self.streams.values();
        streams.any(|stream| {
            matches!(stream.phase, Phase::Down(from) if from <= now) && !stream.wants.is_empty()
        })
    }

    /// Streams whose leaders do not answer.
    pub(crate) fn silent(&self, now: MonotonicTime) -> Vec<PeerShard> {
        let silent = self.streams.iter().filter(|(_, stream)| {
            !stream.unanswered.is_empty() && now.since(stream.asked_at) > ANSWER_TIME_MAX
        });
        silent.map(|(peer, _)| *peer).collect()
    }
}

impl Stream {
    fn next_body(&mut self, now: MonotonicTime) -> Option<StreamBody> {
        if !self.wants.is_empty() {
            let mut asked = Vec::new();
            while asked.len() < MESSAGE_PARTITIONS_MAX
                && let Some((partition, wanted)) = self.wants.pop_first()
            {
                self.unanswered.insert(partition);
                asked.push(Subscribed {
                    partition,
                    leader_epoch: wanted.leader_epoch,
                    log_end_offset: wanted.log_end_offset,
                    last_epoch: wanted.last_epoch,
                });
            }
            self.asked_at = now;
            return Some(StreamBody::Subscribe(asked));
        }
        if self.acknowledges.is_empty() && self.untold_bytes < TOLD_BYTES {
            return None;
        }
        let mut partitions = Vec::new();
        while partitions.len() < MESSAGE_PARTITIONS_MAX
            && let Some((_, acknowledged)) = self.acknowledges.pop_first()
        {
            partitions.push(acknowledged);
        }
        assert!(self.taken >= self.told, "what was taken stays so");
        self.told = self.taken;
        self.untold_bytes = 0;
        Some(StreamBody::Acknowledge {
            taken: self.taken,
            partitions,
        })
    }
}
