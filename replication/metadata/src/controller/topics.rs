//! CreateTopics and DeleteTopics.
//!
//! Codes and their order are those of Kafka 4.3.1 (kafka-answers.txt).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use model::{BrokerId, PartitionIndex, TopicId, TopicPartition};

use super::replica_assignment::{new_partition, validate_manual};
use super::{
    ControllerError, Decision, PARTITIONS_MAX, PARTITIONS_PER_REQUEST_MAX, Refusal, duplicates,
};
use crate::image::{ConfigMap, MetadataImage};
use crate::placement::{place, topic_hash};
use crate::record::{
    ConfigRecord, ConfigResourceType, MetadataRecord, RemoveTopicRecord, TopicRecord,
};
use crate::topic_name;

/// Judges the whole configuration of a topic; the error is for people. The registry of configs is the caller's.
pub type TopicConfigRules<'a> = &'a dyn Fn(&ConfigMap) -> Result<(), String>;

/// The replicas that a client wants for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualAssignment {
    /// Which partition.
    pub partition: PartitionIndex,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

/// One topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// 128 random bits drawn by the caller.
    pub topic_id: TopicId,
    /// -1 for the broker's default, or when there are assignments.
    pub partition_count: i32,
    /// -1 for the broker's default, or when there are assignments.
    pub replication_factor: i16,
    /// Empty to let the controller place the replicas.
    pub assignments: Vec<ManualAssignment>,
    /// Configuration; a null value is an error here.
    pub configs: Vec<(String, Option<String>)>,
}

/// CreateTopics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopicsRequest {
    /// In the order of the request.
    pub topics: Vec<NewTopic>,
    /// Answer, but change nothing.
    pub validate_only: bool,
    /// `num.partitions`.
    pub partition_count_default: i32,
    /// `default.replication.factor`.
    pub replication_factor_default: i16,
}

/// A topic as it was created, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its identity.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partition_count: i32,
    /// Replicas of its first partition.
    pub replication_factor: i16,
}

/// One answer per distinct name: duplicates first, then the others in the order of the request.
pub type CreateTopicsResults = Vec<(String, Result<CreatedTopic, ControllerError>)>;

/// Decides which topics to create, with which replicas.
pub fn create_topics(
    image: &MetadataImage,
    request: &CreateTopicsRequest,
    config_rules: TopicConfigRules<'_>,
) -> Decision<CreateTopicsResults> {
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    let repeated: BTreeSet<&str> = duplicates(names.clone()).into_iter().collect();
    let mut results: CreateTopicsResults = duplicates(names)
        .into_iter()
        .map(|name| {
            let error = ControllerError::new(
                Refusal::InvalidRequest,
                "the request names this topic more than once",
            );
            (name.to_owned(), Err(error))
        })
        .collect();
    let mut creation = Creation {
        image,
        request,
        records: Vec::new(),
        partition_count: 0,
        collision_keys: BTreeMap::new(),
        topic_ids: BTreeSet::new(),
    };
    for topic in &request.topics {
        if !repeated.contains(topic.name.as_str()) {
            results.push((topic.name.clone(), creation.add(topic, config_rules)));
        }
    }
    let mut records = creation.records;
    if request.validate_only {
        records.clear();
    }
    Decision { records, results }
}

/// The part of a request that has been accepted so far.
struct Creation<'a> {
    image: &'a MetadataImage,
    request: &'a CreateTopicsRequest,
    records: Vec<MetadataRecord>,
    partition_count: usize,
    collision_keys: BTreeMap<String, &'a str>,
    topic_ids: BTreeSet<TopicId>,
}

impl<'a> Creation<'a> {
    fn add(
        &mut self,
        topic: &'a NewTopic,
        config_rules: TopicConfigRules<'_>,
    ) -> Result<CreatedTopic, ControllerError> {
        self.check_name(&topic.name)?;
        let configs = checked_configs(topic, config_rules)?;
        self.check_id(topic.topic_id)?;
        let partitions = self.partitions_of(topic)?;
        let head = TopicRecord {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
        };
        let created = CreatedTopic {
            topic_id: topic.topic_id,
            partition_count: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replication_factor: match partitions.first() {
                Some(MetadataRecord::Partition(first)) => {
                    i16::try_from(first.replicas.len()).unwrap_or(i16::MAX)
                }
                _ => 0,
            },
        };
        if let Some(key) = topic_name::collision_key(&topic.name) {
            self.collision_keys.insert(key, &topic.name);
        }
        self.topic_ids.insert(topic.topic_id);
        self.partition_count += partitions.len();
        self.records.push(MetadataRecord::Topic(head));
        self.records.extend(configs);
        self.records.extend(partitions);
        Ok(created)
    }

