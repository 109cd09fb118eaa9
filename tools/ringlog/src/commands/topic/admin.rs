//! `ringlog topic create | list | add-partitions | trim | delete`.

use std::collections::BTreeMap;

use clap::Args;
use client::{Bounds, ClientError, NewTopic, Position, Topic};
use model::config::topic_key;
use model::{Offset, PartitionIndex};
use serde::Serialize;

use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::position::position;
use crate::commands::table::{Format, print_json, print_table};
use crate::stdio::outln;

/// Arguments of `ringlog topic create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name.
    name: String,
    /// Number of partitions; the broker's num.partitions if not given.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of each partition; the broker's default.replication.factor if not given.
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting that differs from the broker's, KEY=VALUE, such as retention.ms=7d; repeatable.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = topic_setting)]
    configs: Vec<(String, String)>,
    #[command(flatten)]
    connect: Connect,
}

/// Arguments of `ringlog topic list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
}

/// Arguments of `ringlog topic add-partitions`.
#[derive(Debug, Args)]
pub struct AddPartitionsArgs {
    /// Its name.
    name: String,
    /// How many to add.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..), required_unless_present = "total")]
    add: Option<i32>,
    /// How many there shall be.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..), conflicts_with = "add")]
    total: Option<i32>,
    #[command(flatten)]
    connect: Connect,
}

/// Arguments of `ringlog topic trim`.
#[derive(Debug, Args)]
pub struct TrimArgs {
    /// Its name.
    name: String,
    /// The first record to keep: OFFSET, -COUNT before the end, @TIME, or end to keep none.
    #[arg(long, value_name = "TO", value_parser = position, allow_hyphen_values = true)]
    before: Position,
    /// Partitions to trim, with commas. [default: all]
    #[arg(short, long = "partition", value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    #[command(flatten)]
    connect: Connect,
}

/// Arguments of `ringlog topic delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

/// `KEY=VALUE` as its two sides.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A topic's setting. Units are for people: brokers are told plain numbers. Keys of other brokers pass as they are.
pub fn topic_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        key_value(text).map_err(|error| format!("{error}, for example retention.ms=7d"))?;
    match topic_key(&key) {
        Ok(known) => match known.without_unit(&value) {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(error.to_string()),
        },
        Err(_) => Ok((key, value)),
    }
}

/// Creates a topic.
pub fn create(args: CreateArgs) -> Result<(), CommandError> {
    let new = NewTopic {
        name: args.name,
        partitions: args.partitions.unwrap_or(-1),
        replication_factor: args.replication_factor.unwrap_or(-1),
        configs: args.configs,
    };
    let server = &args.connect.server;
    let topic = server.ask(async move |cluster| cluster.create_topic(&new).await)?;
    match args.connect.format {
        Format::Json => print_json(&TopicRow::of(&topic)),
        Format::Text => outln!(
            "created {} with {}, id {}",
            topic.name,
            partition_count(topic.partitions.len()),
            topic.id
        ),
    }
}

/// Deletes a topic.
pub fn delete(args: &DeleteArgs) -> Result<(), CommandError> {
    let name = args.name.clone();
    let server = &args.connect.server;
    server.ask(async move |cluster| cluster.delete_topic(&name).await)?;
    match args.connect.format {
        Format::Json => print_json(&serde_json::json!({ "deleted": args.name })),
        Format::Text => outln!("deleted {}", args.name),
    }
}

/// Adds partitions.
pub fn add_partitions(args: AddPartitionsArgs) -> Result<(), CommandError> {
    let (name, add, total) = (args.name, args.add, args.total);
    let server = &args.connect.server;
    let topic = server.ask(async move |cluster| {
        let present = cluster.describe_topic(&name).await?.partitions.len();
        let present = i32::try_from(present).expect("a topic has fewer than 2^31 partitions");
        let total = match (total, present.checked_add(add.unwrap_or(0))) {
            (Some(total), _) | (None, Some(total)) => total,
            (None, None) => {
                return Err(ClientError::Refused {
                    what: format!("adding partitions to {name}"),
                    reason: "no topic has so many".to_owned(),
                });
            }
        };
        cluster.add_partitions(&name, total).await
    })?;
    match args.connect.format {
        Format::Json => print_json(&TopicRow::of(&topic)),
        Format::Text => outln!(
            "{} has {} now. Keys belong to other partitions than before",
            topic.name,
            partition_count(topic.partitions.len())
        ),
    }
}

#[derive(Serialize)]
struct TrimmedRow {
    partition: i32,
    start: i64,
}

/// Deletes the oldest records.
pub fn trim(args: TrimArgs) -> Result<(), CommandError> {
    let (name, position) = (args.name.clone(), args.before);
    let partitions: Vec<PartitionIndex> = args
        .partitions
        .iter()
        .copied()
        .map(PartitionIndex)
        .collect();
    let starts = args.connect.server.ask(async move |cluster| {
        let topic = cluster.describe_topic(&name).await?;
        let bounds = Bounds::ask(cluster, &name).await?;
        let places = bounds.places(cluster, &name, position).await?;
        let chosen =
            |partition: &PartitionIndex| partitions.is_empty() || partitions.contains(partition);
        if let Some(unknown) = partitions.iter().find(|p| !places.contains_key(p)) {
            return Err(ClientError::Refused {
                what: format!("partition {name}-{unknown}"),
                reason: "there is no such partition".to_owned(),
            });
        }
        let before: BTreeMap<PartitionIndex, Offset> = places
            .into_iter()
            .filter(|(partition, _)| chosen(partition))
            .collect();
        cluster.delete_records(&topic, &before).await
    })?;
    let rows = starts.iter().map(|(partition, start)| TrimmedRow {
        partition: partition.0,
        start: start.0,
    });
    let rows: Vec<TrimmedRow> = rows.collect();
    if args.connect.format == Format::Json {
        return print_json(&serde_json::json!({ "topic": args.name, "partitions": rows }));
    }
    let cells = rows
        .iter()
        .map(|row| vec![row.partition.to_string(), row.start.to_string()]);
    print_table(&["partition", "begins at"], cells.collect(), &[0, 1])
}

/// A line of a listing of topics.
#[derive(Serialize)]
pub struct TopicRow {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    under_replicated: usize,
    without_leader: usize,
    internal: bool,
}

impl TopicRow {
    /// What a listing says of a topic.
    pub fn of(topic: &Topic) -> TopicRow {
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

/// Lists all topics.
pub fn list(args: &ListArgs) -> Result<(), CommandError> {
    let topics = args
        .connect
        .server
        .ask(async |cluster| cluster.list_topics().await)?;
    let rows: Vec<TopicRow> = topics.iter().map(TopicRow::of).collect();
    if args.connect.format == Format::Json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return outln!("no topics; `ringlog topic create NAME --partitions N` makes one");
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
    print_table(&header, cells.collect(), &[1, 2, 3, 4])
}

/// `1 partition`, `8 partitions`.
pub fn partition_count(count: usize) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} partition{ending}")
}
