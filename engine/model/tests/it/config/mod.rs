//! The configuration registry against a real broker's description of itself, and its parsers.

mod broker;
mod described;
mod topic;

use std::collections::BTreeMap;

use model::config::BrokerConfig;

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::from_layers(&settings(pairs), &settings(&[]), &settings(&[])).unwrap()
}
