//! Who may lead after failures: the ISR, eligible leader replicas, suspects, wiped directories (KIP-966).
//!
//! One topic of one partition with three replicas. States are written as `leader isr/eligible/suspects`, as in
//! `2 23/1/`: broker 2 leads, 2 and 3 are in sync, 1 is eligible, nobody is suspect; `-` is no leader.

use model::config::Durability;
use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use ringlog_metadata::controller::Refusal::{
    ElectionNotNeeded, EligibleLeadersNotAvailable, IneligibleReplica, InvalidRequest,
};
use ringlog_metadata::controller::{
    AlterConfigsRequest, Candidacies, CandidateLog, CandidateReport, ConfigChange, ConfigOperation,
    ConfigResource, ConfigRules, ControllerError, CreateTopicsRequest, ElectionKind, IsrChange,
    ManualAssignment, NewTopic, Refusal, ReportedLog, Witness, alter_configs, alter_partition,
    candidates, change_fencing, create_topics, elect, elect_best, start_controlled_shutdown,
    unregister_broker,
};
use ringlog_metadata::{
    ConfigResourceType, LeaderRecoveryState, MetadataImage, MetadataRecord, Uuid,
};

use crate::cluster::{Cluster, topic_id};

struct Bed {
    cluster: Cluster,
    id: TopicPartition,
}

impl Bed {
    /// Replicas 1, 2, 3, of which the first leads; all in sync.
    fn new(configs: &[(&str, &str)]) -> Bed {
        let cluster = Cluster::new(&[None, None, None]);
        Bed::of(cluster, &[1, 2, 3], configs)
    }

    fn of(mut cluster: Cluster, replicas: &[i32], configs: &[(&str, &str)]) -> Bed {
        let configs = configs.iter();
        let configs = configs.map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
        let partition = PartitionIndex(0);
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "t".to_owned(),
                topic_id: topic_id("t"),
                partition_count: -1,
                replication_factor: -1,
                assignments: vec![ManualAssignment {
                    partition,
                    replicas: replicas.iter().map(|id| BrokerId(*id)).collect(),
                }],
                configs: configs.collect(),
            }],
            ..CreateTopicsRequest::default()
        };
        let decision = create_topics(&cluster.image, &request, &|_| Ok(()));
        cluster.commit(&decision.records);
        let topic = topic_id("t");
        let id = TopicPartition { topic, partition };
        Bed { cluster, id }
    }

    fn with_minimum(minimum: &str) -> Bed {
        Bed::new(&[("min.insync.replicas", minimum)])
    }

    fn state(&self) -> String {
        let state = self.cluster.image.partition(self.id).unwrap();
        let list = |brokers: &[BrokerId]| {
            let mut ids: Vec<i32> = brokers.iter().map(|broker| broker.0).collect();
            ids.sort_unstable();
            ids.iter().map(i32::to_string).collect::<String>()
        };
        let leader = state.leader.map_or("-".to_owned(), |id| id.to_string());
        let isr = list(&state.isr);
        let eligible = list(state.eligible_leader_replicas());
        let suspects = list(state.last_known_elr());
        format!("{leader} {isr}/{eligible}/{suspects}")
    }

    fn epoch_of(&self, id: i32) -> BrokerEpoch {
        self.cluster.image.broker(BrokerId(id)).unwrap().epoch
    }

    /// The present leader proposes this ISR.
    fn propose(&self, isr: &[(i32, i64)]) -> Result<Vec<MetadataRecord>, Refusal> {
        let state = self.cluster.image.partition(self.id).unwrap();
        let leader = state.leader.unwrap();
        let change = IsrChange {
            broker_id: leader,
            broker_epoch: self.epoch_of(leader.0),
            partition: self.id,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr
                .iter()
                .map(|(id, epoch)| (BrokerId(*id), BrokerEpoch(*epoch)))
                .collect(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
        };
        let decision = alter_partition(&self.cluster.image, &change);
        decision.results.map_err(|error| error.refusal)?;
        Ok(decision.records)
    }

    fn isr(&mut self, isr: &[i32]) {
        let isr: Vec<(i32, i64)> = isr.iter().map(|id| (*id, self.epoch_of(*id).0)).collect();
        let records = self.propose(&isr).unwrap();
        self.cluster.commit(&records);
    }

    fn stops(&mut self, id: i32) {
        self.cluster.fence(id, true);
    }

    /// Returns with nothing to say for its disk.
    fn returns_suspect(&mut self, id: i32) {
        let request = self.cluster.returns(id);
        self.cluster.start(&request);
    }

    fn returns_clean(&mut self, id: i32) {
        let mut request = self.cluster.returns(id);
        request.clean_shutdown_epoch = Some(self.epoch_of(id));
        self.cluster.start(&request);
    }

    fn returns_with(&mut self, id: i32, same_boot: bool, durability_default: Durability) {
        let mut request = self.cluster.returns(id);
        request.witness = Some(Witness {
            broker_epoch: self.epoch_of(id),
            same_boot,
            durability_default,
        });
        self.cluster.start(&request);
    }

    fn returns_wiped(&mut self, id: i32) {
        let mut request = self.cluster.returns(id);
        request.log_dirs = vec![Uuid([200 + id as u8; 16])];
        // Whatever it claims, it is not the replica that it was.
        request.clean_shutdown_epoch = Some(self.epoch_of(id));
        self.cluster.start(&request);
    }

    fn answer(&self, id: i32, last_epoch: i32, end: i64) -> CandidateLog {
        let state = self.cluster.image.partition(self.id).unwrap();
        CandidateLog {
            broker: BrokerId(id),
            broker_epoch: self.epoch_of(id),
            directory: state.directory_of(BrokerId(id)).unwrap(),
            last_epoch: LeaderEpoch(last_epoch),
            log_end_offset: Offset(end),
        }
    }

    fn elect_best(&mut self, answers: &[CandidateLog]) -> Result<(), Refusal> {
        let change = elect_best(&self.cluster.image, self.id, answers).map_err(refusal)?;
        self.cluster
            .commit(&[MetadataRecord::PartitionChange(change)]);
        Ok(())
    }
}

