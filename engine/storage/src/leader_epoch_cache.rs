//! Where each leader epoch of one log begins (KIP-101, KIP-279).
//!
//! Pure. Owned by the log. Invariant: epochs and start offsets both strictly increase.

use model::{LeaderEpoch, Offset};

use crate::encoding::{Decoder, Encoder, Short};

const ENTRY_BYTES: usize = 12;

/// Start offsets of leader epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochCache {
    /// The newest epoch, if any record was appended under one.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that a batch of `epoch` begins at `offset`. Known epochs and `NONE` change nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if epoch.0 < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        // An epoch that got no record is replaced by the one that starts at the same offset.
        while self
            .entries
            .last()
            .is_some_and(|(_, start)| *start >= offset)
        {
            self.entries.pop();
        }
        self.entries.push((epoch, offset));
        assert!(
            self.entries
                .iter()
                .rev()
                .take(2)
                .is_sorted_by(|later, earlier| earlier.0 < later.0 && earlier.1 < later.1),
            "epochs and their starts increase"
        );
    }

    /// The epoch under which the record at `offset` was appended.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        Some(self.entries[after.checked_sub(1)?].0)
    }

    /// The largest known epoch that is at most `epoch`, and where it ends (exclusive).
    pub fn end_offset(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch.0 < 0 {
            return None;
        }
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = self.entries[after.checked_sub(1)?];
        let end = self
            .entries
            .get(after)
            .map_or(log_end_offset, |(_, start)| *start);
        Some((found, end))
    }

    /// Drops epochs that end at or before the new log start; the one that spans it begins there now.
    pub fn truncate_front(&mut self, log_start_offset: Offset) {
        let after = self
            .entries
            .partition_point(|(_, start)| *start <= log_start_offset);
        if let Some(spanning) = after.checked_sub(1) {
            self.entries.drain(..spanning);
            self.entries[0].1 = log_start_offset;
        }
    }

    /// Whether an epoch begins at or behind this offset.
    pub fn begins_from(&self, offset: Offset) -> bool {
        self.entries
            .last()
            .is_some_and(|(_, start)| *start >= offset)
    }

    /// Drops epochs that begin at or behind the new end of the log.
    pub fn truncate_back(&mut self, log_end_offset: Offset) {
        while self
            .entries
            .last()
            .is_some_and(|(_, start)| *start >= log_end_offset)
        {
            self.entries.pop();
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.entries.len());
        for (epoch, start) in &self.entries {
            out.i32(epoch.0);
            out.offset(*start);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<LeaderEpochCache, Short> {
        let mut entries = Vec::new();
        for _ in 0..from.count(ENTRY_BYTES)? {
            entries.push((LeaderEpoch(from.i32()?), from.offset()?));
        }
        Ok(LeaderEpochCache { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_where_the_next_begins() {
        let mut cache = LeaderEpochCache::default();
        for (epoch, offset) in [(2, 0), (2, 5), (4, 10), (7, 20), (3, 25)] {
            cache.assign(LeaderEpoch(epoch), Offset(offset));
        }
        let table = [
            (-1, None),
            (1, None),
            (2, Some((2, 10))),
            (3, Some((2, 10))),
            (4, Some((4, 20))),
            (6, Some((4, 20))),
            (7, Some((7, 30))),
            (9, Some((7, 30))),
        ];
        for (asked, expected) in table {
            let got = cache
                .end_offset(LeaderEpoch(asked), Offset(30))
                .map(|(e, o)| (e.0, o.0));
            assert_eq!(got, expected, "epoch {asked}");
        }
        assert_eq!(cache.epoch_of(Offset(9)), Some(LeaderEpoch(2)));
        assert_eq!(cache.epoch_of(Offset(10)), Some(LeaderEpoch(4)));
        let mut cut = cache.clone();
        cut.truncate_back(Offset(20));
        assert_eq!(cut.latest(), Some(LeaderEpoch(4)));
        cut.truncate_back(Offset(10));
        assert_eq!(cut.latest(), Some(LeaderEpoch(2)));
        cache.truncate_front(Offset(15));
        assert_eq!(cache.epoch_of(Offset(14)), None);
        assert_eq!(cache.epoch_of(Offset(15)), Some(LeaderEpoch(4)));
        let mut out = Encoder::default();
        cache.encode(&mut out);
        assert_eq!(
            LeaderEpochCache::decode(&mut Decoder::new(&out.bytes)),
            Ok(cache)
        );
    }
}
