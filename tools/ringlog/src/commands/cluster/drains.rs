//! `ringlog cluster drain | add | remove | pause | resume`: brokers that give their replicas away, and what may move.

use std::time::Duration;

use client::{Cluster, ConfigChange, ConfigOwner};
use model::BrokerId;
use model::config::DRAIN_KEY;
use runtime::Io;
use serde_json::json;
use uring::UringIo;

use super::shape::Seen;
use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::table::{Format, print_json};
use crate::stdio::{noteln, outln};

/// Most partitions that move by themselves; 0 pauses that.
const MOVES_KEY: &str = "ringlog.moves.max";

/// How often it is asked how far a drain is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long nothing may have changed before it is said what is in the way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Drains a broker, and waits until it has no replica.
pub fn drain(connect: &Connect, broker: i32, waits: bool) -> Result<(), CommandError> {
    let broker = BrokerId(broker);
    let drained = connect.server.with_cluster(async move |mut cluster| {
        let cluster = &mut cluster;
        known(cluster, broker).await?;
        let change = ConfigChange::Set(DRAIN_KEY.to_owned(), "true".to_owned());
        let owner = ConfigOwner::Broker(broker);
        cluster.alter_configs(&owner, &[change], false).await?;
        match waits {
            true => wait_until_empty(cluster, broker).await,
            false => Ok(()),
        }
    })?;
    drained?;
    let text = match waits {
        true => format!(
            "broker {broker} has no replica any more: stop it, then `ringlog cluster remove {broker}`"
        ),
        false => format!("broker {broker} gives its replicas away"),
    };
    said(connect, &text)
}

/// Lets a broker have replicas again.
pub fn add(connect: &Connect, broker: i32) -> Result<(), CommandError> {
    let broker = BrokerId(broker);
    let added = connect.server.with_cluster(async move |mut cluster| {
        let cluster = &mut cluster;
        known(cluster, broker).await?;
        let change = ConfigChange::Delete(DRAIN_KEY.to_owned());
        let owner = ConfigOwner::Broker(broker);
        cluster.alter_configs(&owner, &[change], false).await?;
        Ok::<(), CommandError>(())
    })?;
    added?;
    let text =
        format!("broker {broker} takes replicas: `ringlog cluster plan` shows which it gets");
    said(connect, &text)
}

/// Makes the cluster forget a broker that has no replica.
pub fn remove(connect: &Connect, broker: i32) -> Result<(), CommandError> {
    let broker = BrokerId(broker);
    let removed = connect.server.with_cluster(async move |mut cluster| {
        let seen = Seen::ask(&mut cluster, None).await?;
        let left = seen.replicas_on(broker);
        if left > 0 {
            return Err(CommandError::Failed(format!(
                "broker {broker} has {left} replicas: `ringlog cluster drain {broker}` first, or, if it is gone, wait until \
                 they are rebuilt elsewhere (`ringlog cluster plan` shows them)"
            )));
        }
        cluster.unregister_broker(broker).await?;
        Ok(())
    })?;
    removed?;
    said(connect, &format!("broker {broker} is forgotten"))
}

/// Lets nothing move by itself, or lets it again.
pub fn pause(connect: &Connect, pauses: bool) -> Result<(), CommandError> {
    let change = match pauses {
        true => ConfigChange::Set(MOVES_KEY.to_owned(), "0".to_owned()),
        false => ConfigChange::Delete(MOVES_KEY.to_owned()),
    };
    connect.server.ask(async move |cluster| {
        let owner = ConfigOwner::AllBrokers;
        cluster.alter_configs(&owner, &[change], false).await
    })?;
    said(
        connect,
        match pauses {
            true => "nothing moves by itself any more; what is under way goes on",
            false => "replicas move by themselves again",
        },
    )
}

fn said(connect: &Connect, text: &str) -> Result<(), CommandError> {
    match connect.format {
        Format::Json => print_json(&json!({ "result": text })),
        Format::Text => outln!("{text}"),
    }
}

async fn known(cluster: &mut Cluster<UringIo>, broker: BrokerId) -> Result<(), CommandError> {
    cluster.refresh(Some(&[])).await?;
    match cluster.brokers().any(|known| known.id == broker) {
        true => Ok(()),
        false => Err(CommandError::Failed(format!(
            "broker {broker} is not there: it has to run while this is changed"
        ))),
    }
}

async fn wait_until_empty(
    cluster: &mut Cluster<UringIo>,
    broker: BrokerId,
) -> Result<(), CommandError> {
    let io = cluster.io().clone();
    let (mut before, mut changed_at) = (None, io.now());
    loop {
        let seen = Seen::ask(cluster, None).await?;
        let left = seen.replicas_on(broker);
        if left == 0 {
            return Ok(());
        }
        let moving = seen.shape.moving();
        if before.replace((left, moving)) != Some((left, moving)) {
            changed_at = io.now();
            noteln!("{left} replicas are on broker {broker}, {moving} partitions are moving");
        } else if io.now().since(changed_at) >= PATIENCE {
            changed_at = io.now();
            noteln!(
                "nothing has moved for a while: `ringlog cluster plan` says what stays and why, and {MOVES_KEY}=0 pauses all"
            );
        }
        io.sleep(LOOK_INTERVAL).await;
    }
}
