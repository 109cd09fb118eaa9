//! A member of a consumer group in a load: joins, reads what it is assigned, commits, and starts anew when the group
//! rebalances.
//!
//! Invariant: positions are committed before partitions are given up, so that another member goes on where this one
//! stopped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use client::group::{GroupMember, GroupOptions, Standing};
use client::{ClientError, Cluster};
use model::{MonotonicTime, Offset, PartitionIndex};
use runtime::{Io, TaskClass};

use crate::consume::{self, Cursor, Lane, Reading};
use crate::topology::{self, Topology};
use crate::verify::Place;
use crate::workload::{From, GroupWorkload};

/// How often a member looks whether its lanes have ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long a rebalance may take at most: less than a request may.
const REBALANCE_MAX: Duration = Duration::from_secs(20);
/// Wait before joining again after an error.
const RETRY: Duration = Duration::from_millis(200);

/// Runs one member to the end of the load.
pub(crate) async fn run<I: Io>(reading: Rc<Reading<I>>, group: GroupWorkload) {
    let core = reading.core.clone();
    let mut arrived = false;
    let mut finished = false;
    while !core.stopping() && !finished {
        match Box::pin(membership(&reading, &group, &mut arrived)).await {
            Ok(ended) => finished = ended,
            Err(error) => {
                core.failed(&error, 1);
                if !error.is_retriable() && core.nothing_yet() {
                    core.give_up(error.to_string());
                }
                core.io.sleep(RETRY).await;
            }
        }
    }
    if !arrived {
        core.arrived();
    }
    core.lane_done();
}

/// From joining to leaving; whether everything was read.
async fn membership<I: Io>(
    reading: &Rc<Reading<I>>,
    group: &GroupWorkload,
    arrived: &mut bool,
) -> Result<bool, ClientError> {
    let core = &reading.core;
    let options = GroupOptions {
        group: group.group.clone(),
        topics: reading.workload.topic_names(),
        session_timeout: group.session_timeout,
        rebalance_timeout: group.session_timeout.min(REBALANCE_MAX),
    };
    let cluster_options = topology::cluster_options("ringlog-load");
    let bootstrap = &reading.workload.bootstrap;
    let cluster = Cluster::connect(&core.io, bootstrap, cluster_options).await?;
    let mut member = GroupMember::new(cluster, options);
    loop {
        member.join().await?;
        core.interval.borrow_mut().rebalances += 1;
        if !std::mem::replace(arrived, true) {
            core.arrived();
        }
        let topology = reading.topology.get(&core.io, MonotonicTime(0)).await?;
        let cursors = cursors(reading, &topology, &mut member).await?;
        let fetching = Fetching::start(reading, &topology, cursors);
        let outcome = attend(reading, group, &topology, &mut member, &fetching).await;
        fetching.stop(reading).await;
        let standing = outcome?;
        if standing == Standing::Member {
            commit(&topology, &mut member, &fetching).await?;
            member.leave().await?;
            return Ok(true);
        }
        // The coordinator accepts commits until the new generation begins; a late one is refused, and then others read
        // those records again.
        if let Err(error) = commit(&topology, &mut member, &fetching).await {
            core.failed(&error, 1);
        }
    }
}

/// Heartbeats and commits until the group rebalances, or everything is read (then still a member).
async fn attend<I: Io>(
    reading: &Rc<Reading<I>>,
    group: &GroupWorkload,
    topology: &Topology,
    member: &mut GroupMember<I>,
    fetching: &Fetching,
) -> Result<Standing, ClientError> {
    let core = &reading.core;
    let mut heartbeat = core.io.now();
    let mut committed = core.io.now();
    // A third, as Kafka's clients do: two may be lost.
    let heartbeat_interval = group.session_timeout / 3;
    let until_end = reading.workload.until_end || reading.workload.limit.records.is_some();
    loop {
        core.io.sleep(LOOK).await;
        if core.stopping() || (until_end && fetching.running.get() == 0) {
            return Ok(Standing::Member);
        }
        let now = core.io.now();
        if now.since(heartbeat) >= heartbeat_interval {
            heartbeat = now;
            if member.heartbeat().await? == Standing::Rebalancing {
                return Ok(Standing::Rebalancing);
            }
        }
        if now.since(committed) >= group.commit_interval {
            committed = now;
            match commit(topology, member, fetching).await {
                Ok(()) => {}
                Err(error) if member.must_rejoin(&error) => return Ok(Standing::Rebalancing),
                Err(error) => return Err(error),
            }
        }
    }
}