fn refusal(error: ControllerError) -> Refusal {
    error.refusal
}

#[test]
fn below_the_minimum_who_leaves_the_isr_stays_eligible() {
    let mut bed = Bed::with_minimum("2");
    assert_eq!(bed.state(), "1 123//");
    bed.stops(3);
    assert_eq!(bed.state(), "1 12//", "the minimum is in sync");
    bed.stops(1);
    assert_eq!(bed.state(), "2 2/1/");
    bed.stops(2);
    assert_eq!(bed.state(), "- /12/");
    // One that had lagged behind leads neither alone nor with others.
    bed.returns_clean(3);
    assert_eq!(bed.state(), "- /12/");
    bed.returns_clean(1);
    assert_eq!(bed.state(), "1 1/2/");
    bed.isr(&[1, 3]);
    assert_eq!(bed.state(), "1 13//", "the high watermark moves again");
}

#[test]
fn leaders_shrink_and_expand_with_the_same_rules() {
    let mut bed = Bed::with_minimum("2");
    bed.isr(&[1]);
    assert_eq!(bed.state(), "1 1/23/");
    bed.isr(&[1, 2]);
    assert_eq!(bed.state(), "1 12//");
    bed.isr(&[1]);
    assert_eq!(bed.state(), "1 1/2/");
    // Without a minimum nobody is eligible but the last member.
    let mut bed = Bed::with_minimum("1");
    bed.isr(&[1]);
    assert_eq!(bed.state(), "1 1//");
    bed.stops(1);
    assert_eq!(bed.state(), "- /1/");
    bed.returns_clean(1);
    assert_eq!(bed.state(), "1 1//");
}

#[test]
fn controlled_shutdown_leaves_the_isr_and_stays_eligible() {
    let mut bed = Bed::with_minimum("3");
    let decision = start_controlled_shutdown(&bed.cluster.image, BrokerId(1));
    bed.cluster.commit(&decision.records);
    assert_eq!(bed.state(), "2 23/1/");
    bed.stops(1);
    bed.returns_clean(1);
    assert_eq!(bed.state(), "2 23/1/");
    bed.isr(&[2, 3, 1]);
    assert_eq!(bed.state(), "2 123//");
}

#[test]
fn a_wiped_directory_is_not_the_replica_that_it_was() {
    // The last member of the ISR comes back empty: it does not lead, and so makes nobody else cut what they have.
    let mut bed = Bed::with_minimum("1");
    bed.stops(2);
    bed.stops(3);
    bed.stops(1);
    assert_eq!(bed.state(), "- /1/");
    bed.returns_wiped(1);
    assert_eq!(bed.state(), "- //");
    let nobody = elect(&bed.cluster.image, bed.id, ElectionKind::Online);
    assert_eq!(nobody.map_err(refusal), Err(EligibleLeadersNotAvailable));
    let state = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(state.directory_of(BrokerId(1)), Some(Uuid([201; 16])));
    // The replica's new directory is its own from now on.
    bed.returns_clean(1);
    let state = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(state.directory_of(BrokerId(1)), Some(Uuid([201; 16])));

    // While its process is quick and its session lives, it is in the ISR until it registers.
    let mut bed = Bed::with_minimum("2");
    bed.returns_wiped(1);
    assert_eq!(bed.state(), "2 23//");
    bed.stops(3);
    bed.stops(2);
    assert_eq!(bed.state(), "- /23/");
    bed.returns_wiped(2);
    assert_eq!(bed.state(), "- /3/");
    bed.returns_clean(3);
    assert_eq!(bed.state(), "3 3//");
}

