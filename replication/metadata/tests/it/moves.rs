//! Replicas move between brokers: scripts of steps and the states they lead to, and a random walk with what must hold.
//!
//! A state is written as `leader@epoch replicas +adding -removing isr/eligible/suspects`, as in `2@1 231 +3 -1 21//`.

use std::collections::BTreeSet;

use model::{BrokerId, PartitionIndex, TopicPartition};
use ringlog_metadata::controller::Refusal::{
    self, InvalidReplicaAssignment, NoReassignmentInProgress,
};
use ringlog_metadata::controller::{
    ControllerError, CreatePartitionsRequest, CreateTopicsRequest, DeletableTopic, ElectionKind,
    IsrChange, ManualAssignment, MorePartitions, NewTopic, alter_partition, cancel_move,
    create_partitions, create_topics, delete_topics, elect, move_replicas,
};
use ringlog_metadata::{
    LeaderRecoveryState, MetadataImage, MetadataRecord, PartitionState, PlantedFault, Uuid,
};

use crate::cluster::{Cluster, topic_id};

struct Bed {
    cluster: Cluster,
    id: TopicPartition,
}

fn ids(text: &str) -> Vec<BrokerId> {
    let digits = text.chars().filter_map(|digit| digit.to_digit(10));
    digits.map(|digit| BrokerId(digit as i32)).collect()
}

fn text(ids: &[BrokerId]) -> String {
    ids.iter().map(BrokerId::to_string).collect()
}

impl Bed {
    /// Six brokers, and a partition with these replicas.
    fn new(replicas: &str, minimum: &str) -> Bed {
        let mut cluster = Cluster::new(&[None; 6]);
        let topic = topic_id("t");
        let partition = PartitionIndex(0);
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "t".to_owned(),
                topic_id: topic,
                partition_count: -1,
                replication_factor: -1,
                assignments: vec![ManualAssignment {
                    partition,
                    replicas: ids(replicas),
                }],
                configs: vec![("min.insync.replicas".to_owned(), Some(minimum.to_owned()))],
            }],
            ..CreateTopicsRequest::default()
        };
        let decision = create_topics(&cluster.image, &request, &|_| Ok(()));
        cluster.commit(&decision.records);
        let id = TopicPartition { topic, partition };
        Bed { cluster, id }
    }

    fn image(&self) -> &MetadataImage {
        &self.cluster.image
    }

    fn partition(&self) -> &PartitionState {
        self.image().partition(self.id).unwrap()
    }

    fn state(&self) -> String {
        let state = self.partition();
        let leader = state.leader.map_or("-".to_owned(), |id| id.to_string());
        let mut out = format!("{leader}@{} {}", state.leader_epoch, text(&state.replicas));
        for (sign, list) in [
            (" +", state.adding_replicas()),
            (" -", state.removing_replicas()),
        ] {
            if !list.is_empty() {
                out += &format!("{sign}{}", text(list));
            }
        }
        let eligible = text(state.eligible_leader_replicas());
        let suspects = text(state.last_known_elr());
        out + &format!(" {}/{eligible}/{suspects}", text(&state.isr))
    }

    fn commit(&mut self, records: Vec<MetadataRecord>) {
        self.cluster.commit(&records);
        let state = self.partition();
        let directory = |id: &BrokerId| Uuid([100 + id.0 as u8; 16]);
        let expected: Vec<Uuid> = state.replicas.iter().map(directory).collect();
        assert_eq!(state.directories.as_slice(), expected.as_slice());
    }

    fn propose(&mut self, isr: &[BrokerId]) -> Result<(), ControllerError> {
        let state = self.partition();
        let leader = state.leader.unwrap_or(BrokerId(-1));
        let epoch = |id: BrokerId| self.image().broker(id).unwrap().epoch;
        let change = IsrChange {
            broker_id: leader,
            broker_epoch: epoch(leader),
            partition: self.id,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr.iter().map(|id| (*id, epoch(*id))).collect(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
        };
        let before = state.partition_epoch;
        let decision = alter_partition(self.image(), &change);
        let answered = decision.results?;
        self.commit(decision.records);
        assert_eq!(answered, self.partition().partition_epoch);
        assert_eq!(answered.0, before.0 + 1);
        Ok(())
    }

    fn step(&mut self, step: &str) -> Result<(), ControllerError> {
        let (verb, brokers) = step.split_once(' ').unwrap_or((step, ""));
        let brokers = ids(brokers);
        let first = brokers.first().map_or(-1, |id| id.0);
        match verb {
            "move" => {
                let change = move_replicas(self.image(), self.id, &brokers)?;
                let records = change.map(MetadataRecord::PartitionChange);
                self.commit(records.into_iter().collect());
            }
            "cancel" => {
                let change = cancel_move(self.image(), self.id)?;
                self.commit(vec![MetadataRecord::PartitionChange(change)]);
            }
            "isr" => self.propose(&brokers)?,
            "elect" => {
                let change = elect(self.image(), self.id, ElectionKind::Preferred)?;
                self.commit(vec![MetadataRecord::PartitionChange(change)]);
            }
            "unclean" => {
                let change = elect(self.image(), self.id, ElectionKind::Unclean)?;
                self.commit(vec![MetadataRecord::PartitionChange(change)]);
            }
            "fence" => drop(self.cluster.fence(first, true)),
            "unfence" => drop(self.cluster.fence(first, false)),
            "restart" => {
                let request = self.cluster.returns(first);
                self.cluster.start(&request);
            }
            _ => panic!("what is {step:?}?"),
        }
        Ok(())
    }
}

