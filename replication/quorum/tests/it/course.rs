//! Courses of events that simulated clusters come to too seldom, message by message; each with the rule that they are about
//! and, planted, without it.

use bytes::{Bytes, BytesMut};
use model::record::{BatchBuilder, set_base_offset, set_leader_epoch};
use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, Timestamp};
use ringlog_quorum::{
    Body, DirectoryId, Entry, EntryId, EntryIndex, HardState, Leadership, Message, MessageRefusal,
    Output, PlantedFault, ProposeRefusal, Quorum, Recovered, Recovery, ReplicaKey, Settings, Term,
    VoterSet, WriteNumber, bootstrap,
};

fn key(broker: i32) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(broker),
        directory: DirectoryId([1; 16]),
    }
}

fn stamped(batch: &[u8], base: i64, term: i32) -> Bytes {
    let mut batch = BytesMut::from(batch);
    set_base_offset(&mut batch, Offset(base)).unwrap();
    set_leader_epoch(&mut batch, LeaderEpoch(term)).unwrap();
    batch.freeze()
}

fn voters(base: i64, term: i32, brokers: &[i32]) -> Bytes {
    let set = brokers.iter().map(|broker| key(*broker)).collect();
    let begin = bootstrap(&VoterSet::new(set).unwrap());
    stamped(&begin.batch, base, term)
}

fn decision(base: i64, term: i32) -> Entry {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(1), None, Some(b"decided"));
    let batch = builder.build().unwrap();
    Entry::read(stamped(&batch, base, term)).unwrap()
}

/// A replica with this log, of which nothing is known to be committed.
fn start(broker: i32, log: &[Bytes], planted: Option<PlantedFault>) -> Quorum {
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    start_with(broker, log, settings)
}

fn start_with(broker: i32, log: &[Bytes], settings: Settings) -> Quorum {
    let planted = settings.planted;
    let state = HardState {
        term: 2,
        vote: 0,
        commit: 0,
    };
    let mut recovery = Recovery::new(key(broker), state, None, Offset(0)).unwrap();
    if planted == Some(PlantedFault::ForgetsProvenVoters) {
        recovery.forget_proven_voters();
    }
    for batch in log {
        recovery.show(batch.clone()).unwrap();
    }
    let Recovered::Ready(recovered) = recovery.finish().unwrap() else {
        panic!("there is no snapshot");
    };
    let mut quorum = Quorum::new(MonotonicTime(0), settings, recovered);
    // A start may write what it has found out.
    for output in outputs(&mut quorum) {
        if let Output::Write(write) = output {
            quorum.handle_persisted(write.number);
        }
    }
    outputs(&mut quorum);
    quorum
}

fn outputs(quorum: &mut Quorum) -> Vec<Output> {
    std::iter::from_fn(|| quorum.poll_output()).collect()
}

fn append(from: i32, to: i32, term: u64, commit: u64, entries: Vec<Entry>) -> Message {
    let first = EntryId {
        index: EntryIndex(1),
        term: Term(1),
    };
    Message {
        from: key(from),
        to: key(to),
        term: Term(term),
        body: Body::Append {
            previous: first,
            commit: EntryIndex(commit),
            entries,
        },
    }
}

/// The last write that a replica has asked for.
fn last_write(outputs: &[Output]) -> WriteNumber {
    let writes = outputs.iter().filter_map(|output| match output {
        Output::Write(write) => Some(write.number),
        _ => None,
    });
    writes.last().expect("a write")
}

/// How many decisions come out when the first of three writes is durable: the second cuts off what the first has added, the
/// third adds it once more.
fn committed_after_the_first_of_three(planted: Option<PlantedFault>) -> usize {
    let mut follower = start(2, &[voters(0, 1, &[1, 2, 3, 4, 5])], planted);
    let old = vec![decision(1, 3), decision(2, 3)];
    follower
        .handle_message(append(1, 2, 3, 1, old.clone()))
        .unwrap();
    let first = last_write(&outputs(&mut follower));
    let others = vec![decision(1, 4)];
    follower.handle_message(append(3, 2, 4, 1, others)).unwrap();
    outputs(&mut follower);
    // Whoever led first leads again, and has had its entries accepted by others.
    follower.handle_message(append(1, 2, 5, 3, old)).unwrap();
    let last = last_write(&outputs(&mut follower));
    let decisions = |outputs: Vec<Output>| {
        let committed = |output: &&Output| matches!(output, Output::Committed(_));
        outputs.iter().filter(committed).count()
    };
    follower.handle_persisted(first);
    let early = decisions(outputs(&mut follower));
    follower.handle_persisted(last);
    assert_eq!(early + decisions(outputs(&mut follower)), 2);
    early
}

