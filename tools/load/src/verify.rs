//! Proof that what was acknowledged is there: once, in order, unchanged.
//!
//! Pure. Every record value carries a [`Stamp`]; the producer keeps a [`Ledger`] of what it knows; a [`Verifier`] is
//! fed each record that a reader sees and says at the end what is wrong.
//! Invariant: the producer never sends a stamp twice, so a stamp seen twice is the broker's duplicate.

use std::collections::BTreeMap;
use std::fmt;

use client::partition_for_key;
use model::{Offset, PartitionIndex};

/// Bytes of a stamp at the front of a value: magic u32, checksum u32 over the key and all that follows in the value,
/// run u64, topic u16, producer u16, partition i32, sequence u64; big-endian. The rest of the value is filler, covered by
/// the checksum.
pub const STAMP_BYTES: usize = 32;
const MAGIC: u32 = 0x524C_7632; // "RLv2"
const CHECKSUM_FROM: usize = 8;
/// Unknown outcomes a ledger remembers, as separate ranges.
pub const UNKNOWN_RANGES_MAX: usize = 1 << 20;
/// Sequences of producers that a verifier follows at once.
pub const STREAMS_MAX: usize = 1 << 20;
/// Violations told one by one; the rest are only counted.
const EXAMPLES_MAX: usize = 10;

/// A partition of one of a load's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the topic within the load, from 0.
    pub topic: u16,
    /// Its partition.
    pub partition: PartitionIndex,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.topic {
            0 => self.partition.fmt(f),
            topic => write!(f, "{} of topic {topic}", self.partition),
        }
    }
}

/// What a record says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Random number of the run that produced it.
    pub run: u64,
    /// The producer within the run.
    pub producer: u16,
    /// Where it was sent to.
    pub place: Place,
    /// Position in the sequence of this producer and partition, from 0.
    pub sequence: u64,
}

/// Why a value has no good stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// The value was not produced by a verifying load.
    #[error("no stamp")]
    Missing,
    /// The value was changed.
    #[error("checksum mismatch")]
    Checksum,
}

impl Stamp {
    /// Writes the stamp over the front of `value`, whose filler is already in place, of the record with this key.
    ///
    /// Values shorter than [`STAMP_BYTES`] are left alone: the workload refuses them before.
    pub fn write(&self, key: &[u8], value: &mut [u8]) {
        if value.len() < STAMP_BYTES {
            return;
        }
        value[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        value[8..16].copy_from_slice(&self.run.to_be_bytes());
        value[16..18].copy_from_slice(&self.place.topic.to_be_bytes());
        value[18..20].copy_from_slice(&self.producer.to_be_bytes());
        value[20..24].copy_from_slice(&self.place.partition.0.to_be_bytes());
        value[24..32].copy_from_slice(&self.sequence.to_be_bytes());
        let checksum = checksum(key, value);
        value[4..8].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Reads and checks the stamp of a record.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Stamp, StampError> {
        let Some(head) = value.first_chunk::<STAMP_BYTES>() else {
            return Err(StampError::Missing);
        };
        if part::<4>(head, 0) != MAGIC.to_be_bytes() {
            return Err(StampError::Missing);
        }
        if part::<4>(head, 4) != checksum(key, value).to_be_bytes() {
            return Err(StampError::Checksum);
        }
        Ok(Stamp {
            run: u64::from_be_bytes(part(head, 8)),
            producer: u16::from_be_bytes(part(head, 18)),
            place: Place {
                topic: u16::from_be_bytes(part(head, 16)),
                partition: PartitionIndex(i32::from_be_bytes(part(head, 20))),
            },
            sequence: u64::from_be_bytes(part(head, 24)),
        })
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), &value[CHECKSUM_FROM..])
}

fn part<const N: usize>(head: &[u8; STAMP_BYTES], from: usize) -> [u8; N] {
    std::array::from_fn(|i| head[from + i])
}

/// The sequence of one producer into one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    /// See [`Stamp::run`].
    pub run: u64,
    /// See [`Stamp::producer`].
    pub producer: u16,
    /// See [`Stamp::place`].
    pub place: Place,
}

