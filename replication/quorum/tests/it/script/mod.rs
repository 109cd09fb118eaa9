//! Scripts of a cluster, message by message: commands, `----`, what the replicas then want.
//!
//! `cluster VOTERS..` and `observer N` make and start replicas (several voters: what a start writes is durable). `tick N COUNT`, `until N` (ticks until it sends something), `persist N` (everything of its disk's), `to N`
//! (delivers what waits for it), `lose N`, `settle` (persists, delivers and reads until nothing is left), `propose N`, `crash N`
//! (loses what is not durable), `start N`, `wipe N`, `resign N`, `transfer N [TO]`, `add N VOTER`, `remove N VOTER`,
//! `observe N OBSERVERS..`, `snapshot N KEEP`, `fetch N`, `fail N`, `read N`, `status N`, `quiet` (prints only what is
//! committed and who leads, until `loud`).

mod print;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use model::record::BatchBuilder;
use model::{BrokerId, MonotonicTime, Timestamp};
use ringlog_quorum::{
    DirectoryId, Entry, Message, Output, Quorum, ReadEntries, ReplicaKey, Settings, SnapshotMark,
    VoterSet, bootstrap,
};

use crate::sim::disk::{Disk, Op, Snapshot};
use crate::sim::image::Image;

use print::describe;

#[test]
fn elections() {
    check(include_str!("../../scripts/elections.txt"));
}

#[test]
fn replication() {
    check(include_str!("../../scripts/replication.txt"));
}

#[test]
fn snapshots() {
    check(include_str!("../../scripts/snapshots.txt"));
}

#[test]
fn voters() {
    check(include_str!("../../scripts/voters.txt"));
}

fn check(script: &str) {
    let mut cluster = Cluster::default();
    let mut actual = String::new();
    println!("the script as it ran:");
    for block in script.split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        let mut ran = format!("{}\n----\n", commands.trim_end());
        print!("{ran}");
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            let printed = cluster.run(line);
            print!("{printed}");
            ran.push_str(&printed);
        }
        println!();
        ran.push('\n');
        actual.push_str(&ran);
    }
    assert!(
        actual.trim_end() == script.trim_end(),
        "the outputs differ from the script's"
    );
}

struct Replica {
    key: ReplicaKey,
    disk: Disk,
    quorum: Option<Quorum>,
    image: Image,
    now: MonotonicTime,
    fetch: Option<(ReplicaKey, SnapshotMark)>,
    fetched: Option<Snapshot>,
    reads: Vec<ReadEntries>,
    keep: u64,
}

#[derive(Default)]
struct Cluster {
    replicas: BTreeMap<i32, Replica>,
    /// Messages by the broker that they are for.
    network: BTreeMap<i32, VecDeque<Message>>,
    wipes: u8,
    quiet: bool,
}

fn key(broker: i32, wipes: u8) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(broker),
        directory: DirectoryId([wipes; 16]),
    }
}

impl Cluster {
    fn run(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command");
        if command == "settle" {
            return self.settle();
        }
        if command == "quiet" || command == "loud" {
            self.quiet = command == "quiet";
            return String::new();
        }
        let numbers: Vec<i32> = words.map(|word| word.parse().unwrap()).collect();
        if command == "cluster" {
            *self = Cluster::default();
            let voters = numbers.iter().map(|broker| key(*broker, 0));
            let begin = bootstrap(&VoterSet::new(voters.collect()).unwrap());
            let mut printed = String::new();
            for broker in &numbers {
                let replica = self.add(*broker);
                replica.disk.state = begin.state;
                replica.disk.log = vec![Entry::read(begin.batch.clone()).unwrap()];
                printed.push_str(&self.start(*broker));
            }
            if numbers.len() > 1 {
                printed.clear();
                for broker in numbers {
                    self.persist(broker);
                }
            }
            return printed;
        }
        let broker = numbers[0];
        match command {
            "observer" => {
                self.add(broker);
                self.start(broker)
            }
            "start" => self.start(broker),
            "lose" => {
                self.network.remove(&broker);
                String::new()
            }
            "to" => self.deliver(broker),
            "persist" => self.persist(broker),
            "crash" => {
                let replica = self.replica(broker);
                replica.quorum = None;
                replica.disk.crash(0);
                String::new()
            }
            "wipe" => {
                self.wipes += 1;
                let wipes = self.wipes;
                let replica = self.replica(broker);
                replica.disk = Disk::default();
                replica.key = key(broker, wipes);
                String::new()
            }
            "status" => self.status(broker),
            _ => self.call(command, broker, &numbers[1..]),
        }
    }

