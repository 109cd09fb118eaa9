//! IncrementalAlterConfigs (KIP-339): set, delete, append and subtract on what was set before. AlterConfigs (KIP-133):
//! the same on nothing, so that what is not set again is forgotten.
//!
//! Codes are those of Kafka 4.3.1 (kafka-answers.txt). Which keys exist, what their values may be and which are lists
//! is the caller's registry, given as [`ConfigRules`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use model::BrokerId;

use super::eligible::{after_new_minimum, minimum_of};
use super::{ControllerError, Decision, Refusal, duplicates};
use crate::image::{ConfigMap, MetadataImage};
use crate::record::{ConfigRecord, ConfigResourceType, MetadataRecord};
use crate::topic_name;

/// Most values set on one resource: more than there are keys.
pub const CONFIGS_PER_RESOURCE_MAX: usize = 1000;

/// Most groups, and most client metrics subscriptions, with values of their own: anybody can name new ones. Topics and
/// brokers must be there.
pub const NAMED_RESOURCES_MAX: usize = 10_000;

/// A thing that carries configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConfigResource {
    /// What kind of thing.
    pub kind: ConfigResourceType,
    /// Which one. Of brokers: a number, or empty for the default of all.
    pub name: String,
}

/// What to do with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOperation {
    /// 0: replace the value.
    Set,
    /// 1: forget the value, so that the default counts.
    Delete,
    /// 2: add elements to a list.
    Append,
    /// 3: take elements out of a list.
    Subtract,
}

impl ConfigOperation {
    /// The operation of Kafka's number.
    pub fn from_code(code: i8) -> Option<ConfigOperation> {
        match code {
            0 => Some(ConfigOperation::Set),
            1 => Some(ConfigOperation::Delete),
            2 => Some(ConfigOperation::Append),
            3 => Some(ConfigOperation::Subtract),
            _ => None,
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The key.
    pub name: String,
    /// What to do; `None` for a number that stands for nothing.
    pub operation: Option<ConfigOperation>,
    /// The operand; ignored by `Delete`.
    pub value: Option<String>,
}

/// IncrementalAlterConfigs, or AlterConfigs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterConfigsRequest {
    /// Resources with their changes.
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    /// Whether what was set before is forgotten first (AlterConfigs).
    pub replaces: bool,
    /// Answer, but change nothing.
    pub validate_only: bool,
}

/// What the registry of configs says.
#[derive(Clone, Copy)]
pub struct ConfigRules<'a> {
    /// Judges all values that would be set on a resource after the change; the error is for people.
    pub validate: &'a dyn Fn(&ConfigResource, &ConfigMap) -> Result<(), String>,
    /// The default of a key whose values are lists; `None` for all other keys.
    pub list_default: &'a dyn Fn(ConfigResourceType, &str) -> Option<String>,
}

/// One answer per distinct resource: duplicates first, then the others in the order of the request.
pub type AlterConfigsResults = Vec<(ConfigResource, Result<(), ControllerError>)>;

/// Decides which values change. Values that stay equal yield no record.
pub fn alter_configs(
    image: &MetadataImage,
    request: &AlterConfigsRequest,
    rules: ConfigRules<'_>,
) -> Decision<AlterConfigsResults> {
    let repeated = duplicates(request.resources.iter().map(|(resource, _)| resource));
    let mut results: AlterConfigsResults = Vec::new();
    for resource in &repeated {
        let message = "the request has this resource more than once";
        let error = ControllerError::new(Refusal::InvalidRequest, message);
        results.push(((*resource).clone(), Err(error)));
    }
    let mut records = Vec::new();
    let mut named = NamedResources::of(image);
    for (resource, changes) in &request.resources {
        if repeated.contains(&resource) {
            continue;
        }
        let base = match request.replaces {
            true => None,
            false => image.configs(resource.kind, &resource.name),
        };
        let base = base.map_or_else(ConfigMap::new, |map| ConfigMap::clone(map));
        let result = alter_one(image, resource, base, changes, rules).and_then(|new| {
            if !new.is_empty() {
                named.take(image, resource)?;
            }
            records.extend(new);
            Ok(())
        });
        results.push((resource.clone(), result));
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, results }
}

/// How many resources that nobody registers have values.
struct NamedResources {
    groups: usize,
    client_metrics: usize,
}

impl NamedResources {
    fn of(image: &MetadataImage) -> NamedResources {
        NamedResources {
            groups: image.configs_of_kind(ConfigResourceType::Group).count(),
            client_metrics: image
                .configs_of_kind(ConfigResourceType::ClientMetrics)
                .count(),
        }
    }

    /// A resource is about to have values.
    fn take(
        &mut self,
        image: &MetadataImage,
        resource: &ConfigResource,
    ) -> Result<(), ControllerError> {
        let count = match resource.kind {
            ConfigResourceType::Group => &mut self.groups,
            ConfigResourceType::ClientMetrics => &mut self.client_metrics,
            ConfigResourceType::Topic
            | ConfigResourceType::Broker
            | ConfigResourceType::BrokerLogger => return Ok(()),
        };
        if image.configs(resource.kind, &resource.name).is_some() {
            return Ok(());
        }
        if *count >= NAMED_RESOURCES_MAX {
            let message = format!("{NAMED_RESOURCES_MAX} resources of this type have values");
            return Err(ControllerError::new(Refusal::PolicyViolation, message));
        }
        *count += 1;
        Ok(())
    }
}

