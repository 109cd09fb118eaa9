//! Fetch (key 1): records from their partitions, at once or when there are enough of them.
//!
//! Reads go to all owner shards at once. A request that finds too little watches its partitions and reads again those
//! that have more, until it has enough or its time is over.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{ErrorCode, MonotonicTime, PartitionIndex, ShardId, TopicId, TopicPartition};
use protocol::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData,
};
use protocol::{Records, Text};
use runtime::budget::Reservation;
use runtime::{Io, Signal};
use shard::message::{ShardReply, ShardRequest};
use shard::reply::ReplySlot;
use shard::request::{Fetch, FetchPartition, FetchTimes, Fetched, Isolation, Watch};
use shard::watch::WatchState;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::fetch_session::{Plan, TopicKey, Wanted};
use crate::request_clock::Stage;

/// A long poll never lasts longer, whatever the request says.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Memory for the answer of a shard that is granted in its turn, however little is left: a batch of the usual
/// `message.max.bytes`. The first batch of a larger size is counted when it is there.
const FIRST_BATCH_BYTES: usize = (1 << 20) + 12;

/// The part of a request that one shard serves.
struct Part {
    shard: ShardId,
    fetch: Fetch,
    /// Positions of its partitions in the plan.
    positions: Vec<usize>,
    fetched: Vec<Fetched>,
    watch: Option<PartWatch>,
    /// It had records, but not enough: they were let go for the time of the wait and are read again.
    is_stale: bool,
}

enum PartWatch {
    Local(Rc<WatchState>),
    Remote(Rc<ReplySlot>),
}

impl Part {
    fn has_fired(&self) -> bool {
        match &self.watch {
            Some(PartWatch::Local(state)) => state.has_fired(),
            Some(PartWatch::Remote(slot)) => slot.is_complete(),
            None => false,
        }
    }
}

/// Answers a fetch request.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &FetchRequest,
) -> Result<(), ConnectionEnd> {
    let server = context.server;
    let (now, random) = (server.io.now(), server.io.random());
    let begun = server
        .fetch_sessions
        .borrow_mut()
        .begin(now, request, context.version(), random);
    let plan = match begun {
        Ok(plan) => plan,
        Err(error) => {
            return context.answer(&FetchResponse {
                error_code: context.code(error),
                ..FetchResponse::default()
            });
        }
    };
    let (results, charge) = read(context, request, &plan, now).await;
    let response = respond(context, &plan, results);
    context.answer_charged(&response, charge)
}

async fn read<I: Io>(
    context: &Context<'_, I>,
    request: &FetchRequest,
    plan: &Plan,
    now: MonotonicTime,
) -> (Vec<Fetched>, Reservation) {
    let mut results: Vec<Option<Fetched>> = Vec::new();
    results.resize_with(plan.partitions.len(), || None);
    let mut parts = split(context, request, plan, &mut results);
    let refused = results.iter().any(Option::is_some);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = now.plus(wait.min(WAIT_MAX));
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);

    context.end_stage(Stage::Decode);
    let mut charge = charge(context, &mut parts, request).await;
    context.end_stage(Stage::Queue);
    read_parts(context, &mut parts, |_| true).await;
    if !refused && !is_enough(&parts, bytes_min.min(charge.bytes())) {
        charge = long_poll(context, request, &mut parts, charge, deadline).await;
    }
    let read_bytes = parts.iter().flat_map(|part| &part.fetched);
    charge.settle(read_bytes.map(Fetched::bytes).sum());
    for part in parts {
        for (position, fetched) in part.positions.into_iter().zip(part.fetched) {
            results[position] = Some(fetched);
        }
    }
    let results = results.into_iter();
    let results = limit_bytes(
        results.map(|fetched| fetched.expect("every partition has one owner")),
        bytes_max(context, request),
    );
    (results, charge)
}

/// Reads again, where there is more, until there are enough bytes, an error, or no time left. Nothing is held for a
/// client that waits: neither its charge nor what was read and was not enough.
async fn long_poll<I: Io>(
    context: &Context<'_, I>,
    request: &FetchRequest,
    parts: &mut [Part],
    mut held: Reservation,
    deadline: MonotonicTime,
) -> Reservation {
    let shard = &context.server.shard;
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let wake = Signal::new();
    let mut timer = None;
    while !is_enough(parts, bytes_min.min(held.bytes())) && shard.io.now() < deadline {
        timer.get_or_insert_with(|| shard.timers.add(deadline, wake.clone()));
        for part in parts.iter_mut() {
            part.is_stale |= let_go(&mut part.fetched);
        }
        held.shrink(0);
        wait_for_more(context, parts, deadline, &wake).await;
        held = charge(context, parts, request).await;
        context.end_stage(Stage::Queue);
        read_parts(context, parts, |part| part.is_stale || part.has_fired()).await;
        for part in parts.iter_mut() {
            part.is_stale = false;
            if part.has_fired() {
                part.watch = None;
            }
        }
    }
    if let Some(timer) = timer {
        shard.timers.cancel(timer);
    }
    held
}

