//! Fetch (key 1): records from their partitions, at once or when there are enough of them.
//!
//! Reads go to all owner shards at once. A request that finds too little watches its partitions and reads again those
//! that have more, until it has enough or its time is over.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::config::RACK_AWARE_SELECTOR;
use model::{
    BrokerId, ErrorCode, MonotonicTime, Offset, PartitionIndex, ProducerId, ShardId, TopicId,
    TopicPartition,
};
use protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, PartitionData,
};
use protocol::{Records, Text};
use runtime::budget::Reservation;
use runtime::{Io, Signal};
use shard::closest_replica;
use shard::refusal::{LeaderHint, ReadRefusal};
use shard::reply::ReplySlot;
use shard::request::{Fetch, FetchPartition, FetchTimes, Fetched, Isolation, Watch};
use shard::watch::WatchState;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::fetch_session::{Plan, TopicKey, Wanted};
use crate::request_clock::Stage;
use crate::scatter::{Places, Scatter};

/// A long poll never lasts longer, whatever the request says.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Memory for the answer of a shard that is granted in its turn, however little is left: a batch of the usual
/// `message.max.bytes`. The first batch of a larger size is counted when it is there.
const FIRST_BATCH_BYTES: usize = (1 << 20) + 12;

/// Why nothing was read from a partition.
struct Refused {
    code: ErrorCode,
    /// Who leads it, if it exists.
    leader: Option<LeaderHint>,
}

type Outcome = Result<Fetched, Refused>;

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused { code, leader: None }
    }
}

impl From<ReadRefusal> for Refused {
    fn from(refusal: ReadRefusal) -> Refused {
        let leader = match &refusal {
            ReadRefusal::Lead(refusal) => refusal.leader(),
            ReadRefusal::OffsetOutOfRange | ReadRefusal::Unreadable => None,
        };
        Refused {
            code: error_codes::read(&refusal),
            leader,
        }
    }
}

/// The part of a request that one shard serves.
struct Part {
    shard: ShardId,
    fetch: Fetch,
    fetched: Vec<Result<Fetched, ReadRefusal>>,
    watch: Option<PartWatch>,
    /// It had records, but not enough: they were let go for the time of the wait and are read again.
    is_stale: bool,
}

enum PartWatch {
    Local(Rc<WatchState>),
    Remote(Rc<ReplySlot<Vec<u32>>>),
}

impl Part {
    fn records(&self) -> impl Iterator<Item = &Fetched> {
        self.fetched.iter().flatten()
    }

