//! What a lane sends in which order: batches built in advance, and the round in which they go to partitions.
//!
//! Pure. Records without keys go to the partitions in turn, a batch each. Records with keys are drawn one by one and
//! gather at the partition their key belongs to, as in Kafka's producer; a batch leaves when it is full or when its
//! first record has lingered long enough. The round is drawn once and repeated, so that sending costs no drawing.
//! Invariants: a batch holds keys of its partition only; at least one step; over a round, the records of the steps and
//! their advances have the same sum.

use std::collections::{BTreeMap, VecDeque};

use client::{ClientError, partition_for_key};
use model::record::HEADER_LEN;

use crate::keys::{KeyDistribution, KeySource, key_bytes};
use crate::payload::{Payload, Value};
use crate::schedule::Gathering;
use crate::template::{BatchStyle, BatchTemplate, Draft, Slot};
use crate::verify::Place;
use crate::workload::{BatchSize, KEY_BYTES, ProduceWorkload, RECORD_OVERHEAD_BYTES};

/// Different batches per partition when records differ.
const VARIANTS_MAX: usize = 16;
/// How often each text of a list is drawn on average.
const LIST_DRAWS: u64 = 4;
/// Bytes of all different batches.
const BATCHES_BYTES_MAX: usize = 256 << 20;
/// Steps of a round.
pub(crate) const STEPS_MAX: usize = 1 << 17;
/// Records drawn for a round.
const DRAWS_MAX: u64 = 1 << 24;

/// One request of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which partition.
    pub slot: usize,
    /// Which batch.
    pub batch: usize,
    /// What it means for the schedule.
    pub gathering: Gathering,
}

/// See the module.
#[derive(Debug)]
pub struct Script {
    /// The batches.
    pub batches: Vec<BatchTemplate>,
    /// The round; behind it the step that ends a load of an exact number of records, if there is one.
    pub steps: Vec<Step>,
    /// Steps of the round.
    pub round: usize,
    /// How far the lanes start from each other.
    pub stride: u64,
}

impl Script {
    /// What a load sends to these partitions, at least one.
    pub fn plan(workload: &ProduceWorkload, slots: &[Slot]) -> Result<Script, ClientError> {
        let mut random = KeySource::new(KeyDistribution::None, workload.seed);
        let mut rounds = match (&workload.payload, workload.keys) {
            (Payload::Numbers { first }, _) => numbered(workload, slots.len(), *first),
            (_, KeyDistribution::None) => unkeyed(workload, slots.len(), &mut random),
            _ => keyed(workload, slots, &mut random),
        };
        let round = rounds.steps.len();
        if let Some(rest) = workload.remainder().filter(|_| round > 0) {
            let first = rounds.steps[0];
            let mut drafts = rounds.batches[first.batch].clone();
            drafts.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
            rounds.batches.push(drafts);
            rounds.steps.push(Step {
                batch: rounds.batches.len() - 1,
                ..first
            });
        }
        let style = BatchStyle {
            compression: workload.compression,
            compressibility: workload.compressibility,
            stamped: workload.stamp_run.is_some(),
            traced_run: workload.traced_run,
        };
        let build = |drafts: &Vec<Draft>| {
            let built = BatchTemplate::build(drafts, &workload.payload, style, &mut random);
            built.map_err(|error| ClientError::Malformed {
                api: "Produce",
                reason: error.to_string(),
            })
        };
        let batches: Result<Vec<BatchTemplate>, ClientError> =
            rounds.batches.iter().map(build).collect();
        if round == 0 {
            return Err(ClientError::Misuse(
                "none of the keys belongs to a partition of this broker",
            ));
        }
        Ok(Script {
            batches: batches?,
            steps: rounds.steps,
            round,
            stride: match workload.keys {
                KeyDistribution::None => 1,
                _ => 7919,
            },
        })
    }

    /// The step behind the round that ends a load of an exact number of records.
    pub fn remainder(&self) -> Option<usize> {
        (self.steps.len() > self.round).then_some(self.round)
    }

    /// The step number `turn` of an endless repetition.
    pub fn turn(&self, turn: u64) -> usize {
        usize::try_from(turn % self.round as u64).unwrap_or(0)
    }

    /// Records of a request on average, rounded.
    pub fn records_mean(&self) -> u64 {
        let steps = &self.steps[..self.round];
        let records: u64 = steps.iter().map(|s| self.batches[s.batch].records).sum();
        (records / self.round as u64).max(1)
    }
}

#[derive(Default)]
struct Round {
    batches: Vec<Vec<Draft>>,
    steps: Vec<Step>,
}