    fn add(&mut self, broker: i32) -> &mut Replica {
        let replica = Replica {
            key: key(broker, 0),
            disk: Disk::default(),
            quorum: None,
            image: Image::default(),
            now: MonotonicTime(0),
            fetch: None,
            fetched: None,
            reads: Vec::new(),
            keep: 0,
        };
        self.replicas.insert(broker, replica);
        self.replica(broker)
    }

    fn replica(&mut self, broker: i32) -> &mut Replica {
        self.replicas
            .get_mut(&broker)
            .expect("a broker of the script")
    }

    fn start(&mut self, broker: i32) -> String {
        let replica = self.replica(broker);
        let (recovered, image) = replica.disk.recover(replica.key, false);
        replica.image = image;
        let settings = Settings {
            jitter_ticks: 0,
            memory_bytes_max: 0,
            keep_entries: replica.keep,
            ..Settings::default()
        };
        replica.quorum = Some(Quorum::new(replica.now, settings, recovered));
        self.outputs(broker)
    }

    /// The key that a broker has now.
    fn key(&self, broker: i32) -> ReplicaKey {
        let replica = self.replicas.get(&broker);
        replica.map_or(key(broker, 0), |replica| replica.key)
    }

    fn call(&mut self, command: &str, broker: i32, more: &[i32]) -> String {
        let keys: Vec<ReplicaKey> = more.iter().map(|broker| self.key(*broker)).collect();
        let replica = self.replica(broker);
        let quorum = replica.quorum.as_mut().expect("it runs");
        let refused = match command {
            "tick" => return self.tick(broker, more[0], false),
            "until" => return self.tick(broker, 50, true),
            "propose" => {
                let mut builder = BatchBuilder::new();
                builder.push(Timestamp(0), None, Some(b"decided"));
                let batch = builder.build().unwrap();
                quorum.propose(&batch).err().map(|error| error.to_string())
            }
            "resign" => {
                quorum.resign();
                None
            }
            "transfer" => {
                let transferred = quorum.transfer_leadership(keys.first().copied());
                transferred.err().map(|error| error.to_string())
            }
            "add" => quorum
                .add_voter(keys[0])
                .err()
                .map(|error| error.to_string()),
            "remove" => {
                // By the name under which it has its vote.
                let status = quorum.status();
                let mut known = status.replicas.iter().map(|replica| replica.key);
                let voter = known.find(|known| known.broker == keys[0].broker);
                let removed = quorum.remove_voter(voter.unwrap_or(keys[0]));
                removed.err().map(|error| error.to_string())
            }
            "observe" => quorum
                .set_observers(&keys)
                .err()
                .map(|error| error.to_string()),
            "snapshot" => {
                let mark = quorum.snapshot_mark().expect("something is applied");
                replica.disk.keep_snapshot((mark.clone(), replica.image));
                let start = quorum.handle_snapshot_written(&mark);
                if let Some(start) = start {
                    replica.disk.under_way.push_back(Op::Trim(start));
                }
                start.map(|start| format!("{broker}: the log may begin at {start}"))
            }
            "fetch" | "fail" => return self.fetch(broker, command == "fetch"),
            "read" => {
                let read = replica.reads.remove(0);
                let batches = replica.disk.read(read.start_offset, read.end_offset);
                quorum.handle_entries_read(read.first, Some(batches));
                None
            }
            other => panic!("unknown command {other}"),
        };
        let mut printed = String::new();
        if let Some(refused) = refused {
            writeln!(printed, "{refused}").unwrap();
        }
        printed + &self.outputs(broker)
    }

    /// Lets time pass for one replica, until something happens if `stops`.
    fn tick(&mut self, broker: i32, count: i32, stops: bool) -> String {
        let mut printed = String::new();
        for _ in 0..count {
            let replica = self.replica(broker);
            let quorum = replica.quorum.as_mut().expect("it runs");
            replica.now = quorum.next_timeout().expect("it runs");
            quorum.handle_timeout(replica.now);
            let sent = |network: &BTreeMap<i32, VecDeque<Message>>| {
                network.values().map(VecDeque::len).sum::<usize>()
            };
            let before = sent(&self.network);
            printed.push_str(&self.outputs(broker));
            if stops && sent(&self.network) > before {
                break;
            }
        }
        printed
    }