#[derive(Clone, Debug, Default)]
struct Sent {
    next: u64,
    /// Start to end of sequences whose outcome is unknown.
    unknown: BTreeMap<u64, u64>,
}

/// What the producers know about what they sent.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    streams: BTreeMap<StreamKey, Sent>,
    overflowed: bool,
}

impl Ledger {
    /// Notes that sequences `first .. first + count` were sent.
    pub fn sent(&mut self, key: StreamKey, first: u64, count: u64) {
        let stream = self.streams.entry(key).or_default();
        stream.next = stream.next.max(first.saturating_add(count));
    }

    /// Notes that the broker did not acknowledge sequences `first .. first + count`: they may be there or not.
    pub fn unknown(&mut self, key: StreamKey, first: u64, count: u64) {
        let stream = self.streams.entry(key).or_default();
        let mut end = first.saturating_add(count);
        let mut start = first;
        if let Some((&before, &before_end)) = stream.unknown.range(..=first).next_back()
            && before_end >= first
        {
            start = before;
            end = end.max(before_end);
        }
        if !stream.unknown.contains_key(&start) && stream.unknown.len() >= UNKNOWN_RANGES_MAX {
            self.overflowed = true;
            return;
        }
        stream.unknown.insert(start, end);
    }

    /// Adds another ledger; they share no stream.
    pub fn merge(&mut self, other: Ledger) {
        self.streams.extend(other.streams);
        self.overflowed |= other.overflowed;
    }

    /// Records sent in all.
    pub fn records(&self) -> u64 {
        self.streams.values().map(|s| s.next).sum()
    }

    /// Sequences of `start..end` that were acknowledged.
    fn acknowledged(&self, key: &StreamKey, start: u64, end: u64) -> u64 {
        let Some(stream) = self.streams.get(key) else {
            return end - start;
        };
        let unknown: u64 = stream
            .unknown
            .iter()
            .map(|(&from, &to)| to.min(end).saturating_sub(from.max(start)))
            .sum();
        (end - start).saturating_sub(unknown)
    }
}

