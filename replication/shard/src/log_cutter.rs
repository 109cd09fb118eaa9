//! Cuts the logs of followers where they depart from their leaders': one task, all logs of a failover with one barrier.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use model::{Offset, TopicPartition};
use runtime::Io;
use storage::{CutError, Log};

use crate::partition::Partition;
use crate::replica_events::Cut;
use crate::shard::Shard;

/// Pause before a log is tried again that could not be cut for a passing reason.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The same of one that cannot be read.
const DAMAGE_PAUSE: Duration = Duration::from_secs(1);

/// A cut, and the partition as it was when it was asked for.
type Wanted = (Rc<Partition>, Cut);

pub(crate) async fn run<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        let cuts = shard.events.take_cuts();
        if cuts.is_empty() {
            shard.events.cut_wanted.wait().await;
            continue;
        }
        let wanted = wanted(&shard, cuts);
        let mut left = cut_together(&shard, wanted).await;
        while !left.is_empty() {
            let mut next = Vec::new();
            let mut pause = RETRY_PAUSE;
            for (partition, cut) in left {
                match cut_one(&shard, &partition.log, cut).await {
                    Ok(()) => done(&shard, &partition),
                    Err(CutError::Deleted) => shard.events.cut_done(partition.id),
                    Err(CutError::Closing | CutError::Storage(_)) => return,
                    Err(error @ CutError::Read(_)) => {
                        tracing::error!(partition = %partition.id, %error, "the log cannot be cut");
                        pause = DAMAGE_PAUSE;
                        next.push((partition, cut));
                    }
                    Err(error) => {
                        tracing::debug!(partition = %partition.id, %error, "the log is cut later");
                        next.push((partition, cut));
                    }
                }
            }
            left = next;
            if !left.is_empty() {
                shard.io.sleep(pause).await;
                left.extend(wanted_now(&shard));
            }
        }
    }
}

fn wanted_now<I: Io>(shard: &Shard<I>) -> Vec<Wanted> {
    wanted(shard, shard.events.take_cuts())
}

fn wanted<I: Io>(shard: &Shard<I>, cuts: BTreeMap<TopicPartition, Cut>) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(cuts.len());
    for (id, cut) in cuts {
        match shard.partitions.get(id) {
            Some(partition) => wanted.push((partition, cut)),
            None => shard.events.cut_done(id),
        }
    }
    wanted
}

/// Cuts all that are only to be shortened. Returns what is left to do.
async fn cut_together<I: Io>(shard: &Rc<Shard<I>>, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let ends = wanted.iter().filter_map(|(partition, cut)| match cut {
        Cut::Truncate(to) => Some((partition.log.clone(), *to)),
        Cut::StartOver(_) => None,
    });
    let ends: Vec<(Rc<Log>, Offset)> = ends.collect();
    if ends.is_empty() {
        return wanted;
    }
    if let Err(error) = shard.storage.truncate(&ends).await {
        // Which one is at fault is found out one by one.
        tracing::debug!(%error, logs = ends.len(), "the logs are not cut together");
        return wanted;
    }
    let (cut, left): (Vec<Wanted>, Vec<Wanted>) = wanted
        .into_iter()
        .partition(|(_, cut)| matches!(cut, Cut::Truncate(_)));
    for (partition, _) in &cut {
        done(shard, partition);
    }
    left
}

async fn cut_one<I: Io>(shard: &Shard<I>, log: &Rc<Log>, cut: Cut) -> Result<(), CutError> {
    match cut {
        Cut::StartOver(at) => shard.storage.reset(log, at).await,
        Cut::Truncate(to) => match shard.storage.truncate(&[(log.clone(), to)]).await {
            // Nothing of it is the leader's: it begins anew where they depart.
            Err(CutError::BelowStart { .. }) => shard.storage.reset(log, to).await,
            cut => cut.map(drop),
        },
    }
}

/// A log was cut, durably. A role that waited for that is taken.
fn done<I: Io>(shard: &Rc<Shard<I>>, partition: &Partition) {
    shard.events.cut_done(partition.id);
    partition.truncated();
    shard.changed(shard.partitions.retry());
}
