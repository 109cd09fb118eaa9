//! High watermarks do not go back, and what is below one stays (invariants 3, 4 and 8).
//!
//! A broker's own never goes back within one life. From one leader epoch to the next it may, for a moment: a new leader
//! learns the high watermark late, and answers no reader before it has come to where its epoch begins. From then on it
//! is at least what any earlier leader had. Every member of the in-sync set holds what is below, durably.

use std::collections::BTreeMap;

use model::{LeaderEpoch, Offset, TopicPartition};

use super::{Observation, Place, Replica};

/// See the module's text.
#[derive(Default)]
pub(super) struct HighWatermarks {
    own: BTreeMap<(TopicPartition, Place), Offset>,
    /// The highest that a leader of each epoch has exposed.
    exposed: BTreeMap<TopicPartition, BTreeMap<LeaderEpoch, Offset>>,
}

impl HighWatermarks {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        // What members have to hold is what was exposed before this look: they are not all looked at at once.
        self.look_at_members(seen, wrong);
        for view in &seen.replicas {
            for replica in view.replicas() {
                look_at_offsets(view.place(), replica, wrong);
                self.look_at_own(view.place(), replica, wrong);
                self.look_at_leader(view.place(), replica, wrong);
            }
        }
    }

    fn look_at_members(&self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        for (partition, exposed) in &self.exposed {
            let Some(holders) = seen.holders(*partition) else {
                continue;
            };
            let highest = exposed.values().copied().max().unwrap_or(Offset::ZERO);
            for view in &seen.replicas {
                let held = view
                    .replicas()
                    .iter()
                    .find(|held| held.partition == *partition);
                if let Some(held) = held
                    && holders.members.contains(&view.place().broker)
                    && held.durable_end < highest
                {
                    wrong.push(format!(
                        "{partition}: {} is a member and durable up to {}, below the high watermark {highest}",
                        view.place(),
                        held.durable_end
                    ));
                }
            }
        }
    }

    fn look_at_own(&mut self, place: Place, replica: &Replica, wrong: &mut Vec<String>) {
        let told = replica.high_watermark;
        let before = self.own.entry((replica.partition, place)).or_insert(told);
        if told < *before {
            wrong.push(format!(
                "{}: the high watermark at {place} went back from {before} to {told}",
                replica.partition
            ));
        }
        *before = told.max(*before);
    }

    fn look_at_leader(&mut self, place: Place, replica: &Replica, wrong: &mut Vec<String>) {
        if !replica.leads || !is_settled(replica) {
            return;
        }
        let (epoch, told) = (replica.leader_epoch, replica.high_watermark);
        let exposed = self.exposed.entry(replica.partition).or_default();
        let earlier = exposed.range(..epoch).map(|(_, offset)| *offset).max();
        if let Some(earlier) = earlier
            && told < earlier
        {
            wrong.push(format!(
                "{}: {place} leads in epoch {epoch} with the high watermark {told}, an earlier leader had {earlier}",
                replica.partition
            ));
        }
        let of_epoch = exposed.entry(epoch).or_insert(told);
        *of_epoch = told.max(*of_epoch);
    }
}

fn look_at_offsets(place: Place, replica: &Replica, wrong: &mut Vec<String>) {
    let offsets = [replica.log_start, replica.high_watermark, replica.log_end];
    if !offsets.is_sorted() || replica.durable_end > replica.log_end {
        wrong.push(format!(
            "{} at {place}: log start, high watermark and log end are {offsets:?}, durable up to {}",
            replica.partition, replica.durable_end
        ));
    }
}