async fn commit<I: Io>(
    topology: &Topology,
    member: &mut GroupMember<I>,
    fetching: &Fetching,
) -> Result<(), ClientError> {
    let mut offsets: BTreeMap<String, Vec<(PartitionIndex, Offset)>> = BTreeMap::new();
    for positions in &fetching.positions {
        for (place, offset) in positions.borrow().iter() {
            offsets
                .entry(topology.topic(*place).name.clone())
                .or_default()
                .push((place.partition, *offset));
        }
    }
    member.commit(&offsets).await
}

/// Where reading of the assigned partitions begins: at the committed offsets, or where the workload says.
async fn cursors<I: Io>(
    reading: &Reading<I>,
    topology: &Topology,
    member: &mut GroupMember<I>,
) -> Result<Vec<Cursor>, ClientError> {
    let bounds = consume::bounds(topology, member.cluster()).await?;
    let committed = member.committed().await?;
    let mut cursors = Vec::new();
    for (number, topic) in (0..).zip(&topology.topics) {
        let assigned = member.assignment().get(&topic.name);
        for partition in assigned.into_iter().flatten() {
            let place = Place {
                topic: number,
                partition: *partition,
            };
            let Some((first, end)) = bounds.get(&place).copied() else {
                continue;
            };
            let known = committed.get(&(topic.name.clone(), *partition));
            let next = match (known, reading.workload.from) {
                (Some(offset), _) => *offset,
                (None, From::Start) => first,
                (None, From::End) => end,
            };
            cursors.push(Cursor {
                place,
                start: next,
                next,
                end,
                done: reading.workload.until_end && next >= end,
            });
        }
    }
    Ok(cursors)
}

/// The lanes that read what one generation assigned.
struct Fetching {
    running: Rc<Cell<usize>>,
    revoked: Vec<Rc<Cell<bool>>>,
    positions: Vec<Rc<RefCell<BTreeMap<Place, Offset>>>>,
}

impl Fetching {
    fn start<I: Io>(
        reading: &Rc<Reading<I>>,
        topology: &Topology,
        cursors: Vec<Cursor>,
    ) -> Fetching {
        let mut fetching = Fetching {
            running: Rc::default(),
            revoked: Vec::new(),
            positions: Vec::new(),
        };
        for leader in &topology.leaders {
            let led = cursors.iter().filter(|c| leader.places.contains(&c.place));
            let own: Vec<Cursor> = led.cloned().collect();
            if own.is_empty() {
                continue;
            }
            let lane = Lane::new(reading.clone(), own);
            fetching.revoked.push(lane.revoked.clone());
            fetching.positions.push(lane.positions.clone());
            let running = fetching.running.clone();
            running.set(running.get() + 1);
            let core = reading.core.clone();
            core.clone().io.spawn(TaskClass::Foreground, async move {
                core.gate.wait().await;
                lane.run(false).await;
                running.set(running.get() - 1);
            });
        }
        fetching
    }

    /// Ends the lanes; those that wait for an answer take it first.
    async fn stop<I: Io>(&self, reading: &Reading<I>) {
        for revoked in &self.revoked {
            revoked.set(true);
        }
        while self.running.get() > 0 {
            reading.core.io.sleep(LOOK).await;
        }
    }
}
