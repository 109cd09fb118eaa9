//! What each shard of a broker is given: settings and shares, decided before anything is opened.
//!
//! Pure. Made once, cloned for every shard. What only a start can find out (identity, bound port) is added by
//! [`crate::start()`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metadata::Uuid;
use metadata::controller::{BrokerRegistrationRequest, Witness};
use metadata::record::{BrokerEndpoint, BrokerFeature};
use model::config::{BrokerConfig, Listener, Voter};
use model::{BrokerId, ShardId};
use server::ServerOptions;
use server::connection::ConnectionLimit;
use server::memory::Oversize;
use server::outbox::OutboxLimits;
use shard::ShardOptions;
use shard::contacts::PEER_LISTENER;
use storage::StorageOptions;

use crate::identity::{Identity, Owner, Standing};
use crate::listeners::{
    ListenerRefused, PlannedListener, peer_listener, plan_listeners, with_host,
};

/// The feature levels that clients of Kafka 4.3 expect (`metadata.version`, 30 is 4.3-IV0).
const METADATA_VERSION_MIN: i16 = 7;
const METADATA_VERSION: i16 = 30;

/// The `security.protocol` of what is served.
const PLAINTEXT_PROTOCOL: i16 = 0;

/// One shard's share of the machine, as far as a shard does not find it out itself. Sizes are bytes.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// The tails of all partitions.
    pub tail_bytes: usize,
    /// Cache of what was read from disk.
    pub cache_bytes: u64,
    /// Requests under way.
    pub request_bytes: usize,
    /// Answers that their clients have not read.
    pub answer_bytes: usize,
    /// Segment and index files open at once.
    pub open_files: usize,
    /// Connections of the whole broker.
    pub connections: usize,
}

/// How a broker is one of several.
#[derive(Clone, Debug)]
pub struct PeerPlan {
    /// Where it listens for other brokers; port 0 is any free one.
    pub listen: SocketAddr,
    /// What the others are told: host, and port if it is another one.
    pub advertised: (String, u16),
    /// Who shall have a vote, by the configuration.
    pub voters: Vec<Voter>,
    /// Brokers of the cluster to join, by host and port: where they listen for brokers.
    pub seeds: Vec<(String, u16)>,
    /// The same by where they listen for clients.
    pub join: Vec<(String, u16)>,
    /// Looks names up. It is called on shard 0.
    pub resolve: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
}

impl PeerPlan {
    /// What a configuration says. `listen` is the address of its [`peer_listener`], `host_name` what the others are told where
    /// no host is named.
    pub fn new(
        config: &BrokerConfig,
        listen: SocketAddr,
        host_name: &str,
        resolve: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> PeerPlan {
        let pair = |address: &Listener| (address.host.clone(), address.port);
        let listener = peer_listener(config);
        let mut advertised = config.advertised_listeners.iter();
        // Of the controller's listener in a file of Kafka's: an address of our own key has no name.
        let is_named = config.peer_listen.is_none();
        let advertised = advertised.find(|one| is_named && one.name == listener.name);
        let told = match config.peer_advertised.as_ref().or(advertised) {
            Some(advertised) => pair(&with_host(advertised, host_name)),
            None => (with_host(&listener, host_name).host, 0),
        };
        let servers = &config.controller_quorum_bootstrap_servers;
        PeerPlan {
            listen,
            advertised: told,
            voters: config.controller_quorum_voters.clone(),
            seeds: servers.iter().map(pair).collect(),
            join: config.join.iter().map(pair).collect(),
            resolve,
        }
    }

    /// Whether a new data directory may belong to a cluster that is there.
    pub(crate) fn names_others(&self, me: BrokerId) -> bool {
        !self.seeds.is_empty()
            || !self.join.is_empty()
            || self.voters.iter().any(|voter| voter.node != me)
    }
}

/// A broker, as its shards are to be started.
#[derive(Clone)]
pub struct BrokerPlan {
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// Shards, one per core.
    pub shards: u16,
    /// The cluster to be of. `None`: whichever the data directory belongs to, or a new one.
    pub cluster_id: Option<String>,
    /// Identity of the kernel's run, if it is known: what a process has completed outlives it, not the machine's power.
    pub boot_id: Option<String>,
    /// Where to listen.
    pub listeners: Vec<PlannedListener>,
    /// `None`: nobody can join it, and it joins nobody.
    pub peers: Option<PeerPlan>,
    /// How every shard stores. Number and count of the shards are filled in, and what the directory knows of them.
    pub storage: StorageOptions,
    /// How every shard serves.
    pub server: ServerOptions,
}

/// What shard 0 has found out before the others begin.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    /// Of this process.
    pub(crate) incarnation: Uuid,
    /// Where clients connect: for each listener of the plan.
    pub(crate) bound: Vec<SocketAddr>,
    /// Where other brokers connect.
    pub(crate) peer_port: Option<u16>,
}