    fn check_name(&self, name: &str) -> Result<(), ControllerError> {
        if name == topic_name::CLUSTER_METADATA {
            return Err(ControllerError::new(
                Refusal::InvalidRequest,
                format!("the topic {name} is the metadata log and cannot be created"),
            ));
        }
        if self.image.topic_id(name).is_some() {
            return Err(ControllerError::new(
                Refusal::TopicAlreadyExists,
                format!("topic {name:?} already exists"),
            ));
        }
        let invalid = |message| ControllerError::new(Refusal::InvalidTopicName, message);
        topic_name::validate(name).map_err(invalid)?;
        let collides = |other: &str| invalid(format!("topic {name:?} collides with {other:?}"));
        if let Some(other) = self.image.colliding_topic(name) {
            return Err(collides(other));
        }
        let key = topic_name::collision_key(name);
        match key.and_then(|key| self.collision_keys.get(&key)) {
            Some(other) => Err(collides(other)),
            None => Ok(()),
        }
    }

    /// The id is random, so a clash means that the caller's randomness is broken: refuse rather than merge topics.
    fn check_id(&self, id: TopicId) -> Result<(), ControllerError> {
        let reserved = id == TopicId::ZERO || id == TopicId::METADATA;
        if reserved || self.image.topic_by_id(id).is_some() || self.topic_ids.contains(&id) {
            return Err(ControllerError::new(
                Refusal::Internal,
                format!("the drawn topic id {id} is taken"),
            ));
        }
        Ok(())
    }

    fn check_count(&self, more: usize) -> Result<(), ControllerError> {
        let of_request = self.partition_count.saturating_add(more);
        let of_cluster = self.image.partition_count().saturating_add(of_request);
        if of_request > PARTITIONS_PER_REQUEST_MAX {
            return Err(ControllerError::new(
                Refusal::PolicyViolation,
                format!("one request may create at most {PARTITIONS_PER_REQUEST_MAX} partitions"),
            ));
        }
        if of_cluster > PARTITIONS_MAX {
            return Err(ControllerError::new(
                Refusal::PolicyViolation,
                format!("a cluster has at most {PARTITIONS_MAX} partitions"),
            ));
        }
        Ok(())
    }

    fn partitions_of(&self, topic: &NewTopic) -> Result<Vec<MetadataRecord>, ControllerError> {
        if !topic.assignments.is_empty() {
            return self.assigned_partitions(topic);
        }
        let replication_factor = match topic.replication_factor {
            -1 => self.request.replication_factor_default,
            factor => factor,
        };
        let replication_factor = usize::try_from(replication_factor).unwrap_or(0);
        if replication_factor == 0 {
            return Err(ControllerError::new(
                Refusal::InvalidReplicationFactor,
                "the replication factor must be positive, or -1 for the default",
            ));
        }
        let partition_count = match topic.partition_count {
            -1 => self.request.partition_count_default,
            count => count,
        };
        let partition_count = usize::try_from(partition_count).unwrap_or(0);
        if partition_count == 0 {
            return Err(ControllerError::new(
                Refusal::InvalidPartitions,
                "the number of partitions must be positive, or -1 for the default",
            ));
        }
        self.check_count(partition_count)?;
        let start = topic_hash(&topic.topic_id.0);
        let placed = place(self.image, start, 0, partition_count, replication_factor);
        let placed = placed.map_err(|error| {
            ControllerError::new(Refusal::InvalidReplicationFactor, error.to_string())
        })?;
        (0..)
            .map(PartitionIndex)
            .zip(&placed)
            .map(|(index, replicas)| self.partition(topic, index, replicas))
            .collect()
    }

    fn assigned_partitions(
        &self,
        topic: &NewTopic,
    ) -> Result<Vec<MetadataRecord>, ControllerError> {
        if topic.replication_factor != -1 || topic.partition_count != -1 {
            return Err(ControllerError::new(
                Refusal::InvalidRequest,
                "with a manual assignment the partition count and replication factor must be -1",
            ));
        }
        self.check_count(topic.assignments.len())?;
        let bad = |message| ControllerError::new(Refusal::InvalidReplicaAssignment, message);
        let mut by_index: BTreeMap<PartitionIndex, &[BrokerId]> = BTreeMap::new();
        let mut replication_factor = None;
        for assignment in &topic.assignments {
            validate_manual(self.image, &assignment.replicas, replication_factor)?;
            replication_factor = Some(assignment.replicas.len());
            let index = assignment.partition;
            if by_index.insert(index, &assignment.replicas).is_some() {
                return Err(bad(format!("partition {index} is assigned more than once")));
            }
        }
        if !(0..)
            .zip(by_index.keys())
            .all(|(expected, index)| index.0 == expected)
        {
            return Err(bad(
                "the assigned partitions must be numbered from 0 without holes".to_owned(),
            ));
        }
        by_index
            .iter()
            .map(|(index, replicas)| self.partition(topic, *index, replicas))
            .collect()
    }

