//! This broker's place in the cluster: it registers, then says again and again that it is alive.
//!
//! On shard 0. A broker opens its partitions when its image holds its own registration: an older image would have it lead
//! what others lead by now. It is fenced until it serves. A heartbeat leaves only if every shard has answered since the last
//! one, so a broker with a shard that hangs falls silent.

use std::rc::Rc;
use std::time::Duration;

use metadata::PartitionState;
use metadata::controller::{BrokerRegistrationRequest, Heartbeat, HeartbeatAnswer, Refusal};
use model::BrokerEpoch;
use runtime::Io;

use crate::controller;
use crate::forwarding;
use crate::refusal::{MetadataRefusal, WriteRefusal};
use crate::request::MetadataEnd;
use crate::shard::Shard;

/// Pause before a registration is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often it is said that there is no controller.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether the image holds what was decided.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Why a broker does not come to life.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The storage was fenced meanwhile.
    #[error("the storage is fenced: {0}")]
    Fenced(String),
    /// The cluster refuses this broker.
    #[error("this broker cannot register: {0}")]
    Refused(String),
    /// Its registration cannot be written.
    #[error(transparent)]
    Metadata(MetadataRefusal),
}

/// Registers this process, and waits until the image here says so.
///
/// `stopped_as` is the registration under which the directory was left in order.
pub(crate) async fn register<I: Io>(
    shard: &Rc<Shard<I>>,
    stopped_as: Option<BrokerEpoch>,
) -> Result<(), LifeError> {
    let request = BrokerRegistrationRequest {
        clean_shutdown_epoch: stopped_as,
        ..shard.options.registration.as_ref().clone()
    };
    let mut complained_at = shard.io.now();
    let epoch = loop {
        if let Some(reason) = shard.storage.fence_reason() {
            return Err(LifeError::Fenced(reason));
        }
        let why = match forwarding::ask(shard, request.clone()).await {
            Ok(epoch) => break epoch,
            Err(MetadataRefusal::Decided(error)) => match error.refusal {
                Refusal::DuplicateBrokerRegistration => MetadataRefusal::Decided(error),
                _ => return Err(LifeError::Refused(error.message)),
            },
            Err(
                refusal @ (MetadataRefusal::TooLarge
                | MetadataRefusal::NotWritten(WriteRefusal::Append(_))),
            ) => {
                return Err(LifeError::Metadata(refusal));
            }
            Err(refusal) => refusal,
        };
        let now = shard.io.now();
        if now.since(complained_at) >= COMPLAINT_INTERVAL {
            complained_at = now;
            tracing::warn!(%why, "this broker is not registered yet: is a majority of the voters up?");
        }
        shard.io.sleep(RETRY_PAUSE).await;
    };
    let me = shard.options.broker;
    let knows = |image: &metadata::MetadataImage| {
        image.broker(me).is_some_and(|broker| broker.epoch >= epoch)
    };
    while !knows(&shard.image()) {
        if let Some(reason) = shard.storage.fence_reason() {
            return Err(LifeError::Fenced(reason));
        }
        shard.io.sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Waits until the controller has let this broker in, as the image here has it.
pub(crate) async fn wait_unfenced<I: Io>(shard: &Rc<Shard<I>>) -> Result<(), LifeError> {
    let me = shard.options.broker;
    while shard.image().broker(me).is_none_or(|broker| broker.fenced) {
        if let Some(reason) = shard.storage.fence_reason() {
            return Err(LifeError::Fenced(reason));
        }
        shard.io.sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Says that this broker is alive, for as long as the process lives. One long-lived task.
pub(crate) async fn beat<I: Io>(shard: Rc<Shard<I>>) {
    let interval = shard.options.config.broker_heartbeat_interval_ms;
    // The registry's range begins at 1.
    let interval = Duration::from_millis(u64::from(interval.unsigned_abs()));
    loop {
        match shard.broker_epoch() {
            Some(_) => drop(beat_once(&shard, false).await),
            None => register_again(&shard).await,
        }
        shard.io.sleep(interval).await;
    }
}

/// Says once that this broker is alive, and what it wants. What it is told, if it is heard.
pub(crate) async fn beat_once<I: Io>(
    shard: &Rc<Shard<I>>,
    wants_shutdown: bool,
) -> Option<HeartbeatAnswer> {
    let me = shard.options.broker;
    let ends = shard.ask_all(&MetadataEnd).await;
    let metadata_offset = ends.into_iter().min().expect("a broker has a shard");
    let leads = |(_, state): (_, &PartitionState)| state.leader == Some(me);
    let heartbeat = Heartbeat {
        broker: me,
        epoch: shard.broker_epoch()?,
        metadata_offset,
        wants_fence: shard.is_fenced(),
        wants_shutdown,
        // Nobody looks at it before: it is not worth a pass over the partitions.
        leads: !wants_shutdown || shard.image().partitions().any(leads),
    };
    let is_controller = shard.replica().is_some_and(|replica| replica.is_active());
    let answer = match is_controller {
        true => controller::hear(shard, &heartbeat),
        false => forwarding::ask(shard, heartbeat).await,
    };
    match answer {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(reason = %error.message, "the controller does not take this broker's heartbeat");
        }
        Err(error) => tracing::debug!(%error, "a heartbeat was not heard"),
    }
    None
}

/// The cluster has forgotten this broker, or another process has its number.
async fn register_again<I: Io>(shard: &Rc<Shard<I>>) {
    let request = shard.options.registration.as_ref().clone();
    match forwarding::ask(shard, request).await {
        Ok(epoch) => tracing::warn!(%epoch, "this broker has registered again"),
        Err(error) => tracing::error!(%error, "this broker is not registered any more"),
    }
}
