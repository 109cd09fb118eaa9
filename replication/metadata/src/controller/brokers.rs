//! Brokers come and go: registration, fencing, controlled shutdown, and what follows for the partitions they hold
//! (kafka.md 3.9, KIP-631). Who is alive, by heartbeats and their timeouts, is the caller's judgement.

use model::{BrokerEpoch, BrokerId};

use super::election::next_leader;
use super::{ControllerError, Decision, ElectionKind, Refusal};
use crate::image::{BrokerRegistration, MetadataImage};
use crate::record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, MetadataRecord,
    RegisterBrokerRecord, UnregisterBrokerRecord, Uuid,
};

/// Most listeners, features or directories of one broker.
pub const REGISTRATION_ITEMS_MAX: usize = 1000;

/// BrokerRegistration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerRegistrationRequest {
    /// The cluster that the broker's disk belongs to.
    pub cluster_id: String,
    /// The broker.
    pub broker_id: BrokerId,
    /// This process.
    pub incarnation_id: Uuid,
    /// One per advertised listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// What the program supports.
    pub features: Vec<BrokerFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Directories.
    pub log_dirs: Vec<Uuid>,
    /// The registration under which the broker last stopped cleanly; `None` when it did not, and its log may have lost
    /// its end: then it must leave every ISR.
    pub clean_shutdown_epoch: Option<BrokerEpoch>,
}

/// Decides on a registration. `broker_epoch` is the metadata offset that the record will get;
/// `session_is_live` says whether a process of that id has sent heartbeats lately. A new broker starts fenced.
pub fn register_broker(
    image: &MetadataImage,
    request: &BrokerRegistrationRequest,
    broker_epoch: BrokerEpoch,
    session_is_live: bool,
) -> Decision<Result<BrokerEpoch, ControllerError>> {
    if let Err(error) = check_registration(image, request, session_is_live) {
        return Decision {
            records: Vec::new(),
            results: Err(error),
        };
    }
    let previous = image.broker(request.broker_id);
    // The same process asks again when it did not hear the answer.
    if let Some(previous) = previous
        && previous.incarnation == request.incarnation_id
    {
        return Decision {
            records: Vec::new(),
            results: Ok(previous.epoch),
        };
    }
    let clean = match (previous, request.clean_shutdown_epoch) {
        (None, _) => true,
        (Some(previous), clean) => clean == Some(previous.epoch),
    };
    let mut records = vec![MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: request.broker_id,
        incarnation_id: request.incarnation_id,
        broker_epoch,
        endpoints: request.endpoints.clone(),
        features: request.features.clone(),
        rack: request.rack.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: request.log_dirs.clone(),
        cordoned_log_dirs: None,
    })];
    if !clean || previous.is_some_and(|previous| previous.is_active()) {
        records.extend(partition_changes_without(image, request.broker_id));
    }
    Decision {
        records,
        results: Ok(broker_epoch),
    }
}

fn check_registration(
    image: &MetadataImage,
    request: &BrokerRegistrationRequest,
    session_is_live: bool,
) -> Result<(), ControllerError> {
    let refuse = |code, message: String| Err(ControllerError::new(code, message));
    if request.cluster_id != image.cluster_id() {
        let message = format!(
            "this is cluster {}, the broker belongs to {}",
            image.cluster_id(),
            request.cluster_id
        );
        return refuse(Refusal::InconsistentClusterId, message);
    }
    if request.broker_id.0 < 0 || request.endpoints.is_empty() {
        let message = "a broker has a number from 0 and at least one listener".to_owned();
        return refuse(Refusal::InvalidRegistration, message);
    }
    let lengths = [
        request.endpoints.len(),
        request.features.len(),
        request.log_dirs.len(),
    ];
    if lengths
        .iter()
        .any(|length| *length > REGISTRATION_ITEMS_MAX)
    {
        let message = format!("a registration has lists of at most {REGISTRATION_ITEMS_MAX}");
        return refuse(Refusal::InvalidRegistration, message);
    }
    let other_process = |broker: &BrokerRegistration| broker.incarnation != request.incarnation_id;
    if let Some(previous) = image.broker(request.broker_id)
        && session_is_live
        && other_process(previous)
    {
        let message = format!("another process is broker {}", request.broker_id);
        return refuse(Refusal::DuplicateBrokerRegistration, message);
    }
    let others = image
        .brokers()
        .filter(|broker| broker.id != request.broker_id);
    for other in others {
        if let Some(shared) = request
            .log_dirs
            .iter()
            .find(|dir| other.log_dirs.contains(dir))
        {
            let message = format!("directory {shared:?} belongs to broker {}", other.id);
            return refuse(Refusal::InvalidRegistration, message);
        }
    }
    for (name, level) in image.features() {
        let supported = request.features.iter().any(|feature| {
            let range = feature.min_supported_version..=feature.max_supported_version;
            feature.name == *name && range.contains(level)
        });
        if !supported {
            let message = format!("the broker does not support {name} at level {level}");
            return refuse(Refusal::UnsupportedVersion, message);
        }
    }
    Ok(())
}

