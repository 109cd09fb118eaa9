//! A cluster as a client sees it: brokers, topics, leaders, and one connection to each broker that was asked something.
//!
//! Owned by one task. Invariants: every broker that metadata names has at most one connection; a retriable answer is
//! tried again after fresh metadata, until the deadline of the operation and no longer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use protocol::Text;
use protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use runtime::Io;

use crate::connection::{Connection, ConnectionOptions};
use crate::error::ClientError;
use crate::rpc::Rpc;

/// How long an operation with its retries may take unless told otherwise.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// First wait between tries; doubles up to [`RETRY_WAIT_MAX`].
pub(crate) const RETRY_WAIT_MIN: Duration = Duration::from_millis(20);
/// Longest wait between tries.
pub(crate) const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// Turns a host name and port into addresses. The caller's, because name resolution is its business (and a simulation
/// has none).
pub type Resolve = Rc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>>;

/// Accepts only literal IP addresses.
pub fn resolve_literal(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ip = host.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::NotFound, format!("{host} is not an address"))
    })?;
    Ok(vec![SocketAddr::new(ip, port)])
}

/// Settings of a cluster client.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Of each connection.
    pub connection: ConnectionOptions,
    /// Time for one operation with all its retries.
    pub operation_timeout: Duration,
    /// Name resolution.
    pub resolve: Resolve,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            connection: ConnectionOptions::default(),
            operation_timeout: OPERATION_TIMEOUT,
            resolve: Rc::new(resolve_literal),
        }
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Host name or address it advertises.
    pub host: String,
    /// Port it advertises.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its index.
    pub index: PartitionIndex,
    /// Its leader; `None` while there is none.
    pub leader: Option<BrokerId>,
    /// Epoch of that leader.
    pub leader_epoch: LeaderEpoch,
    /// Brokers that hold it.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero if the broker is too old to have one.
    pub id: TopicId,
    /// Whether the broker keeps its own state in it.
    pub is_internal: bool,
    /// Its partitions, ascending by index.
    pub partitions: Vec<Partition>,
}

/// A client of a cluster.
pub struct Cluster<I: Io> {
    pub(crate) io: I,
    pub(crate) options: ClusterOptions,
    bootstrap: Vec<SocketAddr>,
    brokers: BTreeMap<BrokerId, Broker>,
    controller: Option<BrokerId>,
    cluster_id: Option<String>,
    topics: BTreeMap<String, Topic>,
    /// Connection to whichever bootstrap address answered; metadata comes over it.
    seed: Option<Connection<I>>,
    connections: BTreeMap<BrokerId, Connection<I>>,
}

impl<I: Io> Cluster<I> {
    /// Connects to the first of `bootstrap` (`HOST:PORT`, several with commas) that answers.
    pub async fn connect(
        io: &I,
        bootstrap: &str,
        options: ClusterOptions,
    ) -> Result<Cluster<I>, ClientError> {
        let mut addresses = Vec::new();
        for entry in bootstrap.split(',') {
            let (host, port) = split_host_port(entry.trim())?;
            let resolved = (options.resolve)(host, port);
            addresses.extend(resolved.map_err(|source| ClientError::Connect {
                address: entry.to_owned(),
                source,
            })?);
        }
        let mut cluster = Cluster {
            io: io.clone(),
            options,
            bootstrap: addresses,
            brokers: BTreeMap::new(),
            controller: None,
            cluster_id: None,
            topics: BTreeMap::new(),
            seed: None,
            connections: BTreeMap::new(),
        };
        cluster.refresh(Some(&[])).await?;
        Ok(cluster)
    }

    /// What the client does its input, output and waiting with.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// The brokers, ascending by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// A topic as last heard of.
    pub fn cached(&self, topic: &str) -> Option<&Topic> {
        self.topics.get(topic)
    }

    /// Addresses of a broker.
    pub fn addresses(&self, id: BrokerId) -> Result<Vec<SocketAddr>, ClientError> {
        let Some(broker) = self.brokers.get(&id) else {
            return Err(ClientError::Connect {
                address: format!("broker {id}"),
                source: io::ErrorKind::NotFound.into(),
            });
        };
        (self.options.resolve)(&broker.host, broker.port).map_err(|source| ClientError::Connect {
            address: format!("{}:{}", broker.host, broker.port),
            source,
        })
    }

