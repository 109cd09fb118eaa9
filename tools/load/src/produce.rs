//! The producing side of a load: lanes, each one connection that keeps requests in flight.
//!
//! A lane is two tasks: this one writes, [`read_answers`] reads; they share a [`Link`]. Invariants: at most `in_flight`
//! requests of a lane are unanswered; every request sent is counted exactly once, as answered or as failed; a batch is
//! never sent twice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use client::{Acks, ClientError, ConnectionOptions, FrameReader, init_producer_id_request, rpc};
use model::{BrokerId, MonotonicTime, ProducerEpoch, ProducerId};
use protocol::{Message as _, ProduceRequest, ProduceResponse};
use runtime::{Io, Signal, Stream as _, TaskClass};

use crate::core_state::{Bounds, CoreState, Expiry, Observer, Share, Watched};
use crate::process::Window;
use crate::schedule::{Gathering, OpenSchedule, Pace, Schedule};
use crate::script::Script;
use crate::tally::{AnswerTimes, Tally};
use crate::template::{FrameBuffer, Identity, RequestTemplates, Send, Slot, Target};
use crate::topology::{self, Leader, SharedTopology, Topology};
use crate::verify::{Ledger, Place, StreamKey};
use crate::workload::ProduceWorkload;

/// Bytes handed to one vectored write.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A write that takes so long waited for the broker to empty its socket; a shorter one is the generator's own time.
const WRITE_SLOW: Duration = Duration::from_millis(1);
/// First wait before connecting again; doubles.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// Longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// Shortest sleep of an open-loop ticker: finer ones cost more CPU than they give precision.
const TICK_MIN: Duration = Duration::from_micros(50);
/// Bytes of an answer to a one-partition request, rounded up.
const ANSWER_BYTES: usize = 128;
/// Bounds of the space offered to each read.
const READ_BYTES: (usize, usize) = (1 << 10, 64 << 10);

/// What producing came to on one core.
#[derive(Debug)]
pub struct Produced {
    /// Counts since the warm-up.
    pub tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// Everything that was sent, the warm-up included, if records are stamped.
    pub ledger: Ledger,
    /// The processes' counters at both ends of that time.
    pub window: Window,
    /// Why the load was given up, if it was.
    pub fatal: Option<String>,
}

/// Runs this core's share of a load.
pub async fn produce<I: Io>(
    io: I,
    workload: ProduceWorkload,
    share: Share,
    observer: Observer,
) -> Produced {
    produce_from(io, workload, share, observer, |_| {}).await
}

/// Runs this core's share of a load; `begun` is told from when on answers count, when the load begins.
pub(crate) async fn produce_from<I: Io>(
    io: I,
    workload: ProduceWorkload,
    share: Share,
    observer: Observer,
    begun: impl FnOnce(MonotonicTime) + 'static,
) -> Produced {
    let lanes: Vec<u64> = share.connections(workload.connections).collect();
    let core = CoreState::new(
        io,
        lanes.len() as u64,
        Bounds {
            warmup: workload.warmup,
            duration: workload.limit.duration,
            stall: workload.stall(),
        },
        observer,
    );
    core.when_begun(begun);
    let shared = Rc::new(Shared {
        topology: SharedTopology::new(workload.bootstrap.clone(), workload.topic_names()),
        core: core.clone(),
        workload,
        ledger: RefCell::default(),
        frames: RefCell::default(),
        templates: RefCell::default(),
    });
    for index in lanes {
        let lane = Lane {
            shared: shared.clone(),
            index,
            records_left: shared.workload.lane_records(index),
            schedule: None,
            sequences: BTreeMap::new(),
            turn: 0,
            broken_at: MonotonicTime(0),
        };
        core.io.spawn(TaskClass::Foreground, lane.run());
    }
    let outcome = core.run().await;
    Produced {
        tally: outcome.tally,
        elapsed: outcome.elapsed,
        ledger: shared.ledger.take(),
        window: outcome.window,
        fatal: outcome.fatal,
    }
}