/// Whether a leader's high watermark has come to where its epoch begins. Not if that could not be read.
fn is_settled(replica: &Replica) -> bool {
    let of_epoch = |epoch: LeaderEpoch| epoch >= replica.leader_epoch;
    let begins = match replica.batches.iter().find(|batch| of_epoch(batch.epoch)) {
        Some(first) => first.base,
        None if replica.read_to == replica.log_end => replica.log_end,
        None => return false,
    };
    replica.high_watermark >= begins
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Batch, Case, Fake, broker, judge, log};
    use super::HighWatermarks;

    const A: Batch = (3, 0, 0xA);
    const B: Batch = (2, 0, 0xB);
    const C: Batch = (2, 1, 0xC);

    /// A leader.
    fn leads(number: i32, epoch: i32, batches: &[Batch], high_watermark: i64) -> Fake {
        let log = log(batches).leading(epoch).committed_to(high_watermark);
        broker(number).holding(log)
    }

    fn check<const N: usize>(cases: [Case; N]) {
        for (what, looks, words) in cases {
            let mut checker = HighWatermarks::default();
            judge(
                what,
                &looks,
                |seen, wrong| checker.observe(seen, wrong),
                words,
            );
        }
    }

    #[test]
    fn it_does_not_go_back() {
        let back = Some("went back from 5 to 3");
        let earlier = Some("an earlier leader had 5");
        check([
            (
                "it goes on",
                vec![vec![leads(1, 0, &[A, B], 3)], vec![leads(1, 0, &[A, B], 5)]],
                None,
            ),
            (
                "it goes back",
                vec![vec![leads(1, 0, &[A, B], 5)], vec![leads(1, 0, &[A, B], 3)]],
                back,
            ),
            (
                "another life knows it later, in a new epoch",
                vec![
                    vec![leads(1, 0, &[A, B], 5)],
                    vec![leads(1, 1, &[A, B, C], 3).in_life(2)],
                ],
                None,
            ),
            (
                "a settled leader of a later epoch is behind",
                vec![
                    vec![leads(1, 0, &[A, B], 5)],
                    vec![leads(2, 1, &[A, (1, 1, 0xD)], 4)],
                ],
                earlier,
            ),
            (
                "a leader that has lost what was below it, with nothing of its own",
                vec![vec![leads(1, 0, &[A, B], 5)], vec![leads(2, 1, &[A], 3)]],
                earlier,
            ),
            (
                "a stale leader is behind",
                vec![
                    vec![leads(2, 1, &[A, B, C], 7)],
                    vec![leads(1, 0, &[A, B], 5)],
                ],
                None,
            ),
        ]);
    }

    #[test]
    fn members_hold_what_is_below() {
        let below = Some("below the high watermark 5");
        let bounds = Some("log start, high watermark and log end are");
        let follower = |batches: &[Batch]| broker(2).holding(log(batches));
        let mut ends_early = log(&[A, B]);
        ends_early.high_watermark.0 = 6;
        let mut durable_beyond = log(&[A, B]);
        durable_beyond.durable_end.0 = 6;
        check([
            (
                "a member holds all that is below",
                vec![
                    vec![leads(1, 0, &[A, B], 5)],
                    vec![leads(1, 0, &[A, B], 5).knowing(&[1, 2]), follower(&[A, B])],
                ],
                None,
            ),
            (
                "a member is behind what was exposed",
                vec![
                    vec![leads(1, 0, &[A, B], 5)],
                    vec![leads(1, 0, &[A, B], 5).knowing(&[1, 2]), follower(&[A])],
                ],
                below,
            ),
            (
                "one that is no member may be",
                vec![
                    vec![leads(1, 0, &[A, B], 5)],
                    vec![leads(1, 0, &[A, B], 5).knowing(&[1]), follower(&[A])],
                ],
                None,
            ),
            (
                "what is exposed in the same look may come a moment later",
                vec![vec![
                    leads(1, 0, &[A, B], 5).knowing(&[1, 2]),
                    follower(&[A]),
                ]],
                None,
            ),
            (
                "beyond the end",
                vec![vec![broker(1).holding(ends_early)]],
                bounds,
            ),
            (
                "durable beyond it",
                vec![vec![broker(1).holding(durable_beyond)]],
                bounds,
            ),
        ]);
    }
}
