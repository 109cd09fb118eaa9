//! The disk fills up under load and is never enlarged.
//!
//! While it is full: a produce is refused in time with an error worth another try, reads go on, the broker stops and
//! starts. Whatever makes room (a topic is deleted, records are deleted, they expire) is decided at once, and soon
//! afterwards every partition takes records again, without a restart. Nothing acknowledged is lost: that is what the
//! checker says at the end, as after every course.

use std::time::Duration;

use model::TopicPartition;
use runtime::Io;
use runtime::sim::{Fault, FaultRule};

use super::Driver;
use super::probe::{Probe, Target};
use crate::checker;
use crate::history::{EXPIRING, TopicFate};
use crate::planted::Planted;
use crate::workload::{Client, WorkloadSettings, create_topic, delete_records_to, delete_topic};

/// Virtual time in which a broker answers a produce or a fetch, whatever its disk is like: no client has to guess.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// What a doomed topic holds on the disk beyond what all journals hold: the journals may be full of records that have
/// yet to go to their segments, and that comes before new ones are taken.
const ROOM_MORE_BYTES: u64 = 512 << 10;
/// The disk has at most so much more than it holds when its bound is set.
const SPARE_BYTES_MAX: u64 = 300 << 10;
/// Requests in a row that are refused in part before the disk counts as full.
const FULL_AFTER_REFUSALS: u32 = 3;
/// Requests that must be enough to fill anything here.
const FILL_REQUESTS_MAX: u32 = 4_000;
/// Virtual time in which a deletion on a full disk is decided, all tries together.
const DECIDED_TIME_MAX: Duration = Duration::from_secs(10);
/// Virtual time after room was made in which every partition takes records again.
const HEALED_TIME_MAX: Duration = Duration::from_secs(60);
/// `retention.ms` of a topic that expires: longer than all rounds before that one, each with its time to heal.
const RETENTION: Duration = Duration::from_secs(400);
/// Most bytes of a value and most records of a batch that fills the disk.
const FILLING_BATCH: (u64, u64) = (4_000, 8);
/// Pause between two requests that fill the disk.
const FILL_PAUSE: Duration = Duration::from_millis(2);
/// Pause between two tries on a full disk.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Topic,
    Records,
    Expiry,
}

struct FullDisk<'a, 'b> {
    driver: &'a mut Driver<'b>,
    probe: Probe,
    /// Partitions that stay.
    stays: Vec<Target>,
    /// One for each round: what makes room.
    doomed: Vec<(Way, String)>,
}

/// Plays the course.
pub(super) async fn play(driver: &mut Driver<'_>, client: &Client) -> Result<(), String> {
    let mut settings = WorkloadSettings::clone(&client.settings);
    (settings.value_bytes_max, settings.records_max) = FILLING_BATCH;
    let mut course = FullDisk {
        stays: client.history.alive(),
        probe: Probe::new(client, settings, ANSWER_TIME_MAX),
        driver,
        doomed: Vec::new(),
    };
    course.stock().await?;
    let held = course.held("");
    let spare = course.driver.random.below(SPARE_BYTES_MAX);
    let (simulation, node) = (course.driver.simulation, course.driver.node);
    simulation.set_disk_capacity(node, held + spare);
    for (way, topic) in course.doomed.clone() {
        course.fill_up().await?;
        course.suffer().await?;
        course.make_room(way, &topic).await?;
        course.heal(way, held + spare).await?;
    }
    Ok(())
}

impl FullDisk<'_, '_> {
    /// Bytes of files whose path contains `part`, in whole blocks.
    fn held(&self, part: &str) -> u64 {
        let (simulation, node) = (self.driver.simulation, self.driver.node);
        let files = simulation.files(node);
        let files = files
            .iter()
            .filter(|path| path.to_string_lossy().contains(part));
        let bytes = files.filter_map(|path| simulation.file_bytes(node, path));
        bytes
            .map(|bytes| (bytes.len() as u64).next_multiple_of(4096))
            .sum()
    }

    /// What holds the bytes of the disk, for the message of a failure.
    fn holders(&self) -> String {
        let facts = self.driver.history.facts();
        let topics = facts.topics.iter().map(|topic| {
            let held = self.held(&format!("partitions/{}", topic.id));
            format!("{} has {held}", topic.name)
        });
        let folders = ["journal", "partitions", "spare", "checkpoint", "lost+found"]
            .iter()
            .map(|folder| format!("{folder} has {}", self.held(&format!("/data/{folder}"))));
        let all = format!("{} are in use", self.held(""));
        let parts: Vec<String> = [all].into_iter().chain(folders).chain(topics).collect();
        parts.join(", ")
    }

