//! The start of a shard, in this order: shard 0 locks the data directory and learns whose it is, binds the ports and
//! tells the others both; they bind them, too. Then the shards boot (`shard::boot`: recovery and metadata log on shard 0
//! first), the count of shards is noted, and each accepts connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use model::MonotonicTime;
use runtime::{Io, Listener};
use server::{Server, listener};
use shard::{BootError, Booted, boot};

use crate::data_directory::{DataDirectory, DirectoryError};
use crate::identity::random_uuid;
use crate::links::{Links, OpenedLink};
use crate::plan::{BrokerPlan, Opened};
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
    /// The shard cannot boot.
    #[error(transparent)]
    Boot(#[from] BootError),
}

/// Starts one shard of a broker: when it returns, every connection will be served. Each shard of a plan is started,
/// with its own part of [`crate::links()`]; none returns before all have come far enough. When one fails, the others
/// may wait for ever: the process is to end.
pub async fn start<I: Io>(io: I, plan: BrokerPlan, links: Links) -> Result<Running<I>, StartError> {
    let Links {
        shard,
        senders,
        inbox,
        opened,
        drained,
        closed,
    } = links;
    assert_eq!(
        senders.len(),
        usize::from(plan.shards),
        "links are of the plan's shards"
    );
    // The port is known before anything is registered: with port 0, clients must be told the real one.
    let (opened, listeners, mut directory) = match opened {
        OpenedLink::Tells(others) => {
            let owner = plan.owner();
            let directory = DataDirectory::open(&io, &plan.storage.directory, &owner).await?;
            let (listeners, bound) = listen_first(&io, &plan).await?;
            let opened = Opened {
                identity: directory.identity.clone(),
                incarnation: random_uuid([io.random(), io.random()]),
                bound,
            };
            for other in others {
                let told = other.try_send(opened.clone());
                assert!(told.is_ok(), "each shard is told once");
            }
            (opened, listeners, Some(directory))
        }
        OpenedLink::Hears(mut inbox) => {
            let opened = inbox.next().await;
            let mut listeners = Vec::with_capacity(opened.bound.len());
            for address in &opened.bound {
                listeners.push(listen(&io, *address, true).await?);
            }
            (opened, listeners, None)
        }
    };
    let options = plan.shard_options(shard, &opened);
    let Booted { shard, recovery } = boot(io, options, inbox, senders).await?;
    if let (Some(directory), Some(report)) = (&mut directory, &recovery) {
        // Every shard has opened its logs by now.
        directory.note_shards(plan.shards.max(report.shards)).await;
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
        drained,
        closed,
    })
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
