//! The parts of the image: topics, partitions, brokers.
//!
//! Invariant: a partition's `directories` is empty or has one entry per replica.

use std::sync::Arc;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};
use smallvec::SmallVec;

use crate::record::{BrokerEndpoint, BrokerFeature, LeaderRecoveryState, Uuid};

/// A list of brokers; up to four of them without an allocation, because an image holds tens of thousands.
pub type Replicas = SmallVec<[BrokerId; 4]>;

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    pub(crate) partitions: Vec<PartitionState>,
}

impl Topic {
    /// Identity.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Number of partitions; their indexes are 0 up to this, exclusive.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// One partition.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// All partitions in order.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }

    /// The index that the next new partition gets.
    pub fn next_partition(&self) -> PartitionIndex {
        PartitionIndex(i32::try_from(self.partitions.len()).unwrap_or(i32::MAX))
    }
}

/// What is known of a partition beside its replicas while it is being moved or has lost replicas. Rare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassignment {
    /// Replicas being added.
    pub adding: Replicas,
    /// Replicas to be removed.
    pub removing: Replicas,
    /// Replicas outside the ISR that hold everything up to the high watermark (KIP-966).
    pub eligible_leader_replicas: Replicas,
    /// Former members of those lists whose logs may have lost their ends (KIP-966 calls them last known).
    pub last_known_elr: Replicas,
}

/// A partition, as the controller states it (kafka.md 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Ordered: the first is the preferred leader.
    pub replicas: Replicas,
    /// In-sync replicas.
    pub isr: Replicas,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// Generation of leadership.
    pub leader_epoch: LeaderEpoch,
    /// Version of this state.
    pub partition_epoch: PartitionEpoch,
    /// Whether the leader was elected uncleanly and has not confirmed yet.
    pub leader_recovery_state: LeaderRecoveryState,
    /// One directory per replica, or empty.
    pub directories: SmallVec<[Uuid; 1]>,
    /// Reassignment and eligible leaders; `None` when there is neither.
    pub reassignment: Option<Box<Reassignment>>,
}

impl PartitionState {
    /// The leader as the wire shows it: -1 for none.
    pub fn leader_id(&self) -> BrokerId {
        self.leader.unwrap_or(BrokerId(-1))
    }

    /// Whether the broker holds a replica.
    pub fn has_replica(&self, broker: BrokerId) -> bool {
        self.replicas.contains(&broker)
    }

    /// The directory of a broker's replica; zero or `None` when it is not known.
    pub fn directory_of(&self, broker: BrokerId) -> Option<Uuid> {
        let at = self.replicas.iter().position(|id| *id == broker)?;
        self.directories.get(at).copied()
    }

    /// Replicas being added.
    pub fn adding_replicas(&self) -> &[BrokerId] {
        self.reassignment
            .as_ref()
            .map_or(&[], |extra| &extra.adding)
    }

    /// Replicas to be removed.
    pub fn removing_replicas(&self) -> &[BrokerId] {
        self.reassignment
            .as_ref()
            .map_or(&[], |extra| &extra.removing)
    }

    /// Whether a reassignment is under way.
    pub fn is_moving(&self) -> bool {
        !self.adding_replicas().is_empty() || !self.removing_replicas().is_empty()
    }

    /// The replicas that it will have when nothing more is under way; those it has, if nothing is.
    pub fn target_replicas(&self) -> Replicas {
        self.replicas_without(self.removing_replicas())
    }

    /// The replicas that it has again if what is under way is given up.
    pub fn original_replicas(&self) -> Replicas {
        self.replicas_without(self.adding_replicas())
    }

    fn replicas_without(&self, others: &[BrokerId]) -> Replicas {
        let stays = |broker: &BrokerId| !others.contains(broker);
        self.replicas.iter().copied().filter(stays).collect()
    }

    /// Replicas that hold everything up to the high watermark though they are not in the ISR.
    pub fn eligible_leader_replicas(&self) -> &[BrokerId] {
        self.reassignment
            .as_ref()
            .map_or(&[], |extra| &extra.eligible_leader_replicas)
    }

    /// Replicas that held everything up to the high watermark, and have since stopped in a way that may have cost them
    /// the ends of their logs.
    pub fn last_known_elr(&self) -> &[BrokerId] {
        self.reassignment
            .as_ref()
            .map_or(&[], |extra| &extra.last_known_elr)
    }
}

/// A broker, as it registered and as the controller has judged it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// The broker.
    pub id: BrokerId,
    /// This registration.
    pub epoch: BrokerEpoch,
    /// The process that registered.
    pub incarnation: Uuid,
    /// One address per listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// What its program supports.
    pub features: Vec<BrokerFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// May not lead nor be in an ISR.
    pub fenced: bool,
    /// On its way down.
    pub in_controlled_shutdown: bool,
    /// Directories.
    pub log_dirs: Vec<Uuid>,
    /// Directories that take no new replicas.
    pub cordoned_log_dirs: Vec<Uuid>,
    /// How many shards its process has; `None` when it did not say: nothing can be fetched from it.
    pub shard_count: Option<u16>,
}

impl BrokerRegistration {
    /// Whether it may lead partitions and be in ISRs.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// The address for one listener. Listener names do not differ by case.
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.name.eq_ignore_ascii_case(listener))
    }
}
