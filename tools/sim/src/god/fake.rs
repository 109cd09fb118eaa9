//! Brokers made of what a test says of them.

use model::{
    BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};

use super::{
    Acknowledged, BatchMark, Holders, ImageMark, MetadataView, Observation, Place, Replica,
    ReplicaView,
};

/// The partition that most tests are about.
pub(super) fn partition() -> TopicPartition {
    TopicPartition {
        topic: TopicId([7; 16]),
        partition: PartitionIndex(0),
    }
}

/// A broker.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    pub(super) place: Place,
    pub(super) replicas: Vec<Replica>,
    pub(super) is_partial: bool,
    pub(super) images: Vec<ImageMark>,
    pub(super) controller: Option<(i64, BrokerId)>,
    pub(super) holders: Vec<Holders>,
}

/// A broker in its first life, with nothing.
pub(super) fn broker(number: i32) -> Fake {
    Fake {
        place: Place {
            node: number as usize - 1,
            broker: BrokerId(number),
            life: 1,
        },
        replicas: Vec::new(),
        is_partial: false,
        images: Vec::new(),
        controller: None,
        holders: Vec::new(),
    }
}

/// A batch of so many records: (records, epoch, hash).
pub(super) type Batch = (i64, i32, u64);

/// A replica that holds these batches from offset 0 on, all of them durable and committed.
pub(super) fn log(batches: &[Batch]) -> Replica {
    let mut end = 0;
    let marks = batches.iter().map(|(records, epoch, hash)| {
        let base = Offset(end);
        end += records;
        BatchMark {
            base,
            last: Offset(end - 1),
            epoch: LeaderEpoch(*epoch),
            hash: *hash,
        }
    });
    let batches: Vec<BatchMark> = marks.collect();
    Replica {
        partition: partition(),
        log_start: Offset(0),
        log_end: Offset(end),
        durable_end: Offset(end),
        high_watermark: Offset(end),
        leader_epoch: batches.last().map_or(LeaderEpoch(0), |batch| batch.epoch),
        leads: false,
        batches,
        read_to: Offset(end),
    }
}

impl Replica {
    pub(super) fn leading(mut self, epoch: i32) -> Replica {
        self.leads = true;
        self.leader_epoch = LeaderEpoch(epoch);
        self
    }

    pub(super) fn committed_to(mut self, high_watermark: i64) -> Replica {
        self.high_watermark = Offset(high_watermark);
        self
    }

    pub(super) fn durable_to(mut self, end: i64) -> Replica {
        self.durable_end = Offset(end);
        self.high_watermark = self.high_watermark.min(self.durable_end);
        self
    }
}

impl Fake {
    pub(super) fn holding(mut self, replica: Replica) -> Fake {
        self.replicas.push(replica);
        self
    }

    pub(super) fn in_life(mut self, life: u64) -> Fake {
        self.place.life = life;
        self
    }

    /// Knows the members of the partition.
    pub(super) fn knowing(mut self, members: &[i32]) -> Fake {
        self.holders.push(Holders {
            partition: partition(),
            partition_epoch: PartitionEpoch(0),
            leader_epoch: LeaderEpoch(0),
            leader: members.first().map(|number| BrokerId(*number)),
            members: members.iter().map(|number| BrokerId(*number)).collect(),
        });
        self
    }

    pub(super) fn with_image(mut self, shard: u16, end_offset: i64, hash: u64) -> Fake {
        self.images.push(ImageMark {
            shard,
            end_offset: Offset(end_offset),
            hash,
        });
        self
    }
}

impl ReplicaView for Fake {
    fn place(&self) -> Place {
        self.place
    }

    fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    fn is_complete(&self) -> bool {
        !self.is_partial
    }
}

impl MetadataView for Fake {
    fn place(&self) -> Place {
        self.place
    }

    fn images(&self) -> &[ImageMark] {
        &self.images
    }

    fn controller(&self) -> Option<(i64, BrokerId)> {
        self.controller
    }

    fn holders(&self) -> &[Holders] {
        &self.holders
    }
}

/// What is seen of these brokers.
pub(super) fn seen<'a>(brokers: &'a [Fake], acknowledged: &'a [Acknowledged]) -> Observation<'a> {
    Observation {
        replicas: brokers
            .iter()
            .map(|fake| fake as &dyn ReplicaView)
            .collect(),
        metadata: brokers
            .iter()
            .map(|fake| fake as &dyn MetadataView)
            .collect(),
        acknowledged,
    }
}

/// A history, look by look, and the words of the only complaint that it ends with.
pub(super) type Case = (&'static str, Vec<Vec<Fake>>, Option<&'static str>);

/// Whether a history, look by look, ends with exactly one complaint that has these words, and none before; without words
/// nothing is to be wrong.
pub(super) fn judge(
    what: &str,
    looks: &[Vec<Fake>],
    mut observe: impl FnMut(&Observation<'_>, &mut Vec<String>),
    words: Option<&str>,
) {
    let (last, before) = looks.split_last().expect("something is looked at");
    let mut wrong = Vec::new();
    for brokers in before {
        observe(&seen(brokers, &[]), &mut wrong);
    }
    assert!(wrong.is_empty(), "{what}: {wrong:?} before the last look");
    observe(&seen(last, &[]), &mut wrong);
    match words {
        None => assert!(wrong.is_empty(), "{what}: {wrong:?}"),
        Some(words) => assert!(
            wrong.len() == 1 && wrong[0].contains(words),
            "{what}: {wrong:?} where {words:?} was due"
        ),
    }
}
