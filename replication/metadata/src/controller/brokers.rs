//! Brokers come and go: registration, fencing, controlled shutdown (kafka.md 3.9, KIP-631). What follows for the
//! partitions they hold is in `replicas_of.rs`. Who is alive, by heartbeats and their timeouts, is the caller's judgement.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use model::{BrokerEpoch, BrokerId};

use super::last_stop::{LastStop, Witness};
use super::replicas_of::{joined, left, registered};
use super::{ControllerError, Decision, Refusal};
use crate::image::{BrokerRegistration, MetadataImage};
use crate::planted::PlantedFault;
use crate::record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, MetadataRecord,
    RegisterBrokerRecord, UnregisterBrokerRecord, Uuid,
};

/// Most listeners, features or directories of one broker.
pub const REGISTRATION_ITEMS_MAX: usize = 1000;

/// BrokerRegistration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The registration under which the broker last stopped cleanly; `None` when it did not.
    pub clean_shutdown_epoch: Option<BrokerEpoch>,
    /// What the disk shows of a stop that was not clean; `None` when something may be missing. See [`LastStop`].
    pub witness: Option<Witness>,
    /// How many shards the process has, from 1.
    pub shard_count: Option<u16>,
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
        shard_count: request.shard_count,
    })];
    let mut stop = LastStop::of(
        previous.map(Arc::as_ref),
        request.clean_shutdown_epoch,
        request.witness,
    );
    if image.is_planted(PlantedFault::AnyRegistration) && request.clean_shutdown_epoch.is_some() {
        stop = LastStop::Clean;
    }
    records.extend(registered(
        image,
        request.broker_id,
        &request.log_dirs,
        stop,
    ));
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
    if request.shard_count == Some(0) {
        let message = "a broker has at least one shard".to_owned();
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
        records.extend(match fenced {
            true => left(image, broker_id, allow_unclean),
            false => joined(image, broker_id, allow_unclean),
        });
    }
    Decision {
        records,
        results: (),
    }
}

/// Begins a controlled shutdown: the broker leads nothing afterwards and is in no ISR.
pub fn start_controlled_shutdown(image: &MetadataImage, broker_id: BrokerId) -> Decision<()> {
    let mut records = Vec::new();
    if let Some(broker) = image.broker(broker_id)
        && !broker.in_controlled_shutdown
    {
        records.push(registration_change(broker, None, true));
        records.extend(left(image, broker_id, &|_| false));
    }
    Decision {
        records,
        results: (),
    }
}

/// Forgets a broker. Its replicas stay assigned to it, and eligible: its disks may be what is left of a partition. Should
/// it come back, nothing shows that it is as it was, and its replicas are suspects.
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
    let mut records = left(image, broker_id, &|_| false);
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
