//! The long-lived tasks of a shard: the dispatcher of its inbox, two kinds of workers for questions that must wait
//! (produce and reads), and what happens because time passes.

use std::rc::Rc;
use std::time::Duration;

use runtime::mailbox::Inbox;
use runtime::{Io, Signal, TaskClass};

use crate::commits::Commits;
use crate::log_cutter;
use crate::message::Envelope;
use crate::metadata_quorum;
use crate::request::{FetchTimes, FetchedParts};
use crate::shard::{Read, Shard};
use crate::streams;

/// Tasks that carry out reads which may wait for the device, for other shards.
const READ_WORKERS: usize = 32;

/// Resolution of every timeout of the shard. One machine timer serves all of them.
const TICK_MIN: Duration = Duration::from_millis(5);

/// The tick stretches to this while nothing is due: an idle core is not woken 200 times a second.
const TICK_MAX: Duration = Duration::from_millis(50);

/// Produce timeouts are looked for this often: they are errors, tens of seconds away.
const PRODUCE_SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Starts them. `early` are messages of other shards that came before this one was ready: few, as no shard has clients
/// yet.
pub(crate) fn start<I: Io>(shard: &Rc<Shard<I>>, inbox: Inbox<Envelope>, early: Vec<Envelope>) {
    let io = &shard.io;
    shard.peers.start(io);
    shard.storage.start(Commits::of(shard));
    let class = TaskClass::Foreground;
    io.spawn(class, dispatch_inbox(shard.clone(), inbox, early));
    io.spawn(class, produce_worker(shard.clone()));
    for _ in 0..READ_WORKERS {
        io.spawn(class, read_worker(shard.clone()));
    }
    io.spawn(class, tick(shard.clone()));
    io.spawn(class, answer_watches(shard.clone()));
    io.spawn(class, log_cutter::run(shard.clone()));
    streams::start(&shard.streams);
}

async fn dispatch_inbox<I: Io>(
    shard: Rc<Shard<I>>,
    mut inbox: Inbox<Envelope>,
    early: Vec<Envelope>,
) {
    for envelope in early {
        shard.receive(envelope);
    }
    loop {
        let envelope = inbox.next().await;
        shard.receive(envelope);
    }
}

/// One task, so that the appends of one connection stay in order.
async fn produce_worker<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        let (request, reply) = shard.produce_queue.next(&signal).await;
        shard.produce(request, reply).await;
    }
}

async fn read_worker<I: Io>(shard: Rc<Shard<I>>) {
    let signal = Signal::new();
    loop {
        match shard.reads.next(&signal).await {
            Read::Fetch(fetch, reply) => {
                let begun_at = shard.io.now();
                let results = shard.reader.fetch(&fetch).await;
                let done_at = shard.io.now();
                let times = FetchTimes { begun_at, done_at };
                shard.peers.answer(reply, FetchedParts { results, times });
            }
            Read::ListOffsets(asked, reply) => {
                let listed = shard.reader.list_offsets(&asked).await;
                shard.peers.answer(reply, listed);
            }
            Read::DeleteRecords(asked, reply) => {
                let deleted = shard.reader.delete_records(&asked).await;
                shard.peers.answer(reply, deleted);
            }
        }
    }
}

/// Raises deadlines.
async fn tick<I: Io>(shard: Rc<Shard<I>>) {
    let mut scanned_at = shard.io.now();
    loop {
        let until_next = match shard.timers.next() {
            Some(deadline) => deadline.since(shard.io.now()),
            None => TICK_MAX,
        };
        shard.io.sleep(until_next.clamp(TICK_MIN, TICK_MAX)).await;
        shard.tick();
        let now = shard.io.now();
        metadata_quorum::tick(&shard, now);
        if now.since(scanned_at) >= PRODUCE_SCAN_INTERVAL {
            scanned_at = now;
            shard.produces.expire(now);
        }
    }
}

/// Answers long polls of other shards as soon as they fire.
async fn answer_watches<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        shard.remote_watches.signal().clone().wait().await;
        let now = shard.io.now();
        shard.remote_watches.answer_due(now, &shard.peers);
    }
}
