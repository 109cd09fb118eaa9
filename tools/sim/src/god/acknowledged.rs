//! What was acknowledged is in every member of the in-sync set and of the eligible leader replicas (invariants 6 and 8),
//! and durable there.
//!
//! The members are those that the broker with the newest state of the partition names, when they were members already
//! at the look before: one that has just been taken in may have been looked at a moment earlier.

use std::collections::BTreeMap;

use model::{BrokerId, TopicPartition};

use super::{Acknowledged, Observation, Place, Replica};

/// See the module's text.
#[derive(Default)]
pub(super) struct AcknowledgedIsKept {
    members: BTreeMap<TopicPartition, Vec<BrokerId>>,
}

impl AcknowledgedIsKept {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        let mut by_partition: BTreeMap<TopicPartition, Vec<&Acknowledged>> = BTreeMap::new();
        for batch in seen.acknowledged {
            by_partition.entry(batch.partition).or_default().push(batch);
        }
        for (partition, batches) in by_partition {
            // A partition that nobody knows is deleted, or all that know it are down.
            let Some(holders) = seen.holders(partition) else {
                continue;
            };
            let before = self.members.insert(partition, holders.members.clone());
            let before = before.unwrap_or_else(|| holders.members.clone());
            let stayed = holders.members.iter().filter(|id| before.contains(id));
            for member in stayed {
                look_at_member(seen, partition, *member, &batches, wrong);
            }
        }
    }
}

fn look_at_member(
    seen: &Observation<'_>,
    partition: TopicPartition,
    member: BrokerId,
    batches: &[&Acknowledged],
    wrong: &mut Vec<String>,
) {
    // Who is down cannot be looked at: it will be when it is back.
    let views = seen.replicas.iter();
    let Some(view) = views.copied().find(|view| view.place().broker == member) else {
        return;
    };
    let held = view
        .replicas()
        .iter()
        .find(|held| held.partition == partition);
    let Some(replica) = held else {
        if view.is_complete() {
            wrong.push(complaint(partition, view.place(), "it holds no replica"));
        }
        return;
    };
    // One complaint for each replica: when its end is lost, so is everything there.
    let lost = batches.iter().find_map(|batch| lack(replica, batch));
    if let Some(lost) = lost {
        wrong.push(complaint(partition, view.place(), &lost));
    }
}

fn complaint(partition: TopicPartition, place: Place, lost: &str) -> String {
    format!("{partition}: {place} is a member and lacks what is acknowledged: {lost}")
}

/// What of an acknowledged batch a replica lacks.
fn lack(replica: &Replica, batch: &Acknowledged) -> Option<String> {
    if batch.base < replica.log_start {
        return None;
    }
    if batch.last >= replica.durable_end {
        let (durable_end, log_end) = (replica.durable_end, replica.log_end);
        return Some(format!(
            "{batch:?} is not durable: durable up to {durable_end} of {log_end}"
        ));
    }
    if batch.last >= replica.read_to {
        return None;
    }
    let found = replica.batches.iter().find(|mark| mark.base == batch.base);
    match found {
        Some(mark) if (mark.last, mark.hash) == (batch.last, batch.hash) => None,
        found => Some(format!("{found:?} where {batch:?} should be")),
    }
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::super::fake::{Batch, Fake, broker, log, partition, seen};
    use super::super::{Acknowledged, Replica};
    use super::AcknowledgedIsKept;

    const A: Batch = (3, 0, 0xA);
    const B: Batch = (2, 0, 0xB);

    /// Batch B, at offsets 3 and 4.
    fn told() -> [Acknowledged; 1] {
        [Acknowledged {
            partition: partition(),
            base: Offset(3),
            last: Offset(4),
            hash: 0xB,
        }]
    }

    fn wrong(looks: &[Vec<Fake>]) -> Vec<String> {
        let mut checker = AcknowledgedIsKept::default();
        let mut wrong = Vec::new();
        for brokers in looks {
            checker.observe(&seen(brokers, &told()), &mut wrong);
        }
        wrong
    }

    /// Broker 1 has it and says who is a member, broker 2 is as given.
    fn pair(members: &[i32], second: Replica) -> Vec<Fake> {
        let first = broker(1).holding(log(&[A, B])).knowing(members);
        vec![first, broker(2).holding(second)]
    }

    #[test]
    fn every_violation_is_told() {
        let mut unread = log(&[A, B]);
        unread.batches.clear();
        unread.read_to = Offset(0);
        let mut begun_later = log(&[A, B]);
        begun_later.log_start = Offset(5);
        begun_later.batches.clear();
        let cases: [(&str, &[i32], Replica, Option<&str>); 8] = [
            ("there", &[1, 2], log(&[A, B]), None),
            ("not there", &[1, 2], log(&[A]), Some("is not durable")),
            (
                "there, not durable",
                &[1, 2],
                log(&[A, B]).durable_to(4),
                Some("is not durable"),
            ),
            (
                "another one there",
                &[1, 2],
                log(&[A, (2, 0, 0xC)]),
                Some("should be"),
            ),
            (
                "another border",
                &[1, 2],
                log(&[A, (3, 0, 0xB)]),
                Some("should be"),
            ),
            ("no member", &[1], log(&[A]), None),
            ("could not be read", &[1, 2], unread, None),
            ("deleted from the front", &[1, 2], begun_later, None),
        ];
        for (what, members, second, words) in cases {
            let wrong = wrong(&[pair(members, second)]);
            match words {
                None => assert!(wrong.is_empty(), "{what}: {wrong:?}"),
                Some(words) => assert!(
                    wrong.len() == 1 && wrong[0].contains(words) && wrong[0].contains("broker 2"),
                    "{what}: {wrong:?}"
                ),
            }
        }
    }

    #[test]
    fn a_member_without_a_replica_is_told() {
        let without = |is_partial| {
            let mut second = broker(2);
            second.is_partial = is_partial;
            vec![broker(1).holding(log(&[A, B])).knowing(&[1, 2]), second]
        };
        let told = wrong(&[without(false)]);
        assert!(
            told.len() == 1 && told[0].contains("holds no replica"),
            "{told:?}"
        );
        assert_eq!(wrong(&[without(true)]), Vec::<String>::new());
    }

    #[test]
    fn a_new_member_is_looked_at_from_the_second_time_on() {
        let joins = || pair(&[1, 2], log(&[A]));
        let before = || pair(&[1], log(&[A]));
        assert_eq!(wrong(&[before(), joins()]), Vec::<String>::new());
        assert_eq!(wrong(&[before(), joins(), joins()]).len(), 1);
    }
}
