//! Two logs that agree at one (offset, epoch) agree everywhere below it (invariant 2, the log matching property).
//!
//! It is what lets a follower cut itself off at the first disagreement and be sure of the rest. Nothing is remembered:
//! it is a property of what two replicas hold at the same time.

use super::{BatchMark, Observation, Place, Replica};

/// See the module's text.
#[derive(Default)]
pub(super) struct EqualPrefixes;

impl EqualPrefixes {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        let all: Vec<(Place, &Replica)> = seen
            .replicas
            .iter()
            .flat_map(|view| view.replicas().iter().map(|held| (view.place(), held)))
            .collect();
        for (index, (place, replica)) in all.iter().enumerate() {
            for (other_place, other) in &all[index + 1..] {
                if replica.partition == other.partition
                    && let Some((mine, theirs)) = disagreement(&replica.batches, &other.batches)
                {
                    wrong.push(format!(
                        "{}: {place} has {mine:?} where {other_place} has {theirs:?}, and they agree further on: logs \
                         differ below a common batch",
                        replica.partition
                    ));
                }
            }
        }
    }
}

/// The last batches that differ below the last that is the same, if any do. Both lists are in order and without holes.
fn disagreement(
    mine: &[BatchMark],
    theirs: &[BatchMark],
) -> Option<(Option<BatchMark>, Option<BatchMark>)> {
    let same = |batch: &BatchMark| {
        theirs
            .iter()
            .rposition(|other| (other.base, other.epoch) == (batch.base, batch.epoch))
    };
    let (my_end, their_end) = mine
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, batch)| Some((index, same(batch)?)))?;
    let mut my_rest = mine[..my_end].iter().rev();
    let mut their_rest = theirs[..their_end].iter().rev();
    loop {
        match (my_rest.next(), their_rest.next()) {
            (Some(mine), Some(theirs)) if mine == theirs => {}
            (Some(mine), Some(theirs)) => return Some((Some(*mine), Some(*theirs))),
            // Where one log begins there is nothing left to compare.
            (None, _) | (_, None) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Batch, Fake, broker, judge, log};
    use super::EqualPrefixes;

    const A: Batch = (3, 0, 0xA);
    const B: Batch = (2, 1, 0xB);
    const C: Batch = (2, 2, 0xC);

    fn one(number: i32, batches: &[Batch]) -> Fake {
        broker(number).holding(log(batches))
    }

    #[test]
    fn every_violation_is_told() {
        let differ = Some("logs differ below a common batch");
        let other_b: Batch = (2, 0, 0xB);
        let short_a: Batch = (2, 0, 0xA);
        let one_more: Batch = (1, 0, 0xA);
        let mut beginning_later = log(&[A, B, C]);
        beginning_later.log_start.0 = 3;
        beginning_later.batches.remove(0);
        let cases: [(&str, Vec<Fake>, Option<&str>); 7] = [
            ("equal", vec![one(1, &[A, B, C]), one(2, &[A, B, C])], None),
            (
                "one is behind",
                vec![one(1, &[A, B, C]), one(2, &[A])],
                None,
            ),
            (
                "they part, and nothing is common above",
                vec![one(1, &[A, B]), one(2, &[A, other_b])],
                None,
            ),
            (
                "they part below a common batch",
                vec![one(1, &[A, B, C]), one(2, &[A, other_b, C])],
                differ,
            ),
            (
                "batches have other borders below",
                vec![one(1, &[A, B]), one(2, &[short_a, one_more, B])],
                differ,
            ),
            (
                "a log that begins later",
                vec![one(1, &[A, B, C]), broker(2).holding(beginning_later)],
                None,
            ),
            (
                "three, of which two differ",
                vec![
                    one(1, &[A, B, C]),
                    one(2, &[A]),
                    one(3, &[(3, 0, 0xF), B, C]),
                ],
                differ,
            ),
        ];
        for (what, brokers, words) in cases {
            let looks = [brokers];
            // The third one differs from the first; the second has nothing in common with it that is further on.
            judge(
                what,
                &looks,
                |seen, wrong| EqualPrefixes.observe(seen, wrong),
                words,
            );
        }
    }
}