/// The records that make `base` with these changes out of what is set on a resource.
fn alter_one(
    image: &MetadataImage,
    resource: &ConfigResource,
    base: ConfigMap,
    changes: &[ConfigChange],
    rules: ConfigRules<'_>,
) -> Result<Vec<MetadataRecord>, ControllerError> {
    let invalid_request = |message: String| ControllerError::new(Refusal::InvalidRequest, message);
    let mut keys = BTreeSet::new();
    for change in changes {
        if !keys.insert(change.name.as_str()) {
            return Err(invalid_request(format!(
                "{:?} is changed twice",
                change.name
            )));
        }
        if change.value.is_none() && change.operation != Some(ConfigOperation::Delete) {
            return Err(invalid_request(format!(
                "the value of {:?} is null",
                change.name
            )));
        }
    }
    check_resource(image, resource)?;
    let mut after = base;
    for change in changes {
        apply_change(resource.kind, change, &mut after, rules)?;
    }
    if after.len() > CONFIGS_PER_RESOURCE_MAX {
        return Err(invalid_request(format!(
            "a resource has at most {CONFIGS_PER_RESOURCE_MAX} values"
        )));
    }
    (rules.validate)(resource, &after).map_err(|message| {
        let code = match resource.kind {
            ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
                Refusal::InvalidRequest
            }
            _ => Refusal::InvalidConfig,
        };
        ControllerError::new(code, message)
    })?;
    Ok(difference(image, resource, &after))
}

/// One record per value that was not set so before, or is not set any more; by name.
fn difference(
    image: &MetadataImage,
    resource: &ConfigResource,
    after: &ConfigMap,
) -> Vec<MetadataRecord> {
    let none = ConfigMap::new();
    let before = image.configs(resource.kind, &resource.name);
    let before = before.map_or(&none, |map| map.as_ref());
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let record = |name: &String| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: resource.kind,
            resource_name: resource.name.clone(),
            name: name.clone(),
            value: after.get(name).cloned(),
        })
    };
    let mut records: Vec<_> = changed.map(record).collect();
    if resource.kind == ConfigResourceType::Topic {
        let minimum = minimum_of(Some(after));
        if minimum != minimum_of(Some(before)) {
            records.extend(after_new_minimum(image, &resource.name, minimum));
        }
    }
    records
}

fn check_resource(image: &MetadataImage, resource: &ConfigResource) -> Result<(), ControllerError> {
    let refusal = match resource.kind {
        ConfigResourceType::Topic => {
            if let Err(message) = topic_name::validate(&resource.name) {
                Some((Refusal::InvalidTopicName, message))
            } else if image.topic_id(&resource.name).is_none() {
                let message = "there is no topic of this name".to_owned();
                Some((Refusal::UnknownTopicOrPartition, message))
            } else {
                None
            }
        }
        ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
            let everyone = resource.name.is_empty() && resource.kind == ConfigResourceType::Broker;
            let id = resource.name.parse().map(BrokerId).ok();
            let known = id.is_some_and(|id| image.broker(id).is_some());
            let message = format!("there is no broker {:?}", resource.name);
            (!everyone && !known).then_some((Refusal::InvalidRequest, message))
        }
        ConfigResourceType::ClientMetrics | ConfigResourceType::Group => {
            let message = "the name of the resource is empty".to_owned();
            let empty = resource.name.is_empty();
            empty.then_some((Refusal::InvalidRequest, message))
        }
    };
    match refusal {
        Some((code, message)) => Err(ControllerError::new(code, message)),
        None => Ok(()),
    }
}

fn apply_change(
    kind: ConfigResourceType,
    change: &ConfigChange,
    configs: &mut ConfigMap,
    rules: ConfigRules<'_>,
) -> Result<(), ControllerError> {
    let name = &change.name;
    let value = change.value.as_deref().unwrap_or_default();
    let operation = change.operation.ok_or_else(|| {
        let message = format!("the operation on {name:?} is not known");
        ControllerError::new(Refusal::Internal, message)
    })?;
    match operation {
        ConfigOperation::Set => {
            configs.insert(name.clone(), value.to_owned());
        }
        ConfigOperation::Delete => {
            configs.remove(name);
        }
        ConfigOperation::Append | ConfigOperation::Subtract => {
            let default = (rules.list_default)(kind, name).ok_or_else(|| {
                let message = format!("the values of {name:?} are not lists");
                ControllerError::new(Refusal::InvalidConfig, message)
            })?;
            let old = configs.get(name).cloned().unwrap_or(default);
            let mut list = elements(&old);
            for element in elements(value) {
                match operation {
                    ConfigOperation::Subtract => list.retain(|old| *old != element),
                    _ if !list.contains(&element) => list.push(element),
                    _ => {}
                }
            }
            let new = list.join(",");
            if new != old || configs.contains_key(name) {
                configs.insert(name.clone(), new);
            }
        }
    }
    Ok(())
}

fn elements(list: &str) -> Vec<&str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect()
}
