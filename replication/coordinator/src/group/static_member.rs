//! A static member comes back under a new member id (KIP-345, KIP-814).

use std::sync::Arc;

use super::{Context, Group, GroupState, Member};
use crate::effects::{Completion, RequestToken};
use crate::error::GroupError;
use crate::reply::{GroupReply, JoinGroupReply, SyncGroupReply};
use crate::request::JoinGroupRequest;

impl Group {
    /// The member `new` takes the place of `old`. In a stable group whose protocol stays the same that needs no
    /// rebalance: the changed group is stored, then the member is answered.
    pub(super) fn replace_static_member(
        &mut self,
        ctx: &mut Context<'_>,
        old: &Arc<str>,
        new: &Arc<str>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) {
        let old_leader = self.leader.clone();
        self.rename_member(ctx, old, new);
        if let Some(member) = self.members.get_mut(new) {
            member.update(request);
            member.client_id.clone_from(&request.client_id);
            member.client_host.clone_from(&request.client_host);
            member.touch(ctx.now);
        }
        if self.state != GroupState::Stable || self.select_protocol() != self.protocol {
            self.park_join(ctx, new, request, token);
            self.rebalance_or_complete(ctx);
            return;
        }
        let is_leader = self.leader.as_ref() == Some(new);
        let mut reply = self.join_reply(new, is_leader && request.may_skip_assignment);
        if request.may_skip_assignment {
            reply.skip_assignment = is_leader;
        } else {
            // An older client would assign anew if it were told that it leads.
            reply.leader = old_leader.as_deref().unwrap_or_default().to_owned();
        }
        let stored = self.to_stored(|member: &Member| member.assignment.clone());
        let completion = Completion::StaticMember {
            request: token,
            reply: GroupReply::Join(reply),
            old_member_id: old.clone(),
            new_member_id: new.clone(),
        };
        self.store(ctx, &stored, completion);
    }

    /// The replacement could not be stored: the old member id is in force again.
    pub(crate) fn static_member_failed(
        &mut self,
        ctx: &mut Context<'_>,
        old: &Arc<str>,
        new: &Arc<str>,
    ) {
        if self.members.contains_key(new) && !self.members.contains_key(old) {
            self.rename_member(ctx, new, old);
        }
    }

    /// Gives a member another id in the same place; what waits under the old id is fenced.
    fn rename_member(&mut self, ctx: &mut Context<'_>, old: &Arc<str>, new: &Arc<str>) {
        let Some((at, _, mut member)) = self.members.shift_remove_full(old) else {
            return;
        };
        if let Some(token) = member.awaiting_join.take() {
            let reply = JoinGroupReply::error(GroupError::FencedInstanceId, old);
            ctx.effects.reply(token, GroupReply::Join(reply));
        }
        if let Some(token) = member.awaiting_sync.take() {
            let reply = SyncGroupReply::error(GroupError::FencedInstanceId);
            ctx.effects.reply(token, GroupReply::Sync(reply));
        }
        member.id = new.clone();
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        self.members.shift_insert(at, new.clone(), member);
    }
}
