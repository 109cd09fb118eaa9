//! Topics and records are deleted, many at once, while the journal is nearly full because segments hang.
//!
//! Whatever waits for space has a way out: soon after the segments go on every deletion is carried out, every partition
//! takes records again and the deleted topics' files are gone, with a restart in between or without.

use std::time::Duration;

use model::{Offset, TopicId};
use runtime::Io;
use runtime::sim::{Fault, FaultRule};

use super::Driver;
use super::probe::{self, Probe, Target};
use crate::history::{History, TopicFate};
use crate::planted::Planted;
use crate::workload::{
    Client, Link, WorkloadSettings, create_topic, delete_records_to, delete_topic,
};

/// Topics that are deleted in one round.
const DELETIONS: (u64, u64) = (8, 24);
/// Marks of DeleteRecords in one round.
const MARKS: (i64, i64) = (8, 40);
/// How long segments hang, in microseconds; deletions come after the first half. Less than what fences a shard.
const HANG_US: (u64, u64) = (300_000, 5_000_000);
/// Virtual time after segments go on in which everything is well again.
const HEALED_TIME_MAX: Duration = Duration::from_secs(60);
/// Virtual time in which files of deleted topics are gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long one try of a deletion is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The topic whose records are deleted.
const CUT: &str = "cut";

struct ManyDeletions<'a, 'b> {
    driver: &'a mut Driver<'b>,
    probe: Probe,
    stays: Vec<Target>,
    cut: Target,
    deleted: Vec<TopicId>,
}

/// Plays the course.
pub(super) async fn play(driver: &mut Driver<'_>, client: &Client) -> Result<(), String> {
    let stays = client.history.alive();
    let settings = WorkloadSettings::clone(&client.settings);
    // Nothing but the healing has a bound here: hanging segments may hold a produce up.
    let mut probe = Probe::new(client, settings, probe::PATIENCE);
    let cut = create(&mut probe, CUT).await?;
    let mut course = ManyDeletions {
        driver,
        probe,
        stays,
        cut,
        deleted: Vec::new(),
    };
    for round in 0..course.driver.plan.lives {
        course.round(round).await?;
    }
    course.files_go().await
}

async fn create(probe: &mut Probe, name: &str) -> Result<Target, String> {
    let configs = vec![("retention.ms", "-1".to_owned())];
    if !create_topic(&probe.client, &mut probe.link, name, 1, &configs).await {
        return Err(format!("the topic {name} cannot be created"));
    }
    let alive = probe.client.history.alive();
    let found = alive.into_iter().find(|(topic, _)| topic == name);
    found.ok_or_else(|| format!("{name} is not known"))
}

impl ManyDeletions<'_, '_> {
    async fn round(&mut self, round: u64) -> Result<(), String> {
        tracing::info!(round, "stocks");
        let doomed = self.stock(round).await?;
        let rule = [Fault::Hang, Fault::Hang, Fault::Slow][self.driver.random.index(3)];
        let rule = FaultRule::new(rule).node(self.driver.node).path(".log");
        self.driver.simulation.faults().add(rule);
        self.driver.sleep_us(HANG_US.0 / 2, HANG_US.1 / 2).await;
        self.delete(doomed);
        self.plant_files();
        self.driver.sleep_us(HANG_US.0 / 2, HANG_US.1 / 2).await;
        if !self.driver.plan.stops.is_empty() && self.driver.random.one_in(3) {
            // A clean stop would wait for the segments.
            let stop = self.driver.draw_hard_stop();
            self.driver.stop(stop).await?;
            self.go_on();
            self.driver.restart().await?;
            self.probe.link.lose();
        }
        self.go_on();
        tracing::info!("segments go on");
        self.heal().await?;
        tracing::info!("healed");
        if self.driver.random.one_in(3) {
            let stop = self.driver.draw_hard_stop();
            self.probe.produce(&self.stays).await;
            self.driver.stop(stop).await?;
            self.driver.restart().await?;
            self.probe.link.lose();
        }
        Ok(())
    }

    /// The segments go on.
    fn go_on(&self) {
        if self.driver.planted == Some(Planted::HangsOn) {
            return;
        }
        self.driver.simulation.faults().clear();
        self.driver.simulation.release_hung(self.driver.node);
        self.plant_files();
    }