/// Whether a batch is full, given its records and their bytes, with and without one more.
fn full(workload: &ProduceWorkload, records: usize, bytes: usize, next_bytes: usize) -> bool {
    match workload.batch {
        BatchSize::Records(most) => records as u64 >= most.max(1),
        BatchSize::Bytes(most) => bytes + next_bytes > most.saturating_sub(HEADER_LEN),
    }
}

/// Bytes of a record in its batch, before compression.
fn draft_bytes(draft: Draft) -> usize {
    let key = draft.key.map_or(0, |_| KEY_BYTES);
    draft.value.bytes() + key + RECORD_OVERHEAD_BYTES
}

fn unkeyed(workload: &ProduceWorkload, slots: usize, random: &mut KeySource) -> Round {
    let mut round = Round::default();
    let most = workload.lingering_records().unwrap_or(u64::MAX);
    let mut draw = || Draft {
        key: None,
        value: workload.payload.draw(&workload.record_sizes, random),
    };
    let mut next = draw();
    let mut total_bytes = 0;
    let variants = match (&workload.payload, workload.record_sizes.fixed()) {
        (Payload::Random, Some(_)) => 1,
        (payload, _) => variants(payload, workload.records_per_batch())
            .min(STEPS_MAX / slots.max(1))
            .max(1),
    };
    while round.batches.len() < variants && total_bytes <= BATCHES_BYTES_MAX {
        let (mut drafts, mut bytes) = (Vec::new(), 0);
        while drafts.is_empty()
            || (!full(workload, drafts.len(), bytes, draft_bytes(next))
                && (drafts.len() as u64) < most)
        {
            bytes += draft_bytes(next);
            drafts.push(next);
            next = draw();
        }
        total_bytes += bytes;
        round.batches.push(drafts);
    }
    for (batch, drafts) in round.batches.iter().enumerate() {
        let advance = drafts.len() as u64;
        let waited = workload.linger.map_or(0, |_| advance - 1);
        for slot in 0..slots {
            round.steps.push(Step {
                slot,
                batch,
                gathering: Gathering { advance, waited },
            });
        }
    }
    round
}

/// Numbers in order: the round is the whole load, each of its batches goes to one partition.
fn numbered(workload: &ProduceWorkload, slots: usize, first: u64) -> Round {
    let records = workload.limit.records;
    let end = first + records.expect("numbers need a count of records, which is checked");
    let most = workload.records_per_batch();
    let mut round = Round::default();
    let mut number = first;
    while number < end {
        let next = number.saturating_add(most).min(end);
        let value = |number| Draft {
            key: None,
            value: Value::Number(number),
        };
        let advance = next - number;
        round.steps.push(Step {
            slot: round.batches.len() % slots,
            batch: round.batches.len(),
            gathering: Gathering {
                advance,
                waited: workload.linger.map_or(0, |_| advance - 1),
            },
        });
        round.batches.push((number..next).map(value).collect());
        number = next;
    }
    round
}

/// How many different batches there should be: of a list, so many that most of it is drawn.
fn variants(payload: &Payload, batch_records: u64) -> usize {
    let listed = match payload {
        Payload::Listed(texts) => texts.len() as u64 * LIST_DRAWS / batch_records,
        _ => 0,
    };
    usize::try_from(listed).map_or(usize::MAX, |listed| listed.max(VARIANTS_MAX))
}

/// A batch that gathers.
#[derive(Default)]
struct Accumulator {
    drafts: Vec<Draft>,
    bytes: usize,
    /// Number of its first record.
    first: u64,
    /// Counts the batches that began here, so that an old deadline is known as such.
    generation: u64,
}

fn keyed(workload: &ProduceWorkload, slots: &[Slot], random: &mut KeySource) -> Round {
    let mut keys = KeySource::new(workload.keys, random.random());
    let places: BTreeMap<Place, usize> = slots.iter().map(|s| s.place).zip(0..).collect();
    let topics: BTreeMap<u16, u32> = slots
        .iter()
        .map(|s| (s.place.topic, s.partitions))
        .collect();
    let topics: Vec<(u16, u32)> = topics.into_iter().collect();
    let mut producer = Producer {
        workload,
        linger: workload.lingering_records(),
        open: slots.iter().map(|_| Accumulator::default()).collect(),
        deadlines: VecDeque::new(),
        number: 0,
        bytes: 0,
        times: Vec::new(),
        round: Round::default(),
    };
    let target = (slots.len() * VARIANTS_MAX).clamp(64, STEPS_MAX);
    for drawn in 0..DRAWS_MAX {
        if producer.times.len() >= target || producer.bytes > BATCHES_BYTES_MAX {
            break;
        }
        let Some(key) = keys.draw() else { break };
        let (topic, partitions) = topics[usize::try_from(drawn).unwrap_or(0) % topics.len()];
        let place = Place {
            topic,
            partition: partition_for_key(&key_bytes(key), partitions),
        };
        if let Some(&slot) = places.get(&place) {
            producer.push(
                slot,
                Draft {
                    key: Some(key),
                    value: workload.payload.draw(&workload.record_sizes, random),
                },
            );
        }
    }
    if producer.times.is_empty() {
        for slot in 0..slots.len() {
            producer.leave(slot);
        }
    }
    let lingering = producer.linger.is_some();
    pace(&mut producer.round, &producer.times, lingering);
    producer.round
}

