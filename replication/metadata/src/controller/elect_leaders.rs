//! ElectLeaders (KIP-183, KIP-460): elections that an administrator asks for, of some partitions or of all.
//!
//! Answers are those of Kafka 4.3.1 (kafka-answers.txt).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use model::{PartitionIndex, TopicPartition};

use super::election::{ElectionKind, elect};
use super::{ControllerError, Decision, PARTITIONS_PER_REQUEST_MAX, Refusal};
use crate::image::MetadataImage;
use crate::record::MetadataRecord;

/// ElectLeaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectLeadersRequest {
    /// Which replica shall lead.
    pub kind: ElectionKind,
    /// Topics by name with some of their partitions; `None` is all there are.
    pub topics: Option<Vec<(String, Vec<PartitionIndex>)>>,
}

/// What became of each partition, by topic, in the order of the request. Of all partitions, those are left out that have
/// the leader they should have.
pub type ElectedTopics = Vec<(String, Vec<(PartitionIndex, Result<(), ControllerError>)>)>;

/// Decides who leads from now on.
pub fn elect_leaders(
    image: &MetadataImage,
    request: &ElectLeadersRequest,
) -> Decision<ElectedTopics> {
    let mut elections = Elections {
        image,
        kind: request.kind,
        held: BTreeMap::new(),
        records: Vec::new(),
    };
    let results = match &request.topics {
        Some(topics) => topics
            .iter()
            .map(|(name, partitions)| {
                let results = partitions
                    .iter()
                    .map(|partition| (*partition, elections.hold_by_name(name, *partition)));
                (name.clone(), results.collect())
            })
            .collect(),
        None => elections.hold_all(),
    };
    Decision {
        records: elections.records,
        results,
    }
}

struct Elections<'a> {
    image: &'a MetadataImage,
    kind: ElectionKind,
    /// A partition that is named twice has one election.
    held: BTreeMap<TopicPartition, Result<(), ControllerError>>,
    records: Vec<MetadataRecord>,
}

impl Elections<'_> {
    fn hold_all(&mut self) -> ElectedTopics {
        let image = self.image;
        let topics = image.topics().map(|topic| {
            let needed = topic.partitions().filter_map(|(partition, _)| {
                let id = TopicPartition {
                    topic: topic.id(),
                    partition,
                };
                match self.hold(id) {
                    Err(error) if error.refusal == Refusal::ElectionNotNeeded => None,
                    result => Some((partition, result)),
                }
            });
            (topic.name().as_ref().to_owned(), needed.collect())
        });
        topics.collect()
    }

    fn hold_by_name(
        &mut self,
        name: &str,
        partition: PartitionIndex,
    ) -> Result<(), ControllerError> {
        let Some(topic) = self.image.topic_id(name) else {
            let message = "there is no topic of this name";
            return Err(ControllerError::new(
                Refusal::UnknownTopicOrPartition,
                message,
            ));
        };
        let id = TopicPartition { topic, partition };
        if let Some(result) = self.held.get(&id) {
            return result.clone();
        }
        let result = self.hold(id);
        self.held.insert(id, result.clone());
        result
    }

    fn hold(&mut self, id: TopicPartition) -> Result<(), ControllerError> {
        let change = elect(self.image, id, self.kind)?;
        if self.records.len() == PARTITIONS_PER_REQUEST_MAX {
            let message =
                format!("one request elects at most {PARTITIONS_PER_REQUEST_MAX} leaders");
            return Err(ControllerError::new(Refusal::PolicyViolation, message));
        }
        self.records.push(MetadataRecord::PartitionChange(change));
        Ok(())
    }
}
