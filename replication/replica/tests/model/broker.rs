//! A broker of the model: a disk that may lose what is not durable, and a process with the production machines.
//!
//! The driver's part is played here: what is appended is in memory until it is flushed, record by record; a leader's
//! records are pushed before that; a follower that departs cuts its log before it takes anything.

use model::{BrokerEpoch, LeaderEpoch, Offset};
use ringlog_replica::{EpochEnd, FollowerLog, FollowerReplica, LeaderReplica, LogEnds};

use crate::controller::broker_id;

/// A record: who wrote it under which epoch, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) id: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Disk {
    /// What is durable.
    pub(crate) log: Vec<Entry>,
    /// How often the directory was replaced by an empty one: each time it has another id.
    pub(crate) directory: u8,
    /// The registration under which it was last written.
    pub(crate) registration: BrokerEpoch,
    /// Whether that process stopped in order.
    pub(crate) is_clean: bool,
    /// Whether the log shows damage.
    pub(crate) is_damaged: bool,
    /// Whether something durable was lost that the controller cannot know of yet.
    pub(crate) has_lost: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Leader(LeaderReplica),
    Follower(FollowerReplica),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) registration: BrokerEpoch,
    /// The disk's log and what is not durable yet.
    pub(crate) log: Vec<Entry>,
    pub(crate) role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broker {
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
}

pub(crate) fn offset(count: usize) -> Offset {
    Offset(i64::try_from(count).expect("a few records"))
}

pub(crate) fn count(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("offsets are not negative here")
}

pub(crate) fn last_epoch(log: &[Entry]) -> LeaderEpoch {
    log.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
}

/// What a leader epoch cache answers for `asked`: `own` is an epoch that began at the log's end or before, perhaps
/// without a record.
pub(crate) fn epoch_end(
    log: &[Entry],
    own: Option<LeaderEpoch>,
    asked: LeaderEpoch,
) -> Option<EpochEnd> {
    let epochs = log.iter().map(|entry| entry.epoch).chain(own);
    let epoch = epochs.filter(|epoch| *epoch <= asked).max()?;
    let end = log.iter().take_while(|entry| entry.epoch <= epoch).count();
    Some(EpochEnd {
        epoch,
        end_offset: offset(end),
    })
}

impl Process {
    pub(crate) fn leader(&self) -> Option<&LeaderReplica> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) => None,
        }
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        match &self.role {
            Role::Leader(leader) => leader.high_watermark(),
            Role::Follower(follower) => follower.high_watermark(),
        }
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Leader(leader) => leader.leader_epoch(),
            Role::Follower(follower) => follower.leader_epoch(),
        }
    }

    /// A replica that follows nobody yet.
    pub(crate) fn fresh_follower(
        broker: usize,
        registration: BrokerEpoch,
        log: &[Entry],
        durable: usize,
        high_watermark: Offset,
    ) -> FollowerReplica {
        let log = FollowerLog {
            log_end_offset: offset(log.len()),
            durable_end_offset: offset(durable),
            last_epoch: last_epoch(log),
            high_watermark,
        };
        FollowerReplica::new(broker_id(broker), registration, log)
    }
}

impl Broker {
    pub(crate) fn ends(&self) -> LogEnds {
        let process = self.process.as_ref().expect("the broker runs");
        LogEnds {
            log_end_offset: offset(process.log.len()),
            durable_end_offset: offset(self.disk.log.len()),
        }
    }

    /// The records that this broker has not lost, whether or not it runs.
    pub(crate) fn holds(&self, records: &[Entry]) -> bool {
        self.disk.log.starts_with(records)
    }
}