/// What the lanes of a core share.
struct Shared<I: Io> {
    core: Rc<CoreState<I>>,
    workload: ProduceWorkload,
    topology: SharedTopology,
    ledger: RefCell<Ledger>,
    /// Where frames are put together; never borrowed across a wait.
    frames: RefCell<FrameBuffer>,
    /// The frames for each leader, and what they were made for.
    templates: RefCell<BTreeMap<BrokerId, Prepared>>,
}

struct Prepared {
    topology: Rc<Topology>,
    version: i16,
    templates: Rc<RequestTemplates>,
}

impl<I: Io> Shared<I> {
    /// The frames for what a leader leads: made once for all lanes.
    fn templates(
        &self,
        topology: &Rc<Topology>,
        leader: &Leader,
        version: i16,
    ) -> Result<Rc<RequestTemplates>, ClientError> {
        if let Some(known) = self.templates.borrow().get(&leader.broker)
            && known.version == version
            && Rc::ptr_eq(&known.topology, topology)
        {
            return Ok(known.templates.clone());
        }
        let workload = &self.workload;
        let target = Target {
            version,
            acks: workload.acks,
            timeout_ms: i32::try_from(workload.request_timeout.as_millis()).unwrap_or(i32::MAX),
            client_id: workload.client_id.clone(),
        };
        let slot = |place: &Place| {
            let topic = topology.topic(*place);
            Slot {
                place: *place,
                topic: topic.name.clone(),
                topic_id: topic.id,
                partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            }
        };
        let slots: Vec<Slot> = leader.places.iter().map(slot).collect();
        let script = Script::plan(workload, &slots)?;
        let templates = Rc::new(RequestTemplates::new(target, slots, script)?);
        self.templates.borrow_mut().insert(
            leader.broker,
            Prepared {
                topology: topology.clone(),
                version,
                templates: templates.clone(),
            },
        );
        Ok(templates)
    }

    fn not_acknowledged(&self, flight: &Flight, templates: &RequestTemplates) {
        if let Some((key, first)) = flight.stamped {
            let records = templates.batch(flight.step).records;
            self.ledger.borrow_mut().unknown(key, first, records);
        }
    }
}

/// A request without an answer yet.
struct Flight {
    correlation: i32,
    intended: MonotonicTime,
    /// When its bytes began to be written.
    sent: MonotonicTime,
    step: usize,
    batch_bytes: usize,
    /// Its stamps, if there are any.
    stamped: Option<(StreamKey, u64)>,
}

/// What the two tasks of a lane share for the life of one connection.
struct Link<I: Io> {
    expiry: Expiry<I::Stream>,
    flights: RefCell<VecDeque<Flight>>,
    wake: Rc<Signal>,
    timeout: Duration,
    /// Set by the reader when it ends.
    ended: RefCell<Option<ClientError>>,
    /// Set when the connection is to be left, because of an answer that asks for it.
    leave: Cell<bool>,
    /// Since when the broker has let requests go: when the in-flight limit last had room again, or the socket.
    room_since: Cell<MonotonicTime>,
    /// Open loop: when the writer wants to be woken, if only time keeps it from sending.
    wanted_at: Cell<Option<MonotonicTime>>,
    ticker: Signal,
}

impl<I: Io> Watched for Link<I> {
    fn deadline(&self) -> Option<MonotonicTime> {
        Some(self.flights.borrow().front()?.sent.plus(self.timeout))
    }

    fn expire(&self) {
        self.expiry.expire();
    }

    fn wake(&self) {
        self.wake.raise();
    }

    /// What was sent is waited for: whether it was acknowledged is part of the result.
    fn interrupt(&self) {}
}

/// One connection of a load, across reconnections.
struct Lane<I: Io> {
    shared: Rc<Shared<I>>,
    /// Number of the connection over all cores; also the producer's number in stamps.
    index: u64,
    /// Records this lane still may send.
    records_left: Option<u64>,
    schedule: Option<Schedule>,
    /// Next stamp of each partition.
    sequences: BTreeMap<Place, u64>,
    /// Counts requests, for the script and as correlation ids.
    turn: u64,
    /// When the last connection was lost: leaders asked for before that may be wrong.
    broken_at: MonotonicTime,
}

