//! DescribeGroups, ListGroups and DeleteGroups.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::PartitionIndex;

use super::GroupCoordinator;
use crate::effects::RequestToken;
use crate::error::GroupError;
use crate::group::{Group, Member};
use crate::records::{group_key, offset_key};
use crate::reply::{DescribedGroup, DescribedMember, GroupReply, ListGroupsReply, ListedGroup};
use crate::request::{DescribeGroupsRequest, ListGroupsRequest};

/// What ListGroups calls the groups of this protocol.
const GROUP_TYPE: &str = "classic";

impl GroupCoordinator {
    pub(super) fn describe(&self, request: &DescribeGroupsRequest) -> Vec<DescribedGroup> {
        let one = |id: &String| match self.groups.get(id.as_str()) {
            Some(group) => describe_group(id, group),
            None if request.knows_group_id_not_found => {
                let message = format!("there is no group {id:?}");
                DescribedGroup::error(id, GroupError::GroupIdNotFound, Some(&message))
            }
            None => DescribedGroup::error(id, None, None),
        };
        request.groups.iter().map(one).collect()
    }

    pub(super) fn list(&self, request: &ListGroupsRequest) -> ListGroupsReply {
        let passes = |filter: &[String], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let groups = self
            .groups
            .iter()
            .filter(|(_, group)| passes(&request.states, group.state_name()))
            .filter(|_| passes(&request.types, GROUP_TYPE))
            .map(|(id, group)| ListedGroup {
                group_id: id.to_string(),
                protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
                state: group.state_name(),
                group_type: GROUP_TYPE,
            });
        ListGroupsReply {
            error: None,
            groups: groups.collect(),
        }
    }

    pub(super) fn delete(&mut self, token: RequestToken, groups: &[String]) {
        let mut records = Vec::new();
        let mut deleted = Vec::new();
        let mut answers = Vec::with_capacity(groups.len());
        for id in groups {
            let code = match self.groups.get(id.as_str()) {
                _ if id.is_empty() => Some(GroupError::InvalidGroupId),
                None => Some(GroupError::GroupIdNotFound),
                Some(group) if !group.is_vacant() => Some(GroupError::NonEmptyGroup),
                Some(_) => None,
            };
            answers.push((id.clone(), code));
            let id: Arc<str> = Arc::from(id.as_str());
            if code.is_none() && !deleted.contains(&id) {
                for (topic, partition) in self.all_offsets(&id) {
                    records.push((offset_key(&id, &topic, partition), None));
                }
                records.push((group_key(&id), None));
                deleted.push(id);
            }
        }
        self.persist_or_reply(deleted, records, token, GroupReply::Delete(answers));
    }

    /// The partitions for which a group has committed offsets, or is about to have.
    fn all_offsets(&self, id: &Arc<str>) -> BTreeSet<(Arc<str>, PartitionIndex)> {
        let group = self.groups.get(id).into_iter();
        let durable = group.flat_map(|group| group.durable.offsets.iter());
        let durable = durable.map(|(topic, partition, _)| (topic.clone(), partition));
        let in_flight = self.effects.appends.values();
        let in_flight = in_flight.filter(|append| append.groups.contains(id));
        durable
            .chain(in_flight.flat_map(|append| append.offsets.iter().cloned()))
            .collect()
    }
}

fn describe_group(id: &str, group: &Group) -> DescribedGroup {
    let protocol = group.protocol().filter(|_| group.is_stable());
    let describe = |member: &Member| DescribedMember {
        member_id: member.id.to_string(),
        group_instance_id: member.instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: protocol
            .and_then(|protocol| member.metadata(protocol))
            .cloned()
            .unwrap_or_default(),
        assignment: match protocol {
            Some(_) => member.assignment.clone(),
            None => bytes::Bytes::new(),
        },
    };
    DescribedGroup {
        error: None,
        error_message: None,
        group_id: id.to_owned(),
        state: group.state_name(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        protocol_data: protocol.unwrap_or_default().to_owned(),
        members: group.members().map(describe).collect(),
    }
}
