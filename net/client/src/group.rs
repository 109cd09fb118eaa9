//! A member of a consumer group, classic protocol: join, sync, heartbeat, commit, leave.
//!
//! Owned by one task. The leader assigns by range, as Kafka's `RangeAssignor` does. Needs a broker as of Kafka 3.0
//! (FindCoordinator 4, OffsetFetch 8). Invariants: offsets are committed in the member's own generation only; after an
//! error for which [`GroupMember::must_rejoin`] holds, nothing is committed before the next join.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BrokerId, ErrorCode, Offset, PartitionIndex, TopicId};
use protocol::Text;
use protocol::messages::heartbeat::HeartbeatRequest;
use protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use runtime::Io;

use crate::admin::missing;
use crate::assignment::{Assignment, Subscription, assign_ranges};
use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN};
use crate::error::ClientError;

/// Protocol type of consumer groups.
const CONSUMER: &str = "consumer";
/// Name of the assignor.
const RANGE: &str = "range";
/// Generation before the first join.
const NO_GENERATION: i32 = -1;

/// What a member wants.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Name of the group.
    pub group: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// How long the member may be silent before its partitions go to others.
    pub session_timeout: Duration,
    /// How long the others may take to join again; below the request timeout of the cluster client.
    pub rebalance_timeout: Duration,
}

/// How a member stands with its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its assignment holds.
    Member,
    /// The group assigns anew: it must join again.
    Rebalancing,
}

/// See the module.
pub struct GroupMember<I: Io> {
    cluster: Cluster<I>,
    options: GroupOptions,
    coordinator: Option<BrokerId>,
    member_id: String,
    generation: i32,
    assignment: Assignment,
}

impl<I: Io> GroupMember<I> {
    /// A member that has not joined, with a cluster client of its own.
    pub fn new(cluster: Cluster<I>, options: GroupOptions) -> GroupMember<I> {
        GroupMember {
            cluster,
            options,
            coordinator: None,
            member_id: String::new(),
            generation: NO_GENERATION,
            assignment: Assignment::new(),
        }
    }

    /// The cluster client.
    pub fn cluster(&mut self) -> &mut Cluster<I> {
        &mut self.cluster
    }

    /// What this member reads in this generation.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The generation it joined; -1 before.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Joins, or joins again, and learns the assignment. Retries while the coordinator moves or others join.
    pub async fn join(&mut self) -> Result<(), ClientError> {
        let deadline = self
            .cluster
            .io
            .now()
            .plus(self.cluster.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let outcome = self.join_once().await;
            let Err(error) = outcome else {
                return Ok(());
            };
            self.forget(&error);
            let again = self.must_rejoin(&error) || error.is_retriable();
            let member_id_came = error.code() == Some(ErrorCode::MemberIdRequired);
            if !(again || member_id_came) || self.cluster.io.now() >= deadline {
                return Err(error);
            }
            if !member_id_came {
                self.cluster.io.sleep(wait).await;
                wait = (wait * 2).min(RETRY_WAIT_MAX);
            }
        }
    }

