//! `ringlog config list | describe | set | unset`: the configuration of brokers and topics, and changes of it.

use clap::{Args, Subcommand};
use client::{ClientError, Cluster, Config, ConfigChange, ConfigOwner};
use model::BrokerId;
use model::config::nearest::nearest;
use model::config::{broker_key, topic_key};
use serde::Serialize;
use uring::UringIo;

use super::CommandError;
use super::connect::Connect;
use super::table::{Format, print_json, print_table};
use super::topic::key_value;
use crate::stdio::outln;

/// Arguments of `ringlog config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Args)]
struct Owner {
    /// Of this topic.
    #[arg(long, value_name = "NAME", conflicts_with = "broker")]
    topic: Option<String>,
    /// Of this broker. [default: the one with the smallest id]
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Of all brokers: what was set for them at run time.
    #[arg(long, conflicts_with_all = ["topic", "broker"])]
    all_brokers: bool,
}

/// Whose configuration is changed: that is to be said.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ChangedOwner {
    /// Of this topic.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Of this broker.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Of all brokers that have no value of their own.
    #[arg(long)]
    all_brokers: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the values that somebody set.
    List {
        #[command(flatten)]
        owner: Owner,
        /// List the defaults, too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a key: its value, who set it, and what it does.
    Describe {
        /// The key, such as retention.ms.
        key: String,
        #[command(flatten)]
        owner: Owner,
        #[command(flatten)]
        connect: Connect,
    },
    /// Change values while brokers run.
    Set {
        /// What is to hold, such as retention.ms=7d.
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = key_value)]
        values: Vec<(String, String)>,
        #[command(flatten)]
        owner: ChangedOwner,
        /// Say whether it would be accepted, but change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Forget values that were set while brokers ran: what holds otherwise holds again.
    Unset {
        /// The keys.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        owner: ChangedOwner,
        /// Say whether it would be accepted, but change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        connect: Connect,
    },
}

/// Runs the command.
pub fn run(args: ConfigArgs) -> Result<(), CommandError> {
    match args.action {
        Action::List {
            owner,
            all,
            connect,
        } => {
            let configs = configs(owner, &connect)?;
            let rows = configs.iter().filter(|config| all || !config.is_default);
            list(&rows.map(Row::of).collect::<Vec<_>>(), connect.format)
        }
        Action::Describe {
            key,
            owner,
            connect,
        } => {
            let configs = configs(owner, &connect)?;
            match configs.iter().find(|config| config.name == key) {
                Some(config) => describe(config, connect.format),
                None => {
                    let names = configs.iter().map(|config| config.name.as_str());
                    Err(CommandError::Failed(unknown(&key, names)))
                }
            }
        }
        Action::Set {
            values,
            owner,
            dry_run,
            connect,
        } => {
            let owner = owner.owner();
            let mut changes = Vec::with_capacity(values.len());
            for (key, value) in values {
                let value = plain(&owner, &key, value)?;
                changes.push(ConfigChange::Set(key, value));
            }
            change(&owner, changes, dry_run, &connect)
        }
        Action::Unset {
            keys,
            owner,
            dry_run,
            connect,
        } => {
            let changes = keys.into_iter().map(ConfigChange::Delete).collect();
            change(&owner.owner(), changes, dry_run, &connect)
        }
    }
}

impl ChangedOwner {
    fn owner(self) -> ConfigOwner {
        match (self.topic, self.broker) {
            (Some(topic), _) => ConfigOwner::Topic(topic),
            (None, Some(id)) => ConfigOwner::Broker(BrokerId(id)),
            (None, None) => ConfigOwner::AllBrokers,
        }
    }
}

fn unknown<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> String {
    let meant = nearest(key, names).map(|name| format!("; did you mean {name}?"));
    format!(
        "there is no configuration named {key}{}",
        meant.unwrap_or_default()
    )
}

/// A value as brokers are told it. Units are for people. Keys of other brokers pass as they are.
fn plain(owner: &ConfigOwner, key: &str, value: String) -> Result<String, CommandError> {
    let known = match owner {
        ConfigOwner::Topic(_) => topic_key(key),
        ConfigOwner::Broker(_) | ConfigOwner::AllBrokers => broker_key(key),
    };
    let Ok(known) = known else {
        return Ok(value);
    };
    let plain = known.without_unit(&value);
    plain.map_err(|error| CommandError::Usage(error.to_string()))
}

fn change(
    owner: &ConfigOwner,
    changes: Vec<ConfigChange>,
    dry_run: bool,
    connect: &Connect,
) -> Result<(), CommandError> {
    let (asked, asked_owner) = (changes.clone(), owner.clone());
    connect.server.ask(async move |cluster| {
        check_known(cluster, &asked_owner, &asked).await?;
        cluster.alter_configs(&asked_owner, &asked, dry_run).await
    })?;
    print_changes(owner, &changes, dry_run, connect.format)
}

