//! Which replicas ought to be elsewhere: those of brokers that are lost or give theirs away, then those of brokers that
//! have more than others.
//!
//! Pure and deterministic: the same shape gives the same plan. A plan is made for a few moves at a time and made anew when
//! these are done, so that it follows what happens meanwhile. Nothing that has no leader is touched: a lost broker may
//! hold the only copy of it.
//! Invariants: a move never puts two replicas of a partition on a broker, never leaves a partition in fewer racks, and,
//! when it is for balance, makes the most loaded of the two brokers less loaded than it was: plans come to an end.

mod load;
mod repair;
mod shape;
mod spread;

use std::fmt;

use model::{BrokerId, TopicPartition};

use crate::image::Replicas;
use load::Loads;
pub use shape::{BrokerShape, ClusterShape, PartitionShape, Standing, standing_of};

/// A partition whose replicas ought to be elsewhere, or in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which one.
    pub partition: TopicPartition,
    /// Where it is, or was to go.
    pub from: Replicas,
    /// Where it ought to be.
    pub to: Replicas,
    /// Why.
    pub reason: MoveReason,
}

/// Why a partition ought to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveReason {
    /// The broker has been away for too long, or was unregistered.
    Lost(BrokerId),
    /// The broker gives its replicas away.
    Drained(BrokerId),
    /// The first has more than the second.
    Uneven {
        /// Who gives.
        more: BrokerId,
        /// Who takes.
        less: BrokerId,
    },
    /// The first is the preferred leader of more partitions than the second: the order of replicas changes, nothing else.
    UnevenLeaders {
        /// Who leads less.
        more: BrokerId,
        /// Who leads more.
        less: BrokerId,
    },
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoveReason::Lost(broker) => write!(f, "broker {broker} is lost"),
            MoveReason::Drained(broker) => write!(f, "broker {broker} is drained"),
            MoveReason::Uneven { more, less } => {
                write!(f, "broker {more} has more than broker {less}")
            }
            MoveReason::UnevenLeaders { more, less } => {
                write!(f, "broker {more} is to lead more than broker {less}")
            }
        }
    }
}

/// Why a replica stays where it ought not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StuckReason {
    /// Nobody leads the partition.
    NoLeader,
    /// Every other broker has a replica already, or takes none.
    NoBroker,
}

impl fmt::Display for StuckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StuckReason::NoLeader => "nobody leads the partition",
            StuckReason::NoBroker => "no other broker can take a replica",
        })
    }
}

/// What ought to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The next moves, the most urgent first.
    pub moves: Vec<Move>,
    /// Partitions with a replica on a broker that ought to have none, which cannot be helped now.
    pub stuck: Vec<(TopicPartition, StuckReason)>,
}

/// What a plan may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most moves.
    pub moves_max: usize,
    /// Whether brokers are to become even; what must leave a broker leaves it in any case.
    pub may_spread: bool,
}

/// The next moves. Whatever is for balance waits until nothing is left to repair.
pub fn plan(shape: &ClusterShape, limits: Limits) -> Plan {
    let Limits {
        moves_max,
        may_spread,
    } = limits;
    let mut plan = Plan::default();
    let mut loads = Loads::of(shape);
    repair::repair(shape, &mut loads, moves_max, &mut plan);
    let repairs = shape.partitions.iter().any(|partition| {
        let leaves = |broker: &BrokerId| shape.standing(*broker).must_leave();
        partition.is_moving && partition.before.iter().any(leaves)
    });
    if may_spread && plan.moves.is_empty() && !repairs {
        spread::spread(shape, &mut loads, moves_max, &mut plan);
    }
    plan
}
