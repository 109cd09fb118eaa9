//! What this broker has of partitions that nobody leads because every holder may have lost something: the controller is
//! told again and again, until it has heard all of them and the one that has most leads.
//!
//! On shard 0, one long-lived task. Costs a pass over the partitions when the metadata has changed, and nothing else while
//! no partition waits.

use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{CandidateReport, ReportedLog, is_candidate};
use runtime::Io;

use crate::forwarding;
use crate::request::CandidateLogs;
use crate::shard::Shard;

/// How often it is looked whether something is waited for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Logs of one report: its text stays below what may be forwarded.
const LOGS_MAX: usize = 1_000;

/// Tells the controller, for the life of the process.
pub(crate) async fn report<I: Io>(shard: Rc<Shard<I>>) {
    let me = shard.options.broker;
    let mut nothing_before = None;
    loop {
        shard.io.sleep(INTERVAL).await;
        let (end, is_waited_for) = {
            let image = shard.image();
            let end = image.end_offset();
            let is_news = nothing_before != Some(end);
            let waits = || image.partitions().any(|(_, state)| is_candidate(state, me));
            (end, is_news && waits())
        };
        if is_waited_for {
            tell(&shard).await;
        } else {
            nothing_before = Some(end);
        }
    }
}

async fn tell<I: Io>(shard: &Rc<Shard<I>>) {
    let logs: Vec<ReportedLog> = shard.ask_all(&CandidateLogs).await.concat();
    let Some(broker_epoch) = shard.broker_epoch() else {
        return;
    };
    for some in logs.chunks(LOGS_MAX) {
        let report = CandidateReport {
            broker: shard.options.broker,
            broker_epoch,
            directory: shard.options.directory_id,
            logs: some.to_vec(),
        };
        if let Err(error) = forwarding::ask(shard, report).await {
            tracing::debug!(%error, "nobody hears what this broker has of partitions without a leader");
        }
    }
}