#[test]
fn what_is_left_when_the_others_are_wiped_leads() {
    let mut bed = Bed::with_minimum("2");
    bed.stops(3);
    bed.stops(2);
    bed.stops(1);
    assert_eq!(bed.state(), "- /12/");
    bed.returns_suspect(1);
    assert_eq!(bed.state(), "- /2/1", "the other may come back whole");
    bed.returns_wiped(2);
    assert_eq!(bed.state(), "1 1//", "nobody else can have more");
}

#[test]
fn whole_logs_return_from_the_eligible_ones() {
    use Durability::{Flushed, Written};
    // (the topic's durability, the broker's default, same boot, is it whole?)
    let rows = [
        (None, Flushed, false, true),
        (None, Written, false, false),
        (None, Written, true, true),
        (Some("flushed"), Written, false, true),
        (Some("written"), Flushed, false, false),
        (Some("written"), Flushed, true, true),
    ];
    for row in rows {
        let (topic, default, same_boot, is_whole) = row;
        let mut configs = vec![("min.insync.replicas", "2")];
        configs.extend(topic.map(|value| ("ringlog.durability", value)));
        let mut bed = Bed::new(&configs);
        bed.stops(3);
        bed.stops(2);
        bed.stops(1);
        bed.returns_with(1, same_boot, default);
        let expected = match is_whole {
            true => "1 1/2/",
            false => "- /2/1",
        };
        assert_eq!(bed.state(), expected, "{row:?}");
    }
    // A disk that was set back shows an older registration.
    let mut bed = Bed::with_minimum("3");
    bed.stops(1);
    assert_eq!(bed.state(), "2 23/1/");
    let mut request = bed.cluster.returns(1);
    let old = BrokerEpoch(bed.epoch_of(1).0 - 1);
    request.clean_shutdown_epoch = Some(old);
    request.witness = Some(Witness {
        broker_epoch: old,
        same_boot: true,
        durability_default: Durability::Flushed,
    });
    bed.cluster.start(&request);
    assert_eq!(bed.state(), "2 23//1");
}

#[test]
fn suspects_are_heard_one_after_the_other() {
    let mut bed = Bed::with_minimum("2");
    for id in [3, 2, 1] {
        bed.stops(id);
    }
    for id in [1, 2, 3] {
        bed.returns_suspect(id);
    }
    assert_eq!(bed.state(), "- //12");
    let report = |bed: &Bed, id: i32, end: i64| {
        let state = bed.cluster.image.partition(bed.id).unwrap();
        let answer = bed.answer(id, 1, end);
        CandidateReport {
            broker: answer.broker,
            broker_epoch: answer.broker_epoch,
            directory: answer.directory,
            logs: vec![ReportedLog {
                partition: bed.id,
                partition_epoch: state.partition_epoch,
                last_epoch: answer.last_epoch,
                log_end_offset: answer.log_end_offset,
            }],
        }
    };
    let mut candidacies = Candidacies::default();
    let mut hear = |bed: &mut Bed, report: &CandidateReport| {
        let records = candidacies.handle_report(&bed.cluster.image, report);
        bed.cluster.commit(&records);
        bed.state()
    };
    let outsider = report(&bed, 3, 99);
    assert_eq!(hear(&mut bed, &outsider), "- //12");
    let one = report(&bed, 1, 9);
    // The same again is no second answer.
    assert_eq!(hear(&mut bed, &one), "- //12");
    assert_eq!(hear(&mut bed, &one), "- //12");
    let mut outdated = report(&bed, 2, 50);
    outdated.logs[0].partition_epoch.0 -= 1;
    assert_eq!(hear(&mut bed, &outdated), "- //12");
    let two = report(&bed, 2, 10);
    assert_eq!(hear(&mut bed, &two), "2 2//1");
    assert_eq!(hear(&mut bed, &one), "2 2//1", "it has led meanwhile");
}

