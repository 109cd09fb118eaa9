//! One classic consumer group: its durable state, and the rebalance that is going on (kafka.md 5.1).
//!
//! Durable state (offsets and the outcome of the last rebalance) changes by replay only; everything else is volatile and
//! is rebuilt from it after loading. Invariants: a parked request belongs to a member of the group; a static member's
//! instance id leads to exactly one member; the leader is a member whenever there are members.

mod join;
mod leave;
mod member;
mod rebalance;
mod static_member;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use model::{MonotonicTime, Timestamp};

use crate::effects::{Completion, Effects, PendingAppend};
use crate::error::GroupError;
use crate::offsets::{CommittedOffset, GroupOffsets};
use crate::records::{GroupMetadata, StoredMember, group_key, group_value, subscribed_topics};
use crate::settings::{GroupSettings, Now};
use model::PartitionIndex;

pub(crate) use member::Member;

/// The durable state of one group: what its records add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurableGroup {
    pub(crate) metadata: Option<GroupMetadata>,
    pub(crate) offsets: GroupOffsets,
}

impl DurableGroup {
    /// The outcome of the last rebalance, if one was stored.
    pub fn metadata(&self) -> Option<&GroupMetadata> {
        self.metadata.as_ref()
    }

    /// All committed offsets.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, PartitionIndex, &CommittedOffset)> {
        self.offsets
            .iter()
            .map(|(topic, partition, offset)| (topic.as_ref(), partition, offset))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.metadata.is_none() && self.offsets.is_empty()
    }
}

/// The wait of the first rebalance of an empty group for more members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    delay: Duration,
    remaining: Duration,
    member_added: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    PreparingRebalance {
        deadline: MonotonicTime,
        initial: Option<InitialDelay>,
    },
    /// `storing`: the leader's assignment is on its way to the log.
    CompletingRebalance {
        storing: bool,
    },
    Stable,
}

/// What group code may use: time, settings, effects.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) effects: &'a mut Effects,
    pub(crate) group_id: &'a Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) durable: DurableGroup,
    /// Appends about this group whose outcome is not known.
    pub(crate) appends_in_flight: u32,
    /// The deadline that the coordinator has noted for this group.
    pub(crate) armed: Option<MonotonicTime>,
    state: GroupState,
    state_timestamp: Timestamp,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<Arc<str>>,
    /// In the order in which they joined.
    members: IndexMap<Arc<str>, Member>,
    /// Instance id to member id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out with MEMBER_ID_REQUIRED, until when they are good.
    pending_members: BTreeMap<Arc<str>, MonotonicTime>,
    /// Until when every member must have asked for its assignment.
    sync_deadline: Option<MonotonicTime>,
}

impl Group {
    pub(crate) fn new(wall: Timestamp) -> Group {
        Group {
            durable: DurableGroup::default(),
            appends_in_flight: 0,
            armed: None,
            state: GroupState::Empty,
            state_timestamp: wall,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: IndexMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            sync_deadline: None,
        }
    }

    /// Rebuilds the volatile state from the durable one, after loading: the members of the last rebalance get a
    /// session's time to show up.
    pub(crate) fn restore(&mut self, now: Now) {
        let Some(stored) = &self.durable.metadata else {
            return;
        };
        self.generation = stored.generation;
        self.protocol_type = Some(stored.protocol_type.clone()).filter(|kind| !kind.is_empty());
        self.protocol.clone_from(&stored.protocol);
        self.state_timestamp = stored.state_timestamp;
        for member in &stored.members {
            let member = Member::restored(member, self.protocol.as_deref(), now);
            let id = member.id.clone();
            if let Some(instance) = &member.instance_id {
                self.static_members.insert(instance.clone(), id.clone());
            }
            self.members.insert(id, member);
        }
        let leader = stored.leader.as_deref();
        let leader = leader.and_then(|leader| self.members.get_key_value(leader));
        self.leader = leader.or(self.members.first()).map(|(id, _)| id.clone());
        if !self.members.is_empty() {
            self.state = GroupState::Stable;
        }
    }

    /// Whether nothing would be lost by forgetting the group.
    pub(crate) fn is_void(&self) -> bool {
        self.is_vacant() && self.durable.is_empty() && self.appends_in_flight == 0
    }

    /// Whether nobody is in the group nor on the way into it.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty
            && self.members.is_empty()
            && self.pending_members.is_empty()
    }

    pub(crate) fn is_empty_state(&self) -> bool {
        self.state == GroupState::Empty
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance { .. } => "PreparingRebalance",
            GroupState::CompletingRebalance { .. } => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.state == GroupState::Stable
    }

    pub(crate) fn is_completing(&self) -> bool {
        matches!(self.state, GroupState::CompletingRebalance { .. })
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(crate) fn state_timestamp(&self) -> Timestamp {
        self.state_timestamp
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether the group's members use the consumer's own embedded protocol.
    pub(crate) fn is_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// Topics that the members of a stable consumer group subscribe to; `None` when that is not known.
    pub(crate) fn subscribed_topics(&self) -> Option<std::collections::BTreeSet<String>> {
        if !self.is_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(std::collections::BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = std::collections::BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(member.metadata(protocol)?)?);
        }
        Some(topics)
    }

    /// Checks that a request speaks for a member (kafka.md 5.1).
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        match instance_id {
            Some(instance) => match self.static_members.get(instance) {
                None => Err(GroupError::UnknownMemberId),
                Some(id) if id.as_ref() != member_id => Err(GroupError::FencedInstanceId),
                Some(_) => Ok(()),
            },
            None if self.members.contains_key(member_id) => Ok(()),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// A sign of life.
    pub(crate) fn touch(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
    }

    /// Earliest time at which something happens by itself.
    pub(crate) fn next_deadline(&self) -> Option<MonotonicTime> {
        let rebalance = match self.state {
            GroupState::PreparingRebalance { deadline, .. } => Some(deadline),
            _ => None,
        };
        let sessions = self.members.values().filter_map(Member::session_deadline);
        let pending = self.pending_members.values().copied();
        sessions
            .chain(pending)
            .chain(rebalance)
            .chain(self.sync_deadline)
            .min()
    }

    fn set_state(&mut self, now: Now, state: GroupState) {
        self.state = state;
        self.state_timestamp = now.wall;
    }

    /// The group as it shall be stored, with these assignments.
    fn to_stored(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadata {
        let protocol = self.protocol.as_deref();
        let stored = |member: &Member| StoredMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: protocol
                .and_then(|protocol| member.metadata(protocol))
                .cloned()
                .unwrap_or_default(),
            assignment: assignment(member),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp: self.state_timestamp,
            members: self.members.values().map(stored).collect(),
        }
    }

    fn store(&mut self, ctx: &mut Context<'_>, value: &GroupMetadata, completion: Completion) {
        self.appends_in_flight += 1;
        ctx.effects.persist(PendingAppend {
            groups: vec![ctx.group_id.clone()],
            offsets: Vec::new(),
            records: vec![(group_key(ctx.group_id), Some(group_value(value)))],
            completion,
        });
    }
}