    fn partitions(&self, topic: &str) -> Vec<Target> {
        let mut all = self.probe.client.history.alive();
        all.retain(|(name, _)| name == topic);
        all
    }

    /// Makes the topics that will make room, and fills them.
    async fn stock(&mut self) -> Result<(), String> {
        let settings = self.driver.broker.settings();
        let journals = settings.storage.journal_bytes_max * u64::from(settings.shards);
        let room = journals + ROOM_MORE_BYTES;
        for round in 0..self.driver.plan.lives {
            let is_last = round + 1 == self.driver.plan.lives;
            let ways = if is_last {
                &[Way::Topic, Way::Records, Way::Expiry][..]
            } else {
                &[Way::Topic, Way::Records]
            };
            let way = ways[self.driver.random.index(ways.len())];
            let (prefix, retention_ms) = match way {
                Way::Topic | Way::Records => ("goes-", "-1".to_owned()),
                Way::Expiry => (EXPIRING, RETENTION.as_millis().to_string()),
            };
            let name = format!("{prefix}{round}");
            // Records and time make room by whole segments, which must therefore end.
            let configs = vec![
                ("segment.ms", "50".to_owned()),
                ("retention.ms", retention_ms),
            ];
            let Probe { client, link, .. } = &mut self.probe;
            if !create_topic(client, link, &name, 1, &configs).await {
                return Err(format!("the topic {name} cannot be created"));
            }
            let targets = self.partitions(&name);
            let id = targets[0].1.topic.to_string();
            let mut requests = 0;
            while self.held(&id) < room {
                let refused = self.probe.produce(&targets).await;
                requests += 1;
                if requests == FILL_REQUESTS_MAX || !refused.is_empty() {
                    return Err(format!(
                        "a disk with room takes too little for {name}: {} bytes after {requests} requests, refused: \
                         {refused:?}",
                        self.held(&id)
                    ));
                }
                self.driver.io.sleep(FILL_PAUSE).await;
            }
            self.doomed.push((way, name));
        }
        Ok(())
    }

    /// Produces until the disk is full.
    async fn fill_up(&mut self) -> Result<(), String> {
        let mut refusals = 0;
        for _ in 0..FILL_REQUESTS_MAX {
            let refused = self.probe.produce(&self.stays).await;
            if refused.is_empty() {
                refusals = 0;
                self.driver.io.sleep(FILL_PAUSE).await;
                continue;
            }
            refusals += 1;
            if refusals == FULL_AFTER_REFUSALS {
                tracing::info!("the disk is full");
                self.driver.history.facts_mut().tallies.full += 1;
                return Ok(());
            }
            self.driver.io.sleep(RETRY_PAUSE).await;
        }
        Err("the disk does not fill up".to_owned())
    }

    /// What must work on a full disk, before and after a restart.
    async fn suffer(&mut self) -> Result<(), String> {
        let (simulation, node) = (self.driver.simulation, self.driver.node);
        match self.driver.planted {
            Some(Planted::SilentWhenFull) => simulation.cut_one_way(node, simulation.client()),
            Some(Planted::UnreadableWhenFull) => {
                let rule = FaultRule::new(Fault::ReadError).node(node);
                simulation.faults().add(rule);
            }
            _ => {}
        }
        self.ask_all().await;
        if !self.driver.plan.stops.is_empty() && self.driver.random.one_in(2) {
            let stop = self.driver.draw_stop().ok_or("no way to stop")?;
            // What is acknowledged at the last moment counts like everything else.
            self.probe.produce(&self.stays).await;
            self.driver.stop(stop).await?;
            if self.driver.planted == Some(Planted::NoStartWhenFull) {
                let rule = FaultRule::new(Fault::MetadataError).node(node);
                self.driver.simulation.faults().add(rule);
            }
            self.driver.restart().await?;
            self.probe.link.lose();
            self.ask_all().await;
        }
        self.driver.unfenced("the disk is only full")
    }

