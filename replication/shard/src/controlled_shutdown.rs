//! A controlled shutdown (KIP-631): before a broker stops, others lead what it led, and all that are alive know it.
//!
//! On shard 0, while every shard still serves. What is asked for is asked again until the controller says that this broker
//! may stop; a broker that nobody answers stops all the same.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::{Io, TaskClass};

use crate::life;
use crate::metadata_quorum;
use crate::shard::Shard;

/// How long a broker tries to leave in order.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// How long it tries while no controller answers. Longer than an election takes.
const SILENCE_PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for another voter to lead the metadata log.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two questions whether it may stop.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is looked what has become of it.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What the controller has said lately.
struct Asking {
    heard_at: Cell<MonotonicTime>,
    may_stop: Cell<bool>,
    is_over: Cell<bool>,
}

/// Leaves the cluster in order, within [`LEAVE_PATIENCE`]; on shard 0, while every shard still serves.
pub async fn leave<I: Io>(shard: &Rc<Shard<I>>) {
    let others = shard.image().brokers().count() > 1;
    // A broker whose storage has failed has asked to be fenced already, and promises nothing that others wait for.
    if !others || shard.is_fenced() {
        return;
    }
    let begun = shard.io.now();
    let asking = Rc::new(Asking {
        heard_at: Cell::new(begun),
        may_stop: Cell::new(false),
        is_over: Cell::new(false),
    });
    // An answer may take longer than there is patience.
    let task = ask(shard.clone(), asking.clone());
    shard.io.spawn(TaskClass::Foreground, task);
    let is_worth_it = || {
        let now = shard.io.now();
        now.since(begun) < LEAVE_PATIENCE && now.since(asking.heard_at.get()) < SILENCE_PATIENCE
    };
    while !asking.may_stop.get() && is_worth_it() && !shard.is_fenced() {
        shard.io.sleep(LOOK_INTERVAL).await;
    }
    asking.is_over.set(true);
    let took = shard.io.now().since(begun);
    match asking.may_stop.get() {
        true => tracing::info!(?took, "others lead what this broker led"),
        false => tracing::warn!(
            ?took,
            "this broker stops before the controller has let it go: partitions that it leads wait for another leader"
        ),
    }
    hand_over_metadata_log(shard).await;
}

async fn ask<I: Io>(shard: Rc<Shard<I>>, asking: Rc<Asking>) {
    while !asking.is_over.get() && !asking.may_stop.get() {
        if let Some(answer) = life::beat_once(&shard, true).await {
            asking.heard_at.set(shard.io.now());
            asking.may_stop.set(answer.should_shut_down);
        }
        shard.io.sleep(ASK_INTERVAL).await;
    }
}

/// Somebody else is to be the controller at once, not when this one is missed.
async fn hand_over_metadata_log<I: Io>(shard: &Rc<Shard<I>>) {
    let deadline = shard.io.now().plus(HAND_OVER_PATIENCE);
    if !metadata_quorum::hand_over(shard) {
        return;
    }
    let replica = shard.replica().expect("the quorum is on shard 0");
    let me = Some(shard.options.replica_key());
    while [me, None].contains(&replica.leader()) && shard.io.now() < deadline {
        shard.io.sleep(LOOK_INTERVAL).await;
    }
}