/// Records on their way into batches, one batch open per partition.
struct Producer<'a> {
    workload: &'a ProduceWorkload,
    linger: Option<u64>,
    open: Vec<Accumulator>,
    /// Number of the record at which the batch of a slot and generation has lingered long enough.
    deadlines: VecDeque<(u64, usize, u64)>,
    /// Number of the next record.
    number: u64,
    bytes: usize,
    /// Number of the record at which each step leaves, and of its first record.
    times: Vec<(u64, u64)>,
    round: Round,
}

impl Producer<'_> {
    fn push(&mut self, slot: usize, draft: Draft) {
        while let Some(&(deadline, late, generation)) = self.deadlines.front()
            && deadline <= self.number
        {
            self.deadlines.pop_front();
            if self.open[late].generation == generation {
                self.leave(late);
            }
        }
        let open = &self.open[slot];
        if full(
            self.workload,
            open.drafts.len(),
            open.bytes,
            draft_bytes(draft),
        ) {
            self.leave(slot);
        }
        let open = &mut self.open[slot];
        if open.drafts.is_empty() {
            open.first = self.number;
            if let Some(linger) = self.linger {
                self.deadlines
                    .push_back((self.number + linger, slot, open.generation));
            }
        }
        open.bytes += draft_bytes(draft);
        open.drafts.push(draft);
        self.number += 1;
    }

    fn leave(&mut self, slot: usize) {
        let open = &mut self.open[slot];
        if open.drafts.is_empty() {
            return;
        }
        self.bytes += open.bytes;
        self.times.push((self.number, open.first));
        self.round.steps.push(Step {
            slot,
            batch: self.round.batches.len(),
            gathering: Gathering {
                advance: 0,
                waited: 0,
            },
        });
        self.round.batches.push(std::mem::take(&mut open.drafts));
        open.bytes = 0;
        open.generation += 1;
    }
}

