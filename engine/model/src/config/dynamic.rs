//! What may be set while the broker runs, on each kind of resource.
//!
//! Pure. Verdicts are those of Apache Kafka 4.3.1, but for keys that it applies at run time and this broker only at its
//! start ([`AT_START`]): accepted, they would be a promise that nobody keeps.

use super::broker::{BrokerConfig, Settings};
use super::error::ConfigError;
use super::key::{Access, Key, Kind, VALUE_BYTES_MAX, Value};
use super::topic::default_value;
use super::{broker_key, client_metrics_key, group_key, topic_key};

/// Keys that Kafka changes at run time and that take effect here at a start only.
pub(super) const AT_START: [&str; 2] = ["listeners", "max.connections"];

/// Longest name of a key that is not known.
const NAME_BYTES_MAX: usize = 249;

/// Whether a broker key may be set to `value` at run time, for one broker or for all. Unknown ones may, without effect.
pub fn check_dynamic(name: &str, value: &str, one_broker: bool) -> Result<(), ConfigError> {
    let Ok(key) = broker_key(name) else {
        return check_unknown(name, value);
    };
    match key.access {
        Access::ReadOnly => return Err(ConfigError::ReadOnly(name.to_owned())),
        Access::PerBroker if !one_broker => {
            return Err(ConfigError::PerBrokerOnly(name.to_owned()));
        }
        Access::PerBroker | Access::Cluster => {}
    }
    if AT_START.contains(&name) {
        return Err(ConfigError::AtStart(name.to_owned()));
    }
    key.parse(value).map(|_| ())
}

fn check_unknown(name: &str, value: &str) -> Result<(), ConfigError> {
    match name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        true => Err(ConfigError::Conflict(format!(
            "names have at most {NAME_BYTES_MAX} bytes, values {VALUE_BYTES_MAX}"
        ))),
        false => Ok(()),
    }
}

/// Whether these may be the values of a group: each within the bounds that the broker sets for it.
pub fn check_group(settings: &Settings, broker: &BrokerConfig) -> Result<(), ConfigError> {
    for (name, text) in settings {
        let key = group_key(name)?;
        if let Value::Whole(number) = key.parse(text)? {
            check_bounds(key, number, text, broker)?;
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let number = |what: &str| -> Result<i64, ConfigError> {
            match effective(&format!("{kind}.{what}"), settings, broker)? {
                Value::Whole(number) => Ok(number),
                other => unreachable!("{kind}.{what} is {other:?}"),
            }
        };
        if number("session.timeout.ms")? <= number("heartbeat.interval.ms")? {
            return Err(ConfigError::Conflict(format!(
                "{kind}.session.timeout.ms must be above {kind}.heartbeat.interval.ms"
            )));
        }
    }
    Ok(())
}

fn effective(name: &str, settings: &Settings, broker: &BrokerConfig) -> Result<Value, ConfigError> {
    let key = group_key(name)?;
    match settings.get(name) {
        Some(text) => key.parse(text),
        None => default_value(key, broker),
    }
}

/// `consumer.session.timeout.ms` has the bounds `group.consumer.min.session.timeout.ms` and `...max...`, and so on.
fn check_bounds(
    key: &Key,
    number: i64,
    text: &str,
    broker: &BrokerConfig,
) -> Result<(), ConfigError> {
    let (kind, rest) = key.name.split_once('.').unwrap_or((key.name, ""));
    let bound = |which: &str| match broker.value(&format!("group.{kind}.{which}.{rest}")) {
        Some(Value::Whole(bound)) => Some(*bound),
        _ => None,
    };
    let (min, max) = (bound("min"), bound("max"));
    let is_below = min.is_some_and(|min| number < min);
    let is_above = max.is_some_and(|max| number > max);
    if is_below || is_above {
        let words = [("at least", min), ("at most", max)];
        let words = words
            .into_iter()
            .filter_map(|(word, bound)| Some(format!("{word} {}", bound?)));
        let reason = format!(
            "the broker wants {}",
            words.collect::<Vec<_>>().join(" and ")
        );
        return Err(ConfigError::invalid(key, text, reason));
    }
    Ok(())
}

/// Whether these may be the values of a client metrics subscription.
pub fn check_client_metrics(settings: &Settings) -> Result<(), ConfigError> {
    for (name, text) in settings {
        client_metrics_key(name)?.parse(text)?;
    }
    Ok(())
}

/// What a list of a topic is without a value of its own, as text; `None` if the key's values are no lists.
pub fn topic_list_default(name: &str, broker: &BrokerConfig) -> Option<String> {
    let key = topic_key(name).ok().filter(|key| key.kind == Kind::List)?;
    let value = default_value(key, broker).ok()?;
    Some(value.to_string())
}

/// The same of a broker.
pub fn broker_list_default(name: &str, broker: &BrokerConfig) -> Option<String> {
    let key = broker_key(name).ok().filter(|key| key.kind == Kind::List)?;
    let value = broker.value(key.name);
    Some(value.map(ToString::to_string).unwrap_or_default())
}

/// The same of a client metrics subscription.
pub fn client_metrics_list_default(name: &str) -> Option<String> {
    let key = client_metrics_key(name)
        .ok()
        .filter(|key| key.kind == Kind::List)?;
    Some(key.default.unwrap_or_default().to_owned())
}
