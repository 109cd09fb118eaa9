//! The controller of a large cluster, alone: what one event costs when brokers and partitions are many.
//!
//! Pure: the decisions of `replication/metadata` on an image, applied through their bytes as every broker applies them.
//! No network and no disk, so what it counts (records, bytes, partitions touched) is exact and the same on any machine;
//! times are the caller's business. Invariant: an event touches the partitions it concerns and no others.

use std::collections::BTreeMap;

use metadata::controller::{
    BrokerRegistrationRequest, CreateTopicsRequest, Decision, NewTopic, change_fencing,
    create_topics, register_broker, start_controlled_shutdown,
};
use metadata::record::{BrokerEndpoint, LeaderChange};
use metadata::{MetadataImage, MetadataRecord, Uuid};
use model::{BrokerEpoch, BrokerId, TopicId};

/// Racks that the brokers are spread over.
const RACKS: u32 = 3;
/// Partitions of one topic.
const TOPIC_PARTITIONS: u32 = 48;
/// The identity of the cluster.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// How large a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Brokers.
    pub brokers: u32,
    /// Partitions of all topics.
    pub partitions: u32,
    /// Replicas of each.
    pub replication_factor: u16,
}

/// What one event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// In words.
    pub what: &'static str,
    /// Partitions that it concerns: those with the broker in the in-sync set, or without a leader that it could be.
    pub concerned: usize,
    /// Partitions that have another leader now.
    pub leaders_moved: usize,
    /// Partitions without a leader afterwards.
    pub offline: usize,
    /// Records of the metadata log.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A cluster in memory.
struct World {
    image: MetadataImage,
    events: Vec<Event>,
}