/// Spreads the steps over the round as they left. Records still gathering at its end are left out, so times are scaled
/// to the records that are sent.
fn pace(round: &mut Round, times: &[(u64, u64)], lingering: bool) {
    let sent: u64 = round.batches.iter().map(|b| b.len() as u64).sum();
    let end = times.last().map_or(1, |(left, _)| (*left).max(1));
    let scaled = |number: u64| {
        let product = u128::from(number) * u128::from(sent) / u128::from(end);
        u64::try_from(product).unwrap_or(u64::MAX)
    };
    let mut before = 0;
    for (step, (left, first)) in round.steps.iter_mut().zip(times) {
        let at = scaled(*left);
        step.gathering = Gathering {
            advance: at - before,
            waited: if lingering { left - first } else { 0 },
        };
        before = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use crate::sizes::RecordSizes;
    use crate::workload::Limit;
    use model::{PartitionIndex, TopicId};

    fn slots(partitions: u32) -> Vec<Slot> {
        (0..i32::try_from(partitions).unwrap())
            .map(|index| Slot {
                place: Place {
                    topic: 0,
                    partition: PartitionIndex(index),
                },
                topic: "t".to_owned(),
                topic_id: TopicId([1; 16]),
                partitions,
            })
            .collect()
    }

    fn workload(keys: &str) -> ProduceWorkload {
        ProduceWorkload {
            record_sizes: RecordSizes::Fixed(100),
            batch: BatchSize::Records(10),
            keys: keys.parse().unwrap(),
            ..ProduceWorkload::default()
        }
    }

    /// Records per slot over a round.
    fn shares(round: &Round, slots: usize) -> Vec<u64> {
        let mut shares = vec![0; slots];
        for step in &round.steps {
            shares[step.slot] += round.batches[step.batch].len() as u64;
        }
        shares
    }

    fn random() -> KeySource {
        KeySource::new(KeyDistribution::None, 5)
    }

    #[test]
    fn a_batch_holds_keys_of_its_partition_only_and_advances_are_its_records() {
        for (keys, linger) in [
            ("uniform:1000", None),
            ("zipf:1000", None),
            ("uniform:1000", Some(Duration::from_millis(5))),
        ] {
            let workload = ProduceWorkload {
                rate: Some(4000),
                linger,
                connections: 1,
                ..workload(keys)
            };
            let slots = slots(7);
            let round = keyed(&workload, &slots, &mut random());
            assert!(round.steps.len() >= 64);
            let mut records = 0;
            for step in &round.steps {
                let batch = &round.batches[step.batch];
                records += batch.len() as u64;
                for draft in batch {
                    let key = key_bytes(draft.key.unwrap());
                    let belongs = partition_for_key(&key, 7);
                    assert_eq!(belongs, slots[step.slot].place.partition);
                }
                match linger {
                    None => assert_eq!((batch.len(), step.gathering.waited), (10, 0)),
                    // 5 ms at 4,000 records/s are 20 records over 7 partitions: about 4 of each batch's own.
                    Some(_) => assert!(step.gathering.waited <= 21 && batch.len() <= 10),
                }
            }
            let advances: u64 = round.steps.iter().map(|s| s.gathering.advance).sum();
            assert_eq!(advances, records);
        }
    }

    #[test]
    fn zipf_loads_partitions_unevenly_and_uniform_evenly() {
        let slots = slots(10);
        let spread = |keys: &str| {
            let shares = shares(&keyed(&workload(keys), &slots, &mut random()), 10);
            let (most, least) = (*shares.iter().max().unwrap(), *shares.iter().min().unwrap());
            most as f64 / least.max(1) as f64
        };
        assert!(spread("uniform:100000") < 2.0);
        assert!(spread("zipf:100000:1.2") > 3.0);
    }

    #[test]
    fn batches_of_different_records_fill_up_to_their_bytes() {
        let workload = ProduceWorkload {
            record_sizes: "100:70,1000:25,10000:5".parse().unwrap(),
            batch: BatchSize::Bytes(16 << 10),
            ..workload("none")
        };
        let round = unkeyed(&workload, 3, &mut random());
        assert_eq!(round.batches.len(), VARIANTS_MAX);
        assert_eq!(shares(&round, 3)[0], shares(&round, 3)[2]);
        for batch in &round.batches {
            let bytes: usize = batch.iter().copied().map(draft_bytes).sum();
            assert!(bytes + HEADER_LEN <= 16 << 10);
            assert!(
                bytes > 6 << 10,
                "{bytes}: only the largest record is missing"
            );
        }
    }

    #[test]
    fn numbers_come_once_each_and_in_order() {
        let workload = ProduceWorkload {
            payload: Payload::Numbers { first: 95 },
            limit: Limit {
                records: Some(25),
                duration: None,
            },
            connections: 1,
            ..workload("none")
        };
        workload.validate().unwrap();
        let round = numbered(&workload, 2, 95);
        let values: Vec<Value> = round.batches.iter().flatten().map(|d| d.value).collect();
        assert_eq!(values, (95..120).map(Value::Number).collect::<Vec<_>>());
        let lengths: Vec<usize> = round.batches.iter().map(Vec::len).collect();
        assert_eq!(lengths, [10, 10, 5]);
        let slots: Vec<usize> = round.steps.iter().map(|step| step.slot).collect();
        assert_eq!(slots, [0, 1, 0]);
        // No batch stands in for the last one, which has its own numbers.
        assert_eq!(workload.remainder(), None);
    }

    #[test]
    fn listed_values_are_drawn_and_batches_of_a_count_are_exact() {
        let texts: Vec<Bytes> = ["a", "bb", "cccccc"].map(Bytes::from).into();
        let payload = Payload::Listed(Arc::new(texts.clone()));
        let workload = ProduceWorkload {
            record_sizes: payload.sizes().unwrap(),
            payload,
            limit: Limit {
                records: Some(1003),
                duration: None,
            },
            ..workload("none")
        };
        let round = unkeyed(&workload, 3, &mut random());
        assert_eq!(round.batches.len(), VARIANTS_MAX);
        let mut seen = [0; 3];
        for draft in round.batches.iter().flatten() {
            let Value::Listed { index, bytes } = draft.value else {
                panic!("{draft:?}");
            };
            assert_eq!(bytes, texts[index].len());
            seen[index] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
        assert_eq!(workload.records_per_batch_exact(), Some(10));
        assert_eq!(workload.remainder(), Some(3));
        let lanes: u64 = (0..4)
            .map(|lane| workload.lane_records(lane).unwrap())
            .sum();
        assert_eq!(lanes, 1003);
    }

    #[test]
    fn a_linger_without_keys_cuts_the_batch_to_what_arrives_on_one_connection() {
        let workload = ProduceWorkload {
            rate: Some(1000),
            linger: Some(Duration::from_millis(8)),
            connections: 2,
            ..workload("none")
        };
        let round = unkeyed(&workload, 1, &mut random());
        assert_eq!(round.batches[0].len(), 4);
        let expected = Gathering {
            advance: 4,
            waited: 3,
        };
        assert_eq!(round.steps[0].gathering, expected);
    }
}