    fn partition(
        &self,
        topic: &NewTopic,
        partition: PartitionIndex,
        replicas: &[BrokerId],
    ) -> Result<MetadataRecord, ControllerError> {
        let id = TopicPartition {
            topic: topic.topic_id,
            partition,
        };
        new_partition(self.image, id, replicas)
    }
}

fn checked_configs(
    topic: &NewTopic,
    config_rules: TopicConfigRules<'_>,
) -> Result<Vec<MetadataRecord>, ControllerError> {
    let invalid = |message| ControllerError::new(Refusal::InvalidConfig, message);
    let mut configs = ConfigMap::new();
    for (name, value) in &topic.configs {
        let value = value
            .clone()
            .ok_or_else(|| invalid(format!("the value of {name:?} is null")))?;
        // Of a key given twice the last value counts, as with Kafka.
        configs.insert(name.clone(), value);
    }
    config_rules(&configs).map_err(invalid)?;
    let record = |(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: ConfigResourceType::Topic,
            resource_name: topic.name.clone(),
            name,
            value: Some(value),
        })
    };
    Ok(configs.into_iter().map(record).collect())
}

/// One topic to delete: by name, or by identity (request version 6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletableTopic {
    /// Its name.
    pub name: Option<String>,
    /// Its identity; zero when it is named.
    pub topic_id: TopicId,
}

/// The answer for one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// Its name, if the request or the image had one.
    pub name: Option<String>,
    /// Its identity, likewise; else zero.
    pub topic_id: TopicId,
    /// Whether it is deleted.
    pub result: Result<(), ControllerError>,
}

/// Decides which topics to delete. `deletion_enabled` is `delete.topic.enable`.
pub fn delete_topics(
    image: &MetadataImage,
    topics: &[DeletableTopic],
    deletion_enabled: bool,
) -> Decision<Vec<DeletedTopic>> {
    let names = topics.iter().filter_map(|topic| topic.name.as_deref());
    let ids = topics.iter().filter(|topic| topic.name.is_none());
    let ids = ids
        .map(|topic| &topic.topic_id)
        .filter(|id| **id != TopicId::ZERO);
    let refuse = |name: Option<&str>, topic_id: TopicId, message: &str| DeletedTopic {
        name: name.map(str::to_owned),
        topic_id,
        result: Err(ControllerError::new(Refusal::InvalidRequest, message)),
    };
    let repeated_names = duplicates(names);
    let repeated_ids = duplicates(ids);
    let mut results: Vec<DeletedTopic> = Vec::new();
    for name in &repeated_names {
        let message = "the request names this topic more than once";
        results.push(refuse(Some(name), TopicId::ZERO, message));
    }
    for id in &repeated_ids {
        let message = "the request has this topic id more than once";
        results.push(refuse(None, **id, message));
    }
    let mut deleted = BTreeSet::new();
    let mut records = Vec::new();
    for topic in topics {
        let name = topic.name.as_deref();
        let repeated = match name {
            Some(name) => repeated_names.contains(&name),
            None => repeated_ids.contains(&&topic.topic_id),
        };
        if repeated {
            continue;
        }
        let mut result = delete_one(image, topic, deletion_enabled);
        if result.result.is_ok() && !deleted.insert(result.topic_id) {
            let message = "the request has this topic both by name and by id";
            result = refuse(name, topic.topic_id, message);
        }
        if result.result.is_ok() {
            let topic_id = result.topic_id;
            records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id }));
        }
        results.push(result);
    }
    Decision { records, results }
}

fn delete_one(
    image: &MetadataImage,
    topic: &DeletableTopic,
    deletion_enabled: bool,
) -> DeletedTopic {
    let mut answer = DeletedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        result: Ok(()),
    };
    let refusal = match (&topic.name, topic.topic_id) {
        (Some(_), id) if id != TopicId::ZERO => Some((
            Refusal::InvalidRequest,
            "a topic is given by its name or by its id, not by both",
        )),
        (None, TopicId::ZERO) => Some((Refusal::InvalidRequest, "a topic has no name nor id")),
        _ if !deletion_enabled => Some((
            Refusal::TopicDeletionDisabled,
            "delete.topic.enable is false",
        )),
        (Some(name), _) => match image.topic_id(name) {
            Some(id) => {
                answer.topic_id = id;
                None
            }
            None => Some((
                Refusal::UnknownTopicOrPartition,
                "there is no topic of this name",
            )),
        },
        (None, id) => match image.topic_by_id(id) {
            Some(found) => {
                answer.name = Some(found.name().to_string());
                None
            }
            None => Some((Refusal::UnknownTopicId, "there is no topic of this id")),
        },
    };
    if let Some((code, message)) = refusal {
        answer.result = Err(ControllerError::new(code, message));
    }
    answer
}
