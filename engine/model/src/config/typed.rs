//! From checked values by name to typed fields, for [`super::TopicConfig`] and [`super::BrokerSettings`].
//!
//! A wrong name or type is a fault of the tables, reported as [`ConfigError::Null`]; every test would meet it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::BrokerId;
use crate::record::{CompressedValidation, Compression, TimestampType};

use super::error::ConfigError;
use super::key::Value;
use super::listener::{Listener, Voter};
use super::topic::{CleanupPolicy, CompressionType, Durability};

/// Number of a broker that was not given one.
const NODE_ID_DEFAULT: BrokerId = BrokerId(1);
/// CPU numbers above this are refused, so that a range cannot be absurd.
const CORE_MAX: usize = 4095;

/// Declares a struct whose every field is read from one key.
macro_rules! typed_settings {
    (
        $(#[$struct_doc:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty = $read:ident($key:literal),)*
        }
    ) => {
        $(#[$struct_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("`", $key, "`.")]
                $(#[$doc])*
                pub $field: $type,
            )*
        }

        impl $name {
            fn from_values(values: &Values) -> Result<$name, ConfigError> {
                Ok($name { $($field: values.$read($key)?,)* })
            }
        }
    };
}
pub(super) use typed_settings;

/// Checked values by name; a wrong name or type is a fault of the tables that every test would meet.
pub(super) struct Values(pub(super) BTreeMap<&'static str, Value>);

impl Values {
    fn get<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.0
            .get(name)
            .and_then(read)
            .ok_or_else(|| ConfigError::Null(name.to_owned()))
    }

    pub(super) fn boolean(&self, name: &'static str) -> Result<bool, ConfigError> {
        self.get(name, |value| {
            if let Value::Boolean(b) = value {
                Some(*b)
            } else {
                None
            }
        })
    }

    pub(super) fn long(&self, name: &'static str) -> Result<i64, ConfigError> {
        self.get(name, |value| {
            if let Value::Whole(n) = value {
                Some(*n)
            } else {
                None
            }
        })
    }

    pub(super) fn int(&self, name: &'static str) -> Result<i32, ConfigError> {
        let number = self.long(name)?;
        i32::try_from(number).map_err(|_| ConfigError::Null(name.to_owned()))
    }

    pub(super) fn double(&self, name: &'static str) -> Result<f64, ConfigError> {
        self.get(name, |value| {
            if let Value::Double(n) = value {
                Some(*n)
            } else {
                None
            }
        })
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&str, ConfigError> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(ConfigError::Null(name.to_owned())),
        }
    }

    pub(super) fn list(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        self.get(name, |value| {
            if let Value::List(l) = value {
                Some(l.clone())
            } else {
                None
            }
        })
    }

    /// Empty if nothing was said.
    pub(super) fn optional_list(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        match self.0.contains_key(name) {
            true => self.list(name),
            false => Ok(Vec::new()),
        }
    }

    pub(super) fn durability(&self, name: &'static str) -> Result<Durability, ConfigError> {
        Ok(if self.text(name)? == "written" {
            Durability::Written
        } else {
            Durability::Flushed
        })
    }

    pub(super) fn compressed_validation(
        &self,
        name: &'static str,
    ) -> Result<CompressedValidation, ConfigError> {
        Ok(match self.text(name)? {
            "frame" => CompressedValidation::Frame,
            _ => CompressedValidation::Full,
        })
    }

    pub(super) fn cleanup_policy(&self, name: &'static str) -> Result<CleanupPolicy, ConfigError> {
        let words = self.list(name)?;
        let has = |word: &str| words.iter().any(|each| each == word);
        Ok(CleanupPolicy {
            delete: has("delete"),
            compact: has("compact"),
        })
    }

    pub(super) fn compression_type(
        &self,
        name: &'static str,
    ) -> Result<CompressionType, ConfigError> {
        Ok(match Compression::from_name(self.text(name)?) {
            Some(codec) => CompressionType::Codec(codec),
            None => CompressionType::Producer,
        })
    }

    pub(super) fn timestamp_type(&self, name: &'static str) -> Result<TimestampType, ConfigError> {
        Ok(match self.text(name)? {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        })
    }
}

impl Values {
    pub(super) fn short(&self, name: &'static str) -> Result<i16, ConfigError> {
        i16::try_from(self.long(name)?).map_err(|_| ConfigError::Null(name.to_owned()))
    }

    /// A size or count that the registry keeps from being negative.
    pub(super) fn bytes(&self, name: &'static str) -> Result<u64, ConfigError> {
        u64::try_from(self.long(name)?).map_err(|_| ConfigError::Null(name.to_owned()))
    }