#[test]
fn after_a_loss_of_power_everywhere_the_one_that_has_most_leads() {
    let mut bed = Bed::with_minimum("2");
    for id in [3, 2, 1] {
        bed.stops(id);
    }
    assert_eq!(bed.state(), "- /12/");
    let waiting = |bed: &Bed| {
        let state = bed.cluster.image.partition(bed.id).unwrap();
        candidates(state).map(<[BrokerId]>::to_vec)
    };
    assert_eq!(waiting(&bed), None);
    let refused = bed.elect_best(&[bed.answer(1, 0, 9), bed.answer(2, 0, 9)]);
    assert_eq!(refused, Err(ElectionNotNeeded), "one may come back whole");
    bed.returns_suspect(1);
    bed.returns_suspect(2);
    bed.returns_suspect(3);
    assert_eq!(bed.state(), "- //12");
    assert_eq!(waiting(&bed), Some(vec![BrokerId(1), BrokerId(2)]));

    // All have to answer, as the processes that they are now, from the directories that the replicas are in.
    let (one, two, three) = (
        bed.answer(1, 1, 9),
        bed.answer(2, 2, 5),
        bed.answer(3, 7, 99),
    );
    assert_eq!(
        bed.elect_best(&[one, three]),
        Err(EligibleLeadersNotAvailable)
    );
    let earlier = CandidateLog {
        broker_epoch: BrokerEpoch(two.broker_epoch.0 - 1),
        ..two
    };
    assert_eq!(
        bed.elect_best(&[one, earlier]),
        Err(EligibleLeadersNotAvailable)
    );
    let elsewhere = CandidateLog {
        directory: Uuid([9; 16]),
        ..two
    };
    assert_eq!(
        bed.elect_best(&[one, elsewhere]),
        Err(EligibleLeadersNotAvailable)
    );
    assert_eq!(bed.elect_best(&[one, two, two]), Err(InvalidRequest));
    bed.stops(2);
    assert_eq!(
        bed.elect_best(&[one, two]),
        Err(EligibleLeadersNotAvailable),
        "fenced"
    );
    bed.cluster.fence(2, false);

    // The later epoch wins over the longer log, and the lagging outsider is not asked.
    assert_eq!(bed.elect_best(&[one, two, three]), Ok(()));
    assert_eq!(bed.state(), "2 2//1");
    let state = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(state.leader_recovery_state, LeaderRecoveryState::Recovered);
    // Should it fail before others are in sync, everything begins anew, the other's copy included.
    bed.stops(2);
    assert_eq!(bed.state(), "- /2/1");
    bed.returns_suspect(2);
    assert_eq!(bed.state(), "- //12");
    let (one, two) = (bed.answer(1, 2, 5), bed.answer(2, 2, 5));
    assert_eq!(bed.elect_best(&[two, one]), Ok(()));
    assert_eq!(bed.state(), "1 1//2", "of equals the first replica");
}

#[test]
fn a_single_replica_leads_again_whatever_its_stop_was() {
    let mut bed = Bed::of(Cluster::new(&[None]), &[1], &[]);
    bed.returns_clean(1);
    assert_eq!(bed.state(), "1 1//");
    bed.returns_suspect(1);
    assert_eq!(bed.state(), "1 1//");
    let state = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(state.leader_recovery_state, LeaderRecoveryState::Recovered);
    assert_eq!(state.leader_epoch, LeaderEpoch(4));
}

#[test]
fn an_image_of_an_earlier_release_keeps_its_last_member() {
    // There the ISR never became empty: its last member stayed, without leading.
    let mut bed = Bed::with_minimum("1");
    for id in [1, 2, 3] {
        bed.stops(id);
    }
    let mut image: Vec<MetadataRecord> = bed.cluster.image.to_records().collect();
    for record in &mut image {
        if let MetadataRecord::Partition(partition) = record {
            partition.isr = partition.eligible_leader_replicas.take().unwrap();
        }
    }
    let (cluster, end) = (
        bed.cluster.image.cluster_id(),
        bed.cluster.image.end_offset(),
    );
    bed.cluster.image = MetadataImage::from_records(cluster, end, image).unwrap();
    assert_eq!(bed.state(), "- 3//");
    bed.returns_suspect(1);
    assert_eq!(bed.state(), "- 3//");
    bed.returns_clean(3);
    assert_eq!(bed.state(), "3 3//");
}

#[test]
fn a_forgotten_broker_returns_as_a_suspect() {
    let mut bed = Bed::with_minimum("2");
    for id in [3, 2, 1] {
        bed.stops(id);
    }
    let mut request = bed.cluster.returns(1);
    request.clean_shutdown_epoch = Some(bed.epoch_of(1));
    let decision = unregister_broker(&bed.cluster.image, BrokerId(1));
    bed.cluster.commit(&decision.records);
    assert_eq!(bed.state(), "- /12/");
    bed.cluster.start(&request);
    assert_eq!(bed.state(), "- /2/1");
}