    async fn ask_all(&mut self) {
        for _ in 0..self.driver.random.between(1, 4) {
            self.driver.sleep_us(1_000, 2_000_000).await;
            self.probe.produce(&self.stays).await;
            for target in &self.stays {
                self.probe.read_start(target).await;
            }
        }
    }

    /// Decides what makes room; other producers are held, so that it is not gone at once.
    async fn make_room(&mut self, way: Way, topic: &str) -> Result<(), String> {
        tracing::info!(?way, topic, "makes room");
        self.driver.history.hold(true);
        if self.driver.planted == Some(Planted::Undecided) {
            let rule = FaultRule::new(Fault::Hang).node(self.driver.node);
            let rule = rule.path("journal");
            self.driver.simulation.faults().add(rule);
        }
        let targets = self.partitions(topic);
        let deadline = self.driver.io.now().plus(DECIDED_TIME_MAX);
        if way == Way::Expiry {
            return self.expire(&targets).await;
        }
        loop {
            let decided = match way {
                Way::Topic => self.delete_topic(topic, &targets).await,
                Way::Records | Way::Expiry => self.delete_records(&targets).await?,
            };
            if decided {
                return Ok(());
            }
            if self.driver.io.now() >= deadline {
                return Err(format!(
                    "deleting {way:?} of {topic} on a full disk is not decided within {DECIDED_TIME_MAX:?}"
                ));
            }
            self.driver.io.sleep(RETRY_PAUSE).await;
        }
    }

    async fn delete_topic(&mut self, topic: &str, targets: &[Target]) -> bool {
        let Some((_, TopicPartition { topic: id, .. })) = targets.first() else {
            // An earlier try was carried out without its answer.
            return true;
        };
        let history = self.driver.history.clone();
        let Probe { client, link, .. } = &mut self.probe;
        delete_topic(client, link, (*id, topic)).await;
        let facts = history.facts();
        let known = facts.topics.iter().find(|known| known.id == *id);
        known.is_some_and(|known| known.fate == TopicFate::Deleted)
    }

    async fn delete_records(&mut self, targets: &[Target]) -> Result<bool, String> {
        let Probe { client, link, .. } = &mut self.probe;
        for (topic, id) in targets {
            let end = checker::high_watermark(client, link, topic, *id).await?;
            if !delete_records_to(client, link, (topic, *id), end).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until everything in a topic has expired. Until then all of it must be there.
    async fn expire(&mut self, targets: &[Target]) -> Result<(), String> {
        let history = self.driver.history.clone();
        for (topic, id) in targets {
            self.probe.read_start(&(topic.clone(), *id)).await;
            let Probe { client, link, .. } = &mut self.probe;
            let end = checker::high_watermark(client, link, topic, *id).await?;
            // Nothing more is written there, so all of it may go from now on.
            let mut facts = history.facts_mut();
            facts.partitions.entry(*id).or_default().start_max = end;
        }
        self.driver.io.sleep(RETENTION).await;
        Ok(())
    }

    /// Every partition takes records again, without a restart and within the bound of the disk.
    async fn heal(&mut self, way: Way, capacity: u64) -> Result<(), String> {
        if self.driver.planted == Some(Planted::RoomNotGiven) {
            let (simulation, node) = (self.driver.simulation, self.driver.node);
            simulation.set_disk_capacity(node, 0);
        }
        let deadline = self.driver.io.now().plus(HEALED_TIME_MAX);
        let mut left = self.stays.clone();
        while !left.is_empty() {
            left = self.probe.produce(&left).await;
            if self.driver.io.now() >= deadline && !left.is_empty() {
                let partitions: Vec<String> = left.iter().map(|(_, id)| id.to_string()).collect();
                return Err(format!(
                    "produce to {} is not taken again within {HEALED_TIME_MAX:?} after room was made by {way:?}: of \
                     {capacity} bytes {}; fenced: {:?}",
                    partitions.join(", "),
                    self.holders(),
                    self.driver.broker.fence_reason(),
                ));
            }
            self.driver.io.sleep(RETRY_PAUSE).await;
        }
        self.driver.unfenced("the disk was only full")?;
        if self.driver.random.one_in(3) {
            // What was taken into the new room is as durable as ever.
            let stop = self.driver.draw_hard_stop();
            self.probe.produce(&self.stays).await;
            self.driver.stop(stop).await?;
            self.driver.restart().await?;
            self.probe.link.lose();
        }
        self.driver.history.hold(false);
        Ok(())
    }
}
