//! `ringlog topic describe`: its settings, and of each partition who leads it, who has it, and how far they are.

use std::collections::BTreeMap;

use clap::Args;
use client::{Bounds, ClientError, Cluster, HeldLog, Partition, Topic, TopicConfig};
use model::{BrokerId, PartitionIndex};
use serde::Serialize;
use uring::UringIo;

use super::admin::{TopicRow, partition_count};
use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::table::{Format, print_json, print_table};
use crate::stdio::outln;

/// The setting that says how many replicas must be in sync.
const MIN_ISR: &str = "min.insync.replicas";

/// Arguments of `ringlog topic describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    connect: Connect,
}

/// What brokers hold, by broker.
type Held = BTreeMap<BrokerId, BTreeMap<PartitionIndex, HeldLog>>;

/// A topic, its settings, and where its partitions begin and end.
struct Description {
    topic: Topic,
    configs: Vec<TopicConfig>,
    /// Nothing while a partition has no leader.
    bounds: Option<Bounds>,
    /// Of brokers that do not tell, nothing.
    held: Held,
    eligible: BTreeMap<PartitionIndex, Vec<BrokerId>>,
}

impl Description {
    async fn ask(cluster: &mut Cluster<UringIo>, name: &str) -> Result<Description, ClientError> {
        let topic = cluster.describe_topic(name).await?;
        let configs = cluster.topic_configs(name).await?;
        let bounds = match topic.partitions.iter().all(|p| p.leader.is_some()) {
            true => Some(Bounds::ask(cluster, name).await?),
            false => None,
        };
        Ok(Description {
            held: known(cluster.replicas_held(&topic).await)?,
            eligible: known(cluster.eligible_leaders(name).await)?,
            topic,
            configs,
            bounds,
        })
    }

    /// `min.insync.replicas`, as far as the broker tells.
    fn in_sync_min(&self) -> Option<usize> {
        let config = self.configs.iter().find(|config| config.name == MIN_ISR)?;
        config.value.as_ref()?.parse().ok()
    }

    fn rows(&self) -> Vec<PartitionRow> {
        let partitions = self.topic.partitions.iter();
        partitions.map(|partition| self.row(partition)).collect()
    }

    fn row(&self, partition: &Partition) -> PartitionRow {
        let index = partition.index;
        let bounds = self.bounds.as_ref();
        let known = bounds.and_then(|bounds| bounds.of(index));
        let held = |broker: &BrokerId| self.held.get(broker)?.get(&index).copied();
        let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
        let followers = partition.replicas.iter();
        let followers = followers.filter(|broker| Some(**broker) != partition.leader);
        PartitionRow {
            partition: index.0,
            leader: partition.leader.map(|id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replicas: ids(&partition.replicas),
            isr: ids(&partition.isr),
            eligible: ids(self.eligible.get(&index).map_or(&[][..], Vec::as_slice)),
            lag: followers
                .map(|broker| (broker.0, held(broker).map(|log| log.lag)))
                .collect(),
            state: state(partition, self.in_sync_min()),
            start: known.map(|(start, _)| start.0),
            end: known.map(|(_, end)| end.0),
            size_bytes: partition
                .leader
                .as_ref()
                .and_then(held)
                .map(|log| log.size_bytes),
        }
    }
}

/// An answer, or nothing from a broker that is too old to give it.
fn known<T: Default>(answer: Result<T, ClientError>) -> Result<T, ClientError> {
    match answer {
        Err(ClientError::Unsupported { .. }) => Ok(T::default()),
        answer => answer,
    }
}

/// What a partition lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Whole,
    /// A replica is not in sync.
    UnderReplicated,
    /// So few are that `acks=all` is refused.
    UnderMinIsr,
    /// Nobody leads it.
    Offline,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Whole => "",
            State::UnderReplicated => "under-replicated",
            State::UnderMinIsr => "under min.insync.replicas",
            State::Offline => "offline",
        }
    }
}

fn state(partition: &Partition, in_sync_min: Option<usize>) -> State {
    // More than there are replicas is never asked for.
    let min = in_sync_min.map_or(0, |min| min.min(partition.replicas.len()));
    match partition.isr.len() {
        _ if partition.leader.is_none() => State::Offline,
        in_sync if in_sync < min => State::UnderMinIsr,
        in_sync if in_sync < partition.replicas.len() => State::UnderReplicated,
        _ => State::Whole,
    }
}

#[derive(Serialize)]
struct PartitionRow {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    /// Out of sync, but with everything that was acknowledged.
    eligible: Vec<i32>,
    /// Committed records that a follower does not have, by broker; nothing of one that does not tell.
    lag: BTreeMap<i32, Option<u64>>,
    state: State,
    start: Option<i64>,
    end: Option<i64>,
    /// Of the records, as the leader holds them.
    size_bytes: Option<u64>,
}

