//! The cluster as plans of moves see it, asked from outside.

use std::collections::BTreeMap;

use client::{ClientError, Cluster, ConfigOwner, HeldLogs};
use metadata::balance::{BrokerShape, ClusterShape, PartitionShape, standing_of};
use model::config::DRAIN_KEY;
use model::{BrokerId, TopicPartition};
use uring::UringIo;

/// Whether a broker gives its replicas away, as it says itself.
async fn says_drained(
    cluster: &mut Cluster<UringIo>,
    broker: BrokerId,
) -> Result<bool, ClientError> {
    let configs = cluster.configs(&ConfigOwner::Broker(broker)).await?;
    let set = configs.iter().find(|config| config.name == DRAIN_KEY);
    Ok(set.and_then(|config| config.value.as_deref()) == Some("true"))
}

/// A shape, and the names of what is in it.
pub struct Seen {
    pub shape: ClusterShape,
    topics: BTreeMap<TopicPartition, String>,
}

impl Seen {
    /// Asks for all of it. A broker that does not answer counts as lost: sooner or later it is. `drained` counts as drained
    /// whatever it says.
    pub async fn ask(
        cluster: &mut Cluster<UringIo>,
        drained: Option<BrokerId>,
    ) -> Result<Seen, ClientError> {
        let topics = cluster.list_topics().await?;
        let known: Vec<(BrokerId, Option<String>)> = cluster
            .brokers()
            .map(|broker| (broker.id, broker.rack.clone()))
            .collect();
        let (mut brokers, mut sizes) = (BTreeMap::new(), HeldLogs::new());
        for (id, rack) in known {
            let is_drained = match says_drained(cluster, id).await {
                Err(error) if error.is_retriable() => None,
                said => Some(said? || drained == Some(id)),
            };
            // One that has just gone is away: others are told of it soon.
            let standing = standing_of(is_drained.is_some(), is_drained == Some(true), false);
            if is_drained.is_some() {
                for (place, log) in cluster.held_logs(id, None).await? {
                    let known = sizes.entry(place).or_insert(log);
                    known.size_bytes = known.size_bytes.max(log.size_bytes);
                }
            }
            brokers.insert(id, BrokerShape { rack, standing });
        }
        let mut moving = BTreeMap::new();
        for one in cluster.ongoing_moves().await? {
            moving.insert((one.topic, one.partition), one.removing);
        }
        let (mut partitions, mut names) = (Vec::new(), BTreeMap::new());
        for topic in &topics {
            for partition in &topic.partitions {
                let id = TopicPartition {
                    topic: topic.id,
                    partition: partition.index,
                };
                let place = (topic.name.clone(), partition.index);
                let removing = moving.get(&place);
                let stays = |id: &&BrokerId| removing.is_none_or(|gone| !gone.contains(id));
                let replicas = partition.replicas.iter();
                names.insert(id, topic.name.clone());
                partitions.push(PartitionShape {
                    id,
                    replicas: replicas.clone().filter(stays).copied().collect(),
                    before: replicas.copied().collect(),
                    is_moving: removing.is_some(),
                    has_leader: partition.leader.is_some(),
                    is_whole: partition.isr.len() == partition.replicas.len(),
                    bytes: sizes.get(&place).map_or(0, |log| log.size_bytes),
                });
            }
        }
        Ok(Seen {
            shape: ClusterShape {
                brokers,
                partitions,
            },
            topics: names,
        })
    }

    /// The name of a partition's topic.
    pub fn topic(&self, id: TopicPartition) -> &str {
        &self.topics[&id]
    }

    /// Replicas that a broker has, those that are on their way to others among them.
    pub fn replicas_on(&self, broker: BrokerId) -> usize {
        let partitions = self.shape.partitions.iter();
        partitions
            .filter(|one| one.before.contains(&broker))
            .count()
    }
}
