//! OffsetCommit, OffsetFetch and OffsetDelete.

use std::sync::Arc;

use model::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

use super::GroupCoordinator;
use crate::effects::{Completion, PendingAppend, RequestToken};
use crate::error::GroupError;
use crate::group::Group;
use crate::offsets::CommittedOffset;
use crate::records::{STRING_BYTES_MAX, offset_key, offset_value};
use crate::reply::{
    FetchedOffset, GroupReply, OffsetCommitReply, OffsetDeleteReply, OffsetFetchReply,
};
use crate::request::{
    CommitPartition, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use crate::settings::{GROUPS_MAX, Now, OFFSETS_PER_GROUP_MAX};

impl GroupCoordinator {
    pub(super) fn commit(&mut self, now: Now, token: RequestToken, request: &OffsetCommitRequest) {
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        if let Err(code) = self.check_commit(&id, request) {
            let reply = OffsetCommitReply::error(request, code);
            self.effects.reply(token, GroupReply::OffsetCommit(reply));
            return;
        }
        let expire_timestamp = request.retention_ms.filter(|retention| *retention >= 0);
        let expire_timestamp =
            expire_timestamp.map(|retention| Timestamp(now.wall.0.saturating_add(retention)));
        let mut append = PendingAppend {
            groups: vec![id.clone()],
            offsets: Vec::new(),
            records: Vec::new(),
            completion: Completion::Nothing,
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in &request.topics {
            let shared: Arc<str> = Arc::from(topic.as_str());
            let mut answers = Vec::with_capacity(partitions.len());
            for commit in partitions {
                let code = self.commit_error(topic, commit);
                answers.push((commit.partition, code));
                if code.is_some() {
                    continue;
                }
                let value = CommittedOffset {
                    offset: commit.offset,
                    leader_epoch: commit.leader_epoch,
                    metadata: commit.metadata.clone().unwrap_or_default(),
                    commit_timestamp: now.wall,
                    expire_timestamp,
                };
                let key = offset_key(&id, topic, commit.partition);
                append.records.push((key, Some(offset_value(&value))));
                append.offsets.push((shared.clone(), commit.partition));
            }
            topics.push((topic.clone(), answers));
        }
        let reply = GroupReply::OffsetCommit(OffsetCommitReply { topics });
        if append.records.is_empty() {
            self.effects.reply(token, reply);
            return;
        }
        append.completion = Completion::Reply {
            request: token,
            reply,
        };
        let group = self.groups.entry(id);
        let group = group.or_insert_with(|| Group::new(now.wall));
        group.appends_in_flight += 1;
        group.touch(now, &request.member_id);
        self.effects.persist(append);
    }

    /// Who may commit (kafka.md 5.1).
    fn check_commit(&self, id: &Arc<str>, request: &OffsetCommitRequest) -> Result<(), GroupError> {
        let count: usize = request
            .topics
            .iter()
            .map(|(_, partitions)| partitions.len())
            .sum();
        let Some(group) = self.groups.get(id) else {
            return match request.generation_id {
                0.. if request.knows_group_id_not_found => Err(GroupError::GroupIdNotFound),
                0.. => Err(GroupError::IllegalGeneration),
                _ if self.groups.len() >= GROUPS_MAX || count > OFFSETS_PER_GROUP_MAX => {
                    Err(GroupError::InvalidCommitOffsetSize)
                }
                // Someone who manages partitions without a group's help.
                _ => Ok(()),
            };
        };
        if group.durable.offsets.len().saturating_add(count) > OFFSETS_PER_GROUP_MAX {
            return Err(GroupError::InvalidCommitOffsetSize);
        }
        if request.generation_id < 0 && group.is_empty_state() {
            return Ok(());
        }
        let instance = request.group_instance_id.as_deref();
        if request.generation_id >= 0 || !request.member_id.is_empty() || instance.is_some() {
            group.check_member(&request.member_id, instance)?;
            if request.generation_id != group.generation() {
                return Err(GroupError::IllegalGeneration);
            }
        } else if !group.is_empty_state() {
            return Err(GroupError::UnknownMemberId);
        }
        match group.is_completing() {
            true => Err(GroupError::RebalanceInProgress),
            false => Ok(()),
        }
    }

    fn commit_error(&self, topic: &str, commit: &CommitPartition) -> Option<GroupError> {
        let metadata = commit.metadata.as_deref().unwrap_or_default();
        let units_max = self.settings.offset_metadata_max;
        // A string has at most as many UTF-16 units as bytes, so short ones need no count.
        let too_long = metadata.len() > units_max && metadata.encode_utf16().count() > units_max;
        if too_long || metadata.len() > STRING_BYTES_MAX {
            Some(GroupError::OffsetMetadataTooLarge)
        } else if topic.len() > STRING_BYTES_MAX {
            Some(GroupError::InvalidTopicException)
        } else {
            None
        }
    }

    pub(super) fn fetch(&self, request: &OffsetFetchRequest) -> OffsetFetchReply {
        let group = self.groups.get(request.group_id.as_str());
        let offsets = group.map(|group| &group.durable.offsets);
        let is_gone = |topic: &str, partition| {
            let deleted = &self.deleted_topics;
            deleted.hides(&request.group_id, topic, partition)
        };
        let topics = match &request.topics {
            Some(topics) => {
                let topic = |(topic, partitions): &(String, Vec<PartitionIndex>)| {
                    let found = partitions.iter().map(|partition| {
                        let value = offsets.and_then(|offsets| offsets.get(topic, *partition));
                        fetched(*partition, value.filter(|_| !is_gone(topic, *partition)))
                    });
                    (topic.clone(), found.collect())
                };
                topics.iter().map(topic).collect()
            }
            None => {
                let all = offsets.into_iter().flat_map(|offsets| offsets.topics());
                all.map(|(topic, partitions)| {
                    let values = partitions.iter();
                    let values = values.filter(|(partition, _)| !is_gone(topic, **partition));
                    let values = values.map(|(partition, value)| fetched(*partition, Some(value)));
                    (topic.to_string(), values.collect::<Vec<_>>())
                })
                .filter(|(_, values)| !values.is_empty())
                .collect()
            }
        };
        OffsetFetchReply {
            group_id: request.group_id.clone(),
            error: None,
            topics,
        }
    }

    pub(super) fn delete_offsets(&mut self, token: RequestToken, request: &OffsetDeleteRequest) {
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        let refused = |error| OffsetDeleteReply {
            error,
            topics: Vec::new(),
        };
        let refusal = match self.groups.get(&id) {
            _ if id.is_empty() => Some(GroupError::InvalidGroupId),
            None => Some(GroupError::GroupIdNotFound),
            Some(group) if !group.is_empty_state() && !group.is_consumer_protocol() => {
                Some(GroupError::NonEmptyGroup)
            }
            Some(_) => None,
        };
        if let Some(code) = refusal {
            self.effects
                .reply(token, GroupReply::OffsetDelete(refused(Some(code))));
            return;
        }
        let group = self.groups.get(&id);
        let subscribed = group.and_then(Group::subscribed_topics).unwrap_or_default();
        let mut records = Vec::new();
        let mut topics = Vec::new();
        for (topic, partitions) in &request.topics {
            let code = match subscribed.contains(topic) {
                true => Some(GroupError::GroupSubscribedToTopic),
                false => None,
            };
            for partition in partitions {
                let value = group.and_then(|group| group.durable.offsets.get(topic, *partition));
                if code.is_none() && value.is_some() {
                    records.push((offset_key(&id, topic, *partition), None));
                }
            }
            let answers = partitions.iter().map(|partition| (*partition, code));
            topics.push((topic.clone(), answers.collect()));
        }
        let reply = GroupReply::OffsetDelete(OffsetDeleteReply {
            error: None,
            topics,
        });
        self.persist_or_reply(vec![id], records, token, reply);
    }

    /// Appends records for groups and answers when they are durable; answers at once when there are none.
    pub(super) fn persist_or_reply(
        &mut self,
        groups: Vec<Arc<str>>,
        records: Vec<crate::KeyValue>,
        token: RequestToken,
        reply: GroupReply,
    ) {
        if records.is_empty() {
            self.effects.reply(token, reply);
            return;
        }
        for id in &groups {
            if let Some(group) = self.groups.get_mut(id) {
                group.appends_in_flight += 1;
            }
        }
        self.effects.persist(PendingAppend {
            groups,
            offsets: Vec::new(),
            records,
            completion: Completion::Reply {
                request: token,
                reply,
            },
        });
    }
}

fn fetched(partition: PartitionIndex, value: Option<&CommittedOffset>) -> FetchedOffset {
    let (offset, leader_epoch, metadata) = match value {
        Some(value) => (value.offset, value.leader_epoch, value.metadata.clone()),
        None => (Offset::NONE, LeaderEpoch::NONE, String::new()),
    };
    FetchedOffset {
        partition,
        offset,
        leader_epoch,
        metadata,
        error: None,
    }
}
