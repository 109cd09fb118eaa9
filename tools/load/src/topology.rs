//! Where a topic's partitions are led, asked afresh at every (re)connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use client::{ClientError, Cluster, ClusterOptions, Connection, ConnectionOptions, Topic};
use model::{BrokerId, PartitionIndex};
use runtime::Io;

/// How long one attempt to learn the topology may take. The load tries again until it ends.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Name resolution of the operating system.
pub fn resolve_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Options of a tool's cluster client.
pub fn cluster_options(client_id: &str) -> ClusterOptions {
    ClusterOptions {
        connection: ConnectionOptions {
            client_id: client_id.to_owned(),
            ..ConnectionOptions::default()
        },
        resolve: Rc::new(resolve_system),
        ..ClusterOptions::default()
    }
}

/// A leader and what it leads.
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) partitions: Vec<PartitionIndex>,
}

/// The topic and its leaders, ascending by broker.
pub(crate) async fn leaders<I: Io>(
    io: &I,
    bootstrap: &str,
    topic: &str,
) -> Result<(Topic, Vec<Leader>), ClientError> {
    let mut options = cluster_options("ringlog-load");
    options.operation_timeout = ATTEMPT;
    options.connection.request_timeout = ATTEMPT;
    options.connection.connect_timeout = ATTEMPT;
    let mut cluster = Cluster::connect(io, bootstrap, options).await?;
    let topic = cluster.topic(topic).await?;
    let mut leaders: Vec<Leader> = Vec::new();
    let brokers: Vec<BrokerId> = cluster.brokers().map(|b| b.id).collect();
    for broker in brokers {
        let led = topic.partitions.iter().filter(|p| p.leader == Some(broker));
        let partitions: Vec<PartitionIndex> = led.map(|p| p.index).collect();
        if !partitions.is_empty() {
            leaders.push(Leader {
                broker,
                addresses: cluster.addresses(broker)?,
                partitions,
            });
        }
    }
    if leaders.is_empty() {
        return Err(ClientError::Broker {
            what: format!("topic {}", topic.name),
            code: model::ErrorCode::LeaderNotAvailable,
            message: None,
        });
    }
    Ok((topic, leaders))
}

/// Connects to the first address that answers.
pub(crate) async fn connect<I: Io>(
    io: &I,
    leader: &Leader,
    options: &ConnectionOptions,
) -> Result<Connection<I>, ClientError> {
    let mut failure = ClientError::Connect {
        address: format!("broker {}", leader.broker),
        source: io::ErrorKind::NotFound.into(),
    };
    for address in &leader.addresses {
        match Connection::connect(io, *address, options.clone()).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
