//! Images of the cluster that end at the same offset of the metadata log are equal, on every shard of every broker in
//! every life, and none goes back while it lives (invariants 15 and 16).

use std::collections::BTreeMap;

use model::Offset;

use super::{ImageMark, Observation, Place};

/// See the module's text.
#[derive(Default)]
pub(super) struct EqualImages {
    by_offset: BTreeMap<Offset, (u64, Place, u16)>,
    last: BTreeMap<(Place, u16), Offset>,
}

impl EqualImages {
    pub(super) fn observe(&mut self, seen: &Observation<'_>, wrong: &mut Vec<String>) {
        for view in &seen.metadata {
            for image in view.images() {
                self.look(view.place(), image, wrong);
            }
        }
    }

    fn look(&mut self, place: Place, image: &ImageMark, wrong: &mut Vec<String>) {
        let ImageMark {
            shard,
            end_offset,
            hash,
        } = *image;
        let first = self.by_offset.entry(end_offset);
        let (known, at, other) = *first.or_insert((hash, place, shard));
        if known != hash {
            wrong.push(format!(
                "the metadata image up to {end_offset} on shard {shard} of {place} is another than on shard {other} of \
                 {at}"
            ));
        }
        let last = self.last.entry((place, shard)).or_insert(end_offset);
        if end_offset < *last {
            wrong.push(format!(
                "the metadata image on shard {shard} of {place} went back from {last} to {end_offset}"
            ));
        }
        *last = end_offset.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Case, Fake, broker, judge};
    use super::EqualImages;

    fn knows(number: i32, shard: u16, end_offset: i64, hash: u64) -> Fake {
        broker(number).with_image(shard, end_offset, hash)
    }

    #[test]
    fn every_violation_is_told() {
        let another = Some("is another than");
        let cases: [Case; 7] = [
            (
                "equal",
                vec![vec![knows(1, 0, 5, 50), knows(2, 0, 5, 50)]],
                None,
            ),
            (
                "further on",
                vec![vec![knows(1, 0, 5, 50), knows(2, 0, 6, 60)]],
                None,
            ),
            (
                "differs",
                vec![vec![knows(1, 0, 5, 50), knows(2, 0, 5, 51)]],
                another,
            ),
            (
                "differs between two shards of one broker",
                vec![vec![knows(1, 0, 5, 50).with_image(1, 5, 51)]],
                another,
            ),
            (
                "differs from what an earlier life knew",
                vec![
                    vec![knows(1, 0, 5, 50)],
                    vec![knows(1, 0, 5, 51).in_life(2)],
                ],
                another,
            ),
            (
                "an earlier life knew more",
                vec![
                    vec![knows(1, 0, 6, 60)],
                    vec![knows(1, 0, 5, 50).in_life(2)],
                ],
                None,
            ),
            (
                "goes back",
                vec![vec![knows(1, 0, 6, 60)], vec![knows(1, 0, 5, 50)]],
                Some("went back from 6 to 5"),
            ),
        ];
        for (what, looks, words) in cases {
            let mut checker = EqualImages::default();
            judge(
                what,
                &looks,
                |seen, wrong| checker.observe(seen, wrong),
                words,
            );
        }
    }
}
