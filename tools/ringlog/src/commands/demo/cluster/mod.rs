//! `ringlog demo --brokers 3`: a cluster that is loaded, loses the leader of its busiest partition to `kill -9`, and gets it
//! back, told second by second.
//!
//! The brokers are processes of this program. The main thread owns them, takes what the load's thread and the brokers tell,
//! and prints; everything that is decided about it is in `flow`, `view` and `records`.

mod brokers;
mod flow;
mod load;
mod records;
mod view;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ::load::report::grouped;
use serde::Serialize;
use signal_hook::iterator::Signals;

use super::data::Temporary;
use super::{DemoArgs, TOPIC};
use crate::commands::CommandError;
use crate::commands::broker::{self, BrokerArgs};
use crate::commands::table::{Format, print_json};
use crate::commands::top::bar;
use crate::interrupt::Interrupt;
use crate::stdio::{Paint, outln};
use brokers::Brokers;
use flow::{Flow, Second};
use load::{EVENTS_MAX, Event, Load, Plan};
use records::Judge;
use view::View;

/// Partitions for each broker.
const PARTITIONS_PER_BROKER: usize = 2;
/// How long anything may take: a start, a failover, the way back.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(10);
/// How often, once nothing more is to be shown.
const IDLE_LOOK: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);
/// Columns of a second's bar.
const BAR_WIDTH: usize = 10;
/// A bar of the first second leaves so much room for a better one.
const HEADROOM: f64 = 1.25;

/// What the demo has shown, as JSON. Times are from the kill, or from the start of the killed broker.
#[derive(Debug, Default, Serialize)]
struct Shown {
    brokers: usize,
    partitions: usize,
    killed: i32,
    killed_was_controller: bool,
    killed_led: Vec<usize>,
    /// Until every partition had a leader again.
    leaders_after_ms: u128,
    /// By partition: the longest time without an acknowledgement, from before the kill to the start of the killed broker.
    gaps_ms: Vec<u64>,
    /// Until every replica was in sync again.
    in_sync_after_ms: u128,
    acknowledged: u64,
    verification: Judge,
    happened: Vec<Happened>,
    seconds: Vec<Second>,
}

/// Something worth a line of its own.
#[derive(Debug, Serialize)]
struct Happened {
    /// Since the load began.
    at_ms: u128,
    what: String,
}

/// Runs the demo with so many brokers.
pub fn run(args: &DemoArgs, count: i32) -> Result<(), CommandError> {
    check_arguments(&args.broker)?;
    let signals = broker::signals()?;
    let interrupt = Interrupt::watch()?;
    // Lives longer than the brokers in it.
    let temporary = match args.broker.data_dir {
        Some(_) => None,
        None => Some(
            Temporary::new(args.keep)
                .map_err(|error| CommandError::io("a directory for the demo's data", error))?,
        ),
    };
    let folder = match (&temporary, &args.broker.data_dir) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, Some(named)) => own_folder(Path::new(named))?,
        (None, None) => unreachable!("what is not named is temporary"),
    };
    let (events, arrived) = sync_channel(EVENTS_MAX);
    let brokers = Brokers::new(count, &folder, &args.broker, events.clone())?;
    let mut demo = Demo {
        brokers,
        arrived,
        interrupt,
        signals,
        text: args.format == Format::Text,
        paint: Paint::stdout(),
        ready: Vec::new(),
        begin: Instant::now(),
        flow: None,
        view: None,
        bar_full: None,
        shown: Shown::default(),
    };
    let stays = args.keep || temporary.is_none();
    demo.play(args.duration, &folder, stays, events)?;
    if args.exit {
        demo.brokers.stop()?;
    }
    match args.format {
        Format::Json => print_json(&demo.shown)?,
        Format::Text => demo.conclude(args.exit)?,
    }
    match args.exit {
        true => Ok(()),
        false => demo.idle(),
    }
}

/// What several brokers cannot share.
fn check_arguments(given: &BrokerArgs) -> Result<(), CommandError> {
    let refused = [
        ("--node-id", given.node_id.is_some()),
        ("--join", given.join.is_some()),
        ("--listen", given.listen.is_some()),
        ("--http-listen", given.http_listen.is_some()),
        ("--config", given.config.is_some()),
        ("--accept-lost-data", given.accept_lost_data),
    ];
    match refused.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(CommandError::Usage(format!(
            "{name} is for one broker; a demo of several chooses it for each"
        ))),
        None => Ok(()),
    }
}

