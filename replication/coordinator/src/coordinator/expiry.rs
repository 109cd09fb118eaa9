//! Offsets that nobody needs any more, and groups without any (kafka.md 5.1, KIP-211).
//!
//! An offset ages from the time its group became empty, or from its commit when the group never had members or its
//! members no longer subscribe to the topic. An offset with its own expiry follows that.

use std::sync::Arc;

use model::Timestamp;

use super::GroupCoordinator;
use crate::effects::{Completion, KeyValue, PendingAppend};
use crate::group::Group;
use crate::offsets::CommittedOffset;
use crate::records::{group_key, offset_key};
use crate::settings::{APPENDS_IN_FLIGHT_MAX, Now};

/// Most deletions in one append: some hundred KiB.
const EXPIRED_PER_APPEND_MAX: usize = 1000;

impl GroupCoordinator {
    pub(super) fn expire_offsets(&mut self, now: Now) {
        let retention = self.settings.offsets_retention.as_millis();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        let mut expired: Vec<(Arc<str>, Vec<KeyValue>)> = Vec::new();
        for (id, group) in &self.groups {
            let records = expired_records(id, group, now.wall, retention);
            if !records.is_empty() {
                expired.push((id.clone(), records));
            }
        }
        for (id, records) in expired {
            for chunk in records.chunks(EXPIRED_PER_APPEND_MAX) {
                // What does not fit now expires at the next check.
                if self.effects.appends.len() >= APPENDS_IN_FLIGHT_MAX {
                    return;
                }
                if let Some(group) = self.groups.get_mut(&id) {
                    group.appends_in_flight += 1;
                }
                self.effects.persist(PendingAppend {
                    groups: vec![id.clone()],
                    offsets: Vec::new(),
                    records: chunk.to_vec(),
                    completion: Completion::Nothing,
                });
            }
        }
    }
}

/// Deletions for what has expired; the group's own record comes last, when nothing else is left of it.
fn expired_records(id: &Arc<str>, group: &Group, wall: Timestamp, retention: i64) -> Vec<KeyValue> {
    // A commit in flight may renew what looks expired.
    if group.appends_in_flight > 0 {
        return Vec::new();
    }
    let subscribed = match group.is_stable() {
        true => group.subscribed_topics(),
        false => None,
    };
    let base = |topic: &str, value: &CommittedOffset| match (group.protocol_type(), &subscribed) {
        (Some(_), _) if group.is_empty_state() => match group.state_timestamp() {
            Timestamp::NONE => Some(value.commit_timestamp),
            since => Some(since),
        },
        (Some(_), Some(subscribed)) if !subscribed.contains(topic) => Some(value.commit_timestamp),
        (Some(_), _) => None,
        (None, _) if group.is_empty_state() => Some(value.commit_timestamp),
        (None, _) => None,
    };
    let has_expired = |topic: &str, value: &CommittedOffset| {
        base(topic, value).is_some_and(|base| match value.expire_timestamp {
            Some(expire) => wall >= expire,
            None => wall.0.saturating_sub(base.0) >= retention,
        })
    };
    let mut records = Vec::new();
    let mut kept = 0usize;
    for (topic, partition, value) in group.durable.offsets.iter() {
        if has_expired(topic, value) {
            records.push((offset_key(id, topic, partition), None));
        } else {
            kept += 1;
        }
    }
    if kept == 0 && group.is_vacant() && group.durable.metadata.is_some() {
        records.push((group_key(id), None));
    }
    records
}
