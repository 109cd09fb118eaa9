//! Incremental fetch sessions (KIP-227): the server remembers what a consumer reads, so that a request names only
//! what changed and an answer holds only what is new.
//!
//! Pure. Owned by the server of one shard; a client that comes back on another core is told to start anew, which
//! every client can. Bounded by [`SESSIONS_MAX`]; a new session may take the place of one that is idle.
//! Invariant: a session's epoch rises by one with every answered request (1, 2, ... 2^31-1, 1, ...).

use std::time::Duration;

use indexmap::IndexMap;
use model::{ErrorCode, LeaderEpoch, MonotonicTime, Offset, TopicId};
use protocol::fetch::{FetchPartition, FetchRequest};

/// Sessions per shard (`max.incremental.fetch.session.cache.slots`).
pub const SESSIONS_MAX: usize = 1000;

/// A session unused for this long gives its place to a new one.
const EVICTION_IDLE: Duration = Duration::from_secs(120);

/// How a request names a topic: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(String),
    Id(TopicId),
}

/// One partition to be read.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub topic: TopicKey,
    pub partition: i32,
    /// First offset wanted.
    pub offset: Offset,
    /// Bytes wanted at most, as the client said.
    pub bytes_max: i32,
    /// The epoch the client believes in.
    pub current_leader_epoch: LeaderEpoch,
    /// Epoch of the last record it has.
    pub last_fetched_epoch: LeaderEpoch,
    /// What the last answer said, in a session.
    sent: Option<Sent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    high_watermark: Offset,
    log_start_offset: Offset,
}

struct Session {
    epoch_next: i32,
    by_id: bool,
    used_at: MonotonicTime,
    partitions: IndexMap<(TopicKey, i32), Wanted>,
}

/// What one fetch request comes to.
pub struct Plan {
    /// The session to name in the answer; 0 for none.
    pub session_id: i32,
    /// Whether unchanged partitions are left out of the answer.
    pub incremental: bool,
    /// What to read, in order.
    pub partitions: Vec<Wanted>,
}

/// All sessions of one shard's server.
#[derive(Default)]
pub struct FetchSessions {
    sessions: IndexMap<i32, Session>,
}

impl FetchSessions {
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Works out what a request asks for. `random` names a new session.
    pub fn begin(
        &mut self,
        now: MonotonicTime,
        request: &FetchRequest,
        version: i16,
        random: u64,
    ) -> Result<Plan, ErrorCode> {
        let by_id = version >= 13;
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch > 0 {
            return self.continue_session(now, request, by_id);
        }
        if id != 0 {
            self.sessions.swap_remove(&id);
        }
        let partitions: IndexMap<_, _> = wanted(request, by_id)
            .map(|one| ((one.topic.clone(), one.partition), one))
            .collect();
        let list = partitions.values().cloned().collect();
        let creates = epoch == 0 && version >= 7 && !partitions.is_empty();
        let session_id = if creates && self.make_room(now) {
            self.create(now, by_id, partitions, random)
        } else {
            0
        };
        Ok(Plan {
            session_id,
            incremental: false,
            partitions: list,
        })
    }

    fn continue_session(
        &mut self,
        now: MonotonicTime,
        request: &FetchRequest,
        by_id: bool,
    ) -> Result<Plan, ErrorCode> {
        let session = self
            .sessions
            .get_mut(&request.session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch_next != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch_next = next_epoch(session.epoch_next);
        session.used_at = now;
        for mut one in wanted(request, by_id) {
            let key = (one.topic.clone(), one.partition);
            one.sent = session.partitions.get(&key).and_then(|old| old.sent);
            session.partitions.insert(key, one);
        }
        for forgotten in &request.forgotten_topics_data {
            let topic = topic_key(&forgotten.topic, forgotten.topic_id, by_id);
            for partition in &forgotten.partitions {
                session
                    .partitions
                    .shift_remove(&(topic.clone(), *partition));
            }
        }
        Ok(Plan {
            session_id: request.session_id,
            incremental: true,
            partitions: session.partitions.values().cloned().collect(),
        })
    }

    fn create(
        &mut self,
        now: MonotonicTime,
        by_id: bool,
        partitions: IndexMap<(TopicKey, i32), Wanted>,
        random: u64,
    ) -> i32 {
        let mut id = positive(random);
        while self.sessions.contains_key(&id) {
            id = next_epoch(id);
        }
        let session = Session {
            epoch_next: 1,
            by_id,
            used_at: now,
            partitions,
        };
        self.sessions.insert(id, session);
        id
    }

    fn make_room(&mut self, now: MonotonicTime) -> bool {
        if self.sessions.len() < SESSIONS_MAX {
            return true;
        }
        let oldest = self
            .sessions
            .iter()
            .min_by_key(|(_, session)| session.used_at);
        match oldest {
            Some((id, session)) if now.since(session.used_at) > EVICTION_IDLE => {
                let id = *id;
                self.sessions.swap_remove(&id);
                true
            }
            _ => false,
        }
    }

    /// Records what an answer says about one partition. Returns whether the answer must contain it.
    pub fn answer(
        &mut self,
        plan: &Plan,
        one: &Wanted,
        error: ErrorCode,
        has_records: bool,
        high_watermark: Offset,
        log_start_offset: Offset,
    ) -> bool {
        let sent = Sent {
            high_watermark,
            log_start_offset,
        };
        let key = (one.topic.clone(), one.partition);
        let session = self.sessions.get_mut(&plan.session_id);
        let partitions = session.map(|session| &mut session.partitions);
        let is_new = one.sent != Some(sent) || has_records || !error.is_none();
        if let Some(partitions) = partitions {
            if let Some(known) = partitions.get_mut(&key) {
                known.sent = error.is_none().then_some(sent);
            }
            // What gave data goes to the end, so that every partition gets its turn within the byte limit.
            if has_records && let Some(known) = partitions.shift_remove(&key) {
                partitions.insert(key, known);
            }
        }
        is_new || !plan.incremental
    }
}

fn wanted(request: &FetchRequest, by_id: bool) -> impl Iterator<Item = Wanted> + '_ {
    request.topics.iter().flat_map(move |topic| {
        let key = topic_key(&topic.topic, topic.topic_id, by_id);
        topic
            .partitions
            .iter()
            .map(move |partition| want(key.clone(), partition))
    })
}

