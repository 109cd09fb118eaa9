//! What goes on in a demo's cluster beside the demo: a writer for each partition, and one who looks at who leads it.
//!
//! Runs on an executor in a thread of its own and tells what happens through one channel. A writer numbers its records from
//! 0 and sends the next batch when the last one is acknowledged, so what must be found in its partition is known: all
//! numbers up to the last one acknowledged, in order, each once.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{
    ClientError, Cluster, ClusterOptions, Outgoing, Position, Reader, Writer, WriterOptions,
};
use model::PartitionIndex;
use runtime::{Io, TaskClass};
use uring::{StartError, UringIo, UringOptions};

use super::records::{Judge, RECORDS_PER_BATCH, value};
use super::view::View;
use crate::commands::CommandError;

/// Events that may wait for the demo's main thread, which looks every few milliseconds: seconds of a load.
pub const EVENTS_MAX: usize = 16 << 10;
/// What a writer rests between an acknowledgement and its next batch: the load is moderate.
const PACE: Duration = Duration::from_millis(10);
/// A writer asks again for the leader at least so often: what a client adds to a failover.
const RETRY_WAIT_MAX: Duration = Duration::from_millis(40);
/// How often is looked who leads.
const LOOK: Duration = Duration::from_millis(40);
/// How long a write with all its retries may take, longer than any failover.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where events go.
pub type Events = SyncSender<Event>;

/// What the demo's main thread learns.
#[derive(Debug)]
pub enum Event {
    /// A broker says on standard output that it serves.
    Ready { broker: i32, line: String },
    /// A batch was acknowledged.
    Acknowledged {
        partition: usize,
        records: u64,
        at: Instant,
    },
    /// How the cluster is, whenever it is another way than before.
    Seen { view: View, at: Instant },
    /// A writer gave up.
    Failed { partition: usize, reason: String },
}

/// What is written where.
#[derive(Clone, Debug)]
pub struct Plan {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: usize,
}

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), StartError>>,
}

impl Load {
    /// Begins to write and to look.
    pub fn start(plan: Plan, events: Events) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            uring::block_on(None, UringOptions::default(), move |io: UringIo| {
                run(io, plan, events, flag)
            })
        });
        Load { stop, thread }
    }

    /// Writers are to stop behind the batch that is on its way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether they have: all that will be acknowledged was told.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it could run.
    pub fn join(self) -> Result<(), StartError> {
        self.thread.join().expect("the load does not panic")
    }
}

async fn run(io: UringIo, plan: Plan, events: Events, stop: Arc<AtomicBool>) {
    let plan = Rc::new(plan);
    let running = Rc::new(Cell::new(plan.partitions));
    for partition in 0..plan.partitions {
        let (io, plan, events, stop, running) = (
            io.clone(),
            plan.clone(),
            events.clone(),
            stop.clone(),
            running.clone(),
        );
        io.clone().spawn(TaskClass::Foreground, async move {
            if let Err(error) = write(&io, &plan, partition, &events, &stop).await {
                let reason = error.to_string();
                // A demo that is over does not listen any more.
                let _over = events.send(Event::Failed { partition, reason });
            }
            running.set(running.get() - 1);
        });
    }
    let mut last = None;
    let mut cluster = None;
    while running.get() > 0 {
        // Whatever fails here passes; the next look is over another connection.
        match look(&io, &plan, &mut cluster).await {
            Ok(view) if last.as_ref() != Some(&view) => {
                last = Some(view.clone());
                let at = Instant::now();
                if events.send(Event::Seen { view, at }).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => cluster = None,
        }
        io.sleep(LOOK).await;
    }
}

/// A client that is as patient as this load.
fn options() -> ClusterOptions {
    ClusterOptions {
        operation_timeout: PATIENCE,
        ..load::cluster_options("ringlog-demo")
    }
}

/// Writes to one partition until it is to stop.
async fn write(
    io: &UringIo,
    plan: &Plan,
    partition: usize,
    events: &Events,
    stop: &AtomicBool,
) -> Result<(), ClientError> {
    let cluster = Cluster::connect(io, &plan.bootstrap, options()).await?;
    let options = WriterOptions {
        retry_wait_max: RETRY_WAIT_MAX,
        ..WriterOptions::default()
    };
    let mut writer = Writer::open(cluster, &plan.topic, options).await?;
    let index = i32::try_from(partition).expect("a demo has few partitions");
    // The first partition is the busiest.
    let records = match partition {
        0 => 2 * RECORDS_PER_BATCH,
        _ => RECORDS_PER_BATCH,
    };
    let mut next: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        for number in next..next + records {
            let record = Outgoing {
                partition: Some(PartitionIndex(index)),
                value: Some(Bytes::from(value(partition, number))),
                ..Outgoing::default()
            };
            writer.push(&record).await?;
        }
        writer.flush().await?;
        next += records;
        let at = Instant::now();
        let told = Event::Acknowledged {
            partition,
            records,
            at,
        };
        if events.send(told).is_err() {
            return Ok(());
        }
        io.sleep(PACE).await;
    }
    Ok(())
}

/// Looks at the cluster once.
async fn look(
    io: &UringIo,
    plan: &Plan,
    cluster: &mut Option<Cluster<UringIo>>,
) -> Result<View, ClientError> {
    let cluster = match cluster {
        Some(cluster) => cluster,
        none => none.insert(Cluster::connect(io, &plan.bootstrap, options()).await?),
    };
    let topic = cluster.describe_topic(&plan.topic).await?;
    let brokers = cluster.brokers().count();
    let controller = cluster.quorum().await?.leader;
    Ok(View::of(&topic, brokers, controller))
}

/// Waits until so many brokers belong to the cluster, and makes the topic.
pub fn create(plan: Plan, brokers: usize, in_sync_min: usize) -> Result<(), CommandError> {
    let made = uring::block_on(None, UringOptions::default(), async move |io: UringIo| {
        let mut cluster = Cluster::connect(&io, &plan.bootstrap, options()).await?;
        let deadline = Instant::now() + PATIENCE;
        while cluster.brokers().count() < brokers {
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout(PATIENCE));
            }
            io.sleep(LOOK).await;
            cluster.refresh(Some(&[])).await?;
        }
        let new = client::NewTopic {
            name: plan.topic,
            partitions: i32::try_from(plan.partitions).expect("a demo has few partitions"),
            replication_factor: i16::try_from(brokers).expect("a demo has few brokers"),
            configs: vec![("min.insync.replicas".to_owned(), in_sync_min.to_string())],
        };
        cluster.create_topic(&new).await.map(|_topic| ())
    });
    Ok(made??)
}

/// Reads everything that is in the topic and judges it.
pub fn read_back(plan: Plan, judge: Judge) -> Result<Judge, CommandError> {
    let read = uring::block_on(None, UringOptions::default(), async move |io: UringIo| {
        let mut judge = judge;
        let cluster = Cluster::connect(&io, &plan.bootstrap, options()).await?;
        let until = Some(Position::End);
        let mut reader = Reader::open(cluster, &plan.topic, &[], Position::Start, until).await?;
        let deadline = Instant::now() + PATIENCE;
        while !reader.is_done() {
            let mut take = |partition: PartitionIndex, record: &model::record::Record<'_>| {
                judge.take(partition, record.value.unwrap_or_default());
                ControlFlow::Continue(())
            };
            reader.poll(Duration::from_millis(100), &mut take).await?;
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout(PATIENCE));
            }
        }
        Ok(judge)
    });
    Ok(read??)
}