    /// Asks for metadata of `topics` (`None`: all) and remembers it. Does not create topics. Topics that are in error
    /// are returned with their code and forgotten.
    pub async fn refresh(
        &mut self,
        topics: Option<&[&str]>,
    ) -> Result<BTreeMap<String, i16>, ClientError> {
        let request = MetadataRequest {
            topics: topics.map(|names| {
                let topic = |name: &&str| MetadataRequestTopic {
                    name: Some(Text::copy_from(name)),
                    ..MetadataRequestTopic::default()
                };
                names.iter().map(topic).collect()
            }),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = self.ask_any(&request).await?;
        ClientError::check("Metadata", response.error_code, None)?;
        Ok(self.absorb(response, topics.is_none()))
    }

    /// Metadata of one topic, waiting until all its partitions have leaders or the operation times out.
    pub async fn topic(&mut self, name: &str) -> Result<Topic, ClientError> {
        let deadline = self.io.now().plus(self.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let outcome = match self.refresh(Some(&[name])).await {
                Ok(errors) => {
                    let code = errors.get(name).copied().unwrap_or(0);
                    ClientError::check(&format!("topic {name}"), code, None)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => {
                    if let Some(topic) = self.topics.get(name)
                        && topic.partitions.iter().all(|p| p.leader.is_some())
                    {
                        return Ok(topic.clone());
                    }
                }
                // A topic that was just created may not be known yet, so even this one is tried again for a while.
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) if self.io.now() >= deadline => return Err(error),
                Err(_) => {}
            }
            if self.io.now() >= deadline {
                return Err(ClientError::Timeout(self.options.operation_timeout));
            }
            self.io.sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// Sends a request to any broker and waits for the response.
    pub async fn ask_any<Q: Rpc>(&mut self, request: &Q) -> Result<Q::Response, ClientError> {
        let mut failure = None;
        // A kept connection may have been closed while idle: once more over a new one.
        for _ in 0..2 {
            let mut connection = match self.seed.take() {
                Some(connection) if connection.is_open() => connection,
                _ => self.connect_any().await?,
            };
            match connection.call(request).await {
                Ok(response) => {
                    self.seed = Some(connection);
                    return Ok(response);
                }
                Err(error @ (ClientError::Lost(_) | ClientError::Closed)) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or(ClientError::Closed))
    }

    /// Sends a request to the broker that metadata names as controller (with KRaft: any broker).
    pub async fn ask_controller<Q: Rpc>(
        &mut self,
        request: &Q,
    ) -> Result<Q::Response, ClientError> {
        match self.controller {
            Some(id) if self.brokers.contains_key(&id) => self.ask(id, request).await,
            _ => self.ask_any(request).await,
        }
    }

    /// Sends a request to one broker and waits for the response.
    pub async fn ask<Q: Rpc>(
        &mut self,
        broker: BrokerId,
        request: &Q,
    ) -> Result<Q::Response, ClientError> {
        let mut connection = match self.connections.remove(&broker) {
            Some(connection) if connection.is_open() => connection,
            _ => self.connect_broker(broker).await?,
        };
        let response = connection.call(request).await?;
        self.connections.insert(broker, connection);
        Ok(response)
    }

    /// Sends a request that has no response.
    pub async fn tell<Q: Rpc>(&mut self, broker: BrokerId, request: &Q) -> Result<(), ClientError> {
        let mut connection = match self.connections.remove(&broker) {
            Some(connection) if connection.is_open() => connection,
            _ => self.connect_broker(broker).await?,
        };
        connection.send_unanswered(request).await?;
        self.connections.insert(broker, connection);
        Ok(())
    }

    async fn connect_broker(&self, broker: BrokerId) -> Result<Connection<I>, ClientError> {
        let addresses = self.addresses(broker)?;
        self.connect_first(&addresses).await
    }

    async fn connect_any(&self) -> Result<Connection<I>, ClientError> {
        let mut addresses = self.bootstrap.clone();
        for id in self.brokers.keys() {
            if let Ok(more) = self.addresses(*id) {
                addresses.extend(more);
            }
        }
        self.connect_first(&addresses).await
    }

    async fn connect_first(&self, addresses: &[SocketAddr]) -> Result<Connection<I>, ClientError> {
        let mut failure = None;
        for address in addresses {
            let options = self.options.connection.clone();
            match Connection::connect(&self.io, *address, options).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| ClientError::Connect {
            address: "no address".to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    fn absorb(&mut self, response: MetadataResponse, all: bool) -> BTreeMap<String, i16> {
        self.brokers.clear();
        for broker in response.brokers {
            let Ok(port) = u16::try_from(broker.port) else {
                continue;
            };
            let id = BrokerId(broker.node_id);
            self.brokers.insert(
                id,
                Broker {
                    id,
                    host: broker.host.as_str().to_owned(),
                    port,
                    rack: broker.rack.map(String::from),
                },
            );
        }
        self.connections
            .retain(|id, _| self.brokers.contains_key(id));
        self.controller = (response.controller_id >= 0).then_some(BrokerId(response.controller_id));
        self.cluster_id = response.cluster_id.map(String::from);
        if all {
            self.topics.clear();
        }
        let mut errors = BTreeMap::new();
        for topic in response.topics {
            let Some(name) = topic.name.as_ref().map(|n| n.as_str().to_owned()) else {
                continue;
            };
            if topic.error_code != 0 {
                self.topics.remove(&name);
                errors.insert(name, topic.error_code);
                continue;
            }
            self.topics.insert(name.clone(), topic_of(name, topic));
        }
        errors
    }

    /// All topics as last heard of, ascending by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }
}

fn topic_of(name: String, topic: MetadataResponseTopic) -> Topic {
    let ids = |nodes: &[i32]| nodes.iter().map(|id| BrokerId(*id)).collect();
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|p| Partition {
            index: PartitionIndex(p.partition_index),
            leader: (p.leader_id >= 0).then_some(BrokerId(p.leader_id)),
            leader_epoch: LeaderEpoch(p.leader_epoch),
            replicas: ids(&p.replica_nodes),
            isr: ids(&p.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|p| p.index);
    Topic {
        name,
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    }
}

fn split_host_port(entry: &str) -> Result<(&str, u16), ClientError> {
    let bad = || ClientError::Connect {
        address: entry.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT"),
    };
    let (host, port) = entry.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host, port))
}