/// A named folder: made, or found empty. A demo of several brokers begins a cluster.
fn own_folder(named: &Path) -> Result<PathBuf, CommandError> {
    let failed = |error| CommandError::io(named.display().to_string(), error);
    std::fs::create_dir_all(named).map_err(failed)?;
    if std::fs::read_dir(named).map_err(failed)?.next().is_some() {
        return Err(CommandError::Usage(format!(
            "--data-dir {}: there is something in it, and a demo of several brokers begins a new cluster",
            named.display()
        )));
    }
    named.canonicalize().map_err(failed)
}

/// A demo, from its first broker on.
struct Demo {
    brokers: Brokers,
    arrived: Receiver<Event>,
    interrupt: Interrupt,
    signals: Signals,
    text: bool,
    paint: Paint,
    /// Brokers that said so since they were last started.
    ready: Vec<i32>,
    /// When the load began.
    begin: Instant,
    /// While there is a load.
    flow: Option<Flow>,
    view: Option<View>,
    /// Records per second of a full bar.
    bar_full: Option<f64>,
    shown: Shown,
}

impl Demo {
    fn play(
        &mut self,
        duration: Duration,
        folder: &Path,
        stays: bool,
        events: load::Events,
    ) -> Result<(), CommandError> {
        self.start_all(folder, stays)?;
        let count = self.brokers.all().len();
        let plan = Plan {
            bootstrap: self.brokers.bootstrap(),
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS_PER_BROKER * count,
        };
        let in_sync_min = count / 2 + 1;
        load::create(plan.clone(), count, in_sync_min)?;
        (self.shown.brokers, self.shown.partitions) = (count, plan.partitions);
        self.say(format_args!(
            "\nTopic {TOPIC}: {} partitions, {count} replicas of each, acknowledged by all in sync, {in_sync_min} at least.\n\
             Writers are idempotent (acks=all), one for each partition; partition 0 gets twice as much. A digit for each partition:\n",
            plan.partitions
        ))?;
        self.begin = Instant::now();
        self.flow = Some(Flow::new(plan.partitions, self.begin));
        let load = Load::start(plan.clone(), events);
        let told = self.lose_and_regain(duration);
        load.stop();
        let over = told.and_then(|()| self.until("the writers stop", PATIENCE, |_| load.is_over()));
        if over.is_ok() {
            load.join()?;
        }
        over?;
        // What was told before the last of them stopped.
        while let Ok(event) = self.arrived.try_recv() {
            self.take(event)?;
        }
        self.judge(plan)
    }

    fn start_all(&mut self, folder: &Path, stays: bool) -> Result<(), CommandError> {
        let count = self.brokers.all().len();
        self.say(format_args!(
            "Starting {count} brokers. Data and logs in {}, {}.",
            folder.display(),
            match stays {
                true => "which stays",
                false => "which goes when the demo ends (--keep keeps it)",
            }
        ))?;
        let first = self.brokers.all()[0].id;
        self.brokers.start(first)?;
        self.until("the first broker serves", PATIENCE, |demo| {
            !demo.ready.is_empty()
        })?;
        let others: Vec<i32> = self.brokers.all().iter().map(|broker| broker.id).collect();
        for id in others.into_iter().skip(1) {
            self.brokers.start(id)?;
        }
        self.until("all brokers serve", PATIENCE, |demo| {
            demo.ready.len() == count
        })?;
        for broker in self.brokers.all() {
            self.say(format_args!(
                "    broker {}  {}  metrics {}  process {}",
                broker.id,
                broker.address.as_deref().unwrap_or("?"),
                broker.http.as_deref().unwrap_or("?"),
                broker.pid().unwrap_or(0)
            ))?;
        }
        Ok(())
    }

