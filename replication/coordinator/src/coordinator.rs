//! The coordinator of all groups of one `__consumer_offsets` partition.
//!
//! Life: `new`, `replay` for every record of the partition, `finish_loading`; then requests, timeouts and outcomes of
//! appends in any order; `resign` when the partition's leadership is lost. Outputs are to be polled after every call.
//! Invariants: durable state changes in `replay` only; every request gets exactly one reply.

mod admin;
mod commit;
mod deleted_topics;
mod expiry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{MonotonicTime, Offset};

use self::deleted_topics::DeletedTopics;
use crate::effects::{AppendFailure, failed};
use crate::effects::{AppendId, Completion, Effects, Output, PendingAppend, RequestToken};
use crate::error::GroupError;
use crate::group::{Context, DurableGroup, Group};
use crate::records::{GroupKey, GroupRecordError, read_group_value, read_key, read_offset_value};
use crate::reply::{GroupReply, JoinGroupReply, LeaveGroupReply};
use crate::request::SyncGroupRequest;
use crate::request::{GroupRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest};
use crate::settings::{APPENDS_IN_FLIGHT_MAX, GROUPS_MAX, GroupSettings, ID_BYTES_MAX, Now};

/// Coordinates the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupCoordinator {
    settings: GroupSettings,
    groups: BTreeMap<Arc<str>, Group>,
    timers: BTreeSet<(MonotonicTime, Arc<str>)>,
    effects: Effects,
    next_expiry: Option<MonotonicTime>,
    deleted_topics: DeletedTopics,
    is_loaded: bool,
}

impl GroupCoordinator {
    /// A coordinator that has to be loaded.
    pub fn new(settings: GroupSettings) -> GroupCoordinator {
        GroupCoordinator {
            settings,
            groups: BTreeMap::new(),
            timers: BTreeSet::new(),
            effects: Effects::default(),
            next_expiry: None,
            deleted_topics: DeletedTopics::default(),
            is_loaded: false,
        }
    }

    /// Applies one record of the partition, in log order. For loading; live appends are applied by
    /// [`GroupCoordinator::persisted`]. An error means that the record is not Kafka's; nothing changed.
    pub fn replay(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), GroupRecordError> {
        match read_key(key.ok_or(GroupRecordError::NoKey)?)? {
            GroupKey::Offset {
                group,
                topic,
                partition,
            } => {
                let value = value.map(read_offset_value).transpose()?;
                match value {
                    Some(value) => {
                        let offsets = &mut self.durable(&group).offsets;
                        offsets.set(&topic, partition, value);
                    }
                    None => {
                        if let Some(group) = self.groups.get_mut(group.as_str()) {
                            group.durable.offsets.remove(&topic, partition);
                        }
                    }
                }
                self.forget_if_void(&group);
            }
            GroupKey::Group { group } => {
                match value.map(read_group_value).transpose()? {
                    Some(value) => self.durable(&group).metadata = Some(value),
                    None => {
                        if let Some(group) = self.groups.get_mut(group.as_str()) {
                            group.durable.metadata = None;
                        }
                    }
                }
                self.forget_if_void(&group);
            }
            // Groups of newer kinds, written by Kafka: not ours to judge.
            GroupKey::Other { .. } => {}
        }
        Ok(())
    }

