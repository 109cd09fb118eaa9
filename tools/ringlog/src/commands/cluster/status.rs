//! `ringlog cluster status`: brokers, who agrees on the metadata log, topics, and what is wrong with them.

use client::{ClientError, Cluster, Quorum, QuorumReplica, Topic};
use model::BrokerId;
use protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use serde::Serialize;
use uring::UringIo;

use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::table::{Format, print_json, print_table};
use crate::commands::top::size;
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

/// What a broker is to the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Controller,
    Voter,
    Observer,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Controller => "controller",
            Part::Voter => "voter",
            Part::Observer => "observer",
        }
    }
}

#[derive(Serialize)]
struct BrokerRow {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    /// Leads nothing, and is in sync with nothing, because it is not heard of or not ready.
    fenced: bool,
    controller: bool,
    /// Nothing of a broker that the controller does not know as a replica of the metadata log.
    metadata: Option<Part>,
    /// Committed metadata records that it does not have, as far as the controller has heard.
    metadata_lag: Option<i64>,
    leads: usize,
    replicas: usize,
    /// Of records, in all replicas; nothing of a broker that does not tell.
    size_bytes: Option<u64>,
}

#[derive(Serialize)]
struct QuorumRow {
    leader: Option<i32>,
    leader_epoch: i32,
    high_watermark: i64,
    voters: Vec<i32>,
}

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    controller: Option<i32>,
    /// Nothing of brokers that cannot be asked for it.
    quorum: Option<QuorumRow>,
    brokers: Vec<BrokerRow>,
    topics: usize,
    partitions: usize,
    leaderless: Vec<String>,
    under_replicated: Vec<String>,
    healthy: bool,
}

impl Status {
    async fn ask(cluster: &mut Cluster<UringIo>) -> Result<Status, ClientError> {
        let request = DescribeClusterRequest {
            include_fenced_brokers: true,
            ..DescribeClusterRequest::default()
        };
        let described = cluster.ask_any(&request).await?;
        let message = described.error_message.clone().map(String::from);
        ClientError::check("DescribeCluster", described.error_code, message)?;
        let topics = cluster.list_topics().await?;
        let quorum = match cluster.quorum().await {
            Err(ClientError::Unsupported { .. }) => None,
            quorum => Some(quorum?),
        };
        let mut status = Status::of(&described, &topics, quorum.as_ref());
        for broker in &mut status.brokers {
            broker.size_bytes = match cluster.held_logs(BrokerId(broker.id), None).await {
                Ok(held) => Some(held.values().map(|log| log.size_bytes).sum()),
                Err(ClientError::Unsupported { .. }) => None,
                // One that is down tells nothing.
                Err(error) if error.is_retriable() => None,
                Err(error) => return Err(error),
            };
        }
        Ok(status)
    }

    fn of(
        described: &DescribeClusterResponse,
        topics: &[Topic],
        quorum: Option<&Quorum>,
    ) -> Status {
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
        let brokers = described.brokers.iter();
        // Metadata names a broker that takes requests for the controller; the quorum knows who it is.
        let controller = match quorum {
            Some(quorum) => quorum.leader.map(|id| id.0),
            None => (described.controller_id >= 0).then_some(described.controller_id),
        };
        let mut brokers: Vec<BrokerRow> = brokers
            .map(|broker| BrokerRow::of(broker, topics, quorum, controller))
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Status {
            cluster_id: described.cluster_id.as_str().to_owned(),
            controller,
            quorum: quorum.map(QuorumRow::of),
            brokers,
            topics: topics.len(),
            partitions: topics.iter().map(|topic| topic.partitions.len()).sum(),
            healthy: leaderless.is_empty() && under_replicated.is_empty(),
            leaderless,
            under_replicated,
        }
    }

    fn print(&self) -> Result<(), CommandError> {
        outln!(
            "cluster {}  {} brokers  {} topics  {} partitions",
            self.cluster_id,
            self.brokers.len(),
            self.topics,
            self.partitions
        )?;
        if let Some(quorum) = &self.quorum {
            outln!(
                "metadata log  {}, epoch {}  agreed on up to {}  voters {}",
                match quorum.leader {
                    Some(id) => format!("led by broker {id}"),
                    None => "without a leader".to_owned(),
                },
                quorum.leader_epoch,
                quorum.high_watermark,
                join(&quorum.voters),
            )?;
        }
        let cells = self.brokers.iter().map(BrokerRow::cells);
        print_table(&BROKER_HEADER, cells.collect(), &[0, 5, 6, 7, 8])?;
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
                outln!("{what} ({}): {}{more}", names.len(), first.join(", "))?;
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

const BROKER_HEADER: [&str; 9] = [
    "broker", "address", "rack", "state", "metadata", "lag", "leads", "replicas", "bytes",
];

impl BrokerRow {
    fn of(
        broker: &DescribeClusterBroker,
        topics: &[Topic],
        quorum: Option<&Quorum>,
        controller: Option<i32>,
    ) -> BrokerRow {
        let id = broker.broker_id;
        let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
        let is_it = |replica: &&QuorumReplica| replica.broker.0 == id;
        let voter = quorum.and_then(|quorum| quorum.voters.iter().find(is_it));
        let observer = quorum.and_then(|quorum| quorum.observers.iter().find(is_it));
        let replica = voter.or(observer);
        BrokerRow {
            id,
            host: broker.host.as_str().to_owned(),
            port: broker.port,
            rack: broker.rack.clone().map(String::from),
            fenced: broker.is_fenced,
            controller: controller == Some(id),
            metadata: match (voter, observer) {
                _ if controller == Some(id) => Some(Part::Controller),
                (Some(_), _) => Some(Part::Voter),
                (None, Some(_)) => Some(Part::Observer),
                (None, None) => None,
            },
            metadata_lag: quorum
                .zip(replica)
                .map(|(quorum, replica)| quorum.lag(replica)),
            leads: partitions()
                .filter(|p| p.leader.is_some_and(|leader| leader.0 == id))
                .count(),
            replicas: partitions()
                .filter(|p| p.replicas.iter().any(|replica| replica.0 == id))
                .count(),
            size_bytes: None,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            format!("{}:{}", self.host, self.port),
            self.rack.clone().unwrap_or_else(|| "-".to_owned()),
            match self.fenced {
                true => "fenced",
                false => "up",
            }
            .to_owned(),
            self.metadata.map_or("-", Part::name).to_owned(),
            self.metadata_lag
                .map_or("?".to_owned(), |lag| lag.to_string()),
            self.leads.to_string(),
            self.replicas.to_string(),
            self.size_bytes
                .map_or("?".to_owned(), |bytes| size(bytes as f64)),
        ]
    }
}

impl QuorumRow {
    fn of(quorum: &Quorum) -> QuorumRow {
        QuorumRow {
            leader: quorum.leader.map(|id| id.0),
            leader_epoch: quorum.leader_epoch.0,
            high_watermark: quorum.high_watermark.0,
            voters: quorum.voters.iter().map(|voter| voter.broker.0).collect(),
        }
    }
}

fn join(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
