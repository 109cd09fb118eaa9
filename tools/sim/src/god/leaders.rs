//! One leader for each epoch of a partition, one controller for each term (invariants 5 and 14).
//!
//! A broker may take itself for the leader of an epoch that is over; nobody else may ever have led in it.

use std::collections::BTreeMap;

use model::{BrokerId, LeaderEpoch, TopicPartition};

use super::Observation;

/// See the module's text.
#[derive(Default)]
pub(super) struct OneLeader {
    partitions: BTreeMap<(TopicPartition, LeaderEpoch), BrokerId>,
    controllers: BTreeMap<i64, BrokerId>,
}

impl OneLeader {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        for view in &seen.replicas {
            let id = view.place().broker;
            for replica in view.replicas().iter().filter(|replica| replica.leads) {
                let key = (replica.partition, replica.leader_epoch);
                let first = *self.partitions.entry(key).or_insert(id);
                if first != id {
                    wrong.push(format!(
                        "{}: {} leads in epoch {}, in which broker {first} has led",
                        replica.partition,
                        view.place(),
                        replica.leader_epoch
                    ));
                }
            }
        }
        for view in &seen.metadata {
            for holders in view.holders() {
                let Some(leader) = holders.leader else {
                    continue;
                };
                let key = (holders.partition, holders.leader_epoch);
                let first = *self.partitions.entry(key).or_insert(leader);
                if first != leader {
                    wrong.push(format!(
                        "{}: {} takes broker {leader} for the leader of epoch {}, in which broker {first} has led",
                        holders.partition,
                        view.place(),
                        holders.leader_epoch
                    ));
                }
            }
            if let Some((term, controller)) = view.controller() {
                let first = *self.controllers.entry(term).or_insert(controller);
                if first != controller {
                    wrong.push(format!(
                        "{} takes broker {controller} for the controller of term {term}, which was broker {first}",
                        view.place()
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::BrokerId;

    use super::super::fake::{Case, Fake, broker, judge, log};
    use super::OneLeader;

    fn leads(number: i32, epoch: i32) -> Fake {
        broker(number).holding(log(&[(3, 0, 0xA)]).leading(epoch))
    }

    fn controls(number: i32, term: i64, controller: i32) -> Fake {
        let mut fake = broker(number);
        fake.controller = Some((term, BrokerId(controller)));
        fake
    }

    #[test]
    fn every_violation_is_told() {
        let cases: [Case; 7] = [
            ("another epoch", vec![vec![leads(1, 0), leads(2, 1)]], None),
            (
                "again",
                vec![vec![leads(1, 0)], vec![leads(1, 0).in_life(2)]],
                None,
            ),
            (
                "two at once",
                vec![vec![leads(1, 0), leads(2, 0)]],
                Some("in which broker 1 has led"),
            ),
            (
                "one after the other",
                vec![vec![leads(1, 0)], vec![leads(2, 1)], vec![leads(2, 0)]],
                Some("in which broker 1 has led"),
            ),
            (
                "another broker believes it",
                vec![vec![leads(2, 0)], vec![broker(3).knowing(&[1])]],
                Some("takes broker 1 for the leader"),
            ),
            (
                "controllers of two terms",
                vec![vec![controls(1, 1, 1), controls(2, 2, 2)]],
                None,
            ),
            (
                "two controllers of a term",
                vec![vec![controls(1, 1, 1)], vec![controls(3, 1, 2)]],
                Some("which was broker 1"),
            ),
        ];
        for (what, looks, words) in cases {
            let mut checker = OneLeader::default();
            judge(
                what,
                &looks,
                |seen, wrong| checker.observe(seen, wrong),
                words,
            );
        }
    }
}