    /// The files of one deleted topic cannot be removed, if that is the planted bug.
    fn plant_files(&self) {
        if let (Some(Planted::FilesStay), Some(id)) = (self.driver.planted, self.deleted.first()) {
            let rule = FaultRule::new(Fault::MetadataError).node(self.driver.node);
            let rule = rule.path(&id.to_string());
            self.driver.simulation.faults().add(rule);
        }
    }

    /// Topics with something in them.
    async fn stock(&mut self, round: u64) -> Result<Vec<Target>, String> {
        let mut doomed = Vec::new();
        let (least, most) = DELETIONS;
        for number in 0..self.driver.random.between(least, most) {
            let target = create(&mut self.probe, &format!("goes-{round}-{number}")).await?;
            doomed.push(target);
        }
        let mut wanted = doomed.clone();
        wanted.push(self.cut.clone());
        let deadline = self.driver.io.now().plus(HEALED_TIME_MAX);
        while !wanted.is_empty() {
            wanted = self.probe.produce(&wanted).await;
            if self.driver.io.now() >= deadline {
                return Err("topics of a broker without faults cannot be filled".to_owned());
            }
        }
        Ok(doomed)
    }

    /// Starts every deletion of a round at once: a task for each topic, one for the marks.
    fn delete(&mut self, doomed: Vec<Target>) {
        let client = &self.probe.client;
        for (number, (topic, id)) in (0_u64..).zip(doomed) {
            self.deleted.push(id.topic);
            client.start(number, |client| async move {
                let mut link = Link::patient(client.io.clone(), &client.bootstrap, PATIENCE);
                while fate(&client.history, id.topic) != TopicFate::Deleted {
                    delete_topic(&client, &mut link, (id.topic, &topic)).await;
                    client.io.sleep(RETRY_PAUSE).await;
                }
            });
        }
        let (least, most) = MARKS;
        let count = least + self.driver.random.below((most - least) as u64) as i64;
        let (topic, id) = self.cut.clone();
        client.start(u64::MAX, |client| async move {
            let mut link = Link::patient(client.io.clone(), &client.bootstrap, PATIENCE);
            let history = client.history.clone();
            for _ in 0..count {
                let start = history.start_max(id);
                let end = history.high_watermark_floor(id);
                let offset = Offset(start.0 + 1).min(end);
                delete_records_to(&client, &mut link, (&topic, id), offset).await;
                client.io.sleep(RETRY_PAUSE / 10).await;
            }
        });
    }

    async fn heal(&mut self) -> Result<(), String> {
        let deadline = self.driver.io.now().plus(HEALED_TIME_MAX);
        let mut left = self.stays.clone();
        loop {
            left = self.probe.produce(&left).await;
            let history = &self.driver.history;
            let undecided = self
                .deleted
                .iter()
                .filter(|id| fate(history, **id) != TopicFate::Deleted)
                .count();
            if left.is_empty() && undecided == 0 {
                return self.driver.unfenced("segments only hung for a while");
            }
            if self.driver.io.now() >= deadline {
                return Err(format!(
                    "{undecided} deletions are not carried out, produce to {} partitions is not taken again within \
                     {HEALED_TIME_MAX:?} after segments went on; fenced: {:?}",
                    left.len(),
                    self.driver.broker.fence_reason(),
                ));
            }
            self.driver.io.sleep(RETRY_PAUSE).await;
        }
    }

    /// Nothing stays of a deleted topic.
    async fn files_go(&mut self) -> Result<(), String> {
        let simulation = self.driver.simulation;
        // Nobody's records push the removals on, and a minute without them is soon played.
        self.driver.history.hold(true);
        let deadline = self.driver.io.now().plus(GONE_TIME_MAX);
        let names: Vec<String> = self.deleted.iter().map(ToString::to_string).collect();
        loop {
            let files = simulation.files(self.driver.node);
            let stays = files.iter().find(|path| {
                let path = path.to_string_lossy();
                names.iter().any(|name| path.contains(name.as_str()))
            });
            let Some(path) = stays else {
                self.driver.history.hold(false);
                return Ok(());
            };
            if self.driver.io.now() >= deadline {
                return Err(format!(
                    "files of deleted topics are still there after {GONE_TIME_MAX:?}: {}",
                    path.display()
                ));
            }
            self.driver.io.sleep(RETRY_PAUSE).await;
        }
    }
}

fn fate(history: &History, id: TopicId) -> TopicFate {
    let facts = history.facts();
    let known = facts.topics.iter().find(|topic| topic.id == id);
    known.map_or(TopicFate::Deleted, |topic| topic.fate)
}