/// Fences or unfences a broker, with the elections that follow. `allow_unclean` says of a topic's name whether
/// `unclean.leader.election.enable` holds. Nothing follows when the broker is unknown or is so already.
pub fn change_fencing(
    image: &MetadataImage,
    broker_id: BrokerId,
    fenced: bool,
    allow_unclean: &dyn Fn(&str) -> bool,
) -> Decision<()> {
    let mut records = Vec::new();
    if let Some(broker) = image.broker(broker_id)
        && broker.fenced != fenced
    {
        records.push(registration_change(broker, Some(fenced), false));
        if fenced {
            records.extend(partition_changes(
                image,
                Some(broker_id),
                None,
                allow_unclean,
            ));
        } else {
            records.extend(partition_changes(
                image,
                None,
                Some(broker_id),
                allow_unclean,
            ));
        }
    }
    Decision {
        records,
        results: (),
    }
}

/// Begins a controlled shutdown: the broker leads nothing afterwards and is in no ISR that has another member.
pub fn start_controlled_shutdown(image: &MetadataImage, broker_id: BrokerId) -> Decision<()> {
    let mut records = Vec::new();
    if let Some(broker) = image.broker(broker_id)
        && !broker.in_controlled_shutdown
    {
        records.push(registration_change(broker, None, true));
        records.extend(partition_changes_without(image, broker_id));
    }
    Decision {
        records,
        results: (),
    }
}

/// Forgets a broker. Its replicas stay assigned to it.
pub fn unregister_broker(
    image: &MetadataImage,
    broker_id: BrokerId,
) -> Decision<Result<(), ControllerError>> {
    let Some(broker) = image.broker(broker_id) else {
        let message = "the broker is not registered";
        return Decision {
            records: Vec::new(),
            results: Err(ControllerError::new(
                Refusal::BrokerIdNotRegistered,
                message,
            )),
        };
    };
    let mut records: Vec<_> = partition_changes_without(image, broker_id).collect();
    records.push(MetadataRecord::UnregisterBroker(UnregisterBrokerRecord {
        broker_id,
        broker_epoch: broker.epoch,
    }));
    Decision {
        records,
        results: Ok(()),
    }
}

fn registration_change(
    broker: &BrokerRegistration,
    fenced: Option<bool>,
    in_controlled_shutdown: bool,
) -> MetadataRecord {
    MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        fenced,
        in_controlled_shutdown,
        ..BrokerRegistrationChangeRecord::default()
    })
}

fn partition_changes_without(
    image: &MetadataImage,
    leaving: BrokerId,
) -> impl Iterator<Item = MetadataRecord> {
    partition_changes(image, Some(leaving), None, &|_| false).into_iter()
}

/// The changes of all partitions when one broker stops being active, or another one becomes so.
fn partition_changes(
    image: &MetadataImage,
    leaving: Option<BrokerId>,
    joining: Option<BrokerId>,
    allow_unclean: &dyn Fn(&str) -> bool,
) -> Vec<MetadataRecord> {
    let may_lead = |broker: BrokerId| {
        Some(broker) != leaving && (Some(broker) == joining || image.is_active(broker))
    };
    let mut records = Vec::new();
    for topic in image.topics() {
        for (partition, state) in topic.partitions() {
            let affected = match (leaving, joining) {
                (Some(leaving), _) => state.isr.contains(&leaving) || state.leader == Some(leaving),
                (None, Some(joining)) => state.leader.is_none() && state.has_replica(joining),
                (None, None) => false,
            };
            if !affected {
                continue;
            }
            let kind = match allow_unclean(topic.name()) {
                true => ElectionKind::Unclean,
                false => ElectionKind::Online,
            };
            let stays = |broker: &BrokerId| Some(*broker) != leaving;
            let isr: Vec<BrokerId> = state.isr.iter().copied().filter(stays).collect();
            let id = model::TopicPartition {
                topic: topic.id(),
                partition,
            };
            let change = next_leader(id, state, &isr, &may_lead, kind);
            records.extend(change.map(MetadataRecord::PartitionChange));
        }
    }
    records
}
