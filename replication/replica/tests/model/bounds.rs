//! How large the worlds are that are gone through, and what is wrong in them on purpose.

/// Brokers at most.
pub(crate) const BROKERS: usize = 3;

/// What may happen in one world, at most. Every order of it is gone through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Brokers, each with a replica of the partition.
    pub(crate) brokers: usize,
    /// `min.insync.replicas` of the topic.
    pub(crate) min_isr: usize,
    /// Records that producers append, all leaders together.
    pub(crate) records: u8,
    /// Processes that end: killed, or stopped in order.
    pub(crate) stops: u8,
    /// Disks that lose what was durable: one record, or everything with the directory.
    pub(crate) losses: u8,
    /// Brokers that are fenced though they live, because the controller does not hear of them.
    pub(crate) fences: u8,
    /// Proposals that leaders make twice, because they have not heard of them.
    pub(crate) repeats: u8,
    /// The last leader epoch.
    pub(crate) leader_epochs: i32,
    /// The last version of the partition.
    pub(crate) partition_epochs: i32,
}

impl Bounds {
    /// Other bounds where some are given, as in `records=2,stops=1`.
    pub(crate) fn with(mut self, given: &str) -> Bounds {
        for bound in given.split(',') {
            let (name, value) = bound.split_once('=').expect("a bound is NAME=NUMBER");
            let value: u8 = value.parse().expect("a bound is NAME=NUMBER");
            match name {
                "brokers" => self.brokers = usize::from(value).min(BROKERS),
                "min_isr" => self.min_isr = usize::from(value),
                "records" => self.records = value,
                "stops" => self.stops = value,
                "losses" => self.losses = value,
                "fences" => self.fences = value,
                "repeats" => self.repeats = value,
                "leader_epochs" => self.leader_epochs = i32::from(value),
                "partition_epochs" => self.partition_epochs = i32::from(value),
                other => panic!("there is no bound {other:?}"),
            }
        }
        self
    }
}

/// One condition that is left out of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Controller(metadata::PlantedFault),
    Replica(ringlog_replica::PlantedFault),
}

impl Fault {
    pub(crate) fn of_controller(fault: Option<Fault>) -> Option<metadata::PlantedFault> {
        match fault {
            Some(Fault::Controller(fault)) => Some(fault),
            _ => None,
        }
    }

    pub(crate) fn of_replica(fault: Option<Fault>) -> Option<ringlog_replica::PlantedFault> {
        match fault {
            Some(Fault::Replica(fault)) => Some(fault),
            _ => None,
        }
    }
}
