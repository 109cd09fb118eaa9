//! What only somebody sees who can look into every broker at once, and what must be true of it at any time
//! (reliability.md 3.5, "Log/replica" and "Metadata quorum").
//!
//! Pure but for [`collect`]. A scenario looks at its brokers now and then, says what clients have been told by then, and
//! hands both to [`God::observe`]. Checkers know brokers by two small traits only, so they do not change when brokers
//! replicate. Invariant: a checker remembers what it has seen for the whole run, so that two brokers that are never
//! looked at together are compared all the same.

mod acknowledged;
pub mod collect;
mod contents;
#[cfg(test)]
mod fake;
mod high_watermark;
mod images;
mod leaders;
mod prefix;

use std::fmt;

use model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, TopicPartition};

use self::acknowledged::AcknowledgedIsKept;
use self::contents::OneContent;
use self::high_watermark::HighWatermarks;
use self::images::EqualImages;
use self::leaders::OneLeader;
use self::prefix::EqualPrefixes;

/// Which process it is that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The machine.
    pub node: usize,
    /// The broker's number.
    pub broker: BrokerId,
    /// Counts the broker's lives.
    pub life: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} in life {}", self.broker, self.life)
    }
}

/// One batch as a replica holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMark {
    /// Its first offset.
    pub base: Offset,
    /// Its last offset.
    pub last: Offset,
    /// The epoch of the leader that appended it.
    pub epoch: LeaderEpoch,
    /// Of everything that a leader does not stamp: see [`crate::hash::of_batch`].
    pub hash: u64,
}

/// One partition as one broker holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Which.
    pub partition: TopicPartition,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
    /// Records below are durable.
    pub durable_end: Offset,
    /// As the broker knows it.
    pub high_watermark: Offset,
    /// The epoch that the broker leads or follows in.
    pub leader_epoch: LeaderEpoch,
    /// Whether it takes itself for the leader.
    pub leads: bool,
    /// In order, without holes, from the log start up to `read_to`.
    pub batches: Vec<BatchMark>,
    /// How far the log could be read; at most the log end.
    pub read_to: Offset,
}

/// A broker, as far as its logs are concerned.
pub trait ReplicaView {
    /// Which one.
    fn place(&self) -> Place;
    /// All that could be seen of its partitions.
    fn replicas(&self) -> &[Replica];
    /// Whether those are all that it holds.
    fn is_complete(&self) -> bool;
}

/// What one shard of a broker knows of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageMark {
    /// The shard.
    pub shard: u16,
    /// The metadata log is applied up to here.
    pub end_offset: Offset,
    /// Of everything that the image holds.
    pub hash: u64,
}

/// Who holds a partition, as a broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Which.
    pub partition: TopicPartition,
    /// The version of this state.
    pub partition_epoch: PartitionEpoch,
    /// Generation of leadership.
    pub leader_epoch: LeaderEpoch,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// In-sync and eligible leader replicas: every one of them has to hold what is acknowledged.
    pub members: Vec<BrokerId>,
}

/// A broker, as far as the metadata log is concerned.
pub trait MetadataView {
    /// Which one.
    fn place(&self) -> Place;
    /// One for each shard.
    fn images(&self) -> &[ImageMark];
    /// Who drives the metadata log, in which term, as far as the broker knows; `None` without a quorum.
    fn controller(&self) -> Option<(i64, BrokerId)>;
    /// Every partition of the cluster, as its first shard knows it.
    fn holders(&self) -> &[Holders];
}

/// A batch that a client was told to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where.
    pub partition: TopicPartition,
    /// Its first offset.
    pub base: Offset,
    /// Its last offset.
    pub last: Offset,
    /// As in [`BatchMark`].
    pub hash: u64,
}

/// What was seen at one look.
pub struct Observation<'a> {
    /// Brokers that run.
    pub replicas: Vec<&'a dyn ReplicaView>,
    /// The same ones.
    pub metadata: Vec<&'a dyn MetadataView>,
    /// What clients had been told before anybody was looked at.
    pub acknowledged: &'a [Acknowledged],
}

impl Observation<'_> {
    /// What the broker that knows most says of a partition's holders.
    fn holders(&self, partition: TopicPartition) -> Option<&Holders> {
        let all = self.metadata.iter().flat_map(|view| view.holders());
        let of_it = all.filter(|holders| holders.partition == partition);
        of_it.max_by_key(|holders| holders.partition_epoch)
    }
}

/// Every checker.
#[derive(Default)]
pub struct God {
    contents: OneContent,
    prefixes: EqualPrefixes,
    acknowledged: AcknowledgedIsKept,
    high_watermarks: HighWatermarks,
    leaders: OneLeader,
    images: EqualImages,
}

impl God {
    /// What is wrong with what was seen, each in words.
    pub fn observe(&mut self, seen: &Observation<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        self.contents.observe(seen, &mut wrong);
        self.prefixes.observe(seen, &mut wrong);
        self.acknowledged.observe(seen, &mut wrong);
        self.high_watermarks.observe(seen, &mut wrong);
        self.leaders.observe(seen, &mut wrong);
        self.images.observe(seen, &mut wrong);
        wrong
    }
}
