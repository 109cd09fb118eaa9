//! What each shard of a broker is given: settings and shares, decided before anything is opened.
//!
//! Pure. Made once, cloned for every shard. What only a start can find out (identity, bound port) is added by
//! [`crate::start()`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use metadata::Uuid;
use metadata::controller::BrokerRegistrationRequest;
use metadata::record::{BrokerEndpoint, BrokerFeature};
use model::ShardId;
use model::config::{BrokerConfig, Listener};
use server::ServerOptions;
use server::memory::Oversize;
use server::outbox::OutboxLimits;
use shard::ShardOptions;
use storage::StorageOptions;

use crate::identity::{Identity, Owner};

/// The feature levels that clients of Kafka 4.3 expect (`metadata.version`, 30 is 4.3-IV0).
const METADATA_VERSION_MIN: i16 = 7;
const METADATA_VERSION: i16 = 30;

/// The only listener that is served, and its `security.protocol`.
const PLAINTEXT: &str = "PLAINTEXT";
const PLAINTEXT_PROTOCOL: i16 = 0;

/// Why a configuration cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("listeners={listener}: {reason}")]
pub struct ListenerRefused {
    /// As configured.
    pub listener: String,
    /// Why not.
    pub reason: String,
}

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
    /// Connections.
    pub connections: usize,
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
    /// Where to listen; port 0 is any free one.
    pub address: SocketAddr,
    /// Where clients are told to connect; port 0 is the bound one.
    pub advertised: Listener,
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
    /// Where clients connect.
    pub(crate) bound: SocketAddr,
}

/// The listener that a broker of this configuration serves.
pub fn served_listener(config: &BrokerConfig) -> Result<&Listener, ListenerRefused> {
    let refused = |listener: String, reason: &str| ListenerRefused {
        listener,
        reason: reason.to_owned(),
    };
    let Some(listener) = config.listeners.first() else {
        return Err(refused(String::new(), "no listener is configured"));
    };
    let refuse = |reason| Err(refused(listener.to_string(), reason));
    if config.listeners.len() > 1 {
        return refuse("this release serves one listener");
    }
    if listener.name != PLAINTEXT {
        return refuse("this release serves PLAINTEXT only; put TLS in front of it");
    }
    Ok(listener)
}

impl BrokerPlan {
    /// The plan that a configuration asks for, on `shards` cores of a machine. `address` is that of its listener,
    /// `host_name` what clients are told if the configuration names no host.
    pub fn new(
        config: Arc<BrokerConfig>,
        shards: u16,
        resources: Resources,
        address: SocketAddr,
        host_name: &str,
    ) -> Result<BrokerPlan, ListenerRefused> {
        let listener = served_listener(&config)?;
        let advertised = config.advertised_listeners.first().unwrap_or(listener);
        let is_any = advertised.host.is_empty()
            || advertised
                .host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_unspecified());
        let host = if is_any { host_name } else { &advertised.host };
        let advertised = Listener {
            name: listener.name.clone(),
            host: host.to_owned(),
            port: advertised.port,
        };
        Ok(BrokerPlan {
            shards,
            cluster_id: None,
            address,
            storage: storage_options(&config, resources),
            server: server_options(&config, &listener.name, resources),
            advertised,
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
            config: self.config.clone(),
            storage: StorageOptions {
                shard,
                shards_known: opened.identity.shards,
                ..self.storage.clone()
            },
        }
    }

    fn registration(&self, opened: &Opened) -> BrokerRegistrationRequest {
        let port = match self.advertised.port {
            0 => opened.bound.port(),
            port => port,
        };
        BrokerRegistrationRequest {
            cluster_id: opened.identity.cluster_id.clone(),
            broker_id: self.config.node_id,
            incarnation_id: opened.incarnation,
            endpoints: vec![BrokerEndpoint {
                name: self.server.listener.clone(),
                host: self.advertised.host.clone(),
                port,
                security_protocol: PLAINTEXT_PROTOCOL,
            }],
            features: vec![BrokerFeature {
                name: "metadata.version".to_owned(),
                min_supported_version: METADATA_VERSION_MIN,
                max_supported_version: METADATA_VERSION,
            }],
            rack: self.config.rack.clone(),
            log_dirs: vec![opened.identity.directory_id],
            clean_shutdown_epoch: None,
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

fn server_options(config: &BrokerConfig, listener: &str, resources: Resources) -> ServerOptions {
    let read_timeout = millis(i64::from(config.request_read_timeout_ms));
    ServerOptions {
        listener: listener.to_owned(),
        request_bytes_max: bytes(config.socket_request_max_bytes),
        request_memory_bytes: resources.request_bytes,
        answer_memory_bytes: resources.answer_bytes,
        oversize: Oversize::default(),
        outbox: OutboxLimits {
            requests_max: config.connection_requests_max,
            bytes_max: bytes(config.connection_bytes_max),
        },
        connections_max: resources.connections,
        idle_max: millis(config.connections_max_idle_ms),
        frame_duration_max: read_timeout,
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
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        BrokerPlan::new(config(settings), 3, RESOURCES, address, "the-host")
    }

    fn opened() -> Opened {
        Opened {
            identity: Identity {
                cluster_id: "c".to_owned(),
                node: model::BrokerId(1),
                directory_id: Uuid([5; 16]),
                shards: 2,
            },
            incarnation: Uuid([6; 16]),
            bound: SocketAddr::from(([127, 0, 0, 1], 4000)),
        }
    }

    #[test]
    fn what_clients_are_told() {
        // (listeners, advertised.listeners) -> host and port
        let table = [
            ("PLAINTEXT://a:1", "", "a", 1),
            ("PLAINTEXT://a:0", "", "a", 4000),
            ("PLAINTEXT://:1", "", "the-host", 1),
            ("PLAINTEXT://0.0.0.0:1", "", "the-host", 1),
            ("PLAINTEXT://[::]:1", "", "the-host", 1),
            ("PLAINTEXT://:1", "PLAINTEXT://b:2", "b", 2),
            ("PLAINTEXT://:1", "PLAINTEXT://:0", "the-host", 4000),
        ];
        for (listeners, advertised, host, port) in table {
            let mut settings = vec![("listeners", listeners)];
            if !advertised.is_empty() {
                settings.push(("advertised.listeners", advertised));
            }
            let told = plan(&settings).unwrap().registration(&opened());
            let told = &told.endpoints[0];
            assert_eq!((told.host.as_str(), told.port), (host, port), "{listeners}");
        }
    }

    #[test]
    fn listeners_that_are_not_served_are_refused() {
        let two = "PLAINTEXT://a:1,PLAINTEXT2://b:2";
        let map = "PLAINTEXT:PLAINTEXT,PLAINTEXT2:PLAINTEXT";
        let refused = plan(&[("listeners", two), ("listener.security.protocol.map", map)]).err();
        assert!(refused.unwrap().to_string().contains("one listener"));
        let refused = plan(&[("listeners", "SSL://a:1")]).err();
        assert!(refused.unwrap().to_string().contains("PLAINTEXT only"));
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
