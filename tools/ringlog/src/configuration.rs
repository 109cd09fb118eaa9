//! A broker's configuration from its layers: a file, the environment, flags.
//!
//! Invariant: whatever is refused says where it stands, as `FILE:LINE`, the variable or the flag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::config::{
    BrokerConfig, ConfigError, Effect, Environment, Properties, UnknownVariable, broker_key,
    parse_environment, variable_of,
};

use crate::commands::CommandError;
use crate::variables;

/// A setting from the command line: the key, its value, and what was written.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The flag as it stands on the command line; of a key that may be secret, without its value.
    pub written: String,
}

/// The layers, in rising precedence.
#[derive(Debug, Default)]
pub struct Layers {
    file: Option<(PathBuf, Properties)>,
    environment: Environment,
    flags: Vec<Flag>,
}

impl Layers {
    /// Reads the file, if there is one, and the environment of this process.
    pub fn read(file: Option<&Path>, flags: Vec<Flag>) -> Result<Layers, CommandError> {
        let variables = variables::of_broker();
        let variables = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(Layers {
            file: file.map(read_file).transpose()?,
            environment: parse_environment(variables),
            flags,
        })
    }

    /// Whether any layer sets one of these keys.
    pub fn sets_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.place_of(key).is_some())
    }

    /// Sets a key for want of anything else.
    pub fn add(&mut self, flag: Flag) {
        self.flags.push(flag);
    }

    /// Variables that look like settings and name none.
    pub fn unknown_variables(&self) -> &[UnknownVariable] {
        &self.environment.unknown
    }

    /// The configuration, or what is wrong and where.
    pub fn to_config(&self) -> Result<BrokerConfig, CommandError> {
        let none = BTreeMap::new();
        let file = self.file.as_ref().map_or(&none, |(_, p)| &p.settings);
        let flags = self.flags.iter();
        let flags = flags.map(|flag| (flag.key.clone(), flag.value.clone()));
        BrokerConfig::from_layers(file, &self.environment.settings, &flags.collect())
            .map_err(|error| self.refused(&error))
    }

    /// What was set and does nothing: a sentence for each key, which begins with where it is set.
    pub fn without_effect(&self) -> Vec<String> {
        let file = self.file.iter().flat_map(|(_, file)| file.settings.keys());
        let environment = self.environment.settings.keys();
        let flags = self.flags.iter().map(|flag| &flag.key);
        let keys: BTreeSet<&String> = file.chain(environment).chain(flags).collect();
        let sentence = |key: &String| {
            let reason = match broker_key(key).map(|key| key.effect) {
                Ok(Effect::Effective) => return None,
                Ok(Effect::Ignored(reason)) => reason,
                // Accepted all the same: it belongs to a listener or to a plug-in of Kafka's.
                Err(_) => "settings of single listeners and of plug-ins are not there yet",
            };
            let place = self.place_of(key)?;
            Some(format!("{place}: {key} has no effect: {reason}"))
        };
        keys.into_iter().filter_map(sentence).collect()
    }

    /// The error with the place that is to be changed: the layer that wins.
    fn refused(&self, error: &ConfigError) -> CommandError {
        let place = error.key().and_then(|key| self.place_of(key));
        CommandError::Usage(match place {
            Some(place) => format!("{place}: {error}"),
            None => error.to_string(),
        })
    }

    fn place_of(&self, key: &str) -> Option<String> {
        // The last of several flags is the one that counts.
        if let Some(flag) = self.flags.iter().rev().find(|flag| flag.key == key) {
            return Some(flag.written.clone());
        }
        if self.environment.settings.contains_key(key) {
            return broker_key(key).ok().map(variable_of);
        }
        let (path, properties) = self.file.as_ref()?;
        let line = properties.lines.get(key)?;
        Some(format!("{}:{line}", path.display()))
    }
}

