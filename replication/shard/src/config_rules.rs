//! What the registry of configuration says to the controller when values are changed at run time.
//!
//! Pure.

use metadata::controller::{
    AlterConfigsRequest, AlterConfigsResults, ConfigResource, ConfigRules, ControllerError,
    Decision, Refusal, alter_configs,
};
use metadata::{ConfigMap, ConfigResourceType, MetadataDelta, MetadataImage, MetadataRecord};
use model::BrokerId;
use model::config::dynamic::{
    broker_list_default, check_client_metrics, check_dynamic, check_group,
    client_metrics_list_default, topic_list_default,
};
use model::config::{BrokerConfig, ConfigError, TopicConfig};

use crate::throttle::RATE_KEY;

/// Decides which values change. `config` is that of `broker`, which decides.
pub(crate) fn decide(
    image: &MetadataImage,
    mut request: AlterConfigsRequest,
    broker: BrokerId,
    config: &BrokerConfig,
) -> Decision<AlterConfigsResults> {
    let validate = |resource: &ConfigResource, values: &ConfigMap| {
        check(resource, values, broker, config).map_err(|error| error.to_string())
    };
    let list_default = |kind: ConfigResourceType, name: &str| match kind {
        ConfigResourceType::Topic => topic_list_default(name, config),
        ConfigResourceType::Broker => broker_list_default(name, config),
        ConfigResourceType::ClientMetrics => client_metrics_list_default(name),
        // None of them has a list.
        ConfigResourceType::Group | ConfigResourceType::BrokerLogger => None,
    };
    let rules = ConfigRules {
        validate: &validate,
        list_default: &list_default,
    };
    let validate_only = std::mem::take(&mut request.validate_only);
    let mut decision = alter_configs(image, &request, rules);
    if let Err(reason) = check_together(image, &decision.records, broker, config) {
        refuse_brokers(&mut decision, &reason);
    }
    if validate_only {
        decision.records.clear();
    }
    decision
}

/// Whether a change of brokers' values goes with what topics set, and with the other changes of the request: each was
/// judged alone. A topic whose values had no meaning would lose all of them, its retention among them.
fn check_together(
    image: &MetadataImage,
    records: &[MetadataRecord],
    broker: BrokerId,
    config: &BrokerConfig,
) -> Result<(), String> {
    if !records.iter().any(is_of_brokers) {
        return Ok(());
    }
    let mut after = image.clone();
    let mut delta = MetadataDelta::default();
    for record in records {
        let applied = after.apply(record, &mut delta);
        applied.expect("a decision applies to the image that it was made from");
    }
    let none = ConfigMap::new();
    let set = |name: &str| {
        let set = after.configs(ConfigResourceType::Broker, name);
        set.map_or(&none, |map| map.as_ref())
    };
    let new = config.with_dynamic(set(""), set(&broker.to_string()));
    let new = new.map_err(|error| error.to_string())?;
    for (topic, values) in after.configs_of_kind(ConfigResourceType::Topic) {
        let check = |config| TopicConfig::from_overrides(values, config);
        // One whose values have no meaning already is no reason to refuse anything.
        if let (Err(error), Ok(_)) = (check(&new), check(config)) {
            return Err(format!("it does not go with the topic {topic}: {error}"));
        }
    }
    Ok(())
}

fn is_of_brokers(record: &MetadataRecord) -> bool {
    let MetadataRecord::Config(record) = record else {
        unreachable!("configuration is made of other records: {record:?}");
    };
    record.resource_type == ConfigResourceType::Broker
}

/// The changes of brokers' values are refused, the others stay.
fn refuse_brokers(decision: &mut Decision<AlterConfigsResults>, reason: &str) {
    decision.records.retain(|record| !is_of_brokers(record));
    for (resource, result) in &mut decision.results {
        if resource.kind == ConfigResourceType::Broker && result.is_ok() {
            *result = Err(ControllerError::new(Refusal::InvalidRequest, reason));
        }
    }
}

/// A key that brokers have at run time only: the registry of what a file may hold does not know it, nor does Kafka's.
fn check_rate(values: &ConfigMap) -> Result<(), ConfigError> {
    let rate = values.get(RATE_KEY).map(|text| text.trim().parse::<i64>());
    match rate {
        None | Some(Ok(0..)) => Ok(()),
        Some(_) => {
            let message = format!("{RATE_KEY} is a number of bytes per second");
            Err(ConfigError::Conflict(message))
        }
    }
}

/// Whether these may be all values of a resource.
fn check(
    resource: &ConfigResource,
    values: &ConfigMap,
    broker: BrokerId,
    config: &BrokerConfig,
) -> Result<(), ConfigError> {
    if resource.kind == ConfigResourceType::Broker {
        check_rate(values)?;
    }
    match resource.kind {
        ConfigResourceType::Topic => TopicConfig::from_overrides(values, config).map(drop),
        ConfigResourceType::Broker if resource.name.is_empty() => config
            .with_dynamic(values, config.broker_settings())
            .map(drop),
        ConfigResourceType::Broker if resource.name == broker.to_string() => config
            .with_dynamic(config.cluster_settings(), values)
            .map(drop),
        // How it goes with that broker's file, only that broker knows.
        ConfigResourceType::Broker => values
            .iter()
            .try_for_each(|(name, value)| check_dynamic(name, value, true)),
        ConfigResourceType::Group => check_group(values, config),
        ConfigResourceType::ClientMetrics => check_client_metrics(values),
        ConfigResourceType::BrokerLogger => Err(ConfigError::Conflict(
            "the levels of loggers are set at a start, by RINGLOG_LOG".to_owned(),
        )),
    }
}