/// A connection and the frames for what it leads.
struct Opened<I: Io> {
    link: Rc<Link<I>>,
    templates: Rc<RequestTemplates>,
    producer: (ProducerId, ProducerEpoch),
    base_sequences: Vec<i32>,
    /// Turns into the script that this lane begins at.
    offset: u64,
    slices: Vec<Bytes>,
}

impl<I: Io> Lane<I> {
    async fn run(mut self) {
        let core = self.shared.core.clone();
        let mut wait = RECONNECT_MIN;
        let mut arrived = false;
        while !core.stopping() && self.records_left != Some(0) {
            // Connecting needs far more memory than sending: kept apart, it is given back.
            let outcome = Box::pin(self.open()).await;
            if !std::mem::replace(&mut arrived, true) {
                core.arrived();
                core.gate.wait().await;
            }
            match outcome {
                Ok(opened) => {
                    wait = RECONNECT_MIN;
                    self.use_connection(opened).await;
                }
                Err(error) => {
                    core.failed(&error, 1);
                    if !error.is_retriable() && core.nothing_yet() {
                        core.give_up(error.to_string());
                    }
                }
            }
            if !core.stopping() && self.records_left != Some(0) {
                self.broken_at = core.io.now();
                core.io.sleep(wait).await;
                wait = (wait * 2).min(RECONNECT_MAX);
            }
        }
        if !arrived {
            // It has nothing to send, and the others wait for it.
            core.arrived();
        }
        if let Some(schedule) = &self.schedule {
            let records = self.shared.workload.records_per_batch();
            let unsent = schedule.backlog(core.io.now(), records);
            let unsent = self
                .records_left
                .map_or(unsent, |left| unsent.min(left.div_ceil(records)));
            core.interval.borrow_mut().unsent += unsent;
        }
        core.lane_done();
    }

    async fn open(&mut self) -> Result<Opened<I>, ClientError> {
        let shared = self.shared.clone();
        let (core, workload) = (&shared.core, &shared.workload);
        let _turn = core.connecting.take().await;
        let topology = shared.topology.get(&core.io, self.broken_at).await?;
        let chosen = usize::try_from(self.index).unwrap_or(0) % topology.leaders.len();
        let leader = &topology.leaders[chosen];
        let options = ConnectionOptions {
            client_id: workload.client_id.clone(),
            request_timeout: workload.request_timeout,
            read_bytes: (workload.in_flight * ANSWER_BYTES).clamp(READ_BYTES.0, READ_BYTES.1),
            ..ConnectionOptions::default()
        };
        let mut connection = topology::connect(&core.io, leader, &options).await?;
        let producer = if workload.idempotent {
            let response = connection.call(&init_producer_id_request()).await?;
            ClientError::check("InitProducerId", response.error_code, None)?;
            (
                ProducerId(response.producer_id),
                ProducerEpoch(response.producer_epoch),
            )
        } else {
            (ProducerId::NONE, ProducerEpoch::NONE)
        };
        let raw = connection.into_raw()?;
        let version = raw.version(ProduceRequest::API)?;
        let templates = shared.templates(&topology, leader, version)?;
        core.interval.borrow_mut().connects += 1;
        let link = Rc::new(Link {
            expiry: Expiry::new(raw.stream),
            flights: RefCell::default(),
            wake: Signal::new(),
            timeout: workload.request_timeout,
            ended: RefCell::default(),
            leave: Cell::new(false),
            room_since: Cell::new(core.io.now()),
            wanted_at: Cell::new(None),
            ticker: Signal::default(),
        });
        let watched: Weak<dyn Watched> = Rc::downgrade(&(link.clone() as Rc<dyn Watched>));
        core.watch(watched);
        let answers = Answers {
            shared: shared.clone(),
            link: link.clone(),
            templates: templates.clone(),
            version,
        };
        core.io
            .spawn(TaskClass::Foreground, read_answers(raw.reader, answers));
        Ok(Opened {
            link,
            base_sequences: vec![-1; 0],
            offset: self.index.wrapping_mul(templates.script().stride),
            templates,
            producer,
            slices: Vec::new(),
        })
    }