fn want(topic: TopicKey, partition: &FetchPartition) -> Wanted {
    Wanted {
        topic,
        partition: partition.partition,
        offset: Offset(partition.fetch_offset),
        bytes_max: partition.partition_max_bytes,
        current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
        sent: None,
    }
}

fn topic_key(name: &str, id: TopicId, by_id: bool) -> TopicKey {
    if by_id {
        TopicKey::Id(id)
    } else {
        TopicKey::Name(name.to_owned())
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

fn positive(random: u64) -> i32 {
    i32::try_from(random % (i32::MAX as u64 - 1)).expect("below i32::MAX") + 1
}

#[cfg(test)]
mod tests {
    use protocol::fetch::{FetchTopic, ForgottenTopic};

    use super::*;

    fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> FetchRequest {
        FetchRequest {
            session_id,
            session_epoch,
            topics: vec![FetchTopic {
                topic: "t".into(),
                partitions: partitions
                    .iter()
                    .map(|partition| FetchPartition {
                        partition: *partition,
                        ..FetchPartition::default()
                    })
                    .collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        }
    }

    fn indexes(plan: &Plan) -> Vec<i32> {
        plan.partitions.iter().map(|one| one.partition).collect()
    }

    fn begin(sessions: &mut FetchSessions, request: &FetchRequest) -> Result<Plan, ErrorCode> {
        sessions.begin(MonotonicTime(0), request, 12, 7)
    }

    fn answer(sessions: &mut FetchSessions, plan: &Plan, partition: i32, end: i64) -> bool {
        let one = plan
            .partitions
            .iter()
            .find(|one| one.partition == partition)
            .unwrap();
        sessions.answer(plan, one, ErrorCode::None, false, Offset(end), Offset(0))
    }

    #[test]
    fn an_incremental_fetch_names_only_changes_and_is_told_only_changes() {
        let mut sessions = FetchSessions::default();
        let full = begin(&mut sessions, &request(0, 0, &[0, 1])).unwrap();
        assert!(full.session_id != 0 && !full.incremental);
        assert!(answer(&mut sessions, &full, 0, 5));
        assert!(answer(&mut sessions, &full, 1, 5));

        let mut second = request(full.session_id, 1, &[2]);
        second.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![0],
            ..ForgottenTopic::default()
        }];
        let plan = begin(&mut sessions, &second).unwrap();
        assert_eq!(indexes(&plan), [1, 2]);
        assert!(!answer(&mut sessions, &plan, 1, 5), "unchanged");
        assert!(answer(&mut sessions, &plan, 2, 0), "never sent before");

        let plan = begin(&mut sessions, &request(full.session_id, 2, &[])).unwrap();
        assert!(answer(&mut sessions, &plan, 1, 6), "the end moved");
    }

    #[test]
    fn wrong_names_of_sessions_are_refused() {
        let mut sessions = FetchSessions::default();
        let id = begin(&mut sessions, &request(0, 0, &[0]))
            .unwrap()
            .session_id;
        let cases = [
            (12345, 1, ErrorCode::FetchSessionIdNotFound),
            (0, 7, ErrorCode::FetchSessionIdNotFound),
            (id, 2, ErrorCode::InvalidFetchSessionEpoch),
        ];
        for (session_id, epoch, error) in cases {
            let refused = begin(&mut sessions, &request(session_id, epoch, &[])).err();
            assert_eq!(refused, Some(error), "session {session_id} epoch {epoch}");
        }
        let by_id = sessions.begin(MonotonicTime(0), &request(id, 1, &[]), 13, 0);
        assert_eq!(by_id.err(), Some(ErrorCode::FetchSessionTopicIdError));
        begin(&mut sessions, &request(id, -1, &[0])).unwrap();
        assert!(sessions.is_empty(), "closed");
    }

    #[test]
    fn the_cache_is_bounded_and_only_idle_sessions_give_way() {
        let mut sessions = FetchSessions::default();
        for _ in 0..SESSIONS_MAX {
            assert!(
                begin(&mut sessions, &request(0, 0, &[0]))
                    .unwrap()
                    .session_id
                    != 0
            );
        }
        assert_eq!(
            begin(&mut sessions, &request(0, 0, &[0]))
                .unwrap()
                .session_id,
            0
        );
        let later = MonotonicTime(0).plus(EVICTION_IDLE + Duration::from_secs(1));
        let plan = sessions.begin(later, &request(0, 0, &[0]), 12, 7).unwrap();
        assert!(plan.session_id != 0);
        assert_eq!(sessions.len(), SESSIONS_MAX);
    }
}