#[test]
fn what_was_cut_off_counts_when_it_is_durable_once_more() {
    assert_eq!(committed_after_the_first_of_three(None), 0);
    let planted = Some(PlantedFault::WritesNotClipped);
    assert_eq!(committed_after_the_first_of_three(planted), 2);
}

/// Replicas that answer each other at once. What they send to others is lost.
struct Group {
    replicas: Vec<Quorum>,
    brokers: Vec<i32>,
    /// One whose disk does not finish anything any more.
    hung: Option<usize>,
    /// Who was told to lead, last.
    leader: Option<i32>,
}

impl Group {
    /// A tick of one of them, and everything that follows.
    fn tick(&mut self, at: usize) {
        let due = self.replicas[at].next_timeout().unwrap();
        self.replicas[at].handle_timeout(due);
        self.follow(at);
    }

    /// Does what one of them wants, and what the other then wants.
    fn follow(&mut self, at: usize) {
        for output in outputs(&mut self.replicas[at]) {
            match output {
                Output::Write(write) if self.hung != Some(at) => {
                    self.replicas[at].handle_persisted(write.number);
                    self.follow(at);
                }
                Output::Send(message) => {
                    let to = message.to.broker.0;
                    if let Some(to) = self.brokers.iter().position(|broker| *broker == to) {
                        self.replicas[to].handle_message(message).unwrap();
                        self.follow(to);
                    }
                }
                Output::Leadership(Leadership {
                    leader: Some(leader),
                    ..
                }) => self.leader = Some(leader.broker.0),
                _ => {}
            }
        }
    }
}

/// Whether broker 2 is elected by 3 alone. It has seen the voters grow from three to five, and was not told before it crashed
/// that either change is committed; 3 has missed both. The three others may elect somebody else at the same time.
fn elected_by_two_of_five(planted: Option<PlantedFault>) -> bool {
    let log = [
        voters(0, 1, &[1, 2, 3]),
        voters(1, 2, &[1, 2, 3, 4]),
        voters(2, 2, &[1, 2, 3, 4, 5]),
    ];
    let mut pair = Group {
        replicas: vec![start(2, &log, planted), start(3, &log[..1], planted)],
        brokers: vec![2, 3],
        hung: None,
        leader: None,
    };
    for _ in 0..60 {
        pair.tick(0);
    }
    pair.leader == Some(2)
}

#[test]
fn voters_two_changes_old_elect_nobody() {
    assert!(!elected_by_two_of_five(None));
    assert!(elected_by_two_of_five(Some(
        PlantedFault::ForgetsProvenVoters
    )));
}

/// A leader that cannot write lets another lead: what is decided is durable elsewhere, but it could never say so.
#[test]
fn a_leader_whose_disk_hangs_steps_down() {
    let log = [voters(0, 1, &[1, 2, 3])];
    let brokers = vec![1, 2, 3];
    let replicas = brokers.iter().map(|broker| start(*broker, &log, None));
    let mut group = Group {
        replicas: replicas.collect(),
        brokers,
        hung: None,
        leader: None,
    };
    let most = 2 * Settings::default().election_ticks;
    (0..most).for_each(|_| group.tick(0));
    assert_eq!(group.leader, Some(1));
    group.hung = Some(0);
    let batch = decision(0, 1).batch().clone();
    group.replicas[0].propose(&batch).unwrap();
    group.follow(0);
    let patience = Settings::default().stall_ticks;
    (0..patience).for_each(|_| group.tick(0));
    assert_eq!(group.leader, Some(1), "it is patient");
    (0..3).for_each(|_| group.tick(0));
    assert!(group.leader.is_some_and(|leader| leader != 1));
}

