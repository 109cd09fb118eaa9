//! The configuration of a broker, from layers in rising precedence: defaults, a properties file, the environment,
//! overrides, and what was changed at run time for all brokers and for this one.
//!
//! Invariant: a [`BrokerConfig`] exists only for values that passed the registry's checks.

use std::collections::BTreeMap;

use crate::ids::BrokerId;

use super::dynamic::check_dynamic;
use super::error::ConfigError;
use super::key::{Key, Kind, Value};
use super::listener::{LISTENER_DEFAULT, Listener, Voter};
use super::topic::{Durability, TopicConfig};
use super::typed::{Values, parse_listeners, typed_settings};
use super::{broker_key, broker_keys};

/// Prefixes of keys that belong to one listener or to a plug-in of Kafka's: accepted, without effect.
const FOREIGN_PREFIXES: [&str; 3] = ["listener.name.", "rsm.config.", "rlmm.config."];

/// Names and values as given.
pub type Settings = BTreeMap<String, String>;

typed_settings! {
    /// Every effective setting of a broker. Sizes in bytes, times in milliseconds unless the name says otherwise.
    pub struct BrokerSettings {
        /// The number of this broker; also from `broker.id`.
        node_id: BrokerId = node_id("node.id"),
        rack: Option<String> = optional_text("broker.rack"),
        /// Where to listen; [`LISTENER_DEFAULT`] if nothing was said.
        listeners: Vec<Listener> = listeners("listeners"),
        /// What clients are told; empty: the listeners.
        advertised_listeners: Vec<Listener> = listeners("advertised.listeners"),
        /// `NAME:PROTOCOL`, separated by commas.
        listener_security_protocol_map: String = string("listener.security.protocol.map"),
        /// Listeners that are not for clients.
        controller_listener_names: Vec<String> = optional_list("controller.listener.names"),
        /// `id@host:port` each; empty: none were named.
        controller_quorum_voters: Vec<Voter> = voters("controller.quorum.voters"),
        /// `host:port` each.
        controller_quorum_bootstrap_servers: Vec<Listener> = addresses("controller.quorum.bootstrap.servers"),
        broker_heartbeat_interval_ms: i32 = int("broker.heartbeat.interval.ms"),
        broker_session_timeout_ms: i32 = int("broker.session.timeout.ms"),
        /// Where everything is kept; also from `log.dirs` or `log.dir`.
        data_dir: String = data_dir("ringlog.data.dir"),
        /// CPUs to run on, ascending; empty: all.
        cores: Vec<usize> = cores("ringlog.cores"),
        /// The whole budget; `None`: decided from the machine.
        memory_bytes: Option<u64> = optional_bytes("ringlog.memory.bytes"),
        journal_bytes_max: u64 = bytes("ringlog.journal.bytes.max"),
        spares_bytes_max: u64 = bytes("ringlog.spares.bytes.max"),
        durability: Durability = durability("ringlog.durability"),
        request_decompressed_bytes_max: u64 = bytes("ringlog.request.decompressed.bytes.max"),
        connection_bytes_max: u64 = bytes("ringlog.connection.bytes.max"),
        connection_requests_max: usize = count("ringlog.connection.requests.max"),
        request_read_timeout_ms: i32 = int("ringlog.request.read.timeout.ms"),
        drain_timeout_ms: i32 = int("ringlog.drain.timeout.ms"),
        accept_lost_data: bool = boolean("ringlog.accept.lost.data"),
        fenced_exit_delay_ms: i64 = long("ringlog.fenced.exit.delay.ms"),
        /// `None`: chosen from the other listeners.
        peer_listen: Option<Listener> = http_listen("ringlog.peer.listen"),
        /// `None`: where it listens.
        peer_advertised: Option<Listener> = http_listen("ringlog.peer.advertised"),
        self_heal_after_ms: i64 = long("ringlog.self.heal.after.ms"),
        balance_enable: bool = boolean("ringlog.balance.enable"),
        moves_max: usize = count("ringlog.moves.max"),
        auto_leader_rebalance_enable: bool = boolean("auto.leader.rebalance.enable"),
        leader_imbalance_check_interval_seconds: i64 = long("leader.imbalance.check.interval.seconds"),
        join: Vec<Listener> = addresses("ringlog.join"),
        /// Where metrics are served; `None`: nowhere.
        http_listen: Option<Listener> = http_listen("ringlog.http.listen"),
        num_partitions: i32 = int("num.partitions"),
        default_replication_factor: i32 = int("default.replication.factor"),
        auto_create_topics_enable: bool = boolean("auto.create.topics.enable"),
        delete_topic_enable: bool = boolean("delete.topic.enable"),
        message_max_bytes: i32 = int("message.max.bytes"),
        fetch_max_bytes: i32 = int("fetch.max.bytes"),
        max_request_partition_size_limit: i32 = int("max.request.partition.size.limit"),
        max_incremental_fetch_session_cache_slots: i32 = int("max.incremental.fetch.session.cache.slots"),
        socket_request_max_bytes: i32 = int("socket.request.max.bytes"),
        socket_send_buffer_bytes: i32 = int("socket.send.buffer.bytes"),
        socket_receive_buffer_bytes: i32 = int("socket.receive.buffer.bytes"),
        socket_listen_backlog_size: i32 = int("socket.listen.backlog.size"),
        connections_max_idle_ms: i64 = long("connections.max.idle.ms"),
        max_connections: i32 = int("max.connections"),
        max_connections_per_ip: i32 = int("max.connections.per.ip"),
        metadata_log_max_record_bytes_between_snapshots: i64 = long("metadata.log.max.record.bytes.between.snapshots"),
        metadata_log_max_snapshot_interval_ms: i64 = long("metadata.log.max.snapshot.interval.ms"),
        log_retention_check_interval_ms: i64 = long("log.retention.check.interval.ms"),
        log_cleaner_enable: bool = boolean("log.cleaner.enable"),
        log_cleaner_backoff_ms: i64 = long("log.cleaner.backoff.ms"),
        log_cleaner_io_max_bytes_per_second: f64 = double("log.cleaner.io.max.bytes.per.second"),
        producer_id_expiration_ms: i32 = int("producer.id.expiration.ms"),
        transaction_max_timeout_ms: i32 = int("transaction.max.timeout.ms"),
        group_min_session_timeout_ms: i32 = int("group.min.session.timeout.ms"),
        group_max_session_timeout_ms: i32 = int("group.max.session.timeout.ms"),
        group_initial_rebalance_delay_ms: i32 = int("group.initial.rebalance.delay.ms"),
        group_max_size: i32 = int("group.max.size"),
        offset_metadata_max_bytes: i32 = int("offset.metadata.max.bytes"),
        offsets_commit_timeout_ms: i32 = int("offsets.commit.timeout.ms"),
        offsets_retention_minutes: i32 = int("offsets.retention.minutes"),
        offsets_retention_check_interval_ms: i64 = long("offsets.retention.check.interval.ms"),
        offsets_topic_num_partitions: i32 = int("offsets.topic.num.partitions"),
        offsets_topic_replication_factor: i16 = short("offsets.topic.replication.factor"),
        offsets_topic_segment_bytes: i32 = int("offsets.topic.segment.bytes"),
        replica_selector: Option<String> = optional_text("replica.selector.class"),
        replica_lag_time_max_ms: i64 = long("replica.lag.time.max.ms"),
        remote_log_storage_system_enable: bool = boolean("remote.log.storage.system.enable"),
    }
}