    /// The load runs; its busiest leader is killed, missed, and started again.
    fn lose_and_regain(&mut self, duration: Duration) -> Result<(), CommandError> {
        self.until("the load begins", PATIENCE, |demo| {
            demo.view.as_ref().is_some_and(View::has_leaders)
                && demo
                    .flow()
                    .acknowledged_records()
                    .iter()
                    .all(|records| *records > 0)
        })?;
        self.pass(duration)?;
        let killed_at = self.kill_the_busiest()?;
        self.until("every partition has a leader", PATIENCE, |demo| {
            demo.view
                .as_ref()
                .is_some_and(|view| view.has_leaders() && view.led_by(demo.shown.killed).is_empty())
        })?;
        self.shown.leaders_after_ms = killed_at.elapsed().as_millis();
        self.pass(duration)?;
        let now = Instant::now();
        self.shown.gaps_ms = self.flow().gaps_ms(now);
        self.happens(
            format!("broker {} is started again", self.shown.killed),
            now,
        )?;
        self.ready.retain(|id| *id != self.shown.killed);
        self.brokers.start(self.shown.killed)?;
        self.until("every replica is in sync again", PATIENCE, |demo| {
            demo.ready.contains(&demo.shown.killed)
                && demo
                    .view
                    .as_ref()
                    .is_some_and(|view| view.is_whole() && view.brokers == demo.shown.brokers)
        })?;
        self.shown.in_sync_after_ms = now.elapsed().as_millis();
        self.pass(SECOND)
    }

    fn kill_the_busiest(&mut self) -> Result<Instant, CommandError> {
        let busiest = self.flow().busiest();
        let view = self.view.as_ref().expect("the load has begun");
        let leader = view.partitions[busiest].leader;
        let leader = leader.ok_or_else(|| {
            CommandError::Failed(format!("partition {busiest} lost its leader by itself"))
        })?;
        self.shown.killed = leader;
        self.shown.killed_was_controller = view.controller == Some(leader);
        self.shown.killed_led = view.led_by(leader);
        self.flow
            .as_mut()
            .expect("the load has begun")
            .forget_gaps();
        let now = Instant::now();
        self.brokers.kill(leader)?;
        let what = format!(
            "broker {leader} is killed (kill -9): it led partitions {}{}",
            listed(&self.shown.killed_led),
            match self.shown.killed_was_controller {
                true => ", and was the controller",
                false => "",
            }
        );
        self.happens(what, now)?;
        Ok(now)
    }

    fn judge(&mut self, plan: Plan) -> Result<(), CommandError> {
        let acknowledged = self.flow().acknowledged_records();
        self.shown.acknowledged = acknowledged.iter().sum();
        self.flow = None;
        self.shown.verification = load::read_back(plan, Judge::new(acknowledged))?.finish();
        let judge = &self.shown.verification;
        self.say(format_args!(
            "\n    read back   {} records: {}",
            grouped(judge.read),
            match judge.is_clean() {
                true => self
                    .paint
                    .good("none lost, none twice, none out of order, none changed"),
                false => self.paint.bad(&judge.verdict()),
            }
        ))?;
        for example in &judge.examples {
            self.say(format_args!("      {example}"))?;
        }
        match judge.is_clean() {
            true => Ok(()),
            false => Err(CommandError::Violated(
                "the demo did not go well: what was read back is not what was acknowledged"
                    .to_owned(),
            )),
        }
    }

    /// What has been shown, and what to do next.
    fn conclude(&self, exits: bool) -> Result<(), CommandError> {
        let shown = &self.shown;
        let led = |place: &usize| shown.killed_led.contains(place);
        let worst = |of_killed: bool| {
            let gaps = shown.gaps_ms.iter().enumerate();
            let gaps = gaps.filter(|(place, _)| led(place) == of_killed);
            gaps.map(|(_, gap)| *gap).max().unwrap_or(0) as f64 / 1e3
        };
        self.say(format_args!(
            "    the gap     {:.2} s without an acknowledged write where broker {} led, {:.2} s elsewhere",
            worst(true),
            shown.killed,
            worst(false),
        ))?;
        self.say(format_args!(
            "    way back    every replica in sync {:.1} s after broker {} was started again",
            shown.in_sync_after_ms as f64 / 1e3,
            shown.killed,
        ))?;
        self.say(format_args!(
            "\n{} {} records acknowledged, every one of them there once and in order.",
            self.paint.good("All is well:"),
            grouped(shown.acknowledged),
        ))?;
        if exits {
            return Ok(());
        }
        let some = self.brokers.all().first();
        let address = some
            .and_then(|broker| broker.address.as_deref())
            .unwrap_or("?");
        let http = self.brokers.all().iter();
        let http = http.filter_map(|broker| broker.http.as_deref());
        let http = http.collect::<Vec<&str>>().join(",");
        self.say(format_args!(
            "\nThe cluster is running on {}. Try
    ringlog cluster status --bootstrap {address}
    ringlog topic describe {TOPIC} --bootstrap {address}
    ringlog top --url {http}
    kill -9 {}
Ctrl-C ends it.",
            self.brokers.bootstrap(),
            self.brokers
                .all()
                .last()
                .and_then(brokers::Broker::pid)
                .unwrap_or(0)
        ))
    }