/// What a replica says that has lost what it promised, or was set back, is refused; the process goes on.
#[test]
fn contradictions_are_refused() {
    let mut follower = start(2, &[voters(0, 1, &[1, 2, 3])], None);
    let entries = vec![decision(1, 3), decision(2, 3)];
    follower
        .handle_message(append(1, 2, 3, 3, entries))
        .unwrap();
    let write = last_write(&outputs(&mut follower));
    follower.handle_persisted(write);
    outputs(&mut follower);
    let message = |term, body| Message {
        from: key(3),
        to: key(2),
        term: Term(term),
        body,
    };
    let heartbeat = |commit| Body::Heartbeat {
        commit: EntryIndex(commit),
    };
    let table = [
        // A leader that knows of more than was ever here.
        (message(3, heartbeat(4)), MessageRefusal::Contradiction),
        // Another entry where one is committed; a hole in the offsets.
        (
            append(3, 2, 4, 1, vec![decision(1, 4)]),
            MessageRefusal::Contradiction,
        ),
        (
            append(3, 2, 4, 1, vec![decision(7, 3)]),
            MessageRefusal::Contradiction,
        ),
        (
            Message {
                to: key(1),
                ..message(3, heartbeat(1))
            },
            MessageRefusal::NotForThisReplica(key(1)),
        ),
        (
            Message {
                from: key(2),
                ..message(3, heartbeat(1))
            },
            MessageRefusal::FromItself,
        ),
    ];
    for (message, refusal) in table {
        assert_eq!(follower.handle_message(message), Err(refusal));
        assert_eq!(outputs(&mut follower), []);
    }
    follower.handle_message(message(3, heartbeat(3))).unwrap();
    outputs(&mut follower);
    follower.resign();
    outputs(&mut follower);
    let refused = follower.handle_message(message(3, heartbeat(3)));
    assert_eq!(refused, Err(MessageRefusal::Resigned));
    assert_eq!(follower.next_timeout(), None);
}

/// Does what a single voter's disk has to do.
fn write(quorum: &mut Quorum) {
    for _ in 0..3 {
        for output in outputs(quorum) {
            if let Output::Write(write) = output {
                quorum.handle_persisted(write.number);
                assert!(
                    outputs(quorum)
                        .iter()
                        .all(|more| !matches!(more, Output::Write(_)))
                );
            }
        }
    }
}

/// What a leader takes is bounded: in entries until a snapshot makes room, in bytes until they are committed.
#[test]
fn a_leader_bounds_what_it_takes() {
    let settings = Settings {
        entries_max: 50,
        keep_entries: 10,
        uncommitted_bytes_max: 1_000,
        ..Settings::default()
    };
    let mut leader = start_with(1, &[voters(0, 1, &[1])], settings);
    write(&mut leader);
    let batch = decision(0, 1).batch().clone();
    let refused = loop {
        match leader.propose(&batch) {
            Ok(_) => drop(outputs(&mut leader)),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, ProposeRefusal::Busy, "nothing is committed");
    leader.handle_persisted(WriteNumber(5));
    write(&mut leader);
    let refused = loop {
        match leader.propose(&batch) {
            Ok(_) => write(&mut leader),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, ProposeRefusal::LogFull);
    let mark = leader.snapshot_mark().unwrap();
    let start = leader.handle_snapshot_written(&mark);
    assert_eq!(start, Some(Offset(mark.end_offset.0 - 10)));
    assert!(leader.propose(&batch).is_ok());
}

/// A disk that is behind bounds what is taken for it.
#[test]
fn a_slow_disk_bounds_what_is_taken() {
    let mut follower = start(2, &[voters(0, 1, &[1, 2, 3])], None);
    let mut index = 1;
    let refused = loop {
        let message = Message {
            body: Body::Append {
                previous: EntryId {
                    index: EntryIndex(index),
                    term: Term(if index == 1 { 1 } else { 3 }),
                },
                commit: EntryIndex(1),
                entries: vec![decision(index as i64, 3)],
            },
            ..append(1, 2, 3, 1, Vec::new())
        };
        if let Err(refused) = follower.handle_message(message) {
            break refused;
        }
        outputs(&mut follower);
        index += 1;
    };
    assert_eq!(refused, MessageRefusal::Busy);
    assert!(index < 200, "{index} writes are under way");
}