/// A step, and the state after it or the refusal.
type Row<'a> = (&'a str, Result<&'a str, Refusal>);

fn check(replicas: &str, minimum: &str, rows: &[Row<'_>]) {
    let mut bed = Bed::new(replicas, minimum);
    for (at, (step, expected)) in rows.iter().enumerate() {
        let before = bed.state();
        let result = bed.step(step).map_err(|error| error.refusal);
        let found = result.map(|()| bed.state());
        let expected = expected.map(str::to_owned);
        assert_eq!(
            found, expected,
            "{replicas}, step {at}: {step}, at {before}"
        );
        if found.is_err() {
            assert_eq!(bed.state(), before, "a refusal changes nothing");
        }
    }
}

#[test]
fn a_move_ends_when_every_replica_of_the_target_is_in_sync() {
    // A follower is replaced: who leads stays, in a new epoch.
    check(
        "123",
        "2",
        &[
            ("move 124", Ok("1@0 1243 +4 -3 123//")),
            ("move 124", Ok("1@0 1243 +4 -3 123//")),
            ("isr 12", Ok("1@0 1243 +4 -3 12//")),
            ("isr 124", Ok("1@1 124 124//")),
            ("move 124", Ok("1@1 124 124//")),
            ("cancel", Err(NoReassignmentInProgress)),
        ],
    );
    // The leader goes: the first of the target leads.
    check(
        "123",
        "2",
        &[
            ("move 456", Ok("1@0 456123 +456 -123 123//")),
            ("isr 1234", Ok("1@0 456123 +456 -123 1234//")),
            ("isr 12345", Ok("1@0 456123 +456 -123 12345//")),
            ("isr 123456", Ok("4@1 456 456//")),
        ],
    );
    // More replicas, with nobody who goes: no new epoch. Fewer: at once.
    check(
        "1",
        "1",
        &[
            ("move 12", Ok("1@0 12 +2 1//")),
            ("isr 12", Ok("1@0 12 12//")),
            ("move 312", Ok("1@0 312 +3 12//")),
            ("isr 123", Ok("1@0 312 123//")),
            ("elect", Ok("3@1 312 123//")),
            ("move 1", Ok("1@2 1 1//")),
            ("move 2", Ok("1@2 21 +2 -1 1//")),
            ("isr 12", Ok("2@3 2 2//")),
        ],
    );
    // Another order alone.
    check(
        "123",
        "2",
        &[
            ("move 321", Ok("1@0 321 123//")),
            ("elect", Ok("3@1 321 123//")),
        ],
    );
}

#[test]
fn a_move_waits_for_brokers_that_are_away() {
    check(
        "123",
        "2",
        &[
            ("fence 4", Ok("1@0 123 123//")),
            ("move 124", Ok("1@0 1243 +4 -3 123//")),
            ("fence 3", Ok("1@0 1243 +4 -3 12//")),
            ("unfence 4", Ok("1@0 1243 +4 -3 12//")),
            // One that stays is away, too.
            ("fence 2", Ok("1@0 1243 +4 -3 1/2/")),
            ("isr 14", Ok("1@0 1243 +4 -3 14//")),
            ("unfence 2", Ok("1@0 1243 +4 -3 14//")),
            ("isr 124", Ok("1@1 124 124//")),
        ],
    );
    // A partition without a leader moves when it has one.
    check(
        "12",
        "2",
        &[
            ("fence 1", Ok("2@1 12 2/1/")),
            ("fence 2", Ok("-@2 12 /12/")),
            ("move 13", Ok("-@2 132 +3 -2 /12/")),
            ("cancel", Ok("-@3 12 /12/")),
            ("move 13", Ok("-@3 132 +3 -2 /12/")),
            ("unfence 1", Ok("1@4 132 +3 -2 1/2/")),
            ("isr 13", Ok("1@5 13 13//")),
        ],
    );
    // Who goes is the only one that may have everything: it stays until others have.
    check(
        "12",
        "1",
        &[
            ("fence 2", Ok("1@0 12 1//")),
            ("move 23", Ok("1@0 231 +3 -1 1//")),
            ("fence 1", Ok("-@1 231 +3 -1 /1/")),
            ("unfence 2", Ok("-@1 231 +3 -1 /1/")),
            ("unfence 1", Ok("1@2 231 +3 -1 1//")),
            ("isr 12", Ok("1@2 231 +3 -1 12//")),
            ("isr 123", Ok("2@3 23 23//")),
        ],
    );
}

#[test]
fn a_move_can_be_replaced_and_given_up() {
    check(
        "123",
        "2",
        &[
            ("move 124", Ok("1@0 1243 +4 -3 123//")),
            ("cancel", Ok("1@1 123 123//")),
            ("move 124", Ok("1@1 1243 +4 -3 123//")),
            // 4 is not wanted any more: it goes whatever comes of this.
            ("move 125", Ok("1@1 12543 +54 -43 123//")),
            ("isr 1234", Ok("1@1 12543 +54 -43 1234//")),
            ("cancel", Ok("1@2 123 123//")),
            ("move 124", Ok("1@2 1243 +4 -3 123//")),
            // Back to where it was: that is given up, too.
            ("move 123", Ok("1@3 123 123//")),
            ("move 456", Ok("1@3 456123 +456 -123 123//")),
            ("isr 14", Ok("1@3 456123 +456 -123 14//")),
            ("fence 1", Ok("4@4 456123 +456 -123 4/1/")),
            // What was acknowledged since may be on 4 alone.
            ("cancel", Err(InvalidReplicaAssignment)),
            ("unfence 1", Ok("4@4 456123 +456 -123 4/1/")),
            ("isr 41", Ok("4@4 456123 +456 -123 41//")),
            ("cancel", Ok("1@5 123 1//")),
        ],
    );
    check(
        "12",
        "2",
        &[
            ("move 34", Ok("1@0 3412 +34 -12 12//")),
            ("isr 13", Ok("1@0 3412 +34 -12 13//")),
            ("fence 1", Ok("3@1 3412 +34 -12 3/1/")),
            ("fence 3", Ok("-@2 3412 +34 -12 /13/")),
            ("cancel", Err(InvalidReplicaAssignment)),
        ],
    );
}

#[test]
fn after_an_unclean_election_the_leader_confirms_before_the_others_go() {
    check(
        "12",
        "1",
        &[
            ("move 3", Ok("1@0 312 +3 -12 12//")),
            ("fence 1", Ok("2@1 312 +3 -12 2//")),
            ("fence 2", Ok("-@2 312 +3 -12 /2/")),
            ("unclean", Ok("3@3 312 +3 -12 3//")),
            ("unfence 2", Ok("3@3 312 +3 -12 3//")),
            ("isr 3", Ok("3@4 3 3//")),
        ],
    );
}

/// New partitions are like those that there are going to be; a topic that is deleted takes its moves along.
#[test]
fn a_topic_that_moves_grows_and_goes_like_any_other() {
    let mut bed = Bed::new("123", "1");
    bed.step("move 45").unwrap();
    let more = |assignments: Option<Vec<Vec<BrokerId>>>| CreatePartitionsRequest {
        topics: vec![MorePartitions {
            name: "t".to_owned(),
            count: 2,
            assignments,
        }],
        ..CreatePartitionsRequest::default()
    };
    let refused = create_partitions(bed.image(), &more(Some(vec![ids("123")])));
    let refusal = refused.results[0].1.as_ref().unwrap_err().refusal;
    assert_eq!(refusal, InvalidReplicaAssignment);
    let grown = create_partitions(bed.image(), &more(None));
    assert_eq!(grown.results[0].1, Ok(()));
    bed.commit(grown.records);
    let topic = bed.image().topic_by_name("t").unwrap();
    let new = topic.partition(PartitionIndex(1)).unwrap();
    assert_eq!((new.replicas.len(), new.is_moving()), (2, false));
    let gone = [DeletableTopic {
        name: Some("t".to_owned()),
        ..DeletableTopic::default()
    }];
    let deleted = delete_topics(bed.image(), &gone, true);
    assert_eq!(deleted.results[0].result, Ok(()));
    bed.cluster.commit(&deleted.records);
    assert!(bed.image().partition(bed.id).is_none());
}

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn some_of(&mut self, from: &[BrokerId]) -> Vec<BrokerId> {
        let mut left = from.to_vec();
        let count = 1 + self.below(left.len().min(3));
        (0..count)
            .map(|_| left.swap_remove(self.below(left.len())))
            .collect()
    }
}

