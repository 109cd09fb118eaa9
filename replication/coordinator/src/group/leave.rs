//! Heartbeats, and members that leave or are lost.

use std::sync::Arc;

use super::{Context, Group, GroupState};
use crate::error::GroupError;
use crate::reply::{GroupReply, JoinGroupReply, LeftMember, SyncGroupReply};
use crate::request::{HeartbeatRequest, LeaveGroupRequest, LeavingMember};

impl Group {
    /// The answer to a heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        ctx: &Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), GroupError> {
        let member_id = request.member_id.as_str();
        self.check_member(member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.touch(ctx.now, member_id);
        match self.state {
            GroupState::Empty => Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance { .. } => Err(GroupError::RebalanceInProgress),
            // A member may send heartbeats between its join and its assignment.
            GroupState::CompletingRebalance { .. } | GroupState::Stable => Ok(()),
        }
    }

    /// Removes members; one answer each.
    pub(crate) fn leave(
        &mut self,
        ctx: &mut Context<'_>,
        request: &LeaveGroupRequest,
    ) -> Vec<LeftMember> {
        let mut answers = Vec::with_capacity(request.members.len());
        let mut someone_left = false;
        for leaving in &request.members {
            let result = self.leave_one(ctx, leaving);
            someone_left |= result.is_ok();
            let code = result.err();
            answers.push(LeftMember::new(leaving, code));
        }
        if someone_left {
            self.members_left(ctx);
        }
        answers
    }

    fn leave_one(
        &mut self,
        ctx: &mut Context<'_>,
        leaving: &LeavingMember,
    ) -> Result<(), GroupError> {
        let instance = leaving.group_instance_id.as_deref();
        // An administrator removes a static member by its instance id alone.
        if leaving.member_id.is_empty()
            && let Some(instance) = instance
        {
            let id = self.static_members.get(instance).cloned();
            let id = id.ok_or(GroupError::UnknownMemberId)?;
            self.remove_member(ctx, &id);
            return Ok(());
        }
        if instance.is_none()
            && self
                .pending_members
                .remove(leaving.member_id.as_str())
                .is_some()
        {
            return Ok(());
        }
        self.check_member(&leaving.member_id, instance)?;
        self.remove_member(ctx, &Arc::from(leaving.member_id.as_str()));
        Ok(())
    }

    /// Takes a member out and answers what it waits for. The caller follows with [`Group::members_left`].
    pub(super) fn remove_member(&mut self, ctx: &mut Context<'_>, id: &Arc<str>) {
        let Some(member) = self.members.shift_remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(token) = member.awaiting_join {
            let reply = JoinGroupReply::error(GroupError::UnknownMemberId, "");
            ctx.effects.reply(token, GroupReply::Join(reply));
        }
        if let Some(token) = member.awaiting_sync {
            let reply = SyncGroupReply::error(GroupError::UnknownMemberId);
            ctx.effects.reply(token, GroupReply::Sync(reply));
        }
    }

    /// The group rebalances without those who left.
    pub(super) fn members_left(&mut self, ctx: &mut Context<'_>) {
        match self.state {
            GroupState::Empty => {}
            GroupState::PreparingRebalance { .. } => self.complete_join_if_all_joined(ctx),
            GroupState::CompletingRebalance { .. } | GroupState::Stable => {
                self.prepare_rebalance(ctx);
            }
        }
    }
}