/// What a reader found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// Records looked at.
    pub records: u64,
    /// Records with a good stamp.
    pub verified: u64,
    /// Records of other runs or without a stamp; no violation.
    pub foreign: u64,
    /// Acknowledged records that are not there. Only who knows what was acknowledged can tell them from gaps.
    pub lost: u64,
    /// Sequences missing where nobody knows whether they were acknowledged: lost records, or refused ones. No
    /// violation by itself.
    pub gaps: u64,
    /// Records seen a second time.
    pub duplicated: u64,
    /// Records seen after a later one.
    pub reordered: u64,
    /// Records whose checksum does not match.
    pub corrupt: u64,
    /// Records in another partition than they were sent to.
    pub misplaced: u64,
    /// Places where the offset did not rise by one.
    pub offset_breaks: u64,
    /// Unacknowledged records that are there or not; no violation.
    pub unknown: u64,
    /// Acknowledged records that reading back did not come to, because it was stopped before its end.
    pub unread: u64,
    /// The first violations in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations() == 0
    }

    /// The result in a few words.
    pub fn verdict(&self) -> String {
        match (self.violations(), self.gaps) {
            (0, _) if self.unread > 0 => {
                let Findings {
                    verified, unread, ..
                } = self;
                format!(
                    "clean as far as it went: {verified} records were read back, {unread} were not"
                )
            }
            (0, _) if self.verified == 0 && self.unknown == 0 => {
                "nothing to verify: no record with a stamp was read".to_owned()
            }
            (0, 0) => "clean".to_owned(),
            (0, gaps) => format!(
                "no violation, {gaps} gaps (refused or lost: only `produce --verify` can tell)"
            ),
            (violations, _) => format!("VIOLATED, {violations} times"),
        }
    }

    /// Count of what is wrong.
    pub fn violations(&self) -> u64 {
        self.lost
            + self.duplicated
            + self.reordered
            + self.corrupt
            + self.misplaced
            + self.offset_breaks
    }

    fn example(&mut self, text: fmt::Arguments<'_>) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text.to_string());
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Seen {
    next: u64,
    /// Start to end of sequences jumped over so far.
    missing: BTreeMap<u64, u64>,
}

/// Checks records as a reader sees them, partition by partition in offset order.
#[derive(Debug, Default)]
pub struct Verifier {
    /// The only run that counts; any if `None`.
    run: Option<u64>,
    next_offset: BTreeMap<Place, Offset>,
    streams: BTreeMap<StreamKey, Seen>,
    findings: Findings,
    /// Partitions read from their very first record, where every sequence must begin at 0.
    whole: BTreeMap<Place, bool>,
    /// Partitions of each topic, where records with a key must be where the key belongs.
    partitions: BTreeMap<u16, u32>,
}

impl Verifier {
    /// A verifier of one run, or of every run that left stamps.
    pub fn new(run: Option<u64>) -> Verifier {
        Verifier {
            run,
            ..Verifier::default()
        }
    }

    /// Says where reading of a partition begins. Only from offset 0 can a missing beginning be seen.
    pub fn begin(&mut self, place: Place, offset: Offset) {
        self.next_offset.insert(place, offset);
        self.whole.insert(place, offset == Offset::ZERO);
    }

    /// Says how many partitions a topic has whose keyed records were placed by [`partition_for_key`].
    pub fn keyed(&mut self, topic: u16, partitions: u32) {
        self.partitions.insert(topic, partitions);
    }

    /// Records seen so far.
    pub fn records(&self) -> u64 {
        self.findings.records
    }

    /// Looks at one record.
    pub fn observe(
        &mut self,
        place: Place,
        offset: Offset,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        self.findings.records += 1;
        let expected = self.next_offset.entry(place).or_insert(offset);
        if *expected != offset {
            self.findings.offset_breaks += 1;
            let was = *expected;
            self.findings.example(format_args!(
                "partition {place}: offset {offset} where {was} was due"
            ));
        }
        self.next_offset
            .insert(place, Offset(offset.0.saturating_add(1)));
        match Stamp::read(key.unwrap_or_default(), value.unwrap_or_default()) {
            Err(StampError::Missing) => self.findings.foreign += 1,
            Err(StampError::Checksum) => {
                self.findings.corrupt += 1;
                self.findings.example(format_args!(
                    "partition {place} offset {offset}: checksum mismatch"
                ));
            }
            Ok(stamp) if self.run.is_some_and(|run| run != stamp.run) => self.findings.foreign += 1,
            Ok(stamp) => self.place(place, key, offset, stamp),
        }
    }

    fn place(&mut self, place: Place, key: Option<&[u8]>, offset: Offset, stamp: Stamp) {
        self.findings.verified += 1;
        let partitions = self.partitions.get(&place.topic).copied();
        let belongs = key
            .zip(partitions)
            .map(|(key, count)| partition_for_key(key, count));
        if belongs.is_some_and(|belongs| belongs != place.partition) {
            self.findings.misplaced += 1;
            self.findings.example(format_args!(
                "partition {place} offset {offset}: a key of another partition"
            ));
        }
        if stamp.place != place {
            self.findings.misplaced += 1;
            self.findings.example(format_args!(
                "partition {place} offset {offset}: record of partition {}",
                stamp.place
            ));
            return;
        }
        let key = StreamKey {
            run: stamp.run,
            producer: stamp.producer,
            place,
        };
        if !self.streams.contains_key(&key) {
            if self.streams.len() >= STREAMS_MAX {
                self.findings.foreign += 1;
                return;
            }
            let whole = self.whole.get(&place).copied().unwrap_or(false);
            let next = if whole { 0 } else { stamp.sequence };
            self.streams.insert(
                key,
                Seen {
                    next,
                    ..Seen::default()
                },
            );
        }
        let Some(seen) = self.streams.get_mut(&key) else {
            return;
        };
        if stamp.sequence >= seen.next {
            if stamp.sequence > seen.next {
                seen.missing.insert(seen.next, stamp.sequence);
            }
            seen.next = stamp.sequence.saturating_add(1);
        } else if take(&mut seen.missing, stamp.sequence) {
            self.findings.reordered += 1;
            self.findings.example(format_args!(
                "partition {place} offset {offset}: producer {} sequence {} came after later ones",
                stamp.producer, stamp.sequence
            ));
        } else {
            self.findings.duplicated += 1;
            self.findings.example(format_args!(
                "partition {place} offset {offset}: producer {} sequence {} seen twice",
                stamp.producer, stamp.sequence
            ));
        }
    }

    /// Takes over what another verifier of the same run saw in other partitions.
    pub fn merge(&mut self, other: Verifier) {
        self.streams.extend(other.streams);
        self.next_offset.extend(other.next_offset);
        self.whole.extend(other.whole);
        self.partitions.extend(other.partitions);
        let (a, b) = (&mut self.findings, other.findings);
        a.records += b.records;
        a.verified += b.verified;
        a.foreign += b.foreign;
        a.lost += b.lost;
        a.gaps += b.gaps;
        a.duplicated += b.duplicated;
        a.reordered += b.reordered;
        a.corrupt += b.corrupt;
        a.misplaced += b.misplaced;
        a.offset_breaks += b.offset_breaks;
        a.examples.extend(b.examples);
        a.examples.truncate(EXAMPLES_MAX);
    }

    /// The verdict. With a ledger, everything acknowledged must have been seen, to the last record, and what was not
    /// acknowledged may be absent; without one, what is missing inside what was seen counts as gaps.
    pub fn finish(mut self, ledger: Option<&Ledger>) -> Findings {
        if let Some(ledger) = ledger {
            for (key, sent) in &ledger.streams {
                let seen = self.streams.entry(*key).or_default();
                if sent.next > seen.next {
                    seen.missing.insert(seen.next, sent.next);
                    seen.next = sent.next;
                }
            }
        }
        self.judge(ledger)
    }

    /// The verdict on a reading that was stopped before its end: what lies behind the last record of a stream that was
    /// seen was not read; what is missing before it is lost.
    pub fn finish_early(mut self, ledger: &Ledger) -> Findings {
        for (key, sent) in &ledger.streams {
            let seen = self.streams.get(key).map_or(0, |seen| seen.next);
            self.findings.unread += ledger.acknowledged(key, seen.min(sent.next), sent.next);
        }
        self.judge(Some(ledger))
    }

    fn judge(mut self, ledger: Option<&Ledger>) -> Findings {
        if let Some(ledger) = ledger {
            let streams = ledger.streams.values();
            let unknown = streams.flat_map(|sent| &sent.unknown);
            self.findings.unknown += unknown.map(|(a, b)| b - a).sum::<u64>();
            if ledger.overflowed {
                self.findings.example(format_args!(
                    "too many failed requests to remember: losses may be overcounted"
                ));
            }
        }
        for (key, seen) in &self.streams {
            for (&start, &end) in &seen.missing {
                let Some(ledger) = ledger else {
                    self.findings.gaps += end - start;
                    self.findings.example(format_args!(
                        "partition {}: producer {} gap in sequences {start} to {end}: refused, or lost",
                        key.place, key.producer
                    ));
                    continue;
                };
                let lost = ledger.acknowledged(key, start, end);
                if lost > 0 {
                    self.findings.lost += lost;
                    self.findings.example(format_args!(
                        "partition {}: producer {} lost {lost} records in sequences {start} to {end}",
                        key.place, key.producer
                    ));
                }
            }
        }
        self.findings
    }
}

/// Removes `sequence` from the ranges; whether it was in one.
fn take(ranges: &mut BTreeMap<u64, u64>, sequence: u64) -> bool {
    let Some((&start, &end)) = ranges.range(..=sequence).next_back() else {
        return false;
    };
    if sequence >= end {
        return false;
    }
    ranges.remove(&start);
    if start < sequence {
        ranges.insert(start, sequence);
    }
    if sequence + 1 < end {
        ranges.insert(sequence + 1, end);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 99;
    const P: Place = Place {
        topic: 0,
        partition: PartitionIndex(3),
    };
    const KEY: &[u8] = b"key";

    fn key() -> StreamKey {
        StreamKey {
            run: RUN,
            producer: 1,
            place: P,
        }
    }

    fn value(sequence: u64) -> Vec<u8> {
        let mut value = vec![0x5a; 50];
        let stamp = Stamp {
            run: RUN,
            producer: 1,
            place: P,
            sequence,
        };
        stamp.write(KEY, &mut value);
        assert_eq!(Stamp::read(KEY, &value), Ok(stamp));
        value
    }

    fn ledger(count: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.sent(key(), 0, count);
        ledger
    }

    /// Feeds sequences at dense offsets and compares (lost, duplicated, reordered).
    fn check(sequences: &[u64], ledger: Option<&Ledger>, expected: (u64, u64, u64)) {
        let mut verifier = Verifier::new(Some(RUN));
        verifier.begin(P, Offset::ZERO);
        for (offset, sequence) in sequences.iter().enumerate() {
            verifier.observe(P, Offset(offset as i64), Some(KEY), Some(&value(*sequence)));
        }
        let f = verifier.finish(ledger);
        assert_eq!(
            (f.lost, f.duplicated, f.reordered),
            expected,
            "{sequences:?} {f:?}"
        );
        assert_eq!(f.is_clean(), expected == (0, 0, 0));
        assert_eq!(f.examples.is_empty(), f.is_clean());
    }

    #[test]
    fn planted_faults_are_found() {
        let five = ledger(5);
        check(&[0, 1, 2, 3, 4], Some(&five), (0, 0, 0));
        check(&[0, 1, 3, 4], Some(&five), (1, 0, 0)); // loss inside
        check(&[1, 2, 3, 4], Some(&five), (1, 0, 0)); // loss at the front
        check(&[0, 1, 2], Some(&five), (2, 0, 0)); // loss at the end
        check(&[], Some(&five), (5, 0, 0)); // all lost
        check(&[0, 1, 1, 2, 3, 4], Some(&five), (0, 1, 0)); // duplicate
        check(&[0, 1, 2, 3, 4, 0, 1], Some(&five), (0, 2, 0)); // replayed batch
        check(&[0, 2, 1, 3, 4], Some(&five), (0, 0, 1)); // swapped
        check(&[0, 3, 4, 1, 2, 2], Some(&five), (0, 1, 2));
        check(&[0, 1, 2], None, (0, 0, 0)); // without a ledger the end cannot be known
    }

    #[test]
    fn what_was_not_read_is_neither_lost_nor_verified() {
        let rows: [(&[u64], _); 5] = [
            (&[0, 1, 2, 3, 4], (0, 0)),
            (&[0, 1, 2], (0, 2)),
            (&[], (0, 5)),
            (&[0, 2], (1, 2)), // 1 should have come before 2
            (&[1], (1, 3)),
        ];
        for (sequences, expected) in rows {
            let mut verifier = Verifier::new(Some(RUN));
            verifier.begin(P, Offset::ZERO);
            for (offset, sequence) in sequences.iter().enumerate() {
                verifier.observe(P, Offset(offset as i64), Some(KEY), Some(&value(*sequence)));
            }
            let f = verifier.finish_early(&ledger(5));
            assert_eq!((f.lost, f.unread), expected, "{sequences:?}");
            assert_eq!(f.is_clean(), f.lost == 0);
        }
        let mut unknown = ledger(5);
        unknown.unknown(key(), 3, 2);
        assert_eq!(Verifier::new(Some(RUN)).finish_early(&unknown).unread, 3);
    }

    #[test]
    fn without_a_ledger_what_is_missing_is_a_gap_and_no_loss() {
        let mut verifier = Verifier::new(None);
        verifier.begin(P, Offset::ZERO);
        for (offset, sequence) in [(0, 1), (1, 2), (2, 5)] {
            verifier.observe(P, Offset(offset), Some(KEY), Some(&value(sequence)));
        }
        let f = verifier.finish(None);
        assert_eq!((f.gaps, f.lost, f.verified), (3, 0, 3));
        assert!(f.is_clean() && f.examples.len() == 2, "{f:?}");
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        let mut ledger = ledger(10);
        ledger.unknown(key(), 2, 2);
        ledger.unknown(key(), 4, 1);
        ledger.unknown(key(), 8, 2);
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], Some(&ledger), (0, 0, 0));
        check(&[0, 1, 5, 6, 7], Some(&ledger), (0, 0, 0));
        check(&[0, 1, 3, 5, 6, 7, 9], Some(&ledger), (0, 0, 0));
        check(&[0, 1, 6, 7], Some(&ledger), (1, 0, 0)); // 5 was acknowledged
        check(&[0, 1, 2, 2, 5, 6, 7], Some(&ledger), (0, 1, 0)); // never twice
    }

    #[test]
    fn content_place_and_offsets_are_checked() {
        let mut verifier = Verifier::new(None);
        verifier.begin(P, Offset::ZERO);
        let other = Place { topic: 1, ..P };
        verifier.begin(other, Offset::ZERO);
        verifier.observe(P, Offset(0), Some(KEY), Some(&value(0)));
        let mut broken = value(1);
        broken[45] ^= 1;
        verifier.observe(P, Offset(1), Some(KEY), Some(&broken));
        verifier.observe(P, Offset(5), Some(KEY), Some(&value(1)));
        verifier.observe(other, Offset(0), Some(KEY), Some(&value(2)));
        verifier.observe(P, Offset(6), Some(KEY), Some(b"not ours"));
        verifier.observe(P, Offset(7), Some(KEY), None);
        let f = verifier.finish(None);
        assert_eq!(
            (
                f.corrupt,
                f.misplaced,
                f.offset_breaks,
                f.foreign,
                f.verified
            ),
            (1, 1, 1, 2, 3)
        );
        assert!(!f.is_clean());
    }

    #[test]
    fn a_changed_key_is_corrupt_and_a_key_of_another_partition_misplaced() {
        let mut verifier = Verifier::new(None);
        verifier.begin(P, Offset::ZERO);
        verifier.observe(P, Offset(0), Some(b"kez"), Some(&value(0)));
        let belongs = partition_for_key(KEY, 100);
        assert_ne!(belongs, P.partition);
        verifier.keyed(0, 100);
        verifier.observe(P, Offset(1), Some(KEY), Some(&value(1)));
        let f = verifier.finish(None);
        assert_eq!((f.corrupt, f.misplaced), (1, 1));
    }

    #[test]
    fn reading_from_the_middle_starts_where_it_starts() {
        let mut verifier = Verifier::new(Some(RUN));
        verifier.begin(P, Offset(100));
        for (offset, sequence) in [(100, 40), (101, 41), (102, 43)] {
            verifier.observe(P, Offset(offset), Some(KEY), Some(&value(sequence)));
        }
        assert_eq!(verifier.finish(None).gaps, 1);
    }
}