/// Takes random steps, and says what is wrong with one. `holders` are the brokers of which it is certain that they have
/// every acknowledged record, if everything is acknowledged that may be.
fn walk(seed: u64, fault: Option<PlantedFault>) -> Result<(), String> {
    let mut numbers = Numbers(seed);
    let minimum = 1 + numbers.below(2);
    let mut bed = Bed::new("123", &minimum.to_string());
    if let Some(fault) = fault {
        bed.cluster.image.plant(fault);
    }
    let mut holders: BTreeSet<BrokerId> = bed.partition().isr.iter().copied().collect();
    for _ in 0..60 {
        let before = bed.partition().clone();
        let any = BrokerId(1 + numbers.below(6) as i32);
        let all: Vec<BrokerId> = (1..=6).map(BrokerId).collect();
        let step = match numbers.below(10) {
            0 => format!("move {}", text(&numbers.some_of(&all))),
            1 => "cancel".to_owned(),
            2 | 3 => format!("fence {any}"),
            4 | 5 => format!("unfence {any}"),
            6 => "elect".to_owned(),
            // A leader takes in who has caught up, or drops who lags.
            7 if before.leader.is_some() => {
                let kept = numbers.some_of(&before.isr);
                format!(
                    "isr {}{}",
                    text(&before.leader.into_iter().collect::<Vec<_>>()),
                    text(
                        &kept
                            .into_iter()
                            .filter(|id| before.leader != Some(*id))
                            .collect::<Vec<_>>()
                    )
                )
            }
            _ if before.leader.is_some() => {
                let new = before
                    .replicas
                    .iter()
                    .find(|id| !before.isr.contains(*id) && bed.image().is_active(**id));
                format!(
                    "isr {}{}",
                    text(&before.isr),
                    text(&new.copied().into_iter().collect::<Vec<_>>())
                )
            }
            _ => continue,
        };
        // Refused or not: what must hold, holds.
        let is_done = bed.step(&step).is_ok();
        let after = bed.partition();
        let wrong = |what: &str| Err(format!("seed {seed}, {step}: {what}, at {}", bed.state()));
        let in_sync: BTreeSet<BrokerId> = after.isr.iter().copied().collect();
        if is_done && step.starts_with("isr") {
            // Who joins has caught up.
            holders.extend(&in_sync);
        }
        holders.retain(|id| after.replicas.contains(id));
        if let Some(leader) = after.leader {
            if !in_sync.contains(&leader) {
                return wrong("the leader is not in sync");
            }
            if before.leader != after.leader && !holders.contains(&leader) {
                return wrong("a leader lacks records");
            }
            holders.extend(&in_sync);
        }
        if after.isr.len() >= minimum.min(after.replicas.len()) {
            holders.clone_from(&in_sync);
        }
        if holders.is_empty() {
            return wrong("nobody has all records any more");
        }
        if !in_sync.iter().all(|id| after.replicas.contains(id)) {
            return wrong("in sync without a replica");
        }
        let distinct: BTreeSet<&BrokerId> = after.replicas.iter().collect();
        let (adding, removing) = (after.adding_replicas(), after.removing_replicas());
        let mut parts = adding.iter().chain(removing);
        if distinct.len() != after.replicas.len() || !parts.all(|id| distinct.contains(id)) {
            return wrong("the lists do not fit together");
        }
        let lost = before
            .replicas
            .iter()
            .any(|id| !after.replicas.contains(id));
        if lost && after.leader_epoch == before.leader_epoch {
            return wrong("a replica went without a new leader epoch");
        }
        let mut added = before.adding_replicas().iter();
        let is_copied = lost || added.any(|id| after.replicas.contains(id));
        let ended = before.is_moving() && !after.is_moving() && is_copied && step != "cancel";
        if ended && !after.replicas.iter().all(|id| in_sync.contains(id)) {
            return wrong("a move ended before everything was there");
        }
    }
    Ok(())
}

#[test]
fn no_walk_loses_what_was_acknowledged() {
    for seed in 0..3_000 {
        walk(seed, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    let caught = (0..3_000).find(|seed| walk(*seed, Some(PlantedFault::MoveEndsEarly)).is_err());
    assert!(caught.is_some(), "a move that ends early is noticed");
}