    /// When the load has begun: the times of this lane's requests.
    fn plan(&mut self, opened: &Opened<I>) {
        if self.schedule.is_some() {
            return;
        }
        let workload = &self.shared.workload;
        let step = opened.templates.script().turn(opened.offset);
        self.schedule = Some(match workload.rate {
            None => Schedule::Closed,
            Some(rate) => {
                let pace = Pace {
                    records_per_second: rate,
                    arrivals: workload.arrivals,
                    stream: self.index,
                    streams: workload.connections,
                    seed: workload.seed,
                };
                let first = opened.templates.step(step).gathering;
                Schedule::Open(OpenSchedule::new(self.shared.core.start(), pace, first))
            }
        });
    }

    /// Sends until the end, or until the connection breaks; then counts what got no answer.
    async fn use_connection(&mut self, mut opened: Opened<I>) {
        let link = opened.link.clone();
        self.plan(&opened);
        if opened.producer.0 != ProducerId::NONE {
            opened.base_sequences = vec![0; opened.templates.slots().len()];
        }
        self.start_ticker(&link);
        let error = self.send_until_end(&mut opened).await;
        link.expiry.stream.shutdown();
        link.ticker.raise();
        while link.ended.borrow().is_none() {
            link.wake.wait().await;
        }
        let lost: Vec<Flight> = link.flights.borrow_mut().drain(..).collect();
        let reported = link.ended.borrow_mut().take();
        if lost.is_empty() && error.is_none() {
            return;
        }
        let core = &self.shared.core;
        if link.expiry.expired.get() && core.is_interrupted() {
            let mut tally = core.interval.borrow_mut();
            tally.failed("unanswered when interrupted", lost.len() as u64);
        } else {
            let error = match (link.expiry.expired.get(), error, reported) {
                (true, _, _) => ClientError::Timeout(link.timeout),
                (false, Some(error), _) | (false, None, Some(error)) => error,
                (false, None, None) => ClientError::Closed,
            };
            core.failed(&error, lost.len() as u64);
        }
        for flight in lost {
            self.shared.not_acknowledged(&flight, &opened.templates);
        }
    }

    async fn send_until_end(&mut self, opened: &mut Opened<I>) -> Option<ClientError> {
        let shared = self.shared.clone();
        let core = &shared.core;
        let link = opened.link.clone();
        // What was due before a connection broke waited for the broker; on the first one nothing has waited yet.
        link.room_since.set(match self.turn {
            0 => core.start(),
            _ => core.io.now(),
        });
        loop {
            core.io.yield_if_needed().await;
            if link.ended.borrow().is_some() {
                return None;
            }
            let finished = core.stopping() || link.leave.get() || self.records_left == Some(0);
            if finished && link.flights.borrow().is_empty() {
                return None;
            }
            let known = link.flights.borrow().len();
            if !finished && let Err(error) = self.append_due(opened) {
                core.give_up(error.to_string());
                return Some(error);
            }
            if opened.slices.is_empty() {
                link.wake.wait().await;
                continue;
            }
            let begun = core.io.now();
            for flight in link.flights.borrow_mut().iter_mut().skip(known) {
                flight.sent = begun;
            }
            if let Err(error) = link.expiry.stream.write_all(&mut opened.slices).await {
                return Some(ClientError::Lost(error));
            }
            let written = core.io.now();
            if written.since(begun) >= WRITE_SLOW {
                link.room_since.set(written);
            }
            if shared.workload.acks == Acks::None {
                count_unanswered(&shared, &link, &opened.templates);
            }
        }
    }