/// The configuration of a broker: [`BrokerSettings`], which it dereferences to, and the texts they came from.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    settings: BrokerSettings,
    static_settings: Settings,
    cluster_settings: Settings,
    broker_settings: Settings,
    values: BTreeMap<&'static str, Value>,
}

impl std::ops::Deref for BrokerConfig {
    type Target = BrokerSettings;

    fn deref(&self) -> &BrokerSettings {
        &self.settings
    }
}

impl BrokerConfig {
    /// The configuration of a broker that was told nothing.
    pub fn defaults() -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::from_layers(&Settings::new(), &Settings::new(), &Settings::new())
    }

    /// The configuration from a file, the environment ([`super::parse_environment`]) and overrides, in rising precedence.
    /// Numbers may have units.
    ///
    /// An unknown key is an error that names the nearest known one.
    pub fn from_layers(
        file: &Settings,
        environment: &Settings,
        overrides: &Settings,
    ) -> Result<BrokerConfig, ConfigError> {
        let mut settings = Settings::new();
        for layer in [file, environment, overrides] {
            for (name, value) in layer {
                let value = match known(name)? {
                    Some(key) => key.without_unit(value)?,
                    None => value.clone(),
                };
                settings.insert(name.clone(), value);
            }
        }
        BrokerConfig::build(settings, Settings::new(), Settings::new())
    }

    /// This configuration with what was changed at run time, for all brokers and for this one. Unknown names are kept and
    /// have no effect, as in Kafka; names that cannot be changed so are errors.
    pub fn with_dynamic(
        &self,
        cluster: &Settings,
        broker: &Settings,
    ) -> Result<BrokerConfig, ConfigError> {
        for (name, value) in cluster {
            check_dynamic(name, value, false)?;
        }
        for (name, value) in broker {
            check_dynamic(name, value, true)?;
        }
        BrokerConfig::build(
            self.static_settings.clone(),
            cluster.clone(),
            broker.clone(),
        )
    }

    fn build(
        static_settings: Settings,
        cluster_settings: Settings,
        broker_settings: Settings,
    ) -> Result<BrokerConfig, ConfigError> {
        let mut values = BTreeMap::new();
        for key in broker_keys() {
            let layers = [&broker_settings, &cluster_settings, &static_settings];
            let text = layers.into_iter().find_map(|layer| layer.get(key.name));
            if let Some(text) = text.map(String::as_str).or(key.default) {
                values.insert(key.name, key.parse(text)?);
            }
        }
        let values = Values(values);
        let mut settings = BrokerSettings::from_values(&values)?;
        // Kafka's default would listen on every interface; a broker that was told nothing serves its own machine only.
        if ![&broker_settings, &static_settings]
            .iter()
            .any(|layer| layer.contains_key("listeners"))
        {
            settings.listeners = parse_listeners("listeners", &[LISTENER_DEFAULT.to_owned()])?;
        }
        let config = BrokerConfig {
            settings,
            static_settings,
            cluster_settings,
            broker_settings,
            values: values.0,
        };
        config.check()?;
        Ok(config)
    }

    /// Rules about more than one key, those of a topic that sets nothing among them.
    fn check(&self) -> Result<(), ConfigError> {
        TopicConfig::defaults(self)?;
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms {
            return Err(ConfigError::Conflict(
                "group.min.session.timeout.ms must not be above group.max.session.timeout.ms"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The effective value of a key; `None` if it is null or unknown.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Values from file, environment and overrides.
    pub fn static_settings(&self) -> &Settings {
        &self.static_settings
    }

    /// Values changed at run time for all brokers.
    pub fn cluster_settings(&self) -> &Settings {
        &self.cluster_settings
    }

    /// Values changed at run time for this broker.
    pub fn broker_settings(&self) -> &Settings {
        &self.broker_settings
    }
}

/// The key of a name; `None` if it belongs to a listener or a plug-in.
fn known(name: &str) -> Result<Option<&'static Key>, ConfigError> {
    let is_foreign = |prefix: &&str| name.starts_with(*prefix);
    match FOREIGN_PREFIXES.iter().any(is_foreign) {
        true => Ok(None),
        false => broker_key(name).map(Some),
    }
}

/// Whether a key is listed by DescribeConfigs when nothing sets it: those of plug-ins are not.
pub(super) fn is_listed(key: &Key, config: &BrokerConfig) -> bool {
    key.kind != Kind::Unknown
        || [
            &config.static_settings,
            &config.cluster_settings,
            &config.broker_settings,
        ]
        .iter()
        .any(|layer| layer.contains_key(key.name))
}
