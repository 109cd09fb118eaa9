//! The streams of other brokers' shards that follow partitions which this shard leads.
//!
//! Pure. Owned by the shard. Who reads logs is told which partition is next ([`LedStream::next_ready`]) and brings what it
//! found. Invariants: a partition is in one place of its stream; bytes under way, sent or read, are bounded by the credit; a
//! partition of which a stream has everything is touched by nobody.

use std::collections::{BTreeMap, VecDeque};

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};
use replica::stream::{
    Answer, Answered, MESSAGE_PARTITIONS_MAX, Pushed, StreamBody, StreamNumber, SubscribeRefusal,
};

use super::followed::OutOfOrder;
use super::limits::{CREDIT_BYTES, PART_COST_BYTES, READ_BYTES, READ_CREDIT_BYTES};
use super::peer_shard::PeerShard;

/// Where a partition of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has everything.
    Idle,
    /// It may have something in memory.
    Ready,
    /// It has something in segments.
    Behind,
    /// That is being read, or was and waits to be sent.
    Reading,
}

/// A partition that a stream follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// The epoch in which the follower was accepted.
    pub(crate) leader_epoch: LeaderEpoch,
    /// The follower has, or will have, everything below.
    pub(crate) position: Offset,
    /// What the follower knows of the leader's log.
    pub(crate) told_high_watermark: Offset,
    pub(crate) told_log_start: Offset,
    place: Place,
}

/// A message that was sent and not taken.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    message: u64,
    bytes: usize,
    /// Of them, from segments.
    read_bytes: usize,
}

/// A read from segments that is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadJob {
    pub(crate) peer: PeerShard,
    pub(crate) stream: StreamNumber,
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) from: Offset,
}

/// One follower's shard.
#[derive(Debug)]
pub(crate) struct LedStream {
    /// The follower's process.
    pub(crate) process: BrokerEpoch,
    pub(crate) number: StreamNumber,
    received: u64,
    sent: u64,
    served: BTreeMap<TopicPartition, Served>,
    ready: VecDeque<TopicPartition>,
    behind: VecDeque<TopicPartition>,
    /// What was read from segments.
    read: VecDeque<Pushed>,
    /// Bytes from segments that are being read, wait, or are under way.
    read_bytes: usize,
    /// The newest of each partition.
    answers: BTreeMap<TopicPartition, Answered>,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
}

impl LedStream {
    fn new(process: BrokerEpoch, number: StreamNumber) -> LedStream {
        LedStream {
            process,
            number,
            received: 0,
            sent: 0,
            served: BTreeMap::new(),
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            read: VecDeque::new(),
            read_bytes: 0,
            answers: BTreeMap::new(),
            under_way: VecDeque::new(),
            under_way_bytes: 0,
        }
    }

