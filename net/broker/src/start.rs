//! The start of a shard, in this order: shard 0 locks the data directory and learns whose it is, binds the ports and
//! tells the others both; they bind them, too. Then the shards boot (`shard::boot`: recovery and metadata log on shard 0
//! first), the count of shards is noted, and each accepts connections.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use peer::ClusterName;
use quorum::{DirectoryId, ReplicaKey};
use runtime::{Io, Listener};
use server::{Server, listener};
use shard::{BootError, Booted, Shard, boot};

use crate::data_directory::{Birth, DataDirectory, DirectoryError, NewDirectory, Taken};
use crate::forming::{form, meet};
use crate::identity::{LastServed, Standing, random_uuid};
use crate::links::{Links, OpenedLink};
use crate::peers::Peers;
use crate::plan::{BrokerPlan, Opened, PeerPlan};
use crate::running::Running;

/// How long a port in use is waited for: the kernel takes down the rings, and with them the listener, of a killed
/// process some time after the process is gone.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is tried meanwhile.
const PORT_INTERVAL: Duration = Duration::from_millis(20);

/// Why a shard does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The port cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As planned, or as shard 0 has bound it.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The brokers that are to be joined are of another cluster.
    #[error("the brokers to join are of cluster {found}, but this one is meant for {expected}")]
    OtherCluster {
        /// Theirs.
        found: String,
        /// This one's, by its data directory or configuration.
        expected: String,
    },
    /// The cluster's name is too long for other brokers.
    #[error(transparent)]
    ClusterName(#[from] ClusterName),
    /// The shard cannot boot.
    #[error(transparent)]
    Boot(#[from] BootError),
}

/// Starts one shard of a broker: when it returns, every connection will be served. Each shard of a plan is started,
/// with its own part of [`crate::links()`]; none returns before all have come far enough. When one fails, the others
/// may wait for ever: the process is to end.
pub async fn start<I: Io>(
    io: I,
    plan: BrokerPlan,
    links: Links<I>,
) -> Result<Running<I>, StartError> {
    let Links {
        shard,
        senders,
        inbox,
        passages,
        passages_here,
        opened,
        left,
        drained,
        closed,
    } = links;
    assert_eq!(
        senders.len(),
        usize::from(plan.shards),
        "links are of the plan's shards"
    );
    let Opening {
        opened,
        listeners,
        mut directory,
        peers,
    } = open(&io, &plan, opened).await?;
    let options = plan.shard_options(shard, &opened);
    let peers = match (peers, &plan.peers) {
        (None, Some(peer_plan)) => Some(Peers::of_shard(&io, &options, peer_plan.clone())?),
        (peers, _) => peers,
    };
    let join = |shard: &Rc<Shard<I>>| {
        if let Some(peers) = &peers {
            peers.join(shard, passages, passages_here);
        }
    };
    let Booted { shard, recovery } = boot(io, options, inbox, senders, join).await?;
    if let (Some(directory), Some(report)) = (&mut directory, &recovery) {
        // Every shard has opened its logs by now.
        let shards = plan.shards.max(report.shards);
        let served = shard.broker_epoch().zip(plan.boot_id.clone());
        let served = served.map(|(epoch, boot_id)| LastServed { epoch, boot_id });
        directory.note(shards, opened.peer_port, served).await;
    }
    let server = Server::new(shard.clone(), plan.server.clone());
    for (planned, listener) in plan.listeners.iter().zip(listeners) {
        listener::start(&server, &planned.name, listener);
    }
    listener::look_after(&server);
    Ok(Running {
        shard,
        server,
        recovery,
        addresses: opened.bound,
        directory,
        left,
        drained,
        closed,
    })
}

/// What a shard has before it boots.
struct Opening<I: Io> {
    opened: Opened,
    listeners: Vec<I::Listener>,
    /// On shard 0.
    directory: Option<DataDirectory<I>>,
    /// On shard 0, if there may be other brokers; it listens for all.
    peers: Option<Rc<Peers<I>>>,
}

/// Opens the data directory and the ports, or hears which they are. The ports are known before anything is registered:
/// with port 0, clients must be told the real one.
async fn open<I: Io>(
    io: &I,
    plan: &BrokerPlan,
    link: OpenedLink,
) -> Result<Opening<I>, StartError> {
    match link {
        OpenedLink::Tells(others) => {
            let path = &plan.storage.directory;
            let taken = DataDirectory::take(io, path, &plan.owner()).await?;
            let (listeners, bound) = listen_first(io, plan).await?;
            let (directory, peers, peer_port) = begin(io, plan, taken).await?;
            let opened = Opened {
                identity: directory.identity.clone(),
                incarnation: random_uuid([io.random(), io.random()]),
                bound,
                peer_port,
            };
            for other in others {
                let told = other.try_send(opened.clone());
                assert!(told.is_ok(), "each shard is told once");
            }
            Ok(Opening {
                opened,
                listeners,
                directory: Some(directory),
                peers,
            })
        }
        OpenedLink::Hears(mut inbox) => {
            let opened = inbox.next().await;
            let mut listeners = Vec::with_capacity(opened.bound.len());
            for address in &opened.bound {
                listeners.push(listen(io, *address, true).await?);
            }
            Ok(Opening {
                opened,
                listeners,
                directory: None,
                peers: None,
            })
        }
    }
}

/// Opens a data directory; of a new one, after the others were asked whose it is to be. Gives with it what joins this
/// broker to the others, and where it listens for them.
async fn begin<I: Io>(
    io: &I,
    plan: &BrokerPlan,
    taken: Taken<I>,
) -> Result<(DataDirectory<I>, Option<Rc<Peers<I>>>, Option<u16>), StartError> {
    let (mut peers, mut port) = (None, None);
    let mut peer_plan = plan.peers.clone();
    if let Some(peer_plan) = &mut peer_plan {
        let noted = match &taken {
            Taken::Known(known) => known.identity.peer_port,
            Taken::New(_) => None,
        };
        let listener = listen_for_peers(io, peer_plan.listen, noted).await?;
        port = Some(bound(&listener, peer_plan.listen)?.port());
        let directory = match &taken {
            Taken::Known(known) => known.identity.directory_id,
            Taken::New(new) => {
                if !peer_plan.join.is_empty() {
                    peer_plan.seeds.extend(meet(io, peer_plan).await);
                }
                new.directory_id
            }
        };
        let key = ReplicaKey {
            broker: plan.config.node_id,
            directory: DirectoryId(directory.0),
        };
        peers = Some(Peers::new(io, key, peer_plan.clone(), listener));
    }
    let directory = match taken {
        Taken::Known(known) => known,
        Taken::New(new) => {
            begin_new(io, plan, peers.as_deref().zip(peer_plan.as_ref()), new).await?
        }
    };
    if let Some(peers) = &peers {
        peers.network.set_cluster(&directory.identity.cluster_id)?;
    }
    Ok((directory, peers, port))
}

async fn begin_new<I: Io>(
    io: &I,
    plan: &BrokerPlan,
    peers: Option<(&Peers<I>, &PeerPlan)>,
    new: NewDirectory<I>,
) -> Result<DataDirectory<I>, StartError> {
    let me = plan.config.node_id;
    let birth = match peers {
        Some((peers, peer_plan)) if peer_plan.names_others(me) => {
            form(io, &peers.network, me, peer_plan).await
        }
        _ => Birth {
            cluster_id: None,
            standing: Standing::Founder,
        },
    };
    if let (Some(found), Some(expected)) = (&birth.cluster_id, &new.cluster_id)
        && found != expected
    {
        return Err(StartError::OtherCluster {
            found: found.clone(),
            expected: expected.clone(),
        });
    }
    Ok(new.begin(birth).await?)
}

/// The listeners of shard 0, and where they are bound.
async fn listen_first<I: Io>(
    io: &I,
    plan: &BrokerPlan,
) -> Result<(Vec<I::Listener>, Vec<SocketAddr>), StartError> {
    let deadline = io.now().plus(PORT_PATIENCE);
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for planned in &plan.listeners {
        let listener = listen_alone(io, planned.address, plan.shards, deadline).await?;
        addresses.push(bound(&listener, planned.address)?);
        listeners.push(listener);
    }
    Ok((listeners, addresses))
}

/// Where other brokers look for this one: at the port that was noted, if the configuration leaves it to the kernel.
async fn listen_for_peers<I: Io>(
    io: &I,
    planned: SocketAddr,
    noted: Option<u16>,
) -> Result<I::Listener, StartError> {
    let deadline = io.now().plus(PORT_PATIENCE);
    if planned.port() == 0
        && let Some(noted) = noted
    {
        let address = SocketAddr::new(planned.ip(), noted);
        match listen_alone(io, address, 1, deadline).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                tracing::warn!(%error, "another port is taken for other brokers: they have to hear of it");
            }
        }
    }
    listen_alone(io, planned, 1, deadline).await
}

/// The shards share an address (SO_REUSEPORT), so the kernel would let a second broker in beside a first one: whether it
/// is free shows when nobody shares it.
async fn listen_alone<I: Io>(
    io: &I,
    address: SocketAddr,
    shards: u16,
    deadline: MonotonicTime,
) -> Result<I::Listener, StartError> {
    loop {
        let alone = listen(io, address, false).await;
        match alone {
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && io.now() < deadline =>
            {
                io.sleep(PORT_INTERVAL).await;
            }
            Ok(listener) if shards > 1 => {
                drop(listener);
                return listen(io, address, true).await;
            }
            outcome => return outcome,
        }
    }
}

async fn listen<I: Io>(
    io: &I,
    address: SocketAddr,
    shared: bool,
) -> Result<I::Listener, StartError> {
    let listener = io.listen(address, shared).await;
    listener.map_err(|source| StartError::Listen { address, source })
}

fn bound(listener: &impl Listener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    let bound = listener.local_addr();
    bound.map_err(|source| StartError::Listen { address, source })
}
