//! How a demo's topic is at one moment, and what has changed since another. Pure.

use client::Topic;
use model::BrokerId;

/// What is seen of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// By partition.
    pub partitions: Vec<Seen>,
    /// Brokers that are not fenced.
    pub brokers: usize,
    pub controller: Option<i32>,
}

/// What is seen of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: usize,
    pub in_sync: usize,
}

impl View {
    pub fn of(topic: &Topic, brokers: usize, controller: Option<BrokerId>) -> View {
        let partitions = topic.partitions.iter().map(|partition| Seen {
            leader: partition.leader.map(|id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replicas: partition.replicas.len(),
            in_sync: partition.isr.len(),
        });
        View {
            partitions: partitions.collect(),
            brokers,
            controller: controller.map(|id| id.0),
        }
    }

    /// Whether it was told by a broker that does not yet know what an earlier view shows: a leader epoch only rises.
    pub fn is_older_than(&self, earlier: &View) -> bool {
        let pairs = self.partitions.iter().zip(&earlier.partitions);
        self.partitions.len() < earlier.partitions.len()
            || pairs
                .into_iter()
                .any(|(now, then)| now.leader_epoch < then.leader_epoch)
    }

    /// Partitions that this broker leads.
    pub fn led_by(&self, broker: i32) -> Vec<usize> {
        let partitions = self.partitions.iter().enumerate();
        let led = partitions.filter(|(_, seen)| seen.leader == Some(broker));
        led.map(|(place, _)| place).collect()
    }

    pub fn has_leaders(&self) -> bool {
        self.partitions.iter().all(|seen| seen.leader.is_some())
    }

    /// Whether every replica is in sync.
    pub fn is_whole(&self) -> bool {
        self.partitions
            .iter()
            .all(|seen| seen.in_sync == seen.replicas)
    }

    /// A digit for each partition: its leader, `-` for none.
    pub fn leaders(&self) -> String {
        let digit = |seen: &Seen| seen.leader.map_or("-".to_owned(), |id| id.to_string());
        self.partitions.iter().map(digit).collect()
    }

    /// A digit for each partition: how many replicas are in sync.
    pub fn in_sync(&self) -> String {
        self.partitions
            .iter()
            .map(|seen| seen.in_sync.to_string())
            .collect()
    }

    /// What has changed since an earlier view, in words.
    pub fn changes(&self, earlier: &View) -> Vec<String> {
        let mut changes = Vec::new();
        if self.controller != earlier.controller {
            changes.push(match self.controller {
                Some(id) => format!("broker {id} is the controller"),
                None => "no controller".to_owned(),
            });
        }
        let pairs = || self.partitions.iter().zip(&earlier.partitions).enumerate();
        for (place, (now, then)) in pairs() {
            if now.leader != then.leader {
                changes.push(match now.leader {
                    Some(id) => format!("partition {place} is led by broker {id}"),
                    None => format!("partition {place} has no leader"),
                });
            }
        }
        if pairs().any(|(_, (now, then))| now.in_sync != then.in_sync) {
            changes.push(match self.is_whole() {
                true => "every replica is in sync".to_owned(),
                false => format!("replicas in sync: {}", self.in_sync()),
            });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(partitions: &[(Option<i32>, i32, usize)]) -> View {
        let seen = partitions
            .iter()
            .map(|(leader, leader_epoch, in_sync)| Seen {
                leader: *leader,
                leader_epoch: *leader_epoch,
                replicas: 3,
                in_sync: *in_sync,
            });
        View {
            partitions: seen.collect(),
            brokers: 3,
            controller: Some(1),
        }
    }

    #[test]
    fn changes_are_told_and_what_a_late_broker_says_is_known_as_old() {
        let before = view(&[(Some(1), 0, 3), (Some(2), 0, 3)]);
        let mut after = view(&[(None, 1, 2), (Some(3), 1, 2)]);
        after.controller = Some(2);
        assert_eq!(
            after.changes(&before),
            [
                "broker 2 is the controller",
                "partition 0 has no leader",
                "partition 1 is led by broker 3",
                "replicas in sync: 22",
            ]
        );
        assert_eq!(before.changes(&before), Vec::<String>::new());
        assert!(before.is_older_than(&after) && !after.is_older_than(&before));
        assert!(!after.has_leaders() && before.has_leaders());
        assert!(!after.is_whole() && before.is_whole());
        assert_eq!(
            (after.leaders(), after.in_sync()),
            ("-3".to_owned(), "22".to_owned())
        );
        assert_eq!(before.led_by(2), [1]);
    }
}