impl BrokerPlan {
    /// The plan that a configuration asks for, on `shards` cores of a machine. `addresses` are those of its listeners,
    /// `host_name` what clients are told if the configuration names no host.
    pub fn new(
        config: Arc<BrokerConfig>,
        shards: u16,
        resources: Resources,
        addresses: &[SocketAddr],
        host_name: &str,
    ) -> Result<BrokerPlan, ListenerRefused> {
        Ok(BrokerPlan {
            shards,
            cluster_id: None,
            boot_id: None,
            peers: None,
            listeners: plan_listeners(&config, addresses, host_name)?,
            storage: storage_options(&config, resources),
            server: server_options(&config, resources),
            config,
        })
    }

    /// Whose data directory is asked for.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            node: self.config.node_id,
            cluster_id: self.cluster_id.clone(),
        }
    }

    /// What a shard is started with.
    pub(crate) fn shard_options(&self, shard: ShardId, opened: &Opened) -> ShardOptions {
        ShardOptions {
            shard,
            broker: self.config.node_id,
            cluster_id: opened.identity.cluster_id.as_str().into(),
            directory_id: opened.identity.directory_id,
            registration: Arc::new(self.registration(opened)),
            voters: self.voters(),
            founds: opened.identity.standing != Standing::Joined,
            config: self.config.clone(),
            storage: StorageOptions {
                shard,
                shards_known: opened.identity.shards,
                ..self.storage.clone()
            },
        }
    }

    /// What shows that nothing is lost which the last process has completed: the machine has run on since, so everything that
    /// the kernel had taken is there. A group that is torn was not complete, and damage does not start.
    fn witness(&self, identity: &Identity) -> Option<Witness> {
        let last = identity.last_served.as_ref()?;
        let same_boot = self.boot_id.as_ref() == Some(&last.boot_id);
        same_boot.then_some(Witness {
            broker_epoch: last.epoch,
            same_boot,
            durability_default: self.config.durability,
        })
    }

    fn voters(&self) -> Arc<[BrokerId]> {
        let voters = self.peers.iter().flat_map(|peers| &peers.voters);
        voters.map(|voter| voter.node).collect()
    }

    fn registration(&self, opened: &Opened) -> BrokerRegistrationRequest {
        let listeners = self.listeners.iter().zip(&opened.bound);
        let endpoints = listeners.filter_map(|(listener, bound)| {
            let told = listener.advertised.as_ref()?;
            Some(BrokerEndpoint {
                name: told.name.clone(),
                host: told.host.clone(),
                port: match told.port {
                    0 => bound.port(),
                    port => port,
                },
                security_protocol: PLAINTEXT_PROTOCOL,
            })
        });
        let peer = self.peers.as_ref().zip(opened.peer_port);
        let peer = peer.map(|(peers, bound)| {
            let (host, port) = &peers.advertised;
            BrokerEndpoint {
                name: PEER_LISTENER.to_owned(),
                host: host.clone(),
                port: match port {
                    0 => bound,
                    port => *port,
                },
                security_protocol: PLAINTEXT_PROTOCOL,
            }
        });
        BrokerRegistrationRequest {
            cluster_id: opened.identity.cluster_id.clone(),
            broker_id: self.config.node_id,
            incarnation_id: opened.incarnation,
            endpoints: endpoints.chain(peer).collect(),
            features: vec![BrokerFeature {
                name: "metadata.version".to_owned(),
                min_supported_version: METADATA_VERSION_MIN,
                max_supported_version: METADATA_VERSION,
            }],
            rack: self.config.rack.clone(),
            log_dirs: vec![opened.identity.directory_id],
            shard_count: Some(self.shards),
            clean_shutdown_epoch: None,
            witness: self.witness(&opened.identity),
        }
    }
}