    /// All records have been replayed: members of stored groups have a session's time to show up, requests are served.
    pub fn finish_loading(&mut self, now: Now) {
        self.is_loaded = true;
        self.next_expiry = Some(
            now.monotonic
                .plus(self.settings.offsets_retention_check_interval),
        );
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                group.restore(now);
            }
            self.after(&id);
        }
    }

    /// Takes a request; its reply comes as an output, at once or later. Every token gets exactly one reply.
    pub fn handle(&mut self, now: Now, token: RequestToken, request: GroupRequest) {
        let refusal = match self.is_loaded {
            false => Some(GroupError::CoordinatorLoadInProgress),
            true if self.effects.appends.len() >= APPENDS_IN_FLIGHT_MAX => {
                Some(GroupError::CoordinatorNotAvailable)
            }
            true => refused_ids(&request),
        };
        if let Some(code) = refusal {
            self.effects.reply(token, request.refuse(code));
            return;
        }
        match request {
            GroupRequest::Join(request) => self.join(now, token, &request),
            GroupRequest::Sync(request) => self.sync(now, token, &request),
            GroupRequest::Heartbeat(request) => {
                let code = self.heartbeat(now, &request).err();
                let reply = GroupReply::Heartbeat(code);
                self.effects.reply(token, reply);
            }
            GroupRequest::Leave(request) => self.leave(now, token, &request),
            GroupRequest::OffsetCommit(request) => self.commit(now, token, &request),
            GroupRequest::OffsetFetch(request) => {
                let reply = GroupReply::OffsetFetch(self.fetch(&request));
                self.effects.reply(token, reply);
            }
            GroupRequest::Describe(request) => {
                let reply = GroupReply::Describe(self.describe(&request));
                self.effects.reply(token, reply);
            }
            GroupRequest::List(request) => {
                let reply = GroupReply::List(self.list(&request));
                self.effects.reply(token, reply);
            }
            GroupRequest::Delete(request) => self.delete(token, &request.groups),
            GroupRequest::OffsetDelete(request) => self.delete_offsets(token, &request),
        }
    }

    /// The outcome of an append, in the order of the appends. `Ok` is the offset of its first record.
    pub fn persisted(&mut self, now: Now, append: AppendId, result: Result<Offset, AppendFailure>) {
        let Some(pending) = self.effects.appends.remove(&append) else {
            return;
        };
        let PendingAppend {
            groups,
            offsets,
            records,
            completion,
        } = pending;
        let mut result = result.map(|_| ());
        if result.is_ok() {
            for (key, value) in &records {
                // Records of our own making can always be read; if not, the append has failed for the client.
                if self.replay(Some(key), value.as_deref()).is_err() {
                    result = Err(AppendFailure::Rejected);
                }
            }
        }
        if let (Ok(()), Some(group)) = (&result, groups.first()) {
            self.deleted_topics.committed(append, group, &offsets);
        }
        for id in &groups {
            if let Some(group) = self.groups.get_mut(id) {
                group.appends_in_flight = group.appends_in_flight.saturating_sub(1);
            }
        }
        if let Completion::OffsetsGone { places } = &completion {
            self.gone_deleted(now, append, groups.first(), places, result.is_ok());
        }
        self.complete(now, groups.first(), completion, result);
        for id in &groups {
            self.after(id);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.effects.outputs.pop_front()
    }

    /// When [`GroupCoordinator::handle_timeout`] is wanted.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        let group = self.timers.first().map(|(deadline, _)| *deadline);
        let others = [self.next_expiry, self.deleted_topics.retry_at()];
        group.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Time has passed: sessions, rebalances and offsets expire.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((deadline, _)) = self.timers.first()
            && *deadline <= now.monotonic
        {
            let Some((_, id)) = self.timers.pop_first() else {
                break;
            };
            if let Some((group, mut ctx)) = self.group_context(now, &id) {
                group.armed = None;
                group.handle_timeout(&mut ctx);
            }
            self.after_at(&id, Some(now.monotonic));
        }
        let retry_at = self.deleted_topics.retry_at();
        if retry_at.is_some_and(|at| at <= now.monotonic) {
            self.delete_gone(now);
        }
        if self.next_expiry.is_some_and(|at| at <= now.monotonic) {
            let interval = self.settings.offsets_retention_check_interval;
            self.next_expiry = Some(now.monotonic.plus(interval));
            self.expire_offsets(now);
        }
    }

    /// The partition is led elsewhere now: every request that waits is answered so, and everything is
    /// forgotten. Poll the outputs, then drop the coordinator.
    pub fn resign(&mut self, now: Now) {
        let code = GroupError::NotCoordinator;
        self.effects
            .outputs
            .retain(|output| matches!(output, Output::Reply { .. }));
        for pending in std::mem::take(&mut self.effects.appends).into_values() {
            if let Completion::Reply { request, reply }
            | Completion::StaticMember { request, reply, .. } = pending.completion
            {
                self.effects.reply(request, failed(reply, code));
            }
        }
        for (id, mut group) in std::mem::take(&mut self.groups) {
            let mut ctx = Context {
                now,
                settings: &self.settings,
                effects: &mut self.effects,
                group_id: &id,
            };
            group.refuse_parked(&mut ctx, code);
        }
        self.timers.clear();
        self.next_expiry = None;
        self.deleted_topics.clear();
        self.is_loaded = false;
    }

    /// The durable state by group: what the log adds up to.
    pub fn durable_groups(&self) -> impl Iterator<Item = (&str, &DurableGroup)> {
        let durable = |group: &(&Arc<str>, &Group)| !group.1.durable.is_empty();
        self.groups
            .iter()
            .filter(durable)
            .map(|(id, group)| (id.as_ref(), &group.durable))
    }

    /// Number of groups, those without durable state included.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn durable(&mut self, id: &str) -> &mut DurableGroup {
        if !self.groups.contains_key(id) {
            let group = Group::new(model::Timestamp::NONE);
            self.groups.insert(Arc::from(id), group);
        }
        let group = self.groups.get_mut(id);
        &mut group.expect("the group was just inserted").durable
    }

    fn group_context<'a>(
        &'a mut self,
        now: Now,
        id: &'a Arc<str>,
    ) -> Option<(&'a mut Group, Context<'a>)> {
        let group = self.groups.get_mut(id)?;
        let ctx = Context {
            now,
            settings: &self.settings,
            effects: &mut self.effects,
            group_id: id,
        };
        Some((group, ctx))
    }

    /// While loading, groups come and go with their records; live, only [`GroupCoordinator::after`] forgets them.
    fn forget_if_void(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(Group::is_void) {
            self.groups.remove(id);
        }
    }

    fn after(&mut self, id: &Arc<str>) {
        self.after_at(id, None);
    }

    /// Forgets a group that holds nothing, else notes its next deadline. `not_before` keeps a deadline that has just
    /// been handled from being handled twice at the same time.
    fn after_at(&mut self, id: &Arc<str>, not_before: Option<MonotonicTime>) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let mut deadline = group.next_deadline();
        if let (Some(at), Some(handled)) = (deadline, not_before)
            && at <= handled
        {
            deadline = Some(MonotonicTime(handled.0.saturating_add(1)));
        }
        if group.armed != deadline {
            if let Some(armed) = group.armed {
                self.timers.remove(&(armed, id.clone()));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, id.clone()));
            }
            group.armed = deadline;
        }
        self.forget_if_void(id);
    }

    fn join(&mut self, now: Now, token: RequestToken, request: &JoinGroupRequest) {
        let refusal = self.refused_join(request);
        if let Some(code) = refusal {
            let reply = JoinGroupReply::error(code, &request.member_id);
            self.effects.reply(token, GroupReply::Join(reply));
            return;
        }
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        self.groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(now.wall));
        if let Some((group, mut ctx)) = self.group_context(now, &id) {
            group.join(&mut ctx, request, token);
        }
        self.after(&id);
    }

    fn refused_join(&self, request: &JoinGroupRequest) -> Option<GroupError> {
        let timeouts = self.settings.session_timeout_ms_min..=self.settings.session_timeout_ms_max;
        let known = self.groups.contains_key(request.group_id.as_str());
        let instance = request.group_instance_id.as_deref().unwrap_or_default();
        let ids = [instance, &request.client_id, &request.client_host];
        let names = request
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str());
        let mut strings = names.chain(ids).chain([request.protocol_type.as_str()]);
        if request.group_id.is_empty() {
            Some(GroupError::InvalidGroupId)
        } else if !timeouts.contains(&request.session_timeout_ms) {
            Some(GroupError::InvalidSessionTimeout)
        } else if strings.any(|text| text.len() > ID_BYTES_MAX) {
            Some(GroupError::InvalidRequest)
        } else if !known && !request.member_id.is_empty() {
            Some(GroupError::UnknownMemberId)
        } else if !known && self.groups.len() >= GROUPS_MAX {
            Some(GroupError::GroupMaxSizeReached)
        } else {
            None
        }
    }

    fn sync(&mut self, now: Now, token: RequestToken, request: &SyncGroupRequest) {
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        let refusal = refused_group(&id, self.groups.contains_key(&id));
        if let Some(code) = refusal {
            let reply = crate::SyncGroupReply::error(code);
            self.effects.reply(token, GroupReply::Sync(reply));
            return;
        }
        if let Some((group, mut ctx)) = self.group_context(now, &id) {
            group.sync(&mut ctx, request, token);
        }
        self.after(&id);
    }

    /// Deadlines only move away by it, so the group is not looked at again: its timer finds the new ones.
    fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> Result<(), GroupError> {
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        if let Some(code) = refused_group(&id, self.groups.contains_key(&id)) {
            return Err(code);
        }
        match self.group_context(now, &id) {
            Some((group, ctx)) => group.heartbeat(&ctx, request),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    fn leave(&mut self, now: Now, token: RequestToken, request: &LeaveGroupRequest) {
        let id: Arc<str> = Arc::from(request.group_id.as_str());
        let reply = if id.is_empty() {
            LeaveGroupReply {
                error: Some(GroupError::InvalidGroupId),
                members: Vec::new(),
            }
        } else if let Some((group, mut ctx)) = self.group_context(now, &id) {
            LeaveGroupReply {
                error: None,
                members: group.leave(&mut ctx, request),
            }
        } else {
            let unknown = |member| crate::LeftMember::new(member, GroupError::UnknownMemberId);
            LeaveGroupReply {
                error: None,
                members: request.members.iter().map(unknown).collect(),
            }
        };
        self.effects.reply(token, GroupReply::Leave(reply));
        self.after(&id);
    }

    fn complete(
        &mut self,
        now: Now,
        group: Option<&Arc<str>>,
        completion: Completion,
        result: Result<(), AppendFailure>,
    ) {
        let result = result.map_err(AppendFailure::code);
        match completion {
            Completion::Nothing | Completion::OffsetsGone { .. } => {}
            Completion::Reply { request, reply } => {
                let reply = match result {
                    Ok(()) => reply,
                    Err(code) => failed(reply, code),
                };
                self.effects.reply(request, reply);
            }
            Completion::Assignment { generation } => {
                if let Some((group, mut ctx)) = group.and_then(|id| self.group_context(now, id)) {
                    group.assignment_stored(&mut ctx, generation, result);
                }
            }
            Completion::StaticMember {
                request,
                reply,
                old_member_id,
                new_member_id,
            } => match result {
                Ok(()) => self.effects.reply(request, reply),
                Err(code) => {
                    self.effects.reply(request, failed(reply, code));
                    if let Some((group, mut ctx)) = group.and_then(|id| self.group_context(now, id))
                    {
                        group.static_member_failed(&mut ctx, &old_member_id, &new_member_id);
                    }
                }
            },
        }
    }
}

fn refused_group(id: &str, known: bool) -> Option<GroupError> {
    match (id.is_empty(), known) {
        (true, _) => Some(GroupError::InvalidGroupId),
        (false, false) => Some(GroupError::UnknownMemberId),
        (false, true) => None,
    }
}

/// Ids that no stored record could hold.
fn refused_ids(request: &GroupRequest) -> Option<GroupError> {
    let id = match request {
        GroupRequest::Join(request) => &request.group_id,
        GroupRequest::OffsetCommit(request) => &request.group_id,
        GroupRequest::OffsetDelete(request) => &request.group_id,
        _ => return None,
    };
    (id.len() > ID_BYTES_MAX).then_some(GroupError::InvalidGroupId)
}
