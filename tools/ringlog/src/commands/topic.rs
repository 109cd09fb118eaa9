//! `ringlog topic create | list | describe | delete`.

use clap::{Args, Subcommand};
use client::{Cluster, NewTopic, Partition, Topic, TopicConfig};
use serde::Serialize;
use uring::{UringIo, UringOptions};

use super::CommandError;
use super::table::{Format, print_json, print_table};

/// Arguments of `ringlog topic`.
#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Args)]
struct Connect {
    /// Broker to ask, HOST:PORT, several with commas.
    #[arg(
        long,
        visible_alias = "bootstrap-server",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic.
    Create {
        /// Its name.
        name: String,
        /// Number of partitions; the broker's num.partitions if not given.
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Replicas of each partition; the broker's default.replication.factor if not given.
        #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting that differs from the broker's, KEY=VALUE; repeatable.
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
        configs: Vec<(String, String)>,
        #[command(flatten)]
        connect: Connect,
    },
    /// List all topics.
    List {
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a topic's partitions and own settings.
    Describe {
        /// Its name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
    /// Delete a topic and all its records.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
}

/// `KEY=VALUE` as its two sides.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE, for example retention.ms=3600000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Runs the command.
pub fn run(args: TopicArgs) -> Result<(), CommandError> {
    uring::block_on(None, UringOptions::default(), |io| perform(io, args.action))?
}

async fn perform(io: UringIo, action: Action) -> Result<(), CommandError> {
    match action {
        Action::Create {
            name,
            partitions,
            replication_factor,
            configs,
            connect,
        } => {
            let mut cluster = open(&io, &connect).await?;
            let new = NewTopic {
                name,
                partitions: partitions.unwrap_or(-1),
                replication_factor: replication_factor.unwrap_or(-1),
                configs,
            };
            let topic = cluster.create_topic(&new).await?;
            match connect.format {
                Format::Json => print_json(&TopicRow::of(&topic)),
                Format::Text => {
                    println!(
                        "created {} with {}, id {}",
                        topic.name,
                        partition_count(topic.partitions.len()),
                        topic.id
                    );
                    Ok(())
                }
            }
        }
        Action::List { connect } => {
            let topics = open(&io, &connect).await?.list_topics().await?;
            list(&topics, connect.format)
        }
        Action::Describe { name, connect } => {
            let mut cluster = open(&io, &connect).await?;
            let topic = cluster.describe_topic(&name).await?;
            let configs = cluster.topic_configs(&name).await?;
            describe(&topic, &configs, connect.format)
        }
        Action::Delete { name, connect } => {
            open(&io, &connect).await?.delete_topic(&name).await?;
            match connect.format {
                Format::Json => print_json(&serde_json::json!({ "deleted": name })),
                Format::Text => {
                    println!("deleted {name}");
                    Ok(())
                }
            }
        }
    }
}

async fn open(io: &UringIo, connect: &Connect) -> Result<Cluster<UringIo>, CommandError> {
    let options = load::cluster_options("ringlog-topic");
    Ok(Cluster::connect(io, &connect.bootstrap, options).await?)
}

#[derive(Serialize)]
struct TopicRow {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    under_replicated: usize,
    without_leader: usize,
    internal: bool,
}

impl TopicRow {
    fn of(topic: &Topic) -> TopicRow {
        let partitions = &topic.partitions;
        TopicRow {
            name: topic.name.clone(),
            id: topic.id.to_string(),
            partitions: partitions.len(),
            replication_factor: partitions
                .iter()
                .map(|p| p.replicas.len())
                .max()
                .unwrap_or(0),
            under_replicated: partitions
                .iter()
                .filter(|p| p.isr.len() < p.replicas.len())
                .count(),
            without_leader: partitions.iter().filter(|p| p.leader.is_none()).count(),
            internal: topic.is_internal,
        }
    }
}

fn list(topics: &[Topic], format: Format) -> Result<(), CommandError> {
    let rows: Vec<TopicRow> = topics.iter().map(TopicRow::of).collect();
    if format == Format::Json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        println!("no topics; `ringlog topic create NAME --partitions N` makes one");
        return Ok(());
    }
    let cells = rows.into_iter().map(|row| {
        vec![
            row.name,
            row.partitions.to_string(),
            row.replication_factor.to_string(),
            row.under_replicated.to_string(),
            row.without_leader.to_string(),
            row.id,
        ]
    });
    let header = [
        "name",
        "partitions",
        "replicas",
        "under-replicated",
        "leaderless",
        "id",
    ];
    print_table(&header, cells.collect(), &[1, 2, 3, 4]);
    Ok(())
}

#[derive(Serialize)]
struct PartitionRow {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
}

impl PartitionRow {
    fn of(partition: &Partition) -> PartitionRow {
        PartitionRow {
            partition: partition.index.0,
            leader: partition.leader.map(|id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replicas: partition.replicas.iter().map(|id| id.0).collect(),
            isr: partition.isr.iter().map(|id| id.0).collect(),
        }
    }
}

fn describe(topic: &Topic, configs: &[TopicConfig], format: Format) -> Result<(), CommandError> {
    let partitions: Vec<PartitionRow> = topic.partitions.iter().map(PartitionRow::of).collect();
    let own: Vec<&TopicConfig> = configs.iter().filter(|config| config.is_own).collect();
    if format == Format::Json {
        let all: serde_json::Map<String, serde_json::Value> = configs
            .iter()
            .map(|config| (config.name.clone(), config.value.clone().into()))
            .collect();
        return print_json(&serde_json::json!({
            "topic": TopicRow::of(topic),
            "partitions": partitions,
            "own_configs": own.iter().map(|config| &config.name).collect::<Vec<_>>(),
            "configs": all,
        }));
    }
    println!(
        "{}  id {}  {}",
        topic.name,
        topic.id,
        partition_count(partitions.len())
    );
    for config in own {
        println!(
            "  {}={}",
            config.name,
            config.value.as_deref().unwrap_or("(not shown)")
        );
    }
    let join = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let cells = partitions.iter().map(|row| {
        vec![
            row.partition.to_string(),
            row.leader.map_or("none".to_owned(), |id| id.to_string()),
            row.leader_epoch.to_string(),
            join(&row.replicas),
            join(&row.isr),
        ]
    });
    let header = ["partition", "leader", "epoch", "replicas", "in sync"];
    print_table(&header, cells.collect(), &[0, 1, 2]);
    Ok(())
}

/// `1 partition`, `8 partitions`.
fn partition_count(count: usize) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} partition{ending}")
}