    fn fetch(&mut self, broker: i32, is_there: bool) -> String {
        let fetch = self.replica(broker).fetch.take();
        let (from, mark) = fetch.expect("a fetch is under way");
        let file = self.replica(from.broker.0).disk.snapshot.clone();
        let replica = self.replica(broker);
        let quorum = replica.quorum.as_mut().expect("it runs");
        match file {
            Some(file) if is_there && file.0 == mark => {
                replica.fetched = Some(file);
                quorum.handle_snapshot_fetched();
            }
            _ => quorum.handle_snapshot_failed(),
        }
        self.outputs(broker)
    }

    fn persist(&mut self, broker: i32) -> String {
        let replica = self.replica(broker);
        let mut last = None;
        while !replica.disk.under_way.is_empty() {
            last = replica.disk.step().or(last);
        }
        if let (Some(number), Some(quorum)) = (last, &mut replica.quorum) {
            quorum.handle_persisted(number);
        }
        self.outputs(broker)
    }

    fn deliver(&mut self, broker: i32) -> String {
        let waiting = self.network.remove(&broker).unwrap_or_default();
        let mut printed = String::new();
        for message in waiting {
            let replica = self.replica(broker);
            let Some(quorum) = &mut replica.quorum else {
                continue;
            };
            if let Err(refusal) = quorum.handle_message(message) {
                writeln!(printed, "{broker}: refused: {refusal}").unwrap();
            }
            printed.push_str(&self.outputs(broker));
        }
        printed
    }

    fn settle(&mut self) -> String {
        let mut printed = String::new();
        loop {
            let brokers: Vec<i32> = self.replicas.keys().copied().collect();
            let mut is_quiet = self.network.values().all(VecDeque::is_empty);
            for broker in &brokers {
                is_quiet &= self.replica(*broker).disk.under_way.is_empty();
                printed.push_str(&self.persist(*broker));
                printed.push_str(&self.deliver(*broker));
                while !self.replica(*broker).reads.is_empty() {
                    is_quiet = false;
                    printed.push_str(&self.call("read", *broker, &[]));
                }
            }
            if is_quiet {
                return printed;
            }
        }
    }

    fn status(&mut self, broker: i32) -> String {
        let quorum = self.replica(broker).quorum.as_ref().expect("it runs");
        let status = quorum.status();
        let mut printed = format!(
            "{broker}: term {}, log end {}, high watermark {}\n",
            status.leadership.term.0, status.log_end_offset, status.high_watermark
        );
        for replica in status.replicas {
            let role = if replica.is_voter {
                "voter"
            } else {
                "observer"
            };
            let end = replica.log_end_offset;
            let end = end.map_or("?".to_owned(), |end| end.to_string());
            let name = replica.key.broker;
            writeln!(printed, "  {role} {name} has {end}").unwrap();
        }
        printed
    }

    fn outputs(&mut self, broker: i32) -> String {
        let mut printed = String::new();
        while let Some(output) = self.poll(broker) {
            let line = describe(&output);
            let is_small = matches!(
                output,
                Output::Write(_) | Output::Send(_) | Output::ReadEntries(_)
            );
            if !(self.quiet && is_small) {
                writeln!(printed, "{broker}: {line}").unwrap();
            }
            self.perform(broker, output);
        }
        printed
    }

    fn poll(&mut self, broker: i32) -> Option<Output> {
        self.replica(broker).quorum.as_mut()?.poll_output()
    }

    fn perform(&mut self, broker: i32, output: Output) {
        let replica = self.replica(broker);
        match output {
            Output::Write(write) => {
                let installed = write.install.as_ref().and_then(|_| replica.fetched.take());
                if let Some((_, image)) = &installed {
                    replica.image = *image;
                }
                replica.disk.write(write, installed);
            }
            Output::Committed(entry) => {
                replica.image.apply(&Entry::read(entry.batch).unwrap());
            }
            Output::ReadEntries(read) => replica.reads.push(read),
            Output::FetchSnapshot(from, mark) => replica.fetch = Some((from, mark)),
            Output::DiscardSnapshot(_) => replica.fetched = None,
            Output::Leadership(_) => {}
            Output::Send(message) => {
                let to = message.to.broker.0;
                self.network.entry(to).or_default().push_back(message);
            }
        }
    }
}