impl PartitionRow {
    /// Offsets from the first record to the end. Fewer records may be left of them in a compacted topic.
    fn offsets(&self) -> Option<i64> {
        Some(self.end? - self.start?)
    }

    /// `2:0 3:15`, a follower's broker and its lag.
    fn lag(&self) -> String {
        let one = |(broker, lag): (&i32, &Option<u64>)| format!("{broker}:{}", number(*lag));
        self.lag.iter().map(one).collect::<Vec<String>>().join(" ")
    }
}

fn number<N: ToString>(number: Option<N>) -> String {
    number.map_or("?".to_owned(), |number| number.to_string())
}

fn join(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// Shows a topic.
pub fn describe(args: &DescribeArgs) -> Result<(), CommandError> {
    let name = args.name.clone();
    let server = &args.connect.server;
    let described = server.ask(async move |cluster| Description::ask(cluster, &name).await)?;
    let partitions = described.rows();
    let own = described.configs.iter().filter(|config| config.is_own);
    let own: Vec<&TopicConfig> = own.collect();
    if args.connect.format == Format::Json {
        let all: serde_json::Map<String, serde_json::Value> = described
            .configs
            .iter()
            .map(|config| (config.name.clone(), config.value.clone().into()))
            .collect();
        return print_json(&serde_json::json!({
            "topic": TopicRow::of(&described.topic),
            "partitions": partitions,
            "own_configs": own.iter().map(|config| &config.name).collect::<Vec<_>>(),
            "configs": all,
        }));
    }
    outln!(
        "{}  id {}  {}",
        described.topic.name,
        described.topic.id,
        partition_count(partitions.len())
    )?;
    for config in own {
        let value = config.value.as_deref().unwrap_or("(not shown)");
        outln!("  {}={value}", config.name)?;
    }
    print_partitions(&partitions)
}

/// The table. Columns in which nobody would have anything are left out.
fn print_partitions(rows: &[PartitionRow]) -> Result<(), CommandError> {
    type Cell = fn(&PartitionRow) -> String;
    let columns: [(&str, Cell, bool); 12] = [
        ("partition", |row| row.partition.to_string(), true),
        (
            "leader",
            |row| row.leader.map_or("none".to_owned(), |id| id.to_string()),
            true,
        ),
        ("epoch", |row| row.leader_epoch.to_string(), true),
        ("replicas", |row| join(&row.replicas), false),
        ("in sync", |row| join(&row.isr), false),
        ("eligible", |row| join(&row.eligible), false),
        ("lag", PartitionRow::lag, false),
        ("start", |row| number(row.start), true),
        ("end", |row| number(row.end), true),
        ("offsets", |row| number(row.offsets()), true),
        ("bytes", |row| number(row.size_bytes), true),
        ("", |row| row.state.name().to_owned(), false),
    ];
    let may_be_empty = ["eligible", "lag", ""];
    let shown = columns.into_iter().filter(|(name, cell, _)| {
        !may_be_empty.contains(name) || rows.iter().any(|row| !cell(row).is_empty())
    });
    let shown: Vec<(&str, Cell, bool)> = shown.collect();
    let header: Vec<&str> = shown.iter().map(|(name, ..)| *name).collect();
    let cells = rows.iter();
    let cells = cells.map(|row| shown.iter().map(|(_, cell, _)| cell(row)).collect());
    let right = shown.iter().enumerate();
    let right = right.filter(|(_, (_, _, right))| *right);
    let right: Vec<usize> = right.map(|(place, _)| place).collect();
    print_table(&header, cells.collect(), &right)
}

#[cfg(test)]
mod tests {
    use model::LeaderEpoch;

    use super::*;

    #[test]
    fn what_a_partition_lacks() {
        let ids = |count: i32| (1..=count).map(BrokerId).collect::<Vec<_>>();
        for (leader, replicas, in_sync, min, expected) in [
            (true, 3, 3, Some(2), State::Whole),
            (true, 3, 2, Some(2), State::UnderReplicated),
            (true, 3, 1, Some(2), State::UnderMinIsr),
            (true, 3, 1, None, State::UnderReplicated),
            (false, 3, 1, Some(2), State::Offline),
            // A minimum that cannot be reached is not asked for.
            (true, 1, 1, Some(2), State::Whole),
        ] {
            let partition = Partition {
                index: PartitionIndex(0),
                leader: leader.then_some(BrokerId(1)),
                leader_epoch: LeaderEpoch(0),
                replicas: ids(replicas),
                isr: ids(in_sync),
            };
            assert_eq!(state(&partition, min), expected);
        }
    }
}