    /// Appends the requests that are due and that the in-flight limit allows.
    fn append_due(&mut self, opened: &mut Opened<I>) -> Result<(), ClientError> {
        let shared = self.shared.clone();
        let (core, workload) = (&shared.core, &shared.workload);
        let now = core.io.now();
        let timestamp = core.io.wall_clock();
        let open_loop = workload.rate.is_some();
        let link = opened.link.clone();
        let mut flights = link.flights.borrow_mut();
        let mut frames = shared.frames.borrow_mut();
        let mut tally = core.interval.borrow_mut();
        link.wanted_at.set(None);
        while flights.len() < workload.in_flight
            && frames.bytes() < WRITE_BYTES_MAX
            && self.records_left != Some(0)
        {
            let step = self.next_step(opened);
            let (gathering, after) = gatherings(opened, step, self.turn);
            let Some(schedule) = self.schedule.as_mut() else {
                break;
            };
            let Some(due) = schedule.take(now, gathering, after) else {
                link.wanted_at.set(schedule.next_due());
                link.ticker.raise();
                break;
            };
            if open_loop {
                let room = link.room_since.get();
                tally.sent(now.since(due.due.max(room)), room > due.due);
            }
            let templates = &opened.templates;
            let records = templates.batch(step).records;
            let slot = templates.step(step).slot;
            let base_sequence = match opened.base_sequences.get_mut(slot) {
                None => -1,
                Some(next) => take_sequences(next, records),
            };
            let correlation = i32::try_from(self.turn & 0x7fff_ffff).unwrap_or(0);
            let stamp = self.take_stamps(templates.slots()[slot].place, records);
            let send = Send {
                step,
                correlation,
                identity: Identity {
                    producer_id: opened.producer.0,
                    producer_epoch: opened.producer.1,
                    base_sequence,
                    timestamp,
                },
                stamp,
                intended: due.intended,
            };
            let batch_bytes = templates.append(send, &mut frames)?;
            flights.push_back(Flight {
                correlation,
                intended: due.intended,
                sent: now,
                step,
                batch_bytes,
                stamped: stamp,
            });
            self.turn = self.turn.wrapping_add(1);
            self.records_left = self.records_left.map(|left| left.saturating_sub(records));
        }
        frames.take_into(&mut opened.slices);
        Ok(())
    }

    /// The step of the script to send next: the last one of an exact number of records may be a smaller one.
    fn next_step(&self, opened: &Opened<I>) -> usize {
        let script = opened.templates.script();
        let step = script.turn(self.turn.wrapping_add(opened.offset));
        match (self.records_left, script.remainder()) {
            (Some(left), Some(smaller)) if left < opened.templates.batch(step).records => smaller,
            _ => step,
        }
    }

    fn take_stamps(&mut self, place: Place, records: u64) -> Option<(StreamKey, u64)> {
        let run = self.shared.workload.stamp_run?;
        let key = StreamKey {
            run,
            producer: u16::try_from(self.index).unwrap_or(u16::MAX),
            place,
        };
        let next = self.sequences.entry(place).or_default();
        let first = *next;
        *next = next.saturating_add(records);
        self.shared.ledger.borrow_mut().sent(key, first, records);
        Some((key, first))
    }

    /// Open loop: wakes the writer when it wants to be, for as long as the connection lives.
    fn start_ticker(&self, link: &Rc<Link<I>>) {
        if self.shared.workload.rate.is_none() {
            return;
        }
        let (io, link) = (self.shared.core.io.clone(), link.clone());
        self.shared
            .core
            .io
            .spawn(TaskClass::Foreground, async move {
                while link.ended.borrow().is_none() {
                    match link.wanted_at.get() {
                        None => link.ticker.wait().await,
                        Some(at) => {
                            let wait = at.since(io.now());
                            if !wait.is_zero() {
                                io.sleep(wait.max(TICK_MIN)).await;
                            }
                            link.wanted_at.set(None);
                            link.wake.raise();
                        }
                    }
                }
            });
    }
}

/// What a step means for the schedule, and the one behind it.
fn gatherings<I: Io>(opened: &Opened<I>, step: usize, turn: u64) -> (Gathering, Gathering) {
    let templates = &opened.templates;
    let after = templates
        .script()
        .turn(turn.wrapping_add(opened.offset).wrapping_add(1));
    (
        templates.step(step).gathering,
        templates.step(after).gathering,
    )
}

/// acks=0: what was written counts as done; whether it arrived is unknown.
fn count_unanswered<I: Io>(shared: &Shared<I>, link: &Link<I>, templates: &RequestTemplates) {
    let now = shared.core.io.now();
    let mut tally = shared.core.interval.borrow_mut();
    for flight in link.flights.borrow_mut().drain(..) {
        count(&mut tally, &flight, templates, AnswerTimes::new(None, now));
        shared.not_acknowledged(&flight, templates);
    }
    shared.core.answered_at(now);
}

