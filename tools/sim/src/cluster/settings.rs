//! The settings of a broker under simulation: what stays the same over its lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::config::{BrokerConfig, broker::Settings};
use runtime::sim::Generator;
use storage::{FlushMethod, StorageOptions};

/// Most shards of a broker here.
pub const SHARDS_MAX: usize = 3;

/// What stays the same over the lives of a broker.
#[derive(Clone)]
pub struct BrokerSettings {
    /// Shards of the first life.
    pub shards: u16,
    /// Of every shard; the number is filled in.
    pub storage: StorageOptions,
    /// As in a configuration file.
    pub config: Arc<BrokerConfig>,
    /// The longest that messages between its shards wait; `None`: they do not.
    pub mailbox_delay: Option<Duration>,
}

impl BrokerSettings {
    /// Everything small, so that rolls, checkpoints and recycling of the journal happen all the time.
    pub fn draw(random: &Generator) -> BrokerSettings {
        let pick = |choices: &[u64]| choices[random.index(choices.len())];
        let first = pick(&[64, 128]) << 10;
        let file = pick(&[96, 128, 192]) << 10;
        let storage = StorageOptions {
            directory: PathBuf::from("/data"),
            journal_first_file_bytes: first,
            journal_file_bytes: file,
            journal_bytes_max: first + file * pick(&[2, 3, 5]),
            group_bytes_max: (pick(&[16, 32, 64]) << 10) as usize,
            groups_in_flight_max: pick(&[1, 2, 3, 4]) as usize,
            group_overlap_bytes_min: (pick(&[0, 4, 16]) << 10) as usize,
            tail_bytes_max: (pick(&[192, 256, 512]) << 10) as usize,
            cache_bytes_max: pick(&[32, 64, 256]) << 10,
            open_files_max: pick(&[4, 8, 64]) as usize,
            flush_method: if random.one_in(2) {
                FlushMethod::DurableWrite
            } else {
                FlushMethod::WriteThenSync
            },
            segment_write_bytes: (pick(&[6, 16, 32]) << 10) as usize,
            carry_bytes_max: (pick(&[0, 2, 4]) << 10) as usize,
            spare_bytes_min: 4 << 10,
            index_chunk_bytes: (pick(&[1, 4]) << 10) as u32,
            extent_bytes: (pick(&[8, 32]) << 10) as u32,
            sync_files_max: pick(&[1, 4, 100]) as usize,
            segment_writers: pick(&[1, 2, 4]) as usize,
            ..StorageOptions::default()
        };
        let overrides: Settings = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://:9092"),
            ("socket.request.max.bytes", "1048576"),
            ("ringlog.connection.requests.max", "16"),
            ("ringlog.connection.bytes.max", "65536"),
            ("auto.create.topics.enable", "false"),
            ("offsets.topic.num.partitions", "2"),
            ("group.initial.rebalance.delay.ms", "0"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let none = Settings::new();
        let config = BrokerConfig::from_layers(&none, &none, &overrides)
            .expect("the simulation's own settings are in range");
        BrokerSettings {
            shards: random.between(1, SHARDS_MAX as u64) as u16,
            storage,
            config: Arc::new(config),
            mailbox_delay: None,
        }
    }

    /// The same with another `node.id`.
    #[must_use]
    pub fn with_node_id(self, node_id: i32) -> BrokerSettings {
        self.with(&[("node.id", &node_id.to_string())])
    }

    /// The same with other settings.
    #[must_use]
    pub fn with(self, settings: &[(&str, &str)]) -> BrokerSettings {
        let overrides = settings.iter();
        let overrides = overrides.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let known = self.config.static_settings();
        let config = BrokerConfig::from_layers(known, &Settings::new(), &overrides.collect());
        BrokerSettings {
            config: Arc::new(config.expect("the simulation's own settings are in range")),
            ..self
        }
    }
}