/// Builds a cluster, fails the broker that leads most, brings it back, and shuts another one down in order. What each
/// event cost; `clock` is told when each begins and ends.
pub fn run(size: Size, mut clock: impl FnMut(&'static str)) -> Result<Vec<Event>, String> {
    let mut world = World {
        image: MetadataImage::new(CLUSTER_ID),
        events: Vec::new(),
    };
    world.register(size.brokers)?;
    world.create(size)?;
    clock("the cluster is there");
    let victim = world.leads_most().ok_or("nobody leads anything")?;
    let fences =
        |fenced| move |image: &MetadataImage| change_fencing(image, victim, fenced, &|_| false);
    world.event("the broker that leads most fails", victim, fences(true))?;
    clock("the broker that leads most fails");
    world.event("it comes back", victim, fences(false))?;
    clock("it comes back");
    let next = world.leads_most().ok_or("nobody leads anything")?;
    world.event("the one that leads most now is shut down", next, |image| {
        start_controlled_shutdown(image, next)
    })?;
    clock("the one that leads most now is shut down");
    Ok(world.events)
}

impl World {
    /// Commits a decision: its records go through their bytes.
    fn commit(&mut self, records: &[MetadataRecord]) -> Result<usize, String> {
        let mut bytes = 0;
        let mut read = Vec::with_capacity(records.len());
        for record in records {
            let encoded = record.encode();
            bytes += encoded.len();
            read.push(MetadataRecord::decode(&encoded).map_err(|error| error.to_string())?);
        }
        let base = self.image.end_offset();
        let applied = self.image.apply_batch(base, &read);
        applied.map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn register(&mut self, brokers: u32) -> Result<(), String> {
        for number in 1..=brokers {
            let id = BrokerId(i32::try_from(number).map_err(|error| error.to_string())?);
            let mut uuid = [0; 16];
            uuid[..4].copy_from_slice(&number.to_be_bytes());
            let request = BrokerRegistrationRequest {
                cluster_id: CLUSTER_ID.to_owned(),
                broker_id: id,
                incarnation_id: Uuid(uuid),
                endpoints: vec![BrokerEndpoint {
                    name: "PLAINTEXT".to_owned(),
                    host: format!("broker-{number}.example"),
                    port: 9092,
                    security_protocol: 0,
                }],
                rack: Some(format!("rack-{}", number % RACKS)),
                log_dirs: vec![Uuid(uuid)],
                ..BrokerRegistrationRequest::default()
            };
            let epoch = BrokerEpoch(self.image.end_offset().0);
            let decision = register_broker(&self.image, &request, epoch, false);
            decision.results.map_err(|error| error.message)?;
            self.commit(&decision.records)?;
            let decision = change_fencing(&self.image, id, false, &|_| false);
            self.commit(&decision.records)?;
        }
        Ok(())
    }

    fn create(&mut self, size: Size) -> Result<(), String> {
        let mut left = size.partitions;
        let mut number = 0_u32;
        while left > 0 {
            let count = left.min(TOPIC_PARTITIONS);
            let mut id = [7; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let topic = NewTopic {
                name: format!("topic-{number}"),
                topic_id: TopicId(id),
                partition_count: i32::try_from(count).map_err(|error| error.to_string())?,
                replication_factor: i16::try_from(size.replication_factor)
                    .map_err(|error| error.to_string())?,
                ..NewTopic::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![topic],
                ..CreateTopicsRequest::default()
            };
            let decision = create_topics(&self.image, &request, &|_| Ok(()));
            for (name, created) in decision.results {
                created.map_err(|error| format!("{name}: {}", error.message))?;
            }
            self.commit(&decision.records)?;
            left -= count;
            number += 1;
        }
        Ok(())
    }

    /// The broker that leads most partitions; the lowest number among equals.
    fn leads_most(&self) -> Option<BrokerId> {
        let mut counts: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for leader in self
            .image
            .partitions()
            .filter_map(|(_, state)| state.leader)
        {
            *counts.entry(leader).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let mut with_most = counts.into_iter().filter(|(_, count)| *count == most);
        with_most.next().map(|(broker, _)| broker)
    }

    /// Decides, commits and counts.
    fn event(
        &mut self,
        what: &'static str,
        broker: BrokerId,
        decide: impl FnOnce(&MetadataImage) -> Decision<()>,
    ) -> Result<(), String> {
        let concerns = |state: &metadata::PartitionState| {
            let joins = state.leader.is_none() && state.has_replica(broker);
            state.isr.contains(&broker) || state.leader == Some(broker) || joins
        };
        let concerned = self.image.partitions().filter(|(_, state)| concerns(state));
        let concerned = concerned.count();
        let decision = decide(&self.image);
        let leaders_moved = decision.records.iter().filter(|record| match record {
            MetadataRecord::PartitionChange(change) => change.leader != LeaderChange::Unchanged,
            _ => false,
        });
        let leaders_moved = leaders_moved.count();
        let bytes = self.commit(&decision.records)?;
        let offline = self
            .image
            .partitions()
            .filter(|(_, state)| state.leader.is_none());
        let event = Event {
            what,
            concerned,
            leaders_moved,
            offline: offline.count(),
            records: decision.records.len(),
            bytes,
        };
        if event.records > concerned + 1 {
            return Err(format!("{event:?}: more records than partitions concerned"));
        }
        self.events.push(event);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(brokers: u32, partitions: u32) -> Vec<Event> {
        let size = Size {
            brokers,
            partitions,
            replication_factor: 3,
        };
        run(size, |_| {}).expect("a cluster of that size works")
    }

    #[test]
    fn a_failure_costs_what_it_concerns() {
        let events = events(6, 240);
        let [failed, back, shut] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(failed.offline, 0, "two replicas are left: {failed:?}");
        assert_eq!(failed.records, failed.concerned + 1, "{failed:?}");
        assert!(failed.leaders_moved >= 240 / 6, "{failed:?}");
        assert_eq!((back.concerned, back.records), (0, 1), "{back:?}");
        assert_eq!(shut.offline, 0, "{shut:?}");
    }

    #[test]
    fn more_brokers_make_an_event_smaller_and_partitions_alone_larger() {
        let concerned = |brokers, partitions| events(brokers, partitions)[0].concerned;
        let base = concerned(6, 240);
        assert!(concerned(12, 240) < base);
        assert!(concerned(6, 480) > base);
    }

    #[test]
    fn too_few_brokers_are_an_error() {
        let size = Size {
            brokers: 2,
            partitions: 1,
            replication_factor: 3,
        };
        assert!(run(size, |_| {}).is_err());
    }
}
