//! `ringlog cluster status`: brokers, topics, and what is wrong with them.

use client::{ClientError, Cluster, Topic};
use protocol::messages::describe_cluster::DescribeClusterRequest;
use serde::Serialize;
use uring::UringIo;

use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::table::{Format, print_json, print_table};
use crate::stdio::outln;

/// Partitions named one by one; the rest are only counted.
const NAMED_MAX: usize = 10;

/// Runs the command.
pub fn run(connect: Connect) -> Result<(), CommandError> {
    let status = connect
        .server
        .ask(async |cluster| Status::ask(cluster).await)?;
    let printed = match connect.format {
        Format::Json => print_json(&status),
        Format::Text => status.print(),
    };
    status.verdict()?;
    printed
}

#[derive(Serialize)]
struct BrokerRow {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    controller: bool,
    leads: usize,
    replicas: usize,
}

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    controller: Option<i32>,
    brokers: Vec<BrokerRow>,
    topics: usize,
    partitions: usize,
    leaderless: Vec<String>,
    under_replicated: Vec<String>,
    healthy: bool,
}

impl Status {
    async fn ask(cluster: &mut Cluster<UringIo>) -> Result<Status, ClientError> {
        let described = cluster.ask_any(&DescribeClusterRequest::default()).await?;
        let message = described.error_message.map(String::from);
        ClientError::check("DescribeCluster", described.error_code, message)?;
        let topics = cluster.list_topics().await?;
        let named = |wrong: &dyn Fn(&client::Partition) -> bool| -> Vec<String> {
            let of = |topic: &Topic| {
                let partitions = topic.partitions.iter().filter(|p| wrong(p));
                let names = partitions.map(|p| format!("{}-{}", topic.name, p.index));
                names.collect::<Vec<String>>()
            };
            topics.iter().flat_map(of).collect()
        };
        let leaderless = named(&|p| p.leader.is_none());
        let under_replicated = named(&|p| p.isr.len() < p.replicas.len());
        let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
        let brokers = described.brokers.into_iter().map(|broker| BrokerRow {
            id: broker.broker_id,
            host: String::from(broker.host),
            port: broker.port,
            rack: broker.rack.map(String::from),
            controller: broker.broker_id == described.controller_id,
            leads: partitions()
                .filter(|p| p.leader.is_some_and(|id| id.0 == broker.broker_id))
                .count(),
            replicas: partitions()
                .filter(|p| p.replicas.iter().any(|id| id.0 == broker.broker_id))
                .count(),
        });
        let mut brokers: Vec<BrokerRow> = brokers.collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(Status {
            cluster_id: String::from(described.cluster_id),
            controller: (described.controller_id >= 0).then_some(described.controller_id),
            brokers,
            topics: topics.len(),
            partitions: partitions().count(),
            healthy: leaderless.is_empty() && under_replicated.is_empty(),
            leaderless,
            under_replicated,
        })
    }

    fn print(&self) -> Result<(), CommandError> {
        outln!(
            "cluster {}  {} brokers  {} topics  {} partitions",
            self.cluster_id,
            self.brokers.len(),
            self.topics,
            self.partitions
        )?;
        let cells = self.brokers.iter().map(|broker| {
            vec![
                broker.id.to_string(),
                format!("{}:{}", broker.host, broker.port),
                broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
                if broker.controller { "yes" } else { "" }.to_owned(),
                broker.leads.to_string(),
                broker.replicas.to_string(),
            ]
        });
        let header = [
            "broker",
            "address",
            "rack",
            "controller",
            "leads",
            "replicas",
        ];
        print_table(&header, cells.collect(), &[0, 4, 5])?;
        for (what, names) in [
            ("without a leader", &self.leaderless),
            ("under-replicated", &self.under_replicated),
        ] {
            if !names.is_empty() {
                let more = match names.len().checked_sub(NAMED_MAX) {
                    Some(more) if more > 0 => format!(" and {more} more"),
                    _ => String::new(),
                };
                let first: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
                outln!("{what}: {}{more}", first.join(", "))?;
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), CommandError> {
        match self.healthy {
            true => Ok(()),
            false => Err(CommandError::Failed(format!(
                "{} partitions have no leader, {} are under-replicated",
                self.leaderless.len(),
                self.under_replicated.len()
            ))),
        }
    }
}