/// A setting in milliseconds; a negative one is for ever.
fn millis(value: i64) -> Duration {
    u64::try_from(value).map_or(Duration::MAX, Duration::from_millis)
}

/// A setting in bytes that is never negative and fits an address.
fn bytes(value: impl TryInto<usize>) -> usize {
    let fits = value.try_into().ok();
    fits.expect("the registry of settings bounds it")
}

fn storage_options(config: &BrokerConfig, resources: Resources) -> StorageOptions {
    StorageOptions {
        directory: (&config.data_dir).into(),
        journal_bytes_max: config.journal_bytes_max,
        spares_bytes_max: config.spares_bytes_max,
        accept_lost_data: config.accept_lost_data,
        tail_bytes_max: resources.tail_bytes,
        cache_bytes_max: resources.cache_bytes,
        open_files_max: resources.open_files,
        retention_check_interval: millis(config.log_retention_check_interval_ms),
        ..StorageOptions::default()
    }
}

fn server_options(config: &BrokerConfig, resources: Resources) -> ServerOptions {
    let read_timeout = millis(i64::from(config.request_read_timeout_ms));
    ServerOptions {
        log_dir: (&config.data_dir).into(),
        request_bytes_max: bytes(config.socket_request_max_bytes),
        request_memory_bytes: resources.request_bytes,
        answer_memory_bytes: resources.answer_bytes,
        oversize: Oversize::default(),
        outbox: OutboxLimits {
            requests_max: config.connection_requests_max,
            bytes_max: bytes(config.connection_bytes_max),
        },
        connections: ConnectionLimit::new(resources.connections),
        idle_max: millis(config.connections_max_idle_ms),
        frame_still_max: read_timeout,
        write_duration_max: read_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCES: Resources = Resources {
        tail_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        request_bytes: 1 << 20,
        answer_bytes: 1 << 20,
        open_files: 8,
        connections: 10,
    };

    fn config(settings: &[(&str, &str)]) -> Arc<BrokerConfig> {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let none = Default::default();
        let config = BrokerConfig::from_layers(&none, &none, &settings.collect());
        Arc::new(config.unwrap())
    }

    fn plan(settings: &[(&str, &str)]) -> Result<BrokerPlan, ListenerRefused> {
        let config = config(settings);
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 9092)); config.listeners.len()];
        BrokerPlan::new(config, 3, RESOURCES, &addresses, "the-host")
    }

    fn opened() -> Opened {
        Opened {
            identity: Identity {
                cluster_id: "c".to_owned(),
                node: model::BrokerId(1),
                directory_id: Uuid([5; 16]),
                shards: 2,
                standing: Standing::Founder,
                peer_port: None,
                last_served: None,
            },
            incarnation: Uuid([6; 16]),
            bound: vec![
                SocketAddr::from(([127, 0, 0, 1], 4000)),
                SocketAddr::from(([127, 0, 0, 1], 5000)),
            ],
            peer_port: None,
        }
    }

    #[test]
    fn a_port_that_was_left_to_the_kernel_is_told_as_bound() {
        let map = "IN:PLAINTEXT,OUT:PLAINTEXT";
        let settings = [
            ("listeners", "IN://a:0,OUT://b:0"),
            ("advertised.listeners", "OUT://c:7,IN://a:0"),
            ("listener.security.protocol.map", map),
        ];
        let told = plan(&settings).unwrap().registration(&opened());
        let told = told.endpoints.iter();
        let told: Vec<_> = told
            .map(|told| (told.name.as_str(), told.host.as_str(), told.port))
            .collect();
        assert_eq!(told, [("IN", "a", 4000), ("OUT", "c", 7)]);
    }

    #[test]
    fn each_shard_has_its_number_and_what_the_directory_knows() {
        let plan = plan(&[("connections.max.idle.ms", "-1")]).unwrap();
        assert_eq!(plan.server.idle_max, Duration::MAX);
        let options = plan.shard_options(ShardId(2), &opened());
        assert_eq!(options.storage.shard, ShardId(2));
        assert_eq!(options.storage.shards_known, 2);
        assert_eq!(&*options.cluster_id, "c");
        assert_eq!(options.registration.log_dirs, [Uuid([5; 16])]);
    }
}
