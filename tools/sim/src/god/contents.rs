//! One (partition, offset, epoch) has one content, on all brokers, for ever (invariant 1).
//!
//! What a leader has once appended under its epoch is what every replica has there, also what was lost or cut off since.
//! Batches are compared whole: compaction, when it comes, rewrites them, and is then to be compared by record.

use std::collections::BTreeMap;

use model::{LeaderEpoch, Offset, TopicPartition};

use super::{BatchMark, Observation, Place};

/// What was seen first, and where.
#[derive(Clone, Copy)]
struct First {
    mark: BatchMark,
    place: Place,
}

/// Everything that was ever seen, by the offset at which it begins.
#[derive(Default)]
pub(super) struct OneContent {
    seen: BTreeMap<(TopicPartition, LeaderEpoch), BTreeMap<Offset, First>>,
}

impl OneContent {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        for view in &seen.replicas {
            for replica in view.replicas() {
                for mark in &replica.batches {
                    self.look(replica.partition, view.place(), mark, wrong);
                }
                look_at_order(replica.partition, view.place(), &replica.batches, wrong);
            }
        }
    }

    fn look(
        &mut self,
        partition: TopicPartition,
        place: Place,
        mark: &BatchMark,
        wrong: &mut Vec<String>,
    ) {
        let known = self.seen.entry((partition, mark.epoch)).or_default();
        // Of those that begin at or before its end, the last one is the only one that it can overlap.
        let before = known.range(..=mark.last).next_back();
        let overlapping = before.filter(|(_, first)| first.mark.last >= mark.base);
        match overlapping {
            None => {
                known.insert(mark.base, First { mark: *mark, place });
            }
            Some((_, first)) if first.mark == *mark => {}
            Some((_, First { mark: other, place: at })) => wrong.push(format!(
                "{partition}: {mark:?} at {place}, but at {at} it was {other:?}: one offset of one epoch has two contents"
            )),
        }
    }
}

/// Offsets increase without holes, epochs do not go back (invariants 1 and 5).
fn look_at_order(
    partition: TopicPartition,
    place: Place,
    batches: &[BatchMark],
    wrong: &mut Vec<String>,
) {
    for pair in batches.windows(2) {
        let [before, after] = pair else { continue };
        if after.base != Offset(before.last.0 + 1) || after.epoch < before.epoch {
            wrong.push(format!(
                "{partition} at {place}: {after:?} follows {before:?}: offsets have a hole, or epochs go back"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Batch, Case, Fake, broker, judge, log};
    use super::OneContent;

    const A: Batch = (3, 0, 0xA);
    const B: Batch = (2, 0, 0xB);

    fn one(number: i32, batches: &[Batch]) -> Fake {
        broker(number).holding(log(batches))
    }

    #[test]
    fn every_violation_is_told() {
        let two = Some("has two contents");
        let disorder = Some("offsets have a hole, or epochs go back");
        let cases: [Case; 8] = [
            (
                "the same",
                vec![vec![one(1, &[A, B]), one(2, &[A, B])]],
                None,
            ),
            ("behind", vec![vec![one(1, &[A, B]), one(2, &[A])]], None),
            (
                "another epoch may differ",
                vec![vec![one(1, &[A, B]), one(2, &[A, (2, 1, 0xC)])]],
                None,
            ),
            (
                "another content",
                vec![vec![one(1, &[A, B]), one(2, &[A, (2, 0, 0xC)])]],
                two,
            ),
            (
                "another length",
                vec![vec![one(1, &[A, B]), one(2, &[A, (3, 0, 0xB)])]],
                two,
            ),
            (
                "never seen together",
                vec![vec![one(1, &[A, B])], vec![one(2, &[A, (2, 0, 0xC)])]],
                two,
            ),
            (
                "written again after a crash in the same epoch",
                vec![
                    vec![one(1, &[A, B])],
                    vec![one(1, &[A, (2, 0, 0xC)]).in_life(2)],
                ],
                two,
            ),
            (
                "epochs go back",
                vec![vec![one(1, &[(1, 2, 1), A])]],
                disorder,
            ),
        ];
        for (what, looks, words) in cases {
            let mut checker = OneContent::default();
            judge(
                what,
                &looks,
                |seen, wrong| checker.observe(seen, wrong),
                words,
            );
        }
    }

    #[test]
    fn a_hole_is_told() {
        let mut replica = log(&[A, B]);
        replica.batches[1].base.0 += 1;
        let looks = [vec![broker(1).holding(replica)]];
        let mut checker = OneContent::default();
        let words = Some("offsets have a hole");
        judge(
            "hole",
            &looks,
            |seen, wrong| checker.observe(seen, wrong),
            words,
        );
    }
}
