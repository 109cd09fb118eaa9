//! The controller of the model: an image, and the production decisions applied to it at once.
//!
//! What the quorum does is not modelled: a decision is committed when it is made. Brokers hear of it later, or never.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use metadata::controller::{
    BrokerRegistrationRequest, CandidateLog, ControllerError, CreateTopicsRequest, IsrChange,
    ManualAssignment, NewTopic, Refusal, Witness, alter_partition, change_fencing, create_topics,
    elect_best, register_broker,
};
use metadata::{
    BrokerEndpoint, LeaderRecoveryState, MetadataDelta, MetadataImage, MetadataRecord,
    PartitionState, PlantedFault, Uuid,
};
use model::config::Durability;
use model::{BrokerEpoch, BrokerId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};
use ringlog_replica::{IsrProposal, IsrRefusal};

use crate::bounds::{BROKERS, Bounds};

const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
const PARTITION: TopicPartition = TopicPartition {
    topic: TopicId([7; 16]),
    partition: PartitionIndex(0),
};

/// Brokers are numbered from 0, as the model's arrays are.
pub(crate) fn broker_id(broker: usize) -> BrokerId {
    BrokerId(i32::try_from(broker).expect("there are three"))
}

pub(crate) fn broker_of(id: BrokerId) -> usize {
    usize::try_from(id.0).expect("brokers are numbered from 0")
}

/// A directory of a broker: a new one each time that it is wiped.
pub(crate) fn directory(broker: usize, generation: u8) -> Uuid {
    let mut id = [1; 16];
    id[0] = u8::try_from(broker).expect("there are three");
    id[1] = generation;
    Uuid(id)
}

/// What a broker shows of its disk when it registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) directory: Uuid,
    pub(crate) clean: Option<BrokerEpoch>,
    pub(crate) witness: Option<BrokerEpoch>,
}

/// A proposal on its way, with the registration of who proposes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proposed {
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) proposal: IsrProposal,
    /// Whether the same may come to the controller once more.
    pub(crate) is_twice: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Controller {
    image: Arc<MetadataImage>,
    registrations: [i64; BROKERS],
}