fn count(tally: &mut Tally, flight: &Flight, templates: &RequestTemplates, answer: AnswerTimes) {
    let batch = templates.batch(flight.step);
    tally.answered(answer.read_at.since(flight.intended));
    tally.served(flight.sent, answer);
    tally.records += batch.records;
    tally.record_bytes += batch.record_bytes;
    tally.batch_bytes += flight.batch_bytes as u64;
}

/// The base sequence of a batch; sequences wrap to 0 behind 2^31 - 1.
fn take_sequences(next: &mut i32, records: u64) -> i32 {
    let first = *next;
    let after = u64::from(first.unsigned_abs()) + records;
    *next = i32::try_from(after % (1 << 31)).unwrap_or(0);
    first
}

/// What the reading task works with.
struct Answers<I: Io> {
    shared: Rc<Shared<I>>,
    link: Rc<Link<I>>,
    templates: Rc<RequestTemplates>,
    version: i16,
}

/// Reads answers until the connection ends, for whatever reason, and says so to the writer.
async fn read_answers<I: Io>(mut reader: FrameReader<I::Stream>, answers: Answers<I>) {
    let error = loop {
        if let Err(error) = reader.fill().await {
            break error;
        }
        if let Err(error) = answers.take_all(&mut reader) {
            break error;
        }
        answers.link.wake.raise();
    };
    *answers.link.ended.borrow_mut() = Some(error);
    answers.link.wake.raise();
    answers.link.ticker.raise();
}

impl<I: Io> Answers<I> {
    /// Takes every whole frame that has arrived.
    fn take_all(&self, reader: &mut FrameReader<I::Stream>) -> Result<(), ClientError> {
        let core = &self.shared.core;
        let now = core.io.now();
        let times = AnswerTimes::new(reader.arrived_at(), now);
        if self.link.flights.borrow().len() >= self.shared.workload.in_flight {
            self.link.room_since.set(now);
        }
        while let Some(frame) = reader.frame()? {
            let Some(flight) = self.link.flights.borrow_mut().pop_front() else {
                return Err(ClientError::Misuse("an answer without a request"));
            };
            if let Err(error) = self.take(&frame, &flight, times) {
                // Back into the queue: the writer counts what is left there as failed.
                self.link.flights.borrow_mut().push_front(flight);
                return Err(error);
            }
        }
        core.answered_at(now);
        Ok(())
    }

    fn take(
        &self,
        frame: &bytes::Bytes,
        flight: &Flight,
        times: AnswerTimes,
    ) -> Result<(), ClientError> {
        rpc::check_correlation(frame, flight.correlation)?;
        let response: ProduceResponse = rpc::decode(frame, self.version)?;
        let answers = response.responses.first();
        let Some(answer) = answers.and_then(|topic| topic.partition_responses.first()) else {
            return Err(ClientError::Malformed {
                api: "Produce",
                reason: "no partition in the answer".to_owned(),
            });
        };
        if answer.error_code == 0 {
            count(
                &mut self.shared.core.interval.borrow_mut(),
                flight,
                &self.templates,
                times,
            );
            return Ok(());
        }
        let message = answer.error_message.as_ref().map(|m| m.as_str().to_owned());
        let what = format!("producing to partition {}", answer.index);
        if let Err(error) = ClientError::check(&what, answer.error_code, message) {
            self.refused(flight, &error);
        }
        Ok(())
    }

    /// The broker said no to one request.
    fn refused(&self, flight: &Flight, error: &ClientError) {
        let core = &self.shared.core;
        core.failed(error, 1);
        self.shared.not_acknowledged(flight, &self.templates);
        if !error.is_retriable() && core.nothing_yet() {
            core.give_up(error.to_string());
        }
        // New leaders, or a new producer id: both come with a new connection.
        if error.is_retriable() || self.shared.workload.idempotent {
            self.link.leave.set(true);
        }
    }
}