    pub(super) fn count(&self, name: &'static str) -> Result<usize, ConfigError> {
        usize::try_from(self.long(name)?).map_err(|_| ConfigError::Null(name.to_owned()))
    }

    pub(super) fn optional_bytes(&self, name: &'static str) -> Result<Option<u64>, ConfigError> {
        if self.0.contains_key(name) {
            self.bytes(name).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn string(&self, name: &'static str) -> Result<String, ConfigError> {
        self.text(name).map(str::to_owned)
    }

    pub(super) fn optional_text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        if self.0.contains_key(name) {
            Ok(Some(self.text(name)?.to_owned()))
        } else {
            Ok(None)
        }
    }

    pub(super) fn node_id(&self, name: &'static str) -> Result<BrokerId, ConfigError> {
        if self.0.contains_key(name) {
            return Ok(BrokerId(self.int(name)?));
        }
        match self.int("broker.id")? {
            -1 => Ok(NODE_ID_DEFAULT),
            id => Ok(BrokerId(id)),
        }
    }

    pub(super) fn listeners(&self, name: &'static str) -> Result<Vec<Listener>, ConfigError> {
        if self.0.contains_key(name) {
            parse_listeners(name, &self.list(name)?)
        } else {
            Ok(vec![])
        }
    }

    /// Addresses without a listener name: `host:port`.
    pub(super) fn addresses(&self, name: &'static str) -> Result<Vec<Listener>, ConfigError> {
        let parse = |text: &String| match Listener::parse(text) {
            Some(address) if !text.contains("://") => Ok(address),
            _ => Err(invalid(name, text, "write it as host:port")),
        };
        self.list(name)?.iter().map(parse).collect()
    }

    /// Brokers with a vote: `id@host:port`.
    pub(super) fn voters(&self, name: &'static str) -> Result<Vec<Voter>, ConfigError> {
        let mut voters: Vec<Voter> = Vec::new();
        for text in &self.list(name)? {
            let parsed = text.split_once('@').and_then(|(id, address)| {
                let node = id.trim().parse().ok().filter(|id| *id >= 0).map(BrokerId)?;
                let address = Listener::parse(address).filter(|_| !address.contains("://"))?;
                Some(Voter { node, address })
            });
            let voter = parsed.ok_or_else(|| invalid(name, text, "write it as id@host:port"))?;
            if voters.iter().any(|other| other.node == voter.node) {
                return Err(invalid(name, text, "a broker is named once"));
            }
            voters.push(voter);
        }
        Ok(voters)
    }

    /// An address without a listener name: `host:port`. `None` if empty.
    pub(super) fn http_listen(&self, name: &'static str) -> Result<Option<Listener>, ConfigError> {
        let text = self.text(name)?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        match Listener::parse(text) {
            Some(listener) if !text.contains("://") => Ok(Some(listener)),
            _ => Err(invalid(
                name,
                text,
                "write it as host:port, or leave it empty",
            )),
        }
    }

    pub(super) fn data_dir(&self, name: &'static str) -> Result<String, ConfigError> {
        if self.0.contains_key(name) {
            return Ok(self.text(name)?.to_owned());
        }
        let dirs = self.list(if self.0.contains_key("log.dirs") {
            "log.dirs"
        } else {
            "log.dir"
        })?;
        match dirs.as_slice() {
            [dir] if !dir.is_empty() => Ok(dir.clone()),
            dirs => Err(invalid(
                "log.dirs",
                &dirs.join(","),
                "a broker has one data directory",
            )),
        }
    }

    pub(super) fn cores(&self, name: &'static str) -> Result<Vec<usize>, ConfigError> {
        let mut out = BTreeSet::new();
        for word in self.list(name)? {
            let fail = || invalid(name, &word, "write numbers and ranges: 0,2-3");
            let (first, last) = word.split_once('-').unwrap_or((&word, &word));
            let first: usize = first.trim().parse().map_err(|_| fail())?;
            let last: usize = last.trim().parse().map_err(|_| fail())?;
            if first > last || last > CORE_MAX {
                return Err(fail());
            }
            out.extend(first..=last);
        }
        Ok(out.into_iter().collect())
    }
}

pub(super) fn parse_listeners(
    name: &'static str,
    texts: &[String],
) -> Result<Vec<Listener>, ConfigError> {
    let parse = |text: &String| {
        Listener::parse(text).ok_or_else(|| invalid(name, text, "write it as NAME://host:port"))
    };
    texts.iter().map(parse).collect()
}

fn invalid(name: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}