impl Controller {
    /// Active brokers and a partition that all of them replicate; the first leads.
    pub(crate) fn new(bounds: &Bounds, fault: Option<PlantedFault>) -> Controller {
        let mut image = MetadataImage::new(CLUSTER);
        if let Some(fault) = fault {
            image.plant(fault);
        }
        let mut controller = Controller {
            image: Arc::new(image),
            registrations: [0; BROKERS],
        };
        for broker in 0..bounds.brokers {
            let shown = Shown {
                directory: directory(broker, 0),
                clean: None,
                witness: None,
            };
            controller.register(broker, shown);
            controller.fence(broker, false);
        }
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "t".to_owned(),
                topic_id: PARTITION.topic,
                partition_count: -1,
                replication_factor: -1,
                assignments: vec![ManualAssignment {
                    partition: PARTITION.partition,
                    replicas: (0..bounds.brokers).map(broker_id).collect(),
                }],
                configs: vec![(
                    "min.insync.replicas".to_owned(),
                    Some(bounds.min_isr.to_string()),
                )],
            }],
            ..CreateTopicsRequest::default()
        };
        let decision = create_topics(&controller.image, &request, &|_| Ok(()));
        controller.apply(&decision.records);
        controller
    }

    pub(crate) fn state(&self) -> &PartitionState {
        let state = self.image.partition(PARTITION);
        state.expect("the partition was created")
    }

    pub(crate) fn registration_of(&self, broker: usize) -> BrokerEpoch {
        let registered = self.image.broker(broker_id(broker));
        registered.map_or(BrokerEpoch(-1), |registered| registered.epoch)
    }

    pub(crate) fn is_fenced(&self, broker: usize) -> bool {
        let registered = self.image.broker(broker_id(broker));
        registered.is_none_or(|registered| registered.fenced)
    }

    /// Everybody that the controller counts on: an acknowledged record is lost only if all of them have lost it.
    pub(crate) fn counted_on(&self) -> impl Iterator<Item = usize> {
        let state = self.state();
        let outside = state.eligible_leader_replicas().iter();
        let outside = outside.chain(state.last_known_elr());
        state.isr.iter().chain(outside).map(|id| broker_of(*id))
    }

    pub(crate) fn register(&mut self, broker: usize, shown: Shown) -> BrokerEpoch {
        // Numbered for each broker apart, so that the order in which brokers register makes no other worlds.
        self.registrations[broker] += 1;
        let epoch = BrokerEpoch(100 * i64::from(broker_id(broker).0) + self.registrations[broker]);
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&epoch.0.to_be_bytes());
        let request = BrokerRegistrationRequest {
            cluster_id: CLUSTER.to_owned(),
            broker_id: broker_id(broker),
            incarnation_id: Uuid(incarnation),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".to_owned(),
                host: "host".to_owned(),
                port: 9092,
                security_protocol: 0,
            }],
            log_dirs: vec![shown.directory],
            clean_shutdown_epoch: shown.clean,
            witness: shown.witness.map(|broker_epoch| Witness {
                broker_epoch,
                same_boot: false,
                durability_default: Durability::Flushed,
            }),
            ..BrokerRegistrationRequest::default()
        };
        let decision = register_broker(&self.image, &request, epoch, false);
        assert_eq!(decision.results, Ok(epoch), "a registration is in order");
        self.apply(&decision.records);
        epoch
    }

    pub(crate) fn fence(&mut self, broker: usize, fenced: bool) {
        let decision = change_fencing(&self.image, broker_id(broker), fenced, &|_| false);
        self.apply(&decision.records);
    }

    /// Decides on a leader's proposal.
    pub(crate) fn alter(
        &mut self,
        broker: usize,
        proposed: &Proposed,
    ) -> Result<PartitionEpoch, IsrRefusal> {
        let change = IsrChange {
            broker_id: broker_id(broker),
            broker_epoch: proposed.broker_epoch,
            partition: PARTITION,
            leader_epoch: proposed.proposal.leader_epoch,
            partition_epoch: proposed.proposal.partition_epoch,
            isr: proposed.proposal.isr.clone(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
        };
        let decision = alter_partition(&self.image, &change);
        self.apply(&decision.records);
        decision.results.map_err(|error| refusal(&error))
    }

    /// Elects the best of those that have answered. Whether somebody is elected.
    pub(crate) fn elect_best(&mut self, answers: &[CandidateLog]) -> bool {
        match elect_best(&self.image, PARTITION, answers) {
            Ok(change) => {
                self.apply(&[MetadataRecord::PartitionChange(change)]);
                true
            }
            Err(_) => false,
        }
    }

    fn apply(&mut self, records: &[MetadataRecord]) {
        let image = Arc::make_mut(&mut self.image);
        for record in records {
            let applied = image.apply(record, &mut MetadataDelta::default());
            applied.expect("a decision applies to the image that it was made from");
        }
    }
}

/// How a leader takes a refusal (kafka.md 3.8).
fn refusal(error: &ControllerError) -> IsrRefusal {
    match error.refusal {
        Refusal::IneligibleReplica => IsrRefusal::Rejected,
        _ => IsrRefusal::Outdated,
    }
}

impl Hash for Controller {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let state = self.state();
        state.isr.hash(hasher);
        state.leader.hash(hasher);
        state.leader_epoch.hash(hasher);
        state.partition_epoch.hash(hasher);
        state.directories.hash(hasher);
        state.eligible_leader_replicas().hash(hasher);
        state.last_known_elr().hash(hasher);
        for broker in self.image.brokers() {
            (broker.epoch, broker.fenced, &broker.log_dirs).hash(hasher);
        }
    }
}
