//! A simulated broker: a quorum, its driver, its disk.

use std::collections::BTreeMap;

use model::{BrokerId, MonotonicTime};
use ringlog_quorum::{
    Committed, DirectoryId, Entry, EntryIndex, Leadership, Message, Output, PlantedFault, Quorum,
    ReadEntries, ReplicaKey, Settings, SnapshotMark, WriteNumber, bootstrap,
};

use super::checks::Checks;
use super::disk::{Disk, Snapshot};
use super::image::Image;

/// What the world has to do for a broker.
pub(crate) enum Effect {
    Send(Message),
    /// The disk has something to do.
    DiskWork,
    Read(ReadEntries),
    Fetch(ReplicaKey, SnapshotMark),
    /// Leadership is this broker's now, or has ended.
    Leads(bool),
}

/// What is lost in a crash.
pub(crate) struct Live {
    pub(crate) quorum: Quorum,
    pub(crate) image: Image,
    /// A snapshot file that was fetched and is not in use.
    pub(crate) fetched: Option<Snapshot>,
    /// Payloads by place and term.
    pub(crate) proposals: BTreeMap<(u64, u64), u64>,
    leads: bool,
}

/// A broker.
pub(crate) struct Node {
    pub(crate) key: ReplicaKey,
    pub(crate) disk: Disk,
    pub(crate) live: Option<Live>,
    /// Counts starts: what was under way before is nobody's business any more.
    pub(crate) life: u64,
    pub(crate) planted: Option<PlantedFault>,
}

impl Node {
    pub(crate) fn new(broker: i32, planted: Option<PlantedFault>) -> Node {
        Node {
            key: ReplicaKey {
                broker: BrokerId(broker),
                directory: directory(broker, 0),
            },
            disk: Disk::default(),
            live: None,
            life: 0,
            planted,
        }
    }

    /// The directory is wiped: another begins, with nothing.
    pub(crate) fn wipe(&mut self, generation: u8) {
        self.disk = Disk::default();
        if self.planted != Some(PlantedFault::AnyDirectory) {
            self.key.directory = directory(self.key.broker.0, generation);
        }
    }

    /// Writes the beginning of a cluster.
    pub(crate) fn begin(&mut self, voters: &ringlog_quorum::VoterSet) {
        let begin = bootstrap(voters);
        self.disk.state = begin.state;
        self.disk.log = vec![Entry::read(begin.batch).expect("an entry")];
    }

    pub(crate) fn start(
        &mut self,
        now: MonotonicTime,
        settings: Settings,
        checks: &mut Checks,
    ) -> Vec<Effect> {
        self.life += 1;
        let forget = self.planted == Some(PlantedFault::ForgetsProvenVoters);
        let (recovered, image) = self.disk.recover(self.key, forget);
        self.live = Some(Live {
            quorum: Quorum::new(now, settings, recovered),
            image,
            fetched: None,
            proposals: BTreeMap::new(),
            leads: false,
        });
        self.drain(checks)
    }

    pub(crate) fn stop(&mut self, kept: u64) {
        self.live = None;
        self.life += 1;
        self.disk.crash(kept);
    }

    pub(crate) fn persisted(&mut self, number: WriteNumber, checks: &mut Checks) -> Vec<Effect> {
        if let Some(live) = &mut self.live {
            live.quorum.handle_persisted(number);
        }
        self.drain(checks)
    }

    pub(crate) fn read(&mut self, read: ReadEntries, checks: &mut Checks) -> Vec<Effect> {
        let batches = self.disk.read(read.start_offset, read.end_offset);
        if let Some(live) = &mut self.live {
            // What is not there any more cannot be read.
            let batches = (!batches.is_empty()).then_some(batches);
            live.quorum
                .handle_entries_read(EntryIndex(read.first.0), batches);
        }
        self.drain(checks)
    }

    pub(crate) fn fetched(
        &mut self,
        snapshot: Option<Snapshot>,
        checks: &mut Checks,
    ) -> Vec<Effect> {
        if let Some(live) = &mut self.live {
            match snapshot {
                Some(snapshot) => {
                    live.fetched = Some(snapshot);
                    live.quorum.handle_snapshot_fetched();
                }
                None => live.quorum.handle_snapshot_failed(),
            }
        }
        self.drain(checks)
    }

    /// Takes everything that the quorum wants.
    pub(crate) fn drain(&mut self, checks: &mut Checks) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(live) = &mut self.live else {
            return effects;
        };
        while let Some(output) = live.quorum.poll_output() {
            match output {
                Output::Leadership(leadership) => {
                    effects.extend(leads(live, self.key, leadership, &self.disk, checks));
                }
                Output::Write(write) => {
                    let installed = write.install.as_ref().and_then(|_| live.fetched.take());
                    let before = self.disk.under_way.len();
                    self.disk.write(write, installed.clone());
                    for op in self.disk.under_way.iter().skip(before) {
                        checks.asks(op, live.image);
                    }
                    if let Some((_, image)) = installed {
                        live.image = image;
                        checks.installed(image);
                    }
                    effects.push(Effect::DiskWork);
                }
                Output::Send(message) => {
                    assert_eq!(message.from, self.key, "in somebody else's name");
                    checks.sends(&message, &self.disk);
                    effects.push(Effect::Send(message));
                }
                Output::Committed(entry) => apply(live, &entry, &self.disk, checks),
                Output::ReadEntries(read) => effects.push(Effect::Read(read)),
                Output::FetchSnapshot(from, mark) => effects.push(Effect::Fetch(from, mark)),
                Output::DiscardSnapshot(mark) => {
                    let dropped = live.fetched.take().expect("there is one");
                    assert_eq!(dropped.0, mark, "another one");
                }
            }
        }
        effects
    }
}

fn leads(
    live: &mut Live,
    me: ReplicaKey,
    leadership: Leadership,
    disk: &Disk,
    checks: &mut Checks,
) -> Option<Effect> {
    let leads = leadership.leader == Some(me);
    if leads {
        checks.leads(me, leadership.term.0, disk);
    }
    let changed = leads != live.leads;
    live.leads = leads;
    changed.then_some(Effect::Leads(leads))
}

fn apply(live: &mut Live, entry: &Committed, disk: &Disk, checks: &mut Checks) {
    let read = Entry::read(entry.batch.clone()).expect("an entry");
    live.image.apply(&read);
    let term = live.quorum.status().leadership.term.0;
    checks.committed(entry, term, live.image, disk);
    live.proposals.remove(&(entry.index.0, entry.term.0));
}

fn directory(broker: i32, generation: u8) -> DirectoryId {
    let mut id = [0; 16];
    id[0] = generation;
    id[12..].copy_from_slice(&broker.to_be_bytes());
    DirectoryId(id)
}