#[test]
fn an_unclean_election_is_for_topics_that_allow_it_and_is_counted() {
    let mut bed = Bed::with_minimum("2");
    bed.stops(3);
    bed.stops(1);
    bed.cluster.fence(3, false);
    assert_eq!(bed.state(), "2 2/1/");
    let fenced =
        |allowed| change_fencing(&bed.cluster.image, BrokerId(2), true, &move |_| allowed).records;
    let (clean, unclean) = (fenced(false), fenced(true));
    let before = bed.cluster.image.clone();
    assert_eq!(bed.cluster.commit(&clean).unclean_elections, 0);
    assert_eq!(bed.state(), "- /12/");
    bed.cluster.image = before;
    assert_eq!(bed.cluster.commit(&unclean).unclean_elections, 1);
    // What others have beyond its log will be cut: they are eligible no longer.
    assert_eq!(bed.state(), "3 3//");
    let state = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(state.leader_recovery_state, LeaderRecoveryState::Recovering);
}

#[test]
fn an_unclean_election_prefers_suspects() {
    let mut bed = Bed::with_minimum("2");
    for id in [3, 2, 1] {
        bed.stops(id);
    }
    bed.returns_suspect(3);
    bed.returns_suspect(2);
    assert_eq!(bed.state(), "- /1/2");
    let change = elect(&bed.cluster.image, bed.id, ElectionKind::Unclean).unwrap();
    let record = MetadataRecord::PartitionChange(change);
    assert_eq!(bed.cluster.commit(&[record]).unclean_elections, 1);
    assert_eq!(bed.state(), "2 2//");
}

#[test]
fn a_new_minimum_leaves_nobody_eligible_whom_the_high_watermark_passes() {
    let set = |bed: &mut Bed, value: &str| {
        let change = ConfigChange {
            name: "min.insync.replicas".to_owned(),
            operation: Some(ConfigOperation::Set),
            value: Some(value.to_owned()),
        };
        let resource = ConfigResource {
            kind: ConfigResourceType::Topic,
            name: "t".to_owned(),
        };
        let request = AlterConfigsRequest {
            resources: vec![(resource, vec![change])],
            replaces: false,
            validate_only: false,
        };
        let rules = ConfigRules {
            validate: &|_, _| Ok(()),
            list_default: &|_, _| None,
        };
        let decision = alter_configs(&bed.cluster.image, &request, rules);
        assert_eq!(decision.results[0].1, Ok(()));
        bed.cluster.commit(&decision.records);
    };
    let mut bed = Bed::with_minimum("3");
    bed.stops(3);
    assert_eq!(bed.state(), "1 12/3/");
    set(&mut bed, "2");
    assert_eq!(bed.state(), "1 12//");
    set(&mut bed, "3");
    assert_eq!(bed.state(), "1 12//", "who has been passed stays so");
    bed.stops(2);
    assert_eq!(bed.state(), "1 1/2/");
    // More than there are replicas means all of them; a value that this program cannot read means 1.
    set(&mut bed, "9");
    assert_eq!(bed.state(), "1 1/2/");
    set(&mut bed, "many");
    assert_eq!(bed.state(), "1 1//");
}

#[test]
fn who_joins_the_isr_says_which_process_it_is() {
    let mut bed = Bed::with_minimum("1");
    bed.isr(&[1, 2]);
    let (one, two, three) = (bed.epoch_of(1).0, bed.epoch_of(2).0, bed.epoch_of(3).0);
    let unnamed = bed.propose(&[(1, one), (2, two), (3, -1)]);
    assert_eq!(unnamed, Err(IneligibleReplica));
    let before = bed.propose(&[(1, one), (2, two), (3, three - 1)]);
    assert_eq!(before, Err(IneligibleReplica));
    assert!(bed.propose(&[(1, -1), (2, -1), (3, three)]).is_ok());
}

#[test]
fn the_set_in_force_can_be_proposed_to_end_what_is_on_its_way() {
    let mut bed = Bed::with_minimum("1");
    let late = bed.propose(&[(1, -1), (2, -1)]);
    assert!(late.is_ok());
    let again = bed.propose(&[(1, -1), (2, -1), (3, -1)]).unwrap();
    let before = bed.cluster.image.partition(bed.id).unwrap().clone();
    bed.cluster.commit(&again);
    let after = bed.cluster.image.partition(bed.id).unwrap();
    assert_eq!(after.partition_epoch.0, before.partition_epoch.0 + 1);
    assert_eq!(
        (&after.isr, after.leader_epoch),
        (&before.isr, before.leader_epoch)
    );
}