    pub(crate) fn has_credit(&self) -> bool {
        self.under_way_bytes < CREDIT_BYTES
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The next partition that may have something in memory. It has everything, unless it is told otherwise.
    pub(crate) fn next_ready(&mut self) -> Option<(TopicPartition, Served)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(served) = self.served.get_mut(&id)
                && served.place == Place::Ready
            {
                served.place = Place::Idle;
                return Some((id, *served));
            }
        }
        None
    }

    /// It is the next one's turn, but there is no room in the message.
    pub(crate) fn put_back(&mut self, id: TopicPartition) {
        let served = self.served.get_mut(&id).expect("it has just been taken");
        assert_eq!(served.place, Place::Idle, "it has just been taken");
        served.place = Place::Ready;
        self.ready.push_front(id);
    }

    /// It may have something, in memory.
    pub(crate) fn mark_ready(&mut self, id: TopicPartition) -> bool {
        match self.served.get_mut(&id) {
            Some(served) if served.place == Place::Idle => {
                served.place = Place::Ready;
                self.ready.push_back(id);
                true
            }
            _ => false,
        }
    }

    /// What follows is in segments.
    pub(crate) fn mark_behind(&mut self, id: TopicPartition) {
        let served = self.served.get_mut(&id).expect("it has just been taken");
        assert_eq!(served.place, Place::Idle, "it has just been taken");
        served.place = Place::Behind;
        self.behind.push_back(id);
    }

    /// A part of a message is made.
    pub(crate) fn pushed(&mut self, pushed: &Pushed) {
        let served = self.served.get_mut(&pushed.partition);
        let served = served.expect("it has just been taken");
        assert_eq!(
            served.position, pushed.base_offset,
            "records follow each other"
        );
        served.position = pushed.end_offset;
        served.told_high_watermark = served.told_high_watermark.max(pushed.high_watermark);
        served.told_log_start = served.told_log_start.max(pushed.log_start_offset);
    }

    pub(crate) fn served(&self, id: TopicPartition) -> Option<&Served> {
        self.served.get(&id)
    }

    /// The next read from segments, if the budget allows one.
    pub(crate) fn next_read(&mut self, peer: PeerShard) -> Option<ReadJob> {
        while self.read_bytes + READ_BYTES <= READ_CREDIT_BYTES {
            let partition = self.behind.pop_front()?;
            if let Some(served) = self.served.get_mut(&partition)
                && served.place == Place::Behind
            {
                served.place = Place::Reading;
                self.read_bytes += READ_BYTES;
                return Some(ReadJob {
                    peer,
                    stream: self.number,
                    partition,
                    leader_epoch: served.leader_epoch,
                    from: served.position,
                });
            }
        }
        None
    }

    /// A read has ended: with records that wait to be sent, or with none. Whoever was subscribed anew meanwhile gets none of
    /// it.
    pub(crate) fn read_done(&mut self, job: &ReadJob, found: Option<Pushed>) {
        assert!(self.read_bytes >= READ_BYTES, "a read was begun");
        self.read_bytes -= READ_BYTES;
        let served = self.served.get_mut(&job.partition);
        let served = served.filter(|served| {
            (served.place, served.leader_epoch, served.position)
                == (Place::Reading, job.leader_epoch, job.from)
        });
        let Some(served) = served else {
            return;
        };
        match found {
            Some(pushed) => {
                self.read_bytes += pushed.records.size_bytes();
                self.read.push_back(pushed);
            }
            None => served.place = Place::Idle,
        }
    }

    /// What was read from segments and fits beside so many bytes, to be sent now.
    pub(crate) fn take_read(&mut self, bytes_max: usize) -> Option<Pushed> {
        loop {
            let first = self.read.front()?;
            let bytes = first.records.size_bytes();
            if bytes > bytes_max {
                return None;
            }
            let pushed = self.read.pop_front()?;
            let served = self.served.get_mut(&pushed.partition);
            let served = served.filter(|served| {
                (served.place, served.leader_epoch, served.position)
                    == (Place::Reading, pushed.leader_epoch, pushed.base_offset)
            });
            if let Some(served) = served {
                served.place = Place::Idle;
                return Some(pushed);
            }
            self.read_bytes -= bytes;
        }
    }

    /// The next answers.
    pub(crate) fn take_answers(&mut self) -> Option<StreamBody> {
        let mut answers = Vec::new();
        while answers.len() < MESSAGE_PARTITIONS_MAX
            && let Some((_, answered)) = self.answers.pop_first()
        {
            answers.push(answered);
        }
        (!answers.is_empty()).then_some(StreamBody::Answer(answers))
    }

    /// A message leaves with so many bytes of records, some of them from segments. Returns its number.
    pub(crate) fn sent(&mut self, parts: usize, bytes: usize, read_bytes: usize) -> u64 {
        self.sent += 1;
        let under_way = UnderWay {
            message: self.sent,
            bytes: bytes + parts * PART_COST_BYTES,
            read_bytes,
        };
        self.under_way_bytes += under_way.bytes;
        self.under_way.push_back(under_way);
        self.sent
    }

    /// The follower has taken everything up to this message.
    fn taken(&mut self, message: u64) {
        while let Some(first) = self.under_way.pop_front_if(|w| w.message <= message) {
            assert!(
                self.under_way_bytes >= first.bytes && self.read_bytes >= first.read_bytes,
                "what is under way was counted"
            );
            self.under_way_bytes -= first.bytes;
            self.read_bytes -= first.read_bytes;
        }
    }

    /// Before anything that is pushed because of it.
    pub(crate) fn answer(&mut self, answered: Answered) {
        self.answers.insert(answered.partition, answered);
    }

    /// How many answers wait.
    pub(crate) fn answer_count(&self) -> usize {
        self.answers.len()
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Led {
    streams: BTreeMap<PeerShard, LedStream>,
    /// The streams that follow a partition.
    followers: BTreeMap<TopicPartition, Vec<PeerShard>>,
}

impl Led {
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerShard> + '_ {
        self.streams.keys().copied()
    }

    pub(crate) fn stream(&mut self, peer: PeerShard) -> Option<&mut LedStream> {
        self.streams.get_mut(&peer)
    }

    /// The stream of a read's result, if it is still the same one.
    pub(crate) fn stream_of(&mut self, job: &ReadJob) -> Option<&mut LedStream> {
        let stream = self.streams.get_mut(&job.peer);
        stream.filter(|stream| stream.number == job.stream)
    }

    /// A message of a follower has come. The first of a newer stream, or of a newer process, begins it. `Ok(false)`: it
    /// belongs to an earlier one.
    pub(crate) fn receive(
        &mut self,
        peer: PeerShard,
        process: BrokerEpoch,
        number: StreamNumber,
        found: u64,
    ) -> Result<bool, OutOfOrder> {
        let known = self.streams.get(&peer).map(|s| (s.process, s.number));
        if known.is_some_and(|known| (process, number) < known) {
            return Ok(false);
        }
        if known != Some((process, number)) {
            if found != 1 {
                return Err(OutOfOrder::Number { expected: 1, found });
            }
            self.end(peer);
            let stream = LedStream::new(process, number);
            self.streams.insert(peer, stream);
        }
        let stream = self.streams.get_mut(&peer).expect("it is there");
        let expected = stream.received + 1;
        if found != expected {
            return Err(OutOfOrder::Number { expected, found });
        }
        stream.received = found;
        Ok(true)
    }

    /// The follower has taken everything up to this message.
    pub(crate) fn taken(&mut self, peer: PeerShard, message: u64) -> Result<(), OutOfOrder> {
        let Some(stream) = self.streams.get_mut(&peer) else {
            return Ok(());
        };
        if message > stream.sent {
            return Err(OutOfOrder::Number {
                expected: stream.sent,
                found: message,
            });
        }
        stream.taken(message);
        Ok(())
    }

    /// A follower was accepted: it is served on this stream, and on no other of its broker.
    pub(crate) fn serve(
        &mut self,
        peer: PeerShard,
        id: TopicPartition,
        leader_epoch: LeaderEpoch,
        position: Offset,
    ) {
        for other in self.followers_of_broker(id, peer.broker) {
            self.leave(other, id);
        }
        let stream = self.streams.get_mut(&peer).expect("it has just asked");
        // It may have left its stream while it waited there for its turn.
        stream.ready.retain(|other| *other != id);
        stream.behind.retain(|other| *other != id);
        let served = Served {
            leader_epoch,
            position,
            told_high_watermark: Offset::NONE,
            told_log_start: Offset::NONE,
            place: Place::Idle,
        };
        stream.served.insert(id, served);
        stream.mark_ready(id);
        self.followers.entry(id).or_default().push(peer);
    }

    fn followers_of_broker(&self, id: TopicPartition, broker: BrokerId) -> Vec<PeerShard> {
        let followers = self.followers.get(&id).into_iter().flatten();
        let followers = followers.filter(|peer| peer.broker == broker);
        followers.copied().collect()
    }

    /// A follower is not served any more.
    pub(crate) fn leave(&mut self, peer: PeerShard, id: TopicPartition) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.served.remove(&id);
        }
        if let Some(followers) = self.followers.get_mut(&id) {
            followers.retain(|other| *other != peer);
            if followers.is_empty() {
                self.followers.remove(&id);
            }
        }
    }

    /// The same, and it is told so.
    pub(crate) fn refuse(
        &mut self,
        peer: PeerShard,
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        refusal: SubscribeRefusal,
    ) {
        self.leave(peer, partition);
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.answer(Answered {
                partition,
                leader_epoch,
                answer: Answer::Refused(refusal),
            });
        }
    }

    /// A partition may have something for its followers. Returns whether it has any.
    pub(crate) fn mark(&mut self, id: TopicPartition) -> bool {
        let mut any = false;
        for peer in self.followers.get(&id).into_iter().flatten() {
            if let Some(stream) = self.streams.get_mut(peer) {
                any |= stream.mark_ready(id);
            }
        }
        any
    }

    /// A stream has ended.
    pub(crate) fn end(&mut self, peer: PeerShard) {
        let Some(stream) = self.streams.remove(&peer) else {
            return;
        };
        for id in stream.served.keys() {
            self.leave(peer, *id);
        }
    }
}
