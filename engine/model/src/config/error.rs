//! Why a configuration is refused.

use super::key::Key;

/// Why a configuration is refused. The text tells an operator what to change; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("there is no configuration named {name}{}", match nearest { Some(nearest) => format!("; did you mean {nearest}?"), None => String::new() })]
    Unknown {
        /// The name given.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A null where a value must be.
    #[error("{0} must have a value")]
    Null(String),
    /// A value that the key does not accept.
    #[error("{name} cannot be '{value}': {reason}")]
    Invalid {
        /// The key.
        name: String,
        /// The value given, or dots for a secret.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// A key that only a restart changes.
    #[error("{0} cannot be changed while the broker runs")]
    ReadOnly(String),
    /// A key that Kafka changes while a broker runs, and this broker only at its start.
    #[error("{0} takes effect at a start of this broker only: set it in its configuration file")]
    AtStart(String),
    /// A key that belongs to single brokers.
    #[error("{0} can be changed for single brokers only")]
    PerBrokerOnly(String),
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// Text that is not in the properties format.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl ConfigError {
    /// The key that the error is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            ConfigError::Unknown { name, .. }
            | ConfigError::Null(name)
            | ConfigError::Invalid { name, .. }
            | ConfigError::ReadOnly(name)
            | ConfigError::AtStart(name)
            | ConfigError::PerBrokerOnly(name) => Some(name),
            ConfigError::Conflict(_) | ConfigError::Syntax { .. } => None,
        }
    }

    pub(super) fn invalid(key: &Key, value: &str, reason: String) -> ConfigError {
        let value = if key.is_sensitive() { "..." } else { value };
        ConfigError::Invalid {
            name: key.name.to_owned(),
            value: value.to_owned(),
            reason,
        }
    }
}
