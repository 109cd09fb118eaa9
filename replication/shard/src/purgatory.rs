//! Produce requests that wait for their records to be acknowledged.
//!
//! Owned by one shard. A request waits on the offsets of its partitions, not on timers; timeouts are looked for in
//! a scan a few times a second, which is bounded by the number of requests in flight.
//! An operation is open while its records are appended: a partition may wait for room when others of the same request
//! are acknowledged already.
//! Invariant: an operation leaves exactly once, after it was closed: by its last partition or by its timeout.

use model::MonotonicTime;
use storage::CommitTimes;

use crate::message::ReplyTo;
use crate::refusal::{ProduceRefused, WaitFailure};
use crate::request::{Produce, ProduceResult, ProduceTimes, ProducedParts};

/// Names one waiting operation. Stale names (the operation has left) are recognised by the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OperationId {
    index: u32,
    generation: u32,
}

struct Operation {
    results: Vec<ProduceResult>,
    waiting: Vec<bool>,
    /// Results that are not final, and one more while the operation is open.
    missing: usize,
    /// `None`: it is open.
    deadline: Option<MonotonicTime>,
    reply: ReplyTo<Produce>,
    times: ProduceTimes,
}

struct Entry {
    generation: u32,
    operation: Option<Operation>,
}

/// An operation that has left: its answer and where that goes.
pub(crate) struct Finished {
    /// One result per partition, in request order, and when what was done.
    pub answer: ProducedParts,
    pub reply: ReplyTo<Produce>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Why it will not come true, if so.
    pub failure: Option<WaitFailure>,
    /// The commit group that was waited for last; zero if the wait ended for another reason.
    pub commit: CommitTimes,
    /// When it came true; zero if it did not, or was true already.
    pub acknowledged_at: MonotonicTime,
    pub now: MonotonicTime,
}

impl Ending {
    /// A commit group made it true. The high watermark of a partition with one replica moves with it.
    pub(crate) fn committed(commit: CommitTimes) -> Ending {
        Ending {
            failure: None,
            commit,
            acknowledged_at: commit.durable_at,
            now: commit.durable_at,
        }
    }

    /// Something that other brokers did made it true.
    pub(crate) fn replicated(now: MonotonicTime) -> Ending {
        Ending {
            acknowledged_at: now,
            ..Ending::at_once(now)
        }
    }

    /// It is true now, but not for a commit group.
    pub(crate) fn at_once(now: MonotonicTime) -> Ending {
        Ending {
            failure: None,
            commit: CommitTimes::default(),
            acknowledged_at: MonotonicTime::default(),
            now,
        }
    }

    /// It will not come true.
    pub(crate) fn failed(failure: WaitFailure, now: MonotonicTime) -> Ending {
        Ending {
            failure: Some(failure),
            ..Ending::at_once(now)
        }
    }
}

