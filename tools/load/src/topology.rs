//! Where partitions are led. The lanes of a core share what one of them asked; a lane whose connection broke asks for
//! something fresher.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use client::{ClientError, Cluster, ClusterOptions, Connection, ConnectionOptions, Topic};
use model::{BrokerId, MonotonicTime};
use runtime::{Io, Signal};

use crate::verify::Place;

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

/// A leader and what it leads of the load's topics, ascending by topic and partition.
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) places: Vec<Place>,
}

/// The topics of a load and their leaders, ascending by broker; at least one leader.
pub(crate) struct Topology {
    pub(crate) topics: Vec<Topic>,
    pub(crate) leaders: Vec<Leader>,
}

impl Topology {
    /// The topic of a place that this topology names.
    pub(crate) fn topic(&self, place: Place) -> &Topic {
        &self.topics[usize::from(place.topic)]
    }
}

/// What the lanes of a core know together.
pub(crate) struct SharedTopology {
    bootstrap: String,
    topics: Vec<String>,
    known: RefCell<Option<(MonotonicTime, Rc<Topology>)>>,
    looking: Cell<bool>,
    waiting: RefCell<Vec<Rc<Signal>>>,
    failure: RefCell<String>,
}

impl SharedTopology {
    pub(crate) fn new(bootstrap: String, topics: Vec<String>) -> SharedTopology {
        SharedTopology {
            bootstrap,
            topics,
            known: RefCell::default(),
            looking: Cell::new(false),
            waiting: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// A topology that was asked for at `after` or later. Only one task asks at a time; the others share its answer.
    pub(crate) async fn get<I: Io>(
        &self,
        io: &I,
        after: MonotonicTime,
    ) -> Result<Rc<Topology>, ClientError> {
        if let Some(known) = self.known_since(after) {
            return Ok(known);
        }
        if self.looking.get() {
            let signal = Signal::new();
            self.waiting.borrow_mut().push(signal.clone());
            signal.wait().await;
            return self.known_since(after).ok_or_else(|| ClientError::Connect {
                address: self.bootstrap.clone(),
                source: io::Error::other(self.failure.borrow().clone()),
            });
        }
        self.looking.set(true);
        let asked = io.now();
        let outcome = look(io, &self.bootstrap, &self.topics).await;
        self.looking.set(false);
        let outcome = match outcome {
            Ok(topology) => {
                let topology = Rc::new(topology);
                *self.known.borrow_mut() = Some((asked, topology.clone()));
                Ok(topology)
            }
            Err(error) => {
                *self.failure.borrow_mut() = error.to_string();
                Err(error)
            }
        };
        for waiting in self.waiting.take() {
            waiting.raise();
        }
        outcome
    }

    fn known_since(&self, after: MonotonicTime) -> Option<Rc<Topology>> {
        let known = self.known.borrow();
        let (asked, topology) = known.as_ref()?;
        (*asked >= after).then(|| topology.clone())
    }
}

/// Asks the cluster.
pub(crate) async fn look<I: Io>(
    io: &I,
    bootstrap: &str,
    names: &[String],
) -> Result<Topology, ClientError> {
    let mut options = cluster_options("ringlog-load");
    options.operation_timeout = ATTEMPT;
    options.connection.request_timeout = ATTEMPT;
    options.connection.connect_timeout = ATTEMPT;
    let mut cluster = Cluster::connect(io, bootstrap, options).await?;
    let mut topics = Vec::with_capacity(names.len());
    for name in names {
        topics.push(cluster.topic(name).await?);
    }
    let mut leaders: Vec<Leader> = Vec::new();
    let brokers: Vec<BrokerId> = cluster.brokers().map(|b| b.id).collect();
    for broker in brokers {
        let mut places = Vec::new();
        for (number, topic) in (0..).zip(&topics) {
            let led = topic.partitions.iter().filter(|p| p.leader == Some(broker));
            places.extend(led.map(|p| Place {
                topic: number,
                partition: p.index,
            }));
        }
        if !places.is_empty() {
            leaders.push(Leader {
                broker,
                addresses: cluster.addresses(broker)?,
                places,
            });
        }
    }
    if leaders.is_empty() {
        return Err(ClientError::Broker {
            what: format!("topic {}", names.join(", ")),
            code: model::ErrorCode::LeaderNotAvailable,
            message: None,
        });
    }
    Ok(Topology { topics, leaders })
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
