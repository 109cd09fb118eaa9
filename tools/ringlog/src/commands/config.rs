//! `ringlog config list | describe`: what a broker says of its configuration and that of topics.

use clap::{Args, Subcommand};
use client::{ClientError, Config, ConfigOwner};
use model::BrokerId;
use model::config::nearest::nearest;
use serde::Serialize;

use super::CommandError;
use super::connect::Connect;
use super::table::{Format, print_json, print_table};
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
                    let meant = nearest(&key, names).map(|name| format!("; did you mean {name}?"));
                    Err(CommandError::Failed(format!(
                        "there is no configuration named {key}{}",
                        meant.unwrap_or_default()
                    )))
                }
            }
        }
    }
}

fn configs(owner: Owner, connect: &Connect) -> Result<Vec<Config>, CommandError> {
    connect.server.ask(async move |cluster| {
        let owner = match (owner.topic, owner.broker) {
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
