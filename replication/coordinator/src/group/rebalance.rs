//! The two phases of a rebalance: everybody joins, then everybody gets an assignment; and what times out in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::member::millis;
use super::{Context, Group, GroupState, InitialDelay, Member};
use crate::effects::Completion;
use crate::error::GroupError;
use crate::reply::GroupReply;

/// A client that names no time at all would make the group spin.
const REBALANCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

impl Group {
    /// The longest that any member wants to be waited for.
    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        millis(timeouts.max().unwrap_or(0)).max(REBALANCE_TIMEOUT_MIN)
    }

    pub(super) fn rebalance_or_complete(&mut self, ctx: &mut Context<'_>) {
        match self.state {
            GroupState::PreparingRebalance { .. } => self.complete_join_if_all_joined(ctx),
            _ => self.prepare_rebalance(ctx),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, ctx: &mut Context<'_>) {
        if self.is_completing() {
            self.fail_syncs(ctx, GroupError::RebalanceInProgress);
        }
        self.sync_deadline = None;
        let timeout = self.rebalance_timeout();
        let now = ctx.now.monotonic;
        let (wait, initial) = match self.state {
            GroupState::Empty => {
                let delay = ctx.settings.initial_rebalance_delay;
                let initial = InitialDelay {
                    delay,
                    remaining: timeout.saturating_sub(delay),
                    member_added: false,
                };
                (delay, Some(initial))
            }
            _ => (timeout, None),
        };
        let deadline = now.plus(wait);
        self.set_state(
            ctx.now,
            GroupState::PreparingRebalance { deadline, initial },
        );
        match initial {
            Some(_) if wait.is_zero() => self.complete_join(ctx),
            _ => self.complete_join_if_all_joined(ctx),
        }
    }

    /// Completes the join phase when nobody is missing. The first rebalance of an empty group waits for its delay,
    /// because more members are likely to come.
    pub(super) fn complete_join_if_all_joined(&mut self, ctx: &mut Context<'_>) {
        let GroupState::PreparingRebalance { initial: None, .. } = self.state else {
            return;
        };
        let mut members = self.members.values();
        if self.pending_members.is_empty() && members.all(|m| m.awaiting_join.is_some()) {
            self.complete_join(ctx);
        }
    }

    /// The join phase is over: those who have not joined are out, unless they are static.
    fn complete_join(&mut self, ctx: &mut Context<'_>) {
        let missing = |m: &Member| m.awaiting_join.is_none() && m.instance_id.is_none();
        let missing: Vec<Arc<str>> = self.ids_of(missing);
        for id in missing {
            self.remove_member(ctx, &id);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members, none of whom came back: they keep their places for another round.
            let deadline = ctx.now.monotonic.plus(self.rebalance_timeout());
            let initial = None;
            self.state = GroupState::PreparingRebalance { deadline, initial };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.set_state(ctx.now, GroupState::Empty);
            let stored = self.to_stored(|_| Bytes::new());
            self.store(ctx, &stored, Completion::Nothing);
            return;
        }
        self.protocol = self.select_protocol();
        self.set_state(ctx.now, GroupState::CompletingRebalance { storing: false });
        self.sync_deadline = Some(ctx.now.monotonic.plus(self.rebalance_timeout()));
        for id in self.ids_of(|_| true) {
            let is_leader = self.leader.as_ref() == Some(&id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.is_new = false;
            member.synced = false;
            if let Some(token) = member.awaiting_join.take() {
                self.answer_join(ctx, &id, token, is_leader);
            }
        }
    }

    pub(super) fn ids_of(&self, wanted: impl Fn(&Member) -> bool) -> Vec<Arc<str>> {
        let members = self.members.values().filter(|member| wanted(member));
        members.map(|member| member.id.clone()).collect()
    }

    /// Keeps a leader that has joined, else takes the first member that has. Whether there is one.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.members.keys().find(|id| joined(id)).cloned() {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// The protocol that most members prefer among those that all know; the first member's order breaks ties.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let known_to_all = |name: &str| self.members.values().all(|m| m.metadata(name).is_some());
        let candidates: Vec<&str> = first
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .filter(|name| known_to_all(name))
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut preferences = member.protocols.iter().map(|p| p.name.as_str());
            if let Some(vote) = preferences.find(|name| candidates.contains(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let winner = candidates
            .iter()
            .find(|name| votes.get(**name).copied().unwrap_or(0) == most);
        winner.map(|name| (*name).to_owned())
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.monotonic;
        self.expire_pending_members(ctx);
        self.expire_sessions(ctx);
        if let GroupState::PreparingRebalance { deadline, initial } = self.state
            && deadline <= now
        {
            self.join_phase_timed_out(ctx, initial);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_phase_timed_out(ctx);
        }
    }

    fn expire_pending_members(&mut self, ctx: &mut Context<'_>) {
        let before = self.pending_members.len();
        let now = ctx.now.monotonic;
        self.pending_members.retain(|_, until| *until > now);
        if self.pending_members.len() < before {
            self.complete_join_if_all_joined(ctx);
        }
    }

    fn expire_sessions(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.monotonic;
        let lost = self.ids_of(|m| m.session_deadline().is_some_and(|deadline| deadline <= now));
        if !lost.is_empty() {
            for id in &lost {
                self.remove_member(ctx, id);
            }
            self.members_left(ctx);
        }
    }

    fn join_phase_timed_out(&mut self, ctx: &mut Context<'_>, initial: Option<InitialDelay>) {
        match initial {
            // Members still arrive: wait on, up to the rebalance timeout.
            Some(wait) if wait.member_added && !wait.remaining.is_zero() => {
                let delay = wait.delay.min(wait.remaining);
                let deadline = ctx.now.monotonic.plus(delay);
                let initial = Some(InitialDelay {
                    delay: wait.delay,
                    remaining: wait.remaining.saturating_sub(delay),
                    member_added: false,
                });
                self.state = GroupState::PreparingRebalance { deadline, initial };
            }
            _ => self.complete_join(ctx),
        }
    }

    /// Members that never asked for their assignment are gone.
    fn sync_phase_timed_out(&mut self, ctx: &mut Context<'_>) {
        self.sync_deadline = None;
        let silent = self.ids_of(|member| !member.synced);
        if !silent.is_empty() {
            for id in &silent {
                self.remove_member(ctx, id);
            }
            self.members_left(ctx);
        }
    }

    /// Answers every parked request: this broker does not coordinate the group any more.
    pub(crate) fn refuse_parked(&mut self, ctx: &mut Context<'_>, code: GroupError) {
        self.fail_syncs(ctx, code);
        for member in self.members.values_mut() {
            if let Some(token) = member.awaiting_join.take() {
                let reply = crate::JoinGroupReply::error(code, &member.id);
                ctx.effects.reply(token, GroupReply::Join(reply));
            }
        }
    }
}