    async fn join_once(&mut self) -> Result<(), ClientError> {
        let coordinator = self.coordinator().await?;
        let request = JoinGroupRequest {
            group_id: self.group(),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.rebalance_timeout),
            member_id: Text::copy_from(&self.member_id),
            protocol_type: Text::from_static(CONSUMER),
            protocols: vec![JoinGroupRequestProtocol {
                name: Text::from_static(RANGE),
                metadata: Subscription {
                    topics: self.options.topics.clone(),
                }
                .encode(),
            }],
            ..JoinGroupRequest::default()
        };
        let response = self.cluster.ask(coordinator, &request).await?;
        if !response.member_id.as_str().is_empty() {
            self.member_id = response.member_id.as_str().to_owned();
        }
        ClientError::check("JoinGroup", response.error_code, None)?;
        let generation = response.generation_id;
        let assignments = self.assign(&response).await?;
        let request = SyncGroupRequest {
            group_id: self.group(),
            generation_id: generation,
            member_id: Text::copy_from(&self.member_id),
            protocol_type: Some(Text::from_static(CONSUMER)),
            protocol_name: Some(Text::from_static(RANGE)),
            assignments,
            ..SyncGroupRequest::default()
        };
        let response = self.cluster.ask(coordinator, &request).await?;
        ClientError::check("SyncGroup", response.error_code, None)?;
        self.generation = generation;
        self.assignment = crate::assignment::decode(&response.assignment)?;
        Ok(())
    }

    /// What every member gets, if this one leads the group; nothing otherwise.
    async fn assign(
        &mut self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        if joined.leader.as_str() != self.member_id {
            return Ok(Vec::new());
        }
        let mut members = BTreeMap::new();
        for member in &joined.members {
            let subscription = Subscription::decode(&member.metadata)?;
            members.insert(member.member_id.as_str().to_owned(), subscription.topics);
        }
        let mut partitions: BTreeMap<String, Vec<PartitionIndex>> = BTreeMap::new();
        for topic in members.values().flatten() {
            if !partitions.contains_key(topic) {
                let known = self.cluster.topic(topic).await?;
                let indexes = known.partitions.iter().map(|p| p.index).collect();
                partitions.insert(topic.clone(), indexes);
            }
        }
        let assigned = assign_ranges(&members, &partitions);
        Ok(assigned
            .into_iter()
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: Text::copy_from(&member),
                assignment: crate::assignment::encode(&assignment),
            })
            .collect())
    }

    /// Tells the coordinator that this member lives.
    pub async fn heartbeat(&mut self) -> Result<Standing, ClientError> {
        let coordinator = self.coordinator().await?;
        let request = HeartbeatRequest {
            group_id: self.group(),
            generation_id: self.generation,
            member_id: Text::copy_from(&self.member_id),
            ..HeartbeatRequest::default()
        };
        let outcome = match self.cluster.ask(coordinator, &request).await {
            Ok(response) => ClientError::check("Heartbeat", response.error_code, None),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(Standing::Member),
            Err(error) => {
                self.forget(&error);
                match self.must_rejoin(&error) || error.is_retriable() {
                    true => Ok(Standing::Rebalancing),
                    false => Err(error),
                }
            }
        }
    }

    /// Commits where the next reader goes on, by topic.
    pub async fn commit(
        &mut self,
        offsets: &BTreeMap<String, Vec<(PartitionIndex, Offset)>>,
    ) -> Result<(), ClientError> {
        if offsets.values().all(Vec::is_empty) {
            return Ok(());
        }
        let coordinator = self.coordinator().await?;
        let topic = |(name, offsets): (&String, &Vec<(PartitionIndex, Offset)>)| {
            let partitions = offsets.iter().map(|(partition, offset)| {
                let metadata = Some(Text::default());
                OffsetCommitRequestPartition {
                    partition_index: partition.0,
                    committed_offset: offset.0,
                    committed_metadata: metadata,
                    ..OffsetCommitRequestPartition::default()
                }
            });
            OffsetCommitRequestTopic {
                name: Text::copy_from(name),
                topic_id: self.topic_id(name),
                partitions: partitions.collect(),
            }
        };
        let request = OffsetCommitRequest {
            group_id: self.group(),
            generation_id_or_member_epoch: self.generation,
            member_id: Text::copy_from(&self.member_id),
            topics: offsets.iter().map(topic).collect(),
            ..OffsetCommitRequest::default()
        };
        let response = self.cluster.ask(coordinator, &request).await?;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let what = format!("committing partition {}", answer.partition_index);
            let outcome = ClientError::check(&what, answer.error_code, None);
            if let Err(error) = outcome {
                self.forget(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What the group has committed of this member's partitions; those without a commit are left out.
    pub async fn committed(
        &mut self,
    ) -> Result<BTreeMap<(String, PartitionIndex), Offset>, ClientError> {
        let coordinator = self.coordinator().await?;
        let topic = |(name, partitions): (&String, &Vec<PartitionIndex>)| {
            let indexes = partitions.iter().map(|p| p.0).collect();
            OffsetFetchRequestTopics {
                name: Text::copy_from(name),
                topic_id: self.topic_id(name),
                partition_indexes: indexes,
            }
        };
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: self.group(),
                topics: Some(self.assignment.iter().map(topic).collect()),
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        let response = self.cluster.ask(coordinator, &request).await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(missing("OffsetFetch"));
        };
        ClientError::check("OffsetFetch", group.error_code, None)?;
        let mut offsets = BTreeMap::new();
        for topic in group.topics {
            let Some(name) = self.topic_name(topic.name.as_str(), topic.topic_id) else {
                continue;
            };
            for partition in topic.partitions {
                let what = format!("committed offset of {name}-{}", partition.partition_index);
                ClientError::check(&what, partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    offsets.insert(
                        (name.clone(), PartitionIndex(partition.partition_index)),
                        Offset(partition.committed_offset),
                    );
                }
            }
        }
        Ok(offsets)
    }

    /// Leaves the group: others get its partitions at once instead of after the session timeout.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        let coordinator = self.coordinator().await?;
        let request = LeaveGroupRequest {
            group_id: self.group(),
            members: vec![MemberIdentity {
                member_id: Text::copy_from(&self.member_id),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        let response = self.cluster.ask(coordinator, &request).await?;
        ClientError::check("LeaveGroup", response.error_code, None)?;
        self.member_id.clear();
        self.generation = NO_GENERATION;
        self.assignment.clear();
        Ok(())
    }

    /// Whether an error means that the generation is over and joining again cures it.
    pub fn must_rejoin(&self, error: &ClientError) -> bool {
        matches!(
            error.code(),
            Some(
                ErrorCode::RebalanceInProgress
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::UnknownMemberId
            )
        )
    }

    /// Forgets what an error shows to be wrong.
    fn forget(&mut self, error: &ClientError) {
        match error.code() {
            Some(ErrorCode::UnknownMemberId) => self.member_id.clear(),
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {}
            Some(ErrorCode::MemberIdRequired) => {}
            _ => self.coordinator = None,
        }
    }

    async fn coordinator(&mut self) -> Result<BrokerId, ClientError> {
        if let Some(known) = self.coordinator {
            return Ok(known);
        }
        let id = self.cluster.find_coordinator(&self.options.group).await?;
        self.coordinator = Some(id);
        Ok(id)
    }

    fn group(&self) -> Text {
        Text::copy_from(&self.options.group)
    }

    fn topic_id(&self, name: &str) -> TopicId {
        let known = self.cluster.cached(name);
        known.map_or(TopicId::default(), |topic| topic.id)
    }

    /// Name of a topic in an answer, which names it or, in newer versions, has its id.
    fn topic_name(&self, name: &str, id: TopicId) -> Option<String> {
        if !name.is_empty() {
            return Some(name.to_owned());
        }
        let mut topics = self.cluster.topics();
        Some(topics.find(|topic| topic.id == id)?.name.clone())
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