/// All waiting produce operations of a shard.
#[derive(Default)]
pub(crate) struct Purgatory {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Purgatory {
    /// Adds an operation of `part_count` partitions. Nothing of it is appended yet.
    pub(crate) fn open(&mut self, part_count: usize, reply: ReplyTo<Produce>) -> OperationId {
        let operation = Operation {
            results: Vec::with_capacity(part_count),
            waiting: Vec::with_capacity(part_count),
            missing: 1,
            deadline: None,
            reply,
            times: ProduceTimes::default(),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                operation: None,
            });
            u32::try_from(self.entries.len() - 1).expect("bounded by requests in flight")
        });
        let entry = &mut self.entries[index as usize];
        entry.operation = Some(operation);
        OperationId {
            index,
            generation: entry.generation,
        }
    }

    /// Adds the result of the next partition of an open operation. With `waits` it is not final until
    /// [`Purgatory::acknowledge`].
    pub(crate) fn add(&mut self, id: OperationId, result: ProduceResult, waits: bool) {
        let operation = self.opened(id);
        operation.results.push(result);
        operation.waiting.push(waits);
        operation.missing += usize::from(waits);
    }

    /// Every partition has its result: what still waits does so until `deadline`. Returns the operation if nothing does.
    pub(crate) fn close(
        &mut self,
        id: OperationId,
        times: ProduceTimes,
        deadline: MonotonicTime,
    ) -> Option<Finished> {
        let operation = self.opened(id);
        operation.times = times;
        operation.deadline = Some(deadline);
        operation.missing -= 1;
        let is_final = operation.missing == 0;
        is_final.then(|| self.remove(id.index, Ending::at_once(times.staged_at)))
    }

    fn opened(&mut self, id: OperationId) -> &mut Operation {
        let entry = &mut self.entries[id.index as usize];
        assert_eq!(
            entry.generation, id.generation,
            "an operation left while open"
        );
        let operation = entry.operation.as_mut().expect("its generation is there");
        assert!(
            operation.deadline.is_none(),
            "an operation was closed twice"
        );
        operation
    }

    /// Makes one result final, with an error if it failed after all. Returns the operation if that was the last.
    pub(crate) fn acknowledge(
        &mut self,
        id: OperationId,
        part: usize,
        ending: Ending,
    ) -> Option<Finished> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let operation = entry.operation.as_mut()?;
        if !std::mem::replace(&mut operation.waiting[part], false) {
            return None;
        }
        if let Some(failure) = ending.failure {
            operation.results[part] = Err(ProduceRefused::because(failure));
        }
        operation.missing -= 1;
        (operation.missing == 0).then(|| self.remove(id.index, ending))
    }

    /// Operations whose time is over. What is still waiting in them has timed out: it may be in the log.
    pub(crate) fn expire(&mut self, now: MonotonicTime) -> Vec<Finished> {
        let mut finished = Vec::new();
        for index in 0..self.entries.len() {
            let Some(operation) = self.entries[index].operation.as_mut() else {
                continue;
            };
            if operation.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            for (result, waits) in operation.results.iter_mut().zip(&operation.waiting) {
                if *waits {
                    *result = Err(ProduceRefused::because(WaitFailure::TimedOut));
                }
            }
            let index = u32::try_from(index).expect("bounded");
            finished.push(self.remove(index, Ending::failed(WaitFailure::TimedOut, now)));
        }
        finished
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn remove(&mut self, index: u32, ending: Ending) -> Finished {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        let operation = entry.operation.take().expect("removed while present");
        Finished {
            answer: ProducedParts {
                results: operation.results,
                times: ProduceTimes {
                    submitted_at: ending.commit.submitted_at,
                    durable_at: ending.commit.durable_at,
                    acknowledged_at: ending.acknowledged_at,
                    answered_at: ending.now,
                    ..operation.times
                },
            },
            reply: operation.reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Offset, Timestamp};

    use super::*;
    use crate::refusal::ProduceRefusal;
    use crate::request::Produced;

    const DURABLE: Ending = Ending {
        failure: None,
        commit: CommitTimes {
            submitted_at: MonotonicTime(3),
            durable_at: MonotonicTime(5),
        },
        acknowledged_at: MonotonicTime(5),
        now: MonotonicTime(5),
    };

    fn opened(purgatory: &mut Purgatory, waiting: &[bool]) -> OperationId {
        let produced = Produced {
            base_offset: Offset(7),
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset::ZERO,
        };
        let id = purgatory.open(waiting.len(), ReplyTo::Nobody);
        for waits in waiting {
            purgatory.add(id, Ok(produced), *waits);
        }
        id
    }

    fn closed(purgatory: &mut Purgatory, id: OperationId, deadline: u64) -> Option<Finished> {
        let times = ProduceTimes {
            begun_at: MonotonicTime(1),
            staged_at: MonotonicTime(2),
            ..ProduceTimes::default()
        };
        purgatory.close(id, times, MonotonicTime(deadline))
    }

    fn operation(purgatory: &mut Purgatory, waiting: &[bool], deadline: u64) -> OperationId {
        let id = opened(purgatory, waiting);
        assert!(closed(purgatory, id, deadline).is_none());
        id
    }

    fn failures(finished: &Finished) -> Vec<Option<WaitFailure>> {
        let results = finished.answer.results.iter();
        let failure = |result: &ProduceResult| match result {
            Ok(_) => None,
            Err(refused) => match refused.reason {
                ProduceRefusal::NotAcknowledged(failure) => Some(failure),
                ref other => panic!("{other:?}"),
            },
        };
        results.map(failure).collect()
    }

    #[test]
    fn an_operation_leaves_with_its_last_partition() {
        let mut purgatory = Purgatory::default();
        let id = operation(&mut purgatory, &[true, false, true], 10);
        assert!(purgatory.acknowledge(id, 0, DURABLE).is_none());
        assert!(
            purgatory.acknowledge(id, 0, DURABLE).is_none(),
            "twice counts once"
        );
        let failed = Ending::failed(WaitFailure::Fenced, MonotonicTime(9));
        let finished = purgatory.acknowledge(id, 2, failed).unwrap();
        let expected = [None, None, Some(WaitFailure::Fenced)];
        assert_eq!(failures(&finished), expected);
        assert_eq!(purgatory.len(), 0);
    }

    #[test]
    fn a_stale_name_is_ignored_after_the_place_is_taken_again() {
        let mut purgatory = Purgatory::default();
        let old = operation(&mut purgatory, &[true], 10);
        assert_eq!(purgatory.expire(MonotonicTime(10)).len(), 1);
        let new = operation(&mut purgatory, &[true], 20);
        assert!(purgatory.acknowledge(old, 0, DURABLE).is_none());
        assert_eq!(purgatory.len(), 1);
        let finished = purgatory.acknowledge(new, 0, DURABLE).unwrap();
        let times = finished.answer.times;
        assert_eq!((times.begun_at.0, times.staged_at.0), (1, 2));
        assert_eq!((times.submitted_at.0, times.durable_at.0), (3, 5));
        assert_eq!((times.acknowledged_at.0, times.answered_at.0), (5, 5));
    }

    #[test]
    fn a_timeout_spoils_only_what_still_waits() {
        let mut purgatory = Purgatory::default();
        let id = operation(&mut purgatory, &[true, true], 10);
        assert!(purgatory.acknowledge(id, 1, DURABLE).is_none());
        assert!(purgatory.expire(MonotonicTime(9)).is_empty());
        let finished = purgatory.expire(MonotonicTime(10));
        let times = finished[0].answer.times;
        assert_eq!((times.durable_at.0, times.answered_at.0), (0, 10));
        let expected = [Some(WaitFailure::TimedOut), None];
        assert_eq!(failures(&finished[0]), expected);
    }
    #[test]
    fn what_waits_for_nothing_leaves_when_it_is_closed() {
        let mut purgatory = Purgatory::default();
        let id = opened(&mut purgatory, &[false, false]);
        assert_eq!(purgatory.len(), 1);
        let finished = closed(&mut purgatory, id, 10).unwrap();
        assert_eq!(failures(&finished), [None, None]);
        let times = finished.answer.times;
        assert_eq!((times.durable_at.0, times.answered_at.0), (0, 2));
        assert_eq!(purgatory.len(), 0);
    }

    #[test]
    fn an_open_operation_stays_whatever_its_partitions_do() {
        let mut purgatory = Purgatory::default();
        let id = opened(&mut purgatory, &[true]);
        assert!(purgatory.acknowledge(id, 0, DURABLE).is_none());
        assert!(purgatory.expire(MonotonicTime(u64::MAX)).is_empty());
        let second = Ok(Produced {
            base_offset: Offset(8),
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset::ZERO,
        });
        purgatory.add(id, second, true);
        assert!(closed(&mut purgatory, id, 10).is_none());
        assert_eq!(purgatory.expire(MonotonicTime(9)).len(), 0);
        let finished = purgatory.acknowledge(id, 1, DURABLE).unwrap();
        assert_eq!(failures(&finished), [None, None]);
    }
}
