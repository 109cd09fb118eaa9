//! The messages of a stream.

use bytes::Bytes;
use model::record::{BatchError, Batches};
use model::{BrokerEpoch, LeaderEpoch, Offset, TopicPartition};

use crate::subscription::SubscribeAnswer;

/// Names a stream of one follower's process: later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamNumber(pub u64);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMessage {
    /// The sender's registration: which process sends.
    pub broker_epoch: BrokerEpoch,
    /// The stream that it belongs to.
    pub stream: StreamNumber,
    /// The sender's count of messages in this stream, from 1.
    pub number: u64,
    pub body: StreamBody,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamBody {
    /// Follower to leader: asks for what follows these logs.
    Subscribe(Vec<Subscribed>),
    /// Follower to leader: what is durable there, and the number of the last message of the leader's that it has taken, whose
    /// records no longer count as under way.
    Acknowledge {
        taken: u64,
        partitions: Vec<Acknowledged>,
    },
    /// Leader to follower: the answers to subscriptions.
    Answer(Vec<Answered>),
    /// Leader to follower: records, or where nothing but that has changed a high watermark.
    Push(Vec<Pushed>),
}

/// A follower's log, as its subscription tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub partition: TopicPartition,
    /// The leader epoch in which it takes the one it asks for the leader.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends, durable or not.
    pub log_end_offset: Offset,
    /// The last epoch of its log, [`LeaderEpoch::NONE`] of an empty one.
    pub last_epoch: LeaderEpoch,
}

/// Everything below the end is durable on the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub partition: TopicPartition,
    /// The leader epoch in which it was accepted.
    pub leader_epoch: LeaderEpoch,
    pub durable_end_offset: Offset,
}

/// What becomes of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub partition: TopicPartition,
    /// That of the subscription.
    pub leader_epoch: LeaderEpoch,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the leader's log says.
    Log(SubscribeAnswer),
    /// The follower is not served, or no longer.
    Refused(SubscribeRefusal),
}

/// Why a follower is not served. It asks again after a pause, or when it has heard of newer metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SubscribeRefusal {
    #[error("the shard does not have the partition")]
    UnknownPartition = 1,
    #[error("the broker does not lead the partition")]
    NotLeader = 2,
    #[error("the leader epoch is over")]
    EpochOver = 3,
    #[error("the leader has not heard of the leader epoch yet")]
    EpochAhead = 4,
    #[error("the broker has no replica of the partition")]
    NotAReplica = 5,
    #[error("the registration of the follower is over")]
    ProcessOver = 6,
    /// It was served; what follows its log cannot be read any more.
    #[error("the leader's log does not have what follows")]
    Ended = 7,
}

impl SubscribeRefusal {
    /// All of them.
    pub const ALL: [SubscribeRefusal; 7] = [
        SubscribeRefusal::UnknownPartition,
        SubscribeRefusal::NotLeader,
        SubscribeRefusal::EpochOver,
        SubscribeRefusal::EpochAhead,
        SubscribeRefusal::NotAReplica,
        SubscribeRefusal::ProcessOver,
        SubscribeRefusal::Ended,
    ];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<SubscribeRefusal> {
        let mut all = SubscribeRefusal::ALL.into_iter();
        all.find(|refusal| refusal.code() == code)
    }
}

/// What follows a follower's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub partition: TopicPartition,
    /// The epoch of the leader that pushes.
    pub leader_epoch: LeaderEpoch,
    /// Where the follower's log ends.
    pub base_offset: Offset,
    /// Where it ends with these records; the base if there are none.
    pub end_offset: Offset,
    /// The leader's.
    pub high_watermark: Offset,
    /// Where the leader's log starts.
    pub log_start_offset: Offset,
    pub records: Records,
}

/// Batches as they are stored, back to back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Each holds whole batches.
    pub slices: Vec<Bytes>,
    /// Of each batch, which of its records has the largest timestamp.
    pub max_timestamp_deltas: Vec<i32>,
    /// The leader epoch of the last batch, [`LeaderEpoch::NONE`] without any.
    pub last_epoch: LeaderEpoch,
}

/// Why bytes are not the records that a message says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("a batch has no records, or more than there are offsets")]
    Offsets,
    #[error("batches that do not follow each other")]
    Order,
    #[error("another number of batches than announced")]
    Count,
}

impl Records {
    /// None.
    pub fn none() -> Records {
        Records {
            last_epoch: LeaderEpoch::NONE,
            ..Records::default()
        }
    }

    pub fn size_bytes(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Each batch, and which of its records has the largest timestamp.
    pub fn batches(&self) -> impl Iterator<Item = (&[u8], i32)> {
        let batches = self.slices.iter().flat_map(|slice| Batches::new(slice));
        let batches = batches.map_while(|batch| batch.ok().map(|(_, batch)| batch));
        batches.zip(self.max_timestamp_deltas.iter().copied())
    }
}

/// Whether batches follow each other from `base` to `end`, as records of a leader of `leader_epoch`. Offsets that were
/// compacted away may be missing between them. Returns how many there are and the epoch of the last.
pub(crate) fn check_records(
    slices: &[Bytes],
    (base, end): (Offset, Offset),
    leader_epoch: LeaderEpoch,
) -> Result<(usize, LeaderEpoch), RecordsError> {
    let (mut follows, mut last_epoch, mut count) = (base, LeaderEpoch::NONE, 0);
    for slice in slices {
        for batch in Batches::new(slice) {
            let (header, _) = batch?;
            let (base, delta) = (header.base_offset.0, header.last_offset_delta);
            let last = base.checked_add(delta.into());
            if base < 0 || delta < 0 || last.is_none_or(|last| last == i64::MAX) {
                return Err(RecordsError::Offsets);
            }
            let in_order = header.base_offset >= follows
                && header.leader_epoch >= last_epoch
                && (LeaderEpoch(0)..=leader_epoch).contains(&header.leader_epoch);
            if !in_order {
                return Err(RecordsError::Order);
            }
            follows = header.next_offset();
            last_epoch = header.leader_epoch;
            count += 1;
        }
    }
    // Without records nothing moves; with them they end where the message says.
    if follows != end {
        return Err(RecordsError::Order);
    }
    Ok((count, last_epoch))
}