/// Charges what may be read and divides it among the shards that read.
async fn charge<I: Io>(
    context: &Context<'_, I>,
    parts: &mut [Part],
    request: &FetchRequest,
) -> Reservation {
    let bytes_max = bytes_max(context, request);
    let least = FIRST_BATCH_BYTES * parts.len();
    let partitions = parts.iter().flat_map(|part| &part.fetch.partitions);
    let asked = partitions.fold(0_usize, |sum, one| sum.saturating_add(one.bytes_max));
    let wanted = asked.min(bytes_max).max(least);
    let charge = context.server.memory.charge_answer(wanted, least).await;
    let count = parts.len().max(1);
    for part in parts {
        part.fetch.bytes_max = bytes_max.min(charge.bytes() / count);
    }
    charge
}

/// Lets go of records. Whether there were any.
fn let_go(fetched: &mut [Fetched]) -> bool {
    let mut had_records = false;
    for one in fetched {
        had_records |= !one.records.is_empty();
        one.records = Vec::new();
    }
    had_records
}

fn bytes_max<I: Io>(context: &Context<'_, I>, request: &FetchRequest) -> usize {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let config = &context.server.shard.options.config;
    asked.min(usize::try_from(config.fetch_max_bytes).unwrap_or(0))
}

/// Groups the partitions by owner; what cannot be read at all gets its result here.
fn split<I: Io>(
    context: &Context<'_, I>,
    request: &FetchRequest,
    plan: &Plan,
    results: &mut [Option<Fetched>],
) -> Vec<Part> {
    let isolation = match request.isolation_level {
        0 => Ok(Isolation::ReadUncommitted),
        1 => Ok(Isolation::ReadCommitted),
        _ => Err(ErrorCode::UnknownServerError),
    };
    let negative_limit = request.max_bytes < 0;
    // Followers of another broker come with the cluster: today nobody holds a replica of our partitions.
    let follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let bytes_max = bytes_max(context, request);
    let mut parts: Vec<Part> = Vec::new();
    for (position, one) in plan.partitions.iter().enumerate() {
        let id = match (resolve(context, one), isolation) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ if negative_limit => Err(ErrorCode::UnknownServerError),
            _ if follower => Err(ErrorCode::NotLeaderOrFollower),
            (Ok(id), Ok(_)) => Ok(id),
        };
        let (id, isolation) = match (id, isolation) {
            (Ok(id), Ok(isolation)) => (id, isolation),
            (Err(error), _) | (_, Err(error)) => {
                results[position] = Some(Fetched::refused(error));
                continue;
            }
        };
        let owner = context.server.shard.owner(id);
        let at = parts.iter().position(|part| part.shard == owner);
        let part = match at {
            Some(at) => &mut parts[at],
            None => {
                parts.push(Part {
                    shard: owner,
                    fetch: Fetch {
                        isolation,
                        bytes_max,
                        at_least_one_batch: true,
                        partitions: Vec::new(),
                    },
                    positions: Vec::new(),
                    fetched: Vec::new(),
                    watch: None,
                    is_stale: false,
                });
                parts.last_mut().expect("just added")
            }
        };
        part.positions.push(position);
        part.fetch.partitions.push(FetchPartition {
            id,
            offset: one.offset,
            bytes_max: usize::try_from(one.bytes_max).unwrap_or(0),
            current_leader_epoch: one.current_leader_epoch,
            last_fetched_epoch: one.last_fetched_epoch,
        });
    }
    parts
}