    fn has_fired(&self) -> bool {
        match &self.watch {
            Some(PartWatch::Local(state)) => state.has_fired(),
            Some(PartWatch::Remote(slot)) => slot.is_complete(),
            None => false,
        }
    }
}

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
) -> (Vec<Outcome>, Reservation) {
    let mut ids = resolve_all(context, plan);
    if ids.iter().any(Result::is_err) {
        context.server.shard.catch_up().await;
        ids = resolve_all(context, plan);
    }
    let (places, mut parts) = split(context, request, plan, &ids);
    let refused = places.any_decided(Result::is_err);
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
    let fetched = parts.iter().flat_map(Part::records);
    let read_bytes = fetched.map(Fetched::answer_bytes);
    charge.settle(read_bytes.sum());
    let parts = parts.into_iter().map(|part| part.fetched).collect();
    let outcomes = places.merge(parts, |result| result.map_err(Refused::from));
    let outcomes = limit_bytes(outcomes, bytes_max(context, request));
    (outcomes, charge)
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
fn let_go(fetched: &mut [Result<Fetched, ReadRefusal>]) -> bool {
    let mut had_records = false;
    for one in fetched.iter_mut().flatten() {
        had_records |= !one.records.is_empty();
        one.let_go();
    }
    had_records
}

fn bytes_max<I: Io>(context: &Context<'_, I>, request: &FetchRequest) -> usize {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let config = &context.server.shard.options.config;
    asked.min(usize::try_from(config.fetch_max_bytes).unwrap_or(0))
}

/// Divides the partitions among their owners; what cannot be read at all is refused here.
fn split<I: Io>(
    context: &Context<'_, I>,
    request: &FetchRequest,
    plan: &Plan,
    ids: &[Result<TopicPartition, ErrorCode>],
) -> (Places<Outcome>, Vec<Part>) {
    let isolation = isolation(request);
    let rack = rack(context, request);
    let mut scatter = Scatter::default();
    for (one, id) in plan.partitions.iter().zip(ids) {
        match id.and_then(|id| isolation.map(|_| id)) {
            Err(code) => scatter.decided(Err(Refused::from(code))),
            Ok(id) => {
                let question = FetchPartition {
                    id,
                    offset: one.offset,
                    bytes_max: usize::try_from(one.bytes_max).unwrap_or(0),
                    current_leader_epoch: one.current_leader_epoch,
                    last_fetched_epoch: one.last_fetched_epoch,
                    closest: rack.and_then(|rack| closest(context, id, rack)),
                };
                scatter.ask(context.server.shard.owner(id), question);
            }
        }
    }
    let bytes_max = bytes_max(context, request);
    let (places, parts) = scatter.split();
    let parts = parts.into_iter().map(|(shard, partitions)| Part {
        shard,
        fetch: Fetch {
            isolation: isolation.expect("otherwise nobody is asked"),
            bytes_max,
            at_least_one_batch: true,
            from_followers: rack.is_some(),
            partitions,
        },
        fetched: Vec::new(),
        watch: None,
        is_stale: false,
    });
    (places, parts.collect())
}

/// Where a consumer is, if that is to matter.
fn rack<'a, I: Io>(context: &Context<'_, I>, request: &'a FetchRequest) -> Option<&'a str> {
    let selector = &context.server.shard.options.config.replica_selector;
    let is_rack_aware = selector.as_deref() == Some(RACK_AWARE_SELECTOR);
    let rack = request.rack_id.as_str();
    (is_rack_aware && !rack.is_empty()).then_some(rack)
}

/// Another replica that a consumer in a rack is to read from.
fn closest<I: Io>(context: &Context<'_, I>, id: TopicPartition, rack: &str) -> Option<BrokerId> {
    let replica = closest_replica(&context.server.shard.image(), id, rack);
    replica.filter(|id| *id != context.server.shard.options.broker)
}

/// What a request may see, or why it may see nothing of any partition that exists.
fn isolation(request: &FetchRequest) -> Result<Isolation, ErrorCode> {
    let isolation = match request.isolation_level {
        0 => Isolation::ReadUncommitted,
        1 => Isolation::ReadCommitted,
        _ => return Err(ErrorCode::UnknownServerError),
    };
    if request.max_bytes < 0 {
        return Err(ErrorCode::UnknownServerError);
    }
    // Followers of another broker come with the cluster: today nobody holds a replica of our partitions.
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    Ok(isolation)
}

/// The identity of every partition of a plan, in order, or why nothing is read from it.
fn resolve_all<I: Io>(
    context: &Context<'_, I>,
    plan: &Plan,
) -> Vec<Result<TopicPartition, ErrorCode>> {
    let partitions = plan.partitions.iter();
    partitions.map(|one| resolve(context, one)).collect()
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
        let fetch = parts[*at].fetch.clone();
        shard.ask_into(parts[*at].shard, fetch, &slot, number);
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
        parts[at].fetched = reply.results;
        if reply.times.done_at >= last.done_at {
            last = reply.times;
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
    let bytes: usize = parts
        .iter()
        .flat_map(Part::records)
        .map(Fetched::bytes)
        .sum();
    let mut fetched = parts.iter().flat_map(|part| &part.fetched);
    let ends_wait = |one: &Result<Fetched, ReadRefusal>| match one {
        Ok(fetched) => fetched.diverging.is_some() || fetched.closest.is_some(),
        Err(_) => true,
    };
    bytes >= bytes_min || fetched.any(ends_wait)
}

fn watch<I: Io>(
    context: &Context<'_, I>,
    part: &mut Part,
    deadline: MonotonicTime,
    wake: &Rc<Signal>,
) {
    let shard = &context.server.shard;
    let seen = part.fetched.iter().map(|fetched| match fetched {
        Ok(fetched) if part.fetch.isolation == Isolation::ReadCommitted => {
            fetched.last_stable_offset
        }
        Ok(fetched) => fetched.high_watermark,
        // Who was refused does not wait.
        Err(_) => Offset::NONE,
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
        shard.ask_into(part.shard, watch, &slot, 0);
        PartWatch::Remote(slot)
    });
}

/// Each shard kept to the limit by itself; together they may be over it. The first batches always stay.
fn limit_bytes(mut outcomes: Vec<Outcome>, bytes_max: usize) -> Vec<Outcome> {
    let mut bytes = 0;
    for fetched in outcomes.iter_mut().flatten() {
        let size = fetched.bytes();
        if bytes > 0 && bytes + size > bytes_max {
            fetched.let_go();
        } else {
            bytes += size;
        }
    }
    outcomes
}

fn respond<I: Io>(context: &Context<'_, I>, plan: &Plan, outcomes: Vec<Outcome>) -> FetchResponse {
    let mut sessions = context.server.fetch_sessions.borrow_mut();
    let mut response = FetchResponse {
        session_id: plan.session_id,
        ..FetchResponse::default()
    };
    for (one, outcome) in plan.partitions.iter().zip(outcomes) {
        let refusal = outcome.as_ref().err().map(|refused| refused.code);
        let error = refusal.unwrap_or(ErrorCode::None);
        let bytes = outcome.as_ref().map_or(0, Fetched::bytes);
        let data = partition_data(one.partition, outcome);
        let included = sessions.answer(
            plan,
            one,
            error,
            bytes > 0,
            Offset(data.high_watermark),
            Offset(data.log_start_offset),
        );
        if !included {
            continue;
        }
        let (name, id) = match &one.topic {
            TopicKey::Name(name) => (Text::copy_from(name.as_str()), TopicId::ZERO),
            TopicKey::Id(id) => (Text::EMPTY, *id),
        };
        let metrics = &context.server.metrics;
        metrics.errors.count(error);
        metrics.fetched_bytes.add(bytes as u64);
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

fn partition_data(partition_index: i32, outcome: Outcome) -> PartitionData {
    match outcome {
        Ok(fetched) => PartitionData {
            partition_index,
            error_code: ErrorCode::None.code(),
            high_watermark: fetched.high_watermark.0,
            last_stable_offset: fetched.last_stable_offset.0,
            log_start_offset: fetched.log_start_offset.0,
            preferred_read_replica: fetched.closest.map_or(-1, |id| id.0),
            diverging_epoch: fetched.diverging.map_or_else(
                EpochEndOffset::default,
                |(epoch, end)| EpochEndOffset {
                    epoch: epoch.0,
                    end_offset: end.0,
                },
            ),
            aborted_transactions: fetched.aborted.map(|aborted| {
                let aborted = aborted.into_iter();
                let one = |(producer_id, first_offset): (ProducerId, Offset)| AbortedTransaction {
                    producer_id: producer_id.0,
                    first_offset: first_offset.0,
                };
                aborted.map(one).collect()
            }),
            records: Some(Records::from(fetched.records as Vec<Bytes>)),
            ..PartitionData::default()
        },
        Err(refused) => PartitionData {
            partition_index,
            error_code: refused.code.code(),
            high_watermark: Offset::NONE.0,
            last_stable_offset: Offset::NONE.0,
            log_start_offset: Offset::NONE.0,
            current_leader: refused
                .leader
                .map_or_else(LeaderIdAndEpoch::default, |leader| LeaderIdAndEpoch {
                    leader_id: leader.broker,
                    leader_epoch: leader.epoch.0,
                }),
            aborted_transactions: None,
            records: Some(Records::from(Vec::<Bytes>::new())),
            ..PartitionData::default()
        },
    }
}
