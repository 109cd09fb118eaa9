//! SyncGroup: the leader's assignment is stored, then handed to everybody.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Context, Group, GroupState, Member};
use crate::effects::{Completion, RequestToken};
use crate::error::GroupError;
use crate::reply::{GroupReply, SyncGroupReply};
use crate::request::SyncGroupRequest;

impl Group {
    /// Answers, or parks the request until the assignment is durable.
    pub(crate) fn sync(
        &mut self,
        ctx: &mut Context<'_>,
        request: &SyncGroupRequest,
        token: RequestToken,
    ) {
        if let Err(code) = self.try_sync(ctx, request, token) {
            ctx.effects
                .reply(token, GroupReply::Sync(SyncGroupReply::error(code)));
        }
    }

    fn try_sync(
        &mut self,
        ctx: &mut Context<'_>,
        request: &SyncGroupRequest,
        token: RequestToken,
    ) -> Result<(), GroupError> {
        let member_id = request.member_id.as_str();
        self.check_member(member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |asked: &Option<String>, ours: &Option<String>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::Empty => return Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance { .. } => return Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance { storing } => {
                self.park_sync(ctx, member_id, token);
                if !storing && self.leader.as_deref() == Some(member_id) {
                    self.store_assignment(ctx, request);
                }
            }
            GroupState::Stable => {
                self.answer_sync(ctx, member_id, token);
                self.mark_synced(member_id);
            }
        }
        Ok(())
    }

    fn mark_synced(&mut self, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.synced = true;
        }
        if self.members.values().all(|member| member.synced) {
            self.sync_deadline = None;
        }
    }

    fn park_sync(&mut self, ctx: &mut Context<'_>, member_id: &str, token: RequestToken) {
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(older) = member.awaiting_sync.replace(token)
        {
            let reply = SyncGroupReply::error(GroupError::RebalanceInProgress);
            ctx.effects.reply(older, GroupReply::Sync(reply));
        }
        self.mark_synced(member_id);
    }

    fn store_assignment(&mut self, ctx: &mut Context<'_>, request: &SyncGroupRequest) {
        let assignments: BTreeMap<&str, &Bytes> = request
            .assignments
            .iter()
            .map(|(member, assignment)| (member.as_str(), assignment))
            .collect();
        // A member that the leader left out gets nothing.
        let assignment_of = |member: &Member| {
            let found = assignments.get(member.id.as_ref());
            found.map(|bytes| (*bytes).clone()).unwrap_or_default()
        };
        let mut stored = self.to_stored(assignment_of);
        stored.state_timestamp = ctx.now.wall;
        self.state = GroupState::CompletingRebalance { storing: true };
        let generation = self.generation;
        self.store(ctx, &stored, Completion::Assignment { generation });
    }

    /// The assignment of a generation is durable (and replayed), or failed. Too late if a rebalance has begun since.
    pub(crate) fn assignment_stored(
        &mut self,
        ctx: &mut Context<'_>,
        generation: i32,
        result: Result<(), GroupError>,
    ) {
        if !self.is_completing() || self.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                let Some(stored) = &self.durable.metadata else {
                    return;
                };
                for member in &stored.members {
                    if let Some(known) = self.members.get_mut(member.member_id.as_str()) {
                        known.assignment = member.assignment.clone();
                    }
                }
                self.set_state(ctx.now, GroupState::Stable);
                for id in self.ids_of(|member| member.awaiting_sync.is_some()) {
                    let member = self.members.get_mut(&id);
                    if let Some(token) = member.and_then(|member| member.awaiting_sync.take()) {
                        self.answer_sync(ctx, &id, token);
                    }
                }
            }
            Err(code) => {
                self.fail_syncs(ctx, code);
                self.prepare_rebalance(ctx);
            }
        }
    }

    fn answer_sync(&mut self, ctx: &mut Context<'_>, member_id: &str, token: RequestToken) {
        let assignment = self.members.get(member_id);
        let assignment = assignment.map(|member| member.assignment.clone());
        let reply = SyncGroupReply {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: assignment.unwrap_or_default(),
        };
        ctx.effects.reply(token, GroupReply::Sync(reply));
        self.touch(ctx.now, member_id);
    }

    /// Nobody gets an assignment of this generation.
    pub(super) fn fail_syncs(&mut self, ctx: &mut Context<'_>, code: GroupError) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.awaiting_sync.take() {
                member.touch(ctx.now);
                ctx.effects
                    .reply(token, GroupReply::Sync(SyncGroupReply::error(code)));
            }
        }
    }
}
