//! What a shard does because time passes: deadlines of long polls, produce timeouts, group timers.

use std::rc::Rc;
use std::time::Duration;

use runtime::Io;

use crate::shard::Shard;

/// Resolution of every timeout of the shard. One machine timer serves all of them.
const TICK_MIN: Duration = Duration::from_millis(5);

/// The tick stretches to this while nothing is due: an idle core is not woken 200 times a second.
const TICK_MAX: Duration = Duration::from_millis(50);

/// Produce timeouts are looked for this often: they are errors, tens of seconds away.
const PRODUCE_SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Raises deadlines.
pub(crate) async fn tick<I: Io>(shard: Rc<Shard<I>>) {
    let mut scanned_at = shard.io.now();
    loop {
        let until_next = match shard.timers.next() {
            Some(deadline) => deadline.since(shard.io.now()),
            None => TICK_MAX,
        };
        shard.io.sleep(until_next.clamp(TICK_MIN, TICK_MAX)).await;
        let now = shard.io.now();
        shard.timers.tick(now);
        shard.remote_watches.answer_due(now, &shard.peers);
        shard.group_timeouts(now);
        if now.since(scanned_at) >= PRODUCE_SCAN_INTERVAL {
            scanned_at = now;
            let expired = shard.purgatory.borrow_mut().expire(now);
            for finished in expired {
                shard.finish(finished);
            }
        }
    }
}

/// Answers long polls of other shards as soon as they fire.
pub(crate) async fn answer_watches<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        shard.remote_watches.signal().clone().wait().await;
        let now = shard.io.now();
        shard.remote_watches.answer_due(now, &shard.peers);
    }
}