/// Brokers forget a value that there is not without a word, and keep an unknown one of a broker: a slip would go
/// unnoticed.
pub async fn check_known(
    cluster: &mut Cluster<UringIo>,
    owner: &ConfigOwner,
    changes: &[ConfigChange],
) -> Result<(), ClientError> {
    let configs = cluster.configs(owner).await?;
    let names = || configs.iter().map(|config| config.name.as_str());
    for change in changes {
        let (ConfigChange::Set(key, _) | ConfigChange::Delete(key)) = change;
        if !names().any(|name| name == key) {
            return Err(ClientError::Refused {
                what: format!("changing the configuration of {owner}"),
                reason: unknown(key, names()),
            });
        }
    }
    Ok(())
}

/// Tells what was changed, or would be.
pub fn print_changes(
    owner: &ConfigOwner,
    changes: &[ConfigChange],
    dry_run: bool,
    format: Format,
) -> Result<(), CommandError> {
    if format == Format::Json {
        let mut set = serde_json::Map::new();
        let mut unset = Vec::new();
        for change in changes {
            match change {
                ConfigChange::Set(key, value) => {
                    set.insert(key.clone(), value.clone().into());
                }
                ConfigChange::Delete(key) => unset.push(key),
            }
        }
        return print_json(&serde_json::json!({
            "owner": owner.to_string(),
            "dry_run": dry_run,
            "set": set,
            "unset": unset,
        }));
    }
    let verb = if dry_run { "would change" } else { "changed" };
    outln!("{verb} the configuration of {owner}")?;
    for change in changes {
        match change {
            ConfigChange::Set(key, value) => outln!("  {key}={value}")?,
            ConfigChange::Delete(key) => outln!("  {key} is no longer set")?,
        }
    }
    Ok(())
}

fn configs(owner: Owner, connect: &Connect) -> Result<Vec<Config>, CommandError> {
    connect.server.ask(async move |cluster| {
        let owner = match (owner.topic, owner.broker) {
            _ if owner.all_brokers => ConfigOwner::AllBrokers,
            (Some(topic), _) => ConfigOwner::Topic(topic),
            (None, Some(id)) => ConfigOwner::Broker(BrokerId(id)),
            (None, None) => match cluster.brokers().next() {
                Some(broker) => ConfigOwner::Broker(broker.id),
                None => {
                    return Err(ClientError::Malformed {
                        api: "Metadata",
                        reason: "it names no broker".to_owned(),
                    });
                }
            },
        };
        cluster.configs(&owner).await
    })
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    value: Option<&'a str>,
    source: &'static str,
    read_only: bool,
    sensitive: bool,
}

impl Row<'_> {
    fn of(config: &Config) -> Row<'_> {
        Row {
            name: &config.name,
            value: config.value.as_deref(),
            source: config.source,
            read_only: config.is_read_only,
            sensitive: config.is_sensitive,
        }
    }

    /// The value for people.
    fn shown(&self) -> String {
        match self.value {
            Some(value) => value.to_owned(),
            None if self.sensitive => "(not shown)".to_owned(),
            None => "(none)".to_owned(),
        }
    }
}

fn list(rows: &[Row<'_>], format: Format) -> Result<(), CommandError> {
    if format == Format::Json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return outln!("everything is as by default; --all lists it");
    }
    let cells = rows
        .iter()
        .map(|row| vec![row.name.to_owned(), row.shown(), row.source.to_owned()]);
    print_table(&["name", "value", "set by"], cells.collect(), &[])
}

fn describe(config: &Config, format: Format) -> Result<(), CommandError> {
    let row = Row::of(config);
    if format == Format::Json {
        let synonym = |(name, value, source): &(String, Option<String>, &str)| serde_json::json!({ "name": name, "value": value, "source": source });
        return print_json(&serde_json::json!({
            "name": row.name,
            "value": row.value,
            "type": config.kind,
            "source": row.source,
            "read_only": row.read_only,
            "sensitive": row.sensitive,
            "documentation": config.documentation,
            "synonyms": config.synonyms.iter().map(synonym).collect::<Vec<_>>(),
        }));
    }
    outln!("{}={}", row.name, row.shown())?;
    let changes = match config.is_read_only {
        true => "by a restart only",
        false => "at run time",
    };
    outln!(
        "  type {}, set by: {}, changes {changes}",
        config.kind,
        row.source
    )?;
    if let Some(documentation) = &config.documentation {
        outln!("  {documentation}")?;
    }
    for (name, value, source) in config.synonyms.iter().skip(1) {
        let value = value.as_deref().unwrap_or("(not shown)");
        outln!("  otherwise {name}={value}, set by: {source}")?;
    }
    Ok(())
}
