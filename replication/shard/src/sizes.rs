//! How large the partitions are that this broker leads: the controller is told, since moves are planned by bytes.
//!
//! On shard 0, one long-lived task. Nothing depends on it but how even the brokers become.

use std::rc::Rc;
use std::time::Duration;

use runtime::Io;

use crate::forwarding;
use crate::reports::SizeReport;
use crate::request::LedSizes;
use crate::shard::Shard;

/// How often sizes are told.
const INTERVAL: Duration = Duration::from_secs(30);

/// Partitions of one report: its text stays below what may be forwarded.
const SIZES_MAX: usize = 5_000;

/// Tells the controller, for the life of the process.
pub(crate) async fn report<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        shard.io.sleep(INTERVAL).await;
        let is_alone = shard.image().brokers().count() < 2;
        let Some(broker_epoch) = shard.broker_epoch().filter(|_| !is_alone) else {
            continue;
        };
        let sizes = shard.ask_all(&LedSizes).await.concat();
        for some in sizes.chunks(SIZES_MAX) {
            let report = SizeReport {
                broker: shard.options.broker,
                broker_epoch,
                sizes: some.to_vec(),
            };
            if let Err(error) = forwarding::ask(&shard, report).await {
                tracing::debug!(%error, "nobody hears how large partitions are");
            }
        }
    }
}