fn resolve<I: Io>(context: &Context<'_, I>, one: &Wanted) -> Result<TopicPartition, ErrorCode> {
    let image = context.server.shard.image();
    let topic = match &one.topic {
        TopicKey::Name(name) => image
            .topic_id(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicKey::Id(id) => image
            .topic_by_id(*id)
            .map(|topic| topic.id())
            .ok_or(ErrorCode::UnknownTopicId)?,
    };
    Ok(TopicPartition {
        topic,
        partition: PartitionIndex(one.partition),
    })
}

/// Reads the chosen parts, all shards at once.
async fn read_parts<I: Io>(
    context: &Context<'_, I>,
    parts: &mut [Part],
    chosen: impl Fn(&Part) -> bool,
) {
    let shard = &context.server.shard;
    let remote: Vec<usize> = (0..parts.len())
        .filter(|at| parts[*at].shard != shard.id() && chosen(&parts[*at]))
        .collect();
    let slot = ReplySlot::new(remote.len(), Signal::new());
    for (number, at) in remote.iter().enumerate() {
        let request = ShardRequest::Fetch(parts[*at].fetch.clone());
        shard.submit(parts[*at].shard, request, &slot, number);
    }
    for part in parts.iter_mut() {
        if part.shard == shard.id() && chosen(part) {
            part.fetched = shard.fetch(&part.fetch).await;
        }
    }
    let read_here_at = shard.io.now();
    if remote.is_empty() {
        context.on_clock(|clock| clock.end(Stage::Append, read_here_at));
        return;
    }
    let mut last = FetchTimes::default();
    for (at, reply) in remote.into_iter().zip(slot.wait().await) {
        match reply {
            ShardReply::Fetch(fetched, times) => {
                parts[at].fetched = fetched;
                if times.done_at >= last.done_at {
                    last = times;
                }
            }
            other => unreachable!("a shard answered fetch with {other:?}"),
        }
    }
    let now = shard.io.now();
    context.on_clock(|clock| {
        // The shards read at the same time; the last one to end is the one that was waited for.
        if read_here_at >= last.done_at {
            clock.end(Stage::Append, read_here_at);
        }
        clock.fetched(&last, now);
    });
}

/// Waits until a part has more, or for `deadline`.
async fn wait_for_more<I: Io>(
    context: &Context<'_, I>,
    parts: &mut [Part],
    deadline: MonotonicTime,
    wake: &Rc<Signal>,
) {
    let shard = &context.server.shard;
    for part in parts.iter_mut().filter(|part| part.watch.is_none()) {
        watch(context, part, deadline, wake);
    }
    while !parts.iter().any(Part::has_fired) && shard.io.now() < deadline {
        wake.wait().await;
    }
    context.end_stage(Stage::Purgatory);
}

fn is_enough(parts: &[Part], bytes_min: usize) -> bool {
    let mut fetched = parts.iter().flat_map(|part| &part.fetched);
    let bytes: usize = fetched.clone().map(Fetched::bytes).sum();
    bytes >= bytes_min || fetched.any(|one| !one.error.is_none() || one.diverging.is_some())
}

fn watch<I: Io>(
    context: &Context<'_, I>,
    part: &mut Part,
    deadline: MonotonicTime,
    wake: &Rc<Signal>,
) {
    let shard = &context.server.shard;
    let seen = part
        .fetched
        .iter()
        .map(|fetched| match part.fetch.isolation {
            Isolation::ReadUncommitted => fetched.high_watermark,
            Isolation::ReadCommitted => fetched.last_stable_offset,
        });
    let ids = part.fetch.partitions.iter().map(|partition| partition.id);
    let watch = Watch {
        isolation: part.fetch.isolation,
        deadline,
        partitions: ids.zip(seen).collect(),
    };
    part.watch = Some(if part.shard == shard.id() {
        let state = WatchState::new(wake.clone());
        shard.watch(&watch, &state);
        PartWatch::Local(state)
    } else {
        let slot = ReplySlot::new(1, wake.clone());
        shard.submit(part.shard, ShardRequest::Watch(watch), &slot, 0);
        PartWatch::Remote(slot)
    });
}

/// Each shard kept to the limit by itself; together they may be over it. The first batches always stay.
fn limit_bytes(results: impl Iterator<Item = Fetched>, bytes_max: usize) -> Vec<Fetched> {
    let mut bytes = 0;
    results
        .map(|mut fetched| {
            let size = fetched.bytes();
            if bytes > 0 && bytes + size > bytes_max {
                fetched.records.clear();
            } else {
                bytes += size;
            }
            fetched
        })
        .collect()
}

fn respond<I: Io>(context: &Context<'_, I>, plan: &Plan, results: Vec<Fetched>) -> FetchResponse {
    let mut sessions = context.server.fetch_sessions.borrow_mut();
    let mut response = FetchResponse {
        session_id: plan.session_id,
        ..FetchResponse::default()
    };
    for (one, fetched) in plan.partitions.iter().zip(results) {
        let included = sessions.answer(
            plan,
            one,
            fetched.error,
            !fetched.records.is_empty(),
            fetched.high_watermark,
            fetched.log_start_offset,
        );
        if !included {
            continue;
        }
        let (name, id) = match &one.topic {
            TopicKey::Name(name) => (Text::copy_from(name.as_str()), TopicId::ZERO),
            TopicKey::Id(id) => (Text::EMPTY, *id),
        };
        let metrics = &context.server.metrics;
        metrics.errors.count(fetched.error);
        metrics.fetched_bytes.add(fetched.bytes() as u64);
        let data = partition_data(one.partition, fetched);
        match response.responses.last_mut() {
            Some(last) if last.topic == name && last.topic_id == id => last.partitions.push(data),
            _ => response.responses.push(FetchableTopicResponse {
                topic: name,
                topic_id: id,
                partitions: vec![data],
            }),
        }
    }
    response
}

fn partition_data(partition_index: i32, fetched: Fetched) -> PartitionData {
    let leader = fetched.leader;
    PartitionData {
        partition_index,
        error_code: fetched.error.code(),
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.last_stable_offset.0,
        log_start_offset: fetched.log_start_offset.0,
        diverging_epoch: fetched
            .diverging
            .map_or_else(EpochEndOffset::default, |(epoch, end)| EpochEndOffset {
                epoch: epoch.0,
                end_offset: end.0,
            }),
        current_leader: leader.map_or_else(LeaderIdAndEpoch::default, |leader| LeaderIdAndEpoch {
            leader_id: leader.broker,
            leader_epoch: leader.epoch.0,
        }),
        aborted_transactions: None,
        records: Some(Records::from(fetched.records as Vec<Bytes>)),
        ..PartitionData::default()
    }
}
