//! JoinGroup: who gets into the group, and when that starts a rebalance.

use std::sync::Arc;

use super::{Context, Group, GroupState, Member};
use crate::effects::RequestToken;
use crate::error::GroupError;
use crate::reply::{GroupReply, JoinGroupReply, JoinedMember};
use crate::request::JoinGroupRequest;
use crate::settings::{ID_BYTES_MAX, MEMBER_METADATA_BYTES_MAX, PROTOCOLS_PER_MEMBER_MAX};

/// `<client id or instance id>-<uuid>`, within what a stored string can hold.
fn new_member_id(request: &JoinGroupRequest) -> Arc<str> {
    let prefix = request.group_instance_id.as_deref();
    let prefix = prefix.unwrap_or(&request.client_id);
    let mut end = prefix.len().min(ID_BYTES_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut id = String::with_capacity(end + 37);
    id.push_str(&prefix[..end]);
    for (at, byte) in request.member_id_bits.iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    Arc::from(id)
}

impl Group {
    /// Answers, or parks the request until the rebalance is complete.
    pub(crate) fn join(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) {
        if let Err((code, member_id)) = self.try_join(ctx, request, token) {
            let reply = JoinGroupReply::error(code, &member_id);
            ctx.effects.reply(token, GroupReply::Join(reply));
        }
    }

    /// An error is the answer, with the member id it carries; otherwise the request is answered or parked.
    fn try_join(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) -> Result<(), (GroupError, String)> {
        let own_id = request.member_id.clone();
        if !self.accepts(&request.member_id, ctx.settings.group_size_max) {
            self.pending_members.remove(request.member_id.as_str());
            return Err((GroupError::GroupMaxSizeReached, String::new()));
        }
        if !self.supports(request) {
            return Err((GroupError::InconsistentGroupProtocol, own_id));
        }
        if request.member_id.is_empty() {
            return self.join_new(ctx, request, token);
        }
        if self
            .pending_members
            .remove(request.member_id.as_str())
            .is_some()
        {
            if request.group_instance_id.is_some() {
                // A static member never gets an id to come back with.
                return Err((GroupError::UnknownMemberId, own_id));
            }
            self.add_member(ctx, Arc::from(own_id.as_str()), request, token);
            return Ok(());
        }
        let instance = request.group_instance_id.as_deref();
        self.check_member(&request.member_id, instance)
            .map_err(|code| (code, own_id))?;
        self.join_again(ctx, request, token)
    }

    fn join_new(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) -> Result<(), (GroupError, String)> {
        let id = new_member_id(request);
        if let Some(instance) = request.group_instance_id.as_deref() {
            match self.static_members.get(instance).cloned() {
                Some(old) => self.replace_static_member(ctx, &old, &id, request, token),
                None => self.add_member(ctx, id, request, token),
            }
            return Ok(());
        }
        if request.requires_known_member_id {
            if self.pending_members.len() >= ctx.settings.group_size_max {
                return Err((GroupError::GroupMaxSizeReached, String::new()));
            }
            let session = super::member::millis(request.session_timeout_ms);
            let until = ctx.now.monotonic.plus(session);
            self.pending_members.insert(id.clone(), until);
            return Err((GroupError::MemberIdRequired, id.to_string()));
        }
        self.add_member(ctx, id, request, token);
        Ok(())
    }

    /// A known member joins again: a rebalance, unless it would change nothing.
    fn join_again(
        &mut self,
        ctx: &mut Context<'_>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) -> Result<(), (GroupError, String)> {
        let is_leader = self.leader.as_deref() == Some(request.member_id.as_str());
        let member = self.members.get(request.member_id.as_str());
        let same = member.is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            // Unreachable while members exist; the client starts anew.
            GroupState::Empty => {
                return Err((GroupError::UnknownMemberId, request.member_id.clone()));
            }
            GroupState::CompletingRebalance { .. } if same => {
                self.answer_join(ctx, &request.member_id, token, is_leader);
            }
            GroupState::Stable if same && !is_leader => {
                self.answer_join(ctx, &request.member_id, token, false);
            }
            _ => {
                self.park_join(ctx, &request.member_id, request, token);
                self.rebalance_or_complete(ctx);
            }
        }
        Ok(())
    }

    fn add_member(
        &mut self,
        ctx: &mut Context<'_>,
        id: Arc<str>,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) {
        let member = Member::joining(id.clone(), request, token, ctx.now);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        if let GroupState::PreparingRebalance {
            initial: Some(initial),
            ..
        } = &mut self.state
        {
            initial.member_added = true;
        }
        self.rebalance_or_complete(ctx);
    }

    /// Takes over the request's data and waits for the rebalance with it; an older join of the member is answered.
    pub(super) fn park_join(
        &mut self,
        ctx: &mut Context<'_>,
        member_id: &str,
        request: &JoinGroupRequest,
        token: RequestToken,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.update(request);
        if let Some(older) = member.awaiting_join.replace(token) {
            let reply = JoinGroupReply::error(GroupError::RebalanceInProgress, member_id);
            ctx.effects.reply(older, GroupReply::Join(reply));
        }
    }

    /// Answers a join with the present generation.
    pub(super) fn answer_join(
        &mut self,
        ctx: &mut Context<'_>,
        member_id: &str,
        token: RequestToken,
        with_members: bool,
    ) {
        let reply = self.join_reply(member_id, with_members);
        ctx.effects.reply(token, GroupReply::Join(reply));
        self.touch(ctx.now, member_id);
    }

    pub(super) fn join_reply(&self, member_id: &str, with_members: bool) -> JoinGroupReply {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(str::to_owned),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        };
        JoinGroupReply {
            error: None,
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: match with_members {
                true => self.members.values().map(joined).collect(),
                false => Vec::new(),
            },
        }
    }

    /// Whether there is room for that member (Kafka's rule: during a rebalance those count who are waiting already).
    fn accepts(&self, member_id: &str, size_max: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance { .. } => {
                let waiting = self.members.values().filter(|m| m.awaiting_join.is_some());
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || waiting.count() < size_max
            }
            GroupState::CompletingRebalance { .. } | GroupState::Stable => {
                member.is_some() || self.members.len() < size_max
            }
        }
    }

    fn supports(&self, request: &JoinGroupRequest) -> bool {
        let bytes = request
            .protocols
            .iter()
            .map(|protocol| protocol.metadata.len());
        if request.protocol_type.is_empty()
            || request.protocols.is_empty()
            || request.protocols.len() > PROTOCOLS_PER_MEMBER_MAX
            || bytes.sum::<usize>() > MEMBER_METADATA_BYTES_MAX
        {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let everyone_knows = |name: &str| {
            let mut members = self.members.values();
            members.all(|member| member.metadata(name).is_some())
        };
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && request
                .protocols
                .iter()
                .any(|protocol| everyone_knows(&protocol.name))
    }
}
