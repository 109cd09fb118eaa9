//! `ringlog group list | describe`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use client::{ClientError, Cluster, CommittedOffset, GroupDescription, OffsetSpec};
use model::{ErrorCode, Offset, PartitionIndex};
use serde::Serialize;
use uring::UringIo;

use super::CommandError;
use super::connect::Connect;
use super::table::{Format, print_json, print_table};
use crate::stdio::outln;

/// State of a group that is not there.
const DEAD: &str = "Dead";

/// Arguments of `ringlog group`.
#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all groups.
    List {
        #[command(flatten)]
        connect: Connect,
    },
    /// Show a group's members, what it has committed, and how far behind it is.
    Describe {
        /// Its name.
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
}

/// Runs the command.
pub fn run(args: GroupArgs) -> Result<(), CommandError> {
    match args.action {
        Action::List { connect } => list(&connect),
        Action::Describe { name, connect } => describe(&name, &connect),
    }
}

#[derive(Serialize)]
struct GroupRow {
    name: String,
    state: String,
    protocol_type: String,
    coordinator: i32,
}

fn list(connect: &Connect) -> Result<(), CommandError> {
    let groups = connect
        .server
        .ask(async |cluster| cluster.list_groups().await)?;
    let rows = groups.into_iter().map(|group| GroupRow {
        name: group.name,
        state: group.state,
        protocol_type: group.protocol_type,
        coordinator: group.coordinator.0,
    });
    let rows: Vec<GroupRow> = rows.collect();
    if connect.format == Format::Json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return outln!("no groups");
    }
    let cells = rows.into_iter().map(|row| {
        vec![
            row.name,
            row.state,
            row.protocol_type,
            row.coordinator.to_string(),
        ]
    });
    print_table(
        &["name", "state", "type", "coordinator"],
        cells.collect(),
        &[3],
    )
}

/// A group and where its topics end.
struct Described {
    group: GroupDescription,
    rows: Vec<LagRow>,
}

/// A partition that a group reads or has committed.
#[derive(Serialize)]
struct LagRow {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    metadata: String,
    member: Option<String>,
    client: Option<String>,
    host: Option<String>,
}

#[derive(Serialize)]
struct MemberRow<'a> {
    member: &'a str,
    instance: Option<&'a str>,
    client: &'a str,
    host: &'a str,
    partitions: usize,
}

async fn described(cluster: &mut Cluster<UringIo>, name: &str) -> Result<Described, ClientError> {
    let group = cluster.describe_group(name).await?;
    let committed = cluster.group_offsets(name).await?;
    if group.state == DEAD && committed.is_empty() {
        return Err(ClientError::Broker {
            what: format!("group {name}"),
            code: ErrorCode::GroupIdNotFound,
            message: None,
        });
    }
    let mut places: BTreeMap<String, BTreeMap<PartitionIndex, Option<CommittedOffset>>> =
        BTreeMap::new();
    for (topic, partitions) in committed {
        let offsets = partitions
            .into_iter()
            .map(|(index, offset)| (index, Some(offset)));
        places.insert(topic, offsets.collect());
    }
    for (topic, partitions) in group.members.iter().flat_map(|member| &member.assignment) {
        let known = places.entry(topic.clone()).or_default();
        for partition in partitions {
            known.entry(*partition).or_insert(None);
        }
    }
    let mut rows = Vec::new();
    for (topic, partitions) in places {
        // A topic that is assigned may be gone.
        let ends: BTreeMap<PartitionIndex, Offset> = match cluster.cached(&topic) {
            Some(_) => cluster
                .offsets(&topic, OffsetSpec::Latest)
                .await?
                .into_iter()
                .collect(),
            None => BTreeMap::new(),
        };
        for (partition, committed) in partitions {
            let end = ends.get(&partition).copied();
            rows.push(lag_row(&group, &topic, partition, committed, end));
        }
    }
    Ok(Described { group, rows })
}

fn lag_row(
    group: &GroupDescription,
    topic: &str,
    partition: PartitionIndex,
    committed: Option<CommittedOffset>,
    end: Option<Offset>,
) -> LagRow {
    let reads = |partitions: &Vec<PartitionIndex>| partitions.contains(&partition);
    let mut members = group.members.iter();
    let reader = members.find(|member| member.assignment.get(topic).is_some_and(reads));
    let offset = committed.as_ref().map(|committed| committed.offset.0);
    LagRow {
        topic: topic.to_owned(),
        partition: partition.0,
        committed: offset,
        end: end.map(|end| end.0),
        // A commit behind the end is of a log that has been cut since: nothing is left to read.
        lag: offset.zip(end).map(|(offset, end)| (end.0 - offset).max(0)),
        metadata: committed
            .map(|committed| committed.metadata)
            .unwrap_or_default(),
        member: reader.map(|member| member.member_id.clone()),
        client: reader.map(|member| member.client_id.clone()),
        host: reader.map(|member| member.client_host.clone()),
    }
}

fn describe(name: &str, connect: &Connect) -> Result<(), CommandError> {
    let asked = name.to_owned();
    let Described { group, rows } = connect
        .server
        .ask(async move |cluster| described(cluster, &asked).await)?;
    let lags: Option<Vec<i64>> = rows.iter().map(|row| row.lag).collect();
    let lag: Option<i64> = lags.map(|lags| lags.iter().sum());
    let members = group.members.iter().map(|member| MemberRow {
        member: &member.member_id,
        instance: member.instance_id.as_deref(),
        client: &member.client_id,
        host: &member.client_host,
        partitions: member.assignment.values().map(Vec::len).sum(),
    });
    let members: Vec<MemberRow<'_>> = members.collect();
    if connect.format == Format::Json {
        return print_json(&serde_json::json!({
            "name": group.name,
            "state": group.state,
            "protocol_type": group.protocol_type,
            "protocol": group.protocol,
            "coordinator": group.coordinator.0,
            "lag": lag,
            "members": members,
            "partitions": rows,
        }));
    }
    outln!(
        "{}  {}{}  coordinator {}  {} member{}  lag {}",
        group.name,
        group.state,
        match group.protocol.as_str() {
            "" => String::new(),
            protocol => format!("  {protocol}"),
        },
        group.coordinator,
        members.len(),
        if members.len() == 1 { "" } else { "s" },
        number(lag),
    )?;
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cells = rows.into_iter().map(|row| {
        vec![
            row.topic,
            row.partition.to_string(),
            number(row.committed),
            number(row.end),
            number(row.lag),
            dash(row.client),
            dash(row.host),
            dash(row.member),
        ]
    });
    let header = [
        "topic",
        "partition",
        "committed",
        "end",
        "lag",
        "client",
        "host",
        "member",
    ];
    print_table(&header, cells.collect(), &[1, 2, 3, 4])
}

fn number(number: Option<i64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}
