//! Consumer groups as an administrator sees them: which there are, who is in them, what they have committed.

use std::collections::BTreeMap;

use model::{BrokerId, Offset, PartitionIndex};
use protocol::Text;
use protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroupMember};
use protocol::messages::find_coordinator::FindCoordinatorRequest;
use protocol::messages::list_groups::ListGroupsRequest;
use protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use runtime::Io;

use crate::admin::missing;
use crate::assignment::{self, Assignment};
use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN};
use crate::error::ClientError;

/// Protocol type of groups whose members read topics.
const CONSUMER: &str = "consumer";

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// `consumer` for readers of topics.
    pub protocol_type: String,
    /// `Stable`, `Empty` and so on; empty if the broker is too old to say.
    pub state: String,
    /// Broker that keeps it.
    pub coordinator: BrokerId,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty`, `Dead` and so on.
    pub state: String,
    /// `consumer` for readers of topics.
    pub protocol_type: String,
    /// How its partitions are assigned, such as `range`.
    pub protocol: String,
    /// Broker that keeps it.
    pub coordinator: BrokerId,
    /// Who is in it.
    pub members: Vec<GroupMemberDescription>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its own name, if it is a static member.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it reads; nothing if that is not a consumer's.
    pub assignment: Assignment,
}

/// What a group has committed of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where it goes on.
    pub offset: Offset,
    /// What its client noted beside it.
    pub metadata: String,
}

impl<I: Io> Cluster<I> {
    /// Every group of every broker, ascending by name.
    pub async fn list_groups(&mut self) -> Result<Vec<GroupSummary>, ClientError> {
        let brokers: Vec<BrokerId> = self.brokers().map(|broker| broker.id).collect();
        let mut groups = Vec::new();
        for coordinator in brokers {
            let response = self.ask(coordinator, &ListGroupsRequest::default()).await?;
            let what = format!("groups of broker {coordinator}");
            ClientError::check(&what, response.error_code, None)?;
            let listed = response.groups.into_iter();
            groups.extend(listed.map(|group| GroupSummary {
                name: String::from(group.group_id),
                protocol_type: String::from(group.protocol_type),
                state: String::from(group.group_state),
                coordinator,
            }));
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// A group and its members. One that is not there is `Dead`, without members.
    pub async fn describe_group(&mut self, name: &str) -> Result<GroupDescription, ClientError> {
        let coordinator = self.find_coordinator(name).await?;
        let request = DescribeGroupsRequest {
            groups: vec![Text::copy_from(name)],
            ..DescribeGroupsRequest::default()
        };
        let response = self.ask(coordinator, &request).await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(missing("DescribeGroups"));
        };
        let message = group.error_message.map(String::from);
        ClientError::check(&format!("group {name}"), group.error_code, message)?;
        let is_consumer = group.protocol_type.as_str() == CONSUMER;
        let mut members = Vec::with_capacity(group.members.len());
        for member in group.members {
            members.push(member_of(member, is_consumer)?);
        }
        members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
        Ok(GroupDescription {
            name: name.to_owned(),
            state: String::from(group.group_state),
            protocol_type: String::from(group.protocol_type),
            protocol: String::from(group.protocol_data),
            coordinator,
            members,
        })
    }

    /// Everything that a group has committed, by topic. Topics that are gone are left out.
    pub async fn group_offsets(
        &mut self,
        name: &str,
    ) -> Result<BTreeMap<String, BTreeMap<PartitionIndex, CommittedOffset>>, ClientError> {
        // Newer brokers answer with ids of topics.
        self.refresh(None).await?;
        let coordinator = self.find_coordinator(name).await?;
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: Text::copy_from(name),
                topics: None,
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        let response = self.ask(coordinator, &request).await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(missing("OffsetFetch"));
        };
        ClientError::check(&format!("offsets of {name}"), group.error_code, None)?;
        let mut offsets: BTreeMap<String, BTreeMap<PartitionIndex, CommittedOffset>> =
            BTreeMap::new();
        for topic in group.topics {
            let known = match topic.name.as_str() {
                "" => self.topics().find(|known| known.id == topic.topic_id),
                name => self.cached(name),
            };
            let Some(topic_name) = known.map(|topic| topic.name.clone()) else {
                continue;
            };
            let partitions = offsets.entry(topic_name.clone()).or_default();
            for partition in topic.partitions {
                let what = format!("offset of {topic_name}-{}", partition.partition_index);
                ClientError::check(&what, partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    let committed = CommittedOffset {
                        offset: Offset(partition.committed_offset),
                        metadata: partition.metadata.map(String::from).unwrap_or_default(),
                    };
                    partitions.insert(PartitionIndex(partition.partition_index), committed);
                }
            }
        }
        Ok(offsets)
    }

    /// The broker that keeps a group; one that knows it becomes known with it. Asked again until the operation times
    /// out: the first question of all may find that coordinators are only just being made.
    pub async fn find_coordinator(&mut self, group: &str) -> Result<BrokerId, ClientError> {
        let deadline = self.io.now().plus(self.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            match self.find_coordinator_once(group).await {
                Err(error) if error.is_retriable() && self.io.now() < deadline => {}
                outcome => return outcome,
            }
            self.io.sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    async fn find_coordinator_once(&mut self, group: &str) -> Result<BrokerId, ClientError> {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![Text::copy_from(group)],
            ..FindCoordinatorRequest::default()
        };
        let response = self.ask_any(&request).await?;
        let Some(found) = response.coordinators.into_iter().next() else {
            return Err(missing("FindCoordinator"));
        };
        let message = found.error_message.map(String::from);
        ClientError::check("FindCoordinator", found.error_code, message)?;
        // The coordinator may be a broker that came after the last metadata.
        self.refresh(Some(&[])).await?;
        Ok(BrokerId(found.node_id))
    }
}

fn member_of(
    member: DescribedGroupMember,
    is_consumer: bool,
) -> Result<GroupMemberDescription, ClientError> {
    Ok(GroupMemberDescription {
        assignment: match is_consumer {
            true => assignment::decode(&member.member_assignment)?,
            false => Assignment::new(),
        },
        member_id: String::from(member.member_id),
        instance_id: member.group_instance_id.map(String::from),
        client_id: String::from(member.client_id),
        client_host: String::from(member.client_host),
    })
}