    /// The cluster runs until it is told to end. Brokers may be killed by whoever looks at it.
    fn idle(mut self) -> Result<(), CommandError> {
        while self.signals.pending().next().is_none() && !self.interrupt.is_set() {
            if let Err(error) = self.brokers.check() {
                self.say(format_args!("{error}\nThe others go on."))?;
            }
            std::thread::sleep(IDLE_LOOK);
        }
        self.brokers.stop()
    }

    /// Takes what happens until a condition holds.
    fn until(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Demo) -> bool,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + patience;
        while !holds(self) {
            self.turn()?;
            if Instant::now() >= deadline {
                return Err(CommandError::Failed(format!(
                    "the demo did not go well: waited {patience:?} in vain until {what}"
                )));
            }
        }
        Ok(())
    }

    /// Takes what happens for a while.
    fn pass(&mut self, duration: Duration) -> Result<(), CommandError> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes the next event, if there is one soon; ends a second that is over.
    fn turn(&mut self) -> Result<(), CommandError> {
        self.interrupt.check()?;
        if let Some(signal) = self.signals.pending().next() {
            let number = usize::try_from(signal).expect("numbers of signals are positive");
            return Err(CommandError::Interrupted(number));
        }
        self.brokers.check()?;
        let deadline = Instant::now() + LOOK;
        loop {
            // Nothing is left of a time that is over.
            let left = deadline.saturating_duration_since(Instant::now());
            match self.arrived.recv_timeout(left) {
                Ok(event) => self.take(event)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the brokers hold a sender"),
            }
        }
        self.end_second(Instant::now())
    }

    fn take(&mut self, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Ready { broker, line } => {
                self.brokers.ready(broker, &line)?;
                self.ready.push(broker);
            }
            Event::Acknowledged {
                partition,
                records,
                at,
            } => {
                let flow = self.flow.as_mut().expect("the load has begun");
                flow.acknowledged(partition, records, at);
            }
            Event::Seen { view, at } => {
                let changes = match &self.view {
                    Some(known) if view.is_older_than(known) => return Ok(()),
                    Some(known) => view.changes(known),
                    None => Vec::new(),
                };
                self.view = Some(view);
                for change in changes {
                    self.happens(change, at)?;
                }
            }
            Event::Failed { partition, reason } => {
                return Err(CommandError::Failed(format!(
                    "the demo did not go well: the writer of partition {partition} gave up: {reason}"
                )));
            }
        }
        Ok(())
    }

    fn end_second(&mut self, now: Instant) -> Result<(), CommandError> {
        let Some(flow) = &mut self.flow else {
            return Ok(());
        };
        if now.duration_since(flow.second_begin()) < SECOND {
            return Ok(());
        }
        let second = flow.second(now);
        let (leaders, in_sync) = match &self.view {
            Some(view) => (view.leaders(), view.in_sync()),
            None => ("?".to_owned(), "?".to_owned()),
        };
        let full = self
            .bar_full
            .get_or_insert(second.records_per_second * HEADROOM);
        let bar = bar(second.records_per_second / *full, BAR_WIDTH);
        let number = self.shown.seconds.len() + 1;
        self.shown.seconds.push(second);
        self.say(format_args!(
            "{number:>6} s  {} {:>7} rec/s  gap {:>5} ms  leaders {leaders}  in sync {in_sync}",
            self.paint.bar(&format!("{bar:<BAR_WIDTH$}")),
            grouped(second.records_per_second as u64),
            second.gap_ms,
        ))
    }

    /// Says and keeps what has happened.
    fn happens(&mut self, what: String, at: Instant) -> Result<(), CommandError> {
        let at_ms = at.duration_since(self.begin).as_millis();
        let line = format!("{:>8.2} s  {what}", at_ms as f64 / 1e3);
        self.shown.happened.push(Happened { at_ms, what });
        self.say(format_args!("{}", self.paint.strong(&line)))
    }

    fn flow(&self) -> &Flow {
        self.flow.as_ref().expect("the load has begun")
    }

    fn say(&self, text: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
        if self.text { outln!("{text}") } else { Ok(()) }
    }
}

/// `0 3`.
fn listed(places: &[usize]) -> String {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    places.join(" ")
}
