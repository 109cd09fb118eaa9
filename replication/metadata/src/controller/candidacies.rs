//! What suspects have said that they have, while this broker is the controller: see `candidates.rs`.
//!
//! Pure. In memory only: whoever holds a log that is waited for says so again and again, until somebody leads.
//! Invariant: an answer counts for the version of the partition that it was given for, so what a log was before it
//! followed somebody elects nobody. Bound: one answer for each replica of a partition that waits.

use std::collections::BTreeMap;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use super::candidates::{CandidateLog, candidates, elect_best};
use crate::image::{MetadataImage, PartitionState};
use crate::record::{MetadataRecord, Uuid};

/// What a broker has of partitions that wait for what suspects have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Who answers.
    pub broker: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The directory that the logs are in.
    pub directory: Uuid,
    /// What it has.
    pub logs: Vec<ReportedLog>,
}

/// What there is of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLog {
    /// Which one.
    pub partition: TopicPartition,
    /// Its version when the log was looked at.
    pub partition_epoch: PartitionEpoch,
    /// The epoch of the last record, [`LeaderEpoch::NONE`] of an empty log.
    pub last_epoch: LeaderEpoch,
    /// The durable end.
    pub log_end_offset: Offset,
}

/// The answers for one partition.
#[derive(Clone, Debug)]
struct Answers {
    partition_epoch: PartitionEpoch,
    by_broker: BTreeMap<BrokerId, CandidateLog>,
}

/// The answers for all partitions that wait.
#[derive(Clone, Debug, Default)]
pub struct Candidacies(BTreeMap<TopicPartition, Answers>);

/// Whether an election waits for what a broker has of a partition.
pub fn is_candidate(state: &PartitionState, broker: BrokerId) -> bool {
    candidates(state).is_some_and(|candidates| candidates.contains(&broker))
}

impl Candidacies {
    /// A broker has told what it has. The elections that can be held now.
    pub fn handle_report(
        &mut self,
        image: &MetadataImage,
        report: &CandidateReport,
    ) -> Vec<MetadataRecord> {
        self.0.retain(|id, answers| {
            let state = image.partition(*id);
            state.is_some_and(|state| state.partition_epoch == answers.partition_epoch)
        });
        let mut records = Vec::new();
        for log in &report.logs {
            let Some(state) = image.partition(log.partition) else {
                continue;
            };
            if state.partition_epoch != log.partition_epoch || !is_candidate(state, report.broker) {
                continue;
            }
            let empty = Answers {
                partition_epoch: state.partition_epoch,
                by_broker: BTreeMap::new(),
            };
            let answers = self.0.entry(log.partition).or_insert(empty);
            let answer = CandidateLog {
                broker: report.broker,
                broker_epoch: report.broker_epoch,
                directory: report.directory,
                last_epoch: log.last_epoch,
                log_end_offset: log.log_end_offset,
            };
            answers.by_broker.insert(report.broker, answer);
            let all: Vec<CandidateLog> = answers.by_broker.values().copied().collect();
            // A refusal says who is waited for: this is tried again with every report.
            if let Ok(change) = elect_best(image, log.partition, &all) {
                records.push(MetadataRecord::PartitionChange(change));
            }
        }
        records
    }
}
