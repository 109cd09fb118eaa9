//! Settings among environment variables: `RINGLOG_NUM_PARTITIONS` is `num.partitions`, `RINGLOG_CORES` is
//! `ringlog.cores`.
//!
//! Invariant: a variable that names no configuration is told, never an error. Container platforms set variables for
//! every service (`RINGLOG_PORT`, `RINGLOG_SERVICE_HOST`, ...), and a service may have any name.

use std::fmt;

use super::broker::Settings;
use super::key::Key;
use super::nearest::nearest;
use super::{broker_key, broker_keys};

/// Prefix of the variables.
pub const ENVIRONMENT_PREFIX: &str = "RINGLOG_";

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Values by key.
    pub settings: Settings,
    /// Variables with the prefix that name no key, in their order.
    pub unknown: Vec<UnknownVariable>,
}

/// A variable that looks like a setting and names no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The variable that looks most like it.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nearest {
            Some(nearest) => write!(f, "{} (did you mean {nearest}?)", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Reads the variables that begin with [`ENVIRONMENT_PREFIX`], underscores for dots.
pub fn parse_environment<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Environment {
    let mut out = Environment::default();
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(ENVIRONMENT_PREFIX) else {
            continue;
        };
        let name = rest.to_ascii_lowercase().replace('_', ".");
        let own = format!("ringlog.{name}");
        match broker_key(&own).or_else(|_| broker_key(&name)) {
            Ok(key) => drop(out.settings.insert(key.name.to_owned(), value.to_owned())),
            Err(_) => out.unknown.push(UnknownVariable {
                name: variable.to_owned(),
                nearest: nearest(rest, broker_keys().map(suffix_of)).map(with_prefix),
            }),
        }
    }
    out
}

/// The variable that sets a key.
pub fn variable_of(key: &Key) -> String {
    with_prefix(suffix_of(key))
}

fn suffix_of(key: &Key) -> String {
    let name = key.name.strip_prefix("ringlog.").unwrap_or(key.name);
    name.replace('.', "_").to_ascii_uppercase()
}

fn with_prefix(suffix: String) -> String {
    format!("{ENVIRONMENT_PREFIX}{suffix}")
}