/// Reads a properties file.
pub fn read_file(path: &Path) -> Result<(PathBuf, Properties), CommandError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::io(path.display().to_string(), error))?;
    let properties = Properties::parse(&text).map_err(|error| match &error {
        ConfigError::Syntax { line, reason } => {
            CommandError::Usage(format!("{}:{line}: {reason}", path.display()))
        }
        error => CommandError::Usage(format!("{}: {error}", path.display())),
    })?;
    Ok((path.to_owned(), properties))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, value: &str) -> Flag {
        Flag {
            key: key.to_owned(),
            value: value.to_owned(),
            written: format!("--override {key}"),
        }
    }

    fn layers(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
        Layers {
            file: Some((
                PathBuf::from("a/b.properties"),
                Properties::parse(file).unwrap(),
            )),
            environment: parse_environment(variables.iter().copied()),
            flags: flags.iter().map(|(key, value)| flag(key, value)).collect(),
        }
    }

    #[test]
    fn what_is_refused_says_where_it_stands() {
        let rows: [(Layers, &str); 5] = [
            (
                layers("# c\nnum.partition=3\n", &[], &[]),
                "a/b.properties:2: there is no configuration named num.partition; did you mean num.partitions?",
            ),
            (
                layers("num.partitions=1\nlog.retention.ms=soon", &[], &[]),
                "a/b.properties:2: log.retention.ms cannot be 'soon': expected a duration: a number with us, ms, s, m, \
                 h or d, such as 500ms, 1.5s or 1h30m",
            ),
            (
                layers("num.partitions=0", &[("RINGLOG_NUM_PARTITIONS", "-4")], &[]),
                "RINGLOG_NUM_PARTITIONS: num.partitions cannot be '-4': it must be 1 or more",
            ),
            (
                layers(
                    "",
                    &[("RINGLOG_NUM_PARTITIONS", "4")],
                    &[("num.partitions", "2"), ("num.partitions", "x")],
                ),
                "--override num.partitions: num.partitions cannot be 'x': it must be a whole number of type int",
            ),
            (
                layers("group.min.session.timeout.ms=1h", &[], &[]),
                "group.min.session.timeout.ms must not be above group.max.session.timeout.ms",
            ),
        ];
        for (layers, expected) in rows {
            assert_eq!(layers.to_config().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_does_nothing_is_said_once_for_each_key_and_where() {
        let file = "# k\nnum.io.threads=8\nnum.partitions=3\nauthorizer.class.name=x\n\
                    ssl.keystore.location=a\nlistener.name.plaintext.sasl.enabled.mechanisms=PLAIN\n";
        let layers = layers(
            file,
            &[("RINGLOG_NUM_NETWORK_THREADS", "1"), ("RINGLOG_CORES", "0")],
            &[("num.io.threads", "4"), ("ringlog.memory.bytes", "1G")],
        );
        layers.to_config().unwrap();
        let said = layers.without_effect();
        let expected = [
            "a/b.properties:4: authorizer.class.name has no effect: ",
            "a/b.properties:6: listener.name.plaintext.sasl.enabled.mechanisms has no effect: ",
            "--override num.io.threads: num.io.threads has no effect: ",
            "RINGLOG_NUM_NETWORK_THREADS: num.network.threads has no effect: ",
            "a/b.properties:5: ssl.keystore.location has no effect: ",
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (sentence, expected) in said.iter().zip(expected) {
            assert!(sentence.starts_with(expected), "{sentence}");
            assert!(sentence.len() > expected.len(), "{sentence}");
        }
    }

    #[test]
    fn the_last_flag_wins_over_variables_and_the_file() {
        let layers = layers(
            "num.partitions=1\nringlog.memory.bytes=64M",
            &[("RINGLOG_NUM_PARTITIONS", "2"), ("RINGLOG_PORT", "tcp://1")],
            &[("num.partitions", "3"), ("num.partitions", "4")],
        );
        let config = layers.to_config().unwrap();
        assert_eq!(
            (config.num_partitions, config.memory_bytes),
            (4, Some(64 << 20))
        );
        assert_eq!(layers.unknown_variables().len(), 1);
    }
}
