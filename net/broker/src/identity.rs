//! Whose a data directory is: what `meta.properties` and the names in the directory say, and what follows.
//!
//! Pure. The file is Kafka's of that name (cluster id, node id, directory id). A first start writes it before anything
//! else, so data without it is damage and never news. A directory of Apache Kafka has the same file with the same keys:
//! it is told by what lies beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use metadata::Uuid;
use model::config::parse_properties;
use model::{BrokerEpoch, BrokerId, TopicId};

/// Kafka's name for the file.
pub const IDENTITY_FILE: &str = "meta.properties";

/// What keys of our own begin with. A file of Kafka has none.
const OWN_PREFIX: &str = "ringlog.";

/// The key of [`Identity::shards`].
const SHARDS_KEY: &str = "ringlog.shards";

/// The key of [`Standing::Joined`].
const JOINED_KEY: &str = "ringlog.joined";

/// The key of [`Identity::peer_port`].
const PEER_PORT_KEY: &str = "ringlog.peer.port";

/// The keys of [`LastServed`].
const EPOCH_KEY: &str = "ringlog.broker.epoch";
const BOOT_KEY: &str = "ringlog.boot.id";

/// The only version of the file that both know.
const VERSION: &str = "1";

/// Names that only our storage makes.
const OWN_NAMES: [&str; 3] = ["journal", "checkpoint", "partitions"];

/// Files that only Kafka makes.
const KAFKA_FILES: [&str; 6] = [
    "bootstrap.checkpoint",
    "cleaner-offset-checkpoint",
    "log-start-offset-checkpoint",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    ".kafka_cleanshutdown",
];

/// What Kafka appends to the name of a log that it is about to remove or to replace.
const KAFKA_LOG_ENDINGS: [&str; 3] = ["-delete", "-future", "-stray"];

/// Begins the names of Kafka's own topics.
const KAFKA_INTERNAL_PREFIX: &str = "__";

/// How a directory came to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The file was made beforehand, by Kafka's tool: nothing has begun.
    Formatted,
    /// The cluster began with it.
    Founder,
    /// The cluster was there.
    Joined,
}

/// What a data directory says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The broker.
    pub node: BrokerId,
    /// The directory: another one with the same cluster and broker is another copy.
    pub directory_id: Uuid,
    /// Shards that have left their checkpoints here; 0 until that was noted.
    pub shards: u16,
    pub standing: Standing,
    /// Where it listened for other brokers when the port was left to the kernel: they look for it there.
    pub peer_port: Option<u16>,
    /// The last process that served with it.
    pub last_served: Option<LastServed>,
}

/// A process that served: what it had completed is there as long as the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastServed {
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Identity of the kernel's run.
    pub boot_id: String,
}

/// Who asks for a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The broker.
    pub node: BrokerId,
    /// Its cluster. `None`: whichever the directory belongs to, or a new one.
    pub cluster_id: Option<String>,
}

/// Why a directory is not for its asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is Apache Kafka's; this name in it says so.
    Kafka(String),
    /// There is data and no identity.
    Missing,
    /// The file says nothing that can be trusted.
    Damaged(String),
    /// Another broker's.
    OtherNode(BrokerId),
    /// Another cluster's.
    OtherCluster {
        /// In the file.
        found: String,
        /// The asker's.
        expected: String,
    },
}

/// Whether the names in a directory and its identity file, if there is one, are Apache Kafka's; the telling one.
pub(crate) fn kafka_sign(names: &[PathBuf], text: Option<&str>) -> Option<String> {
    let properties = text.and_then(|text| parse_properties(text).ok());
    let keys = properties.as_ref().map(BTreeMap::keys);
    let own_key = keys.is_some_and(|mut keys| keys.any(|key| key.starts_with(OWN_PREFIX)));
    if own_key || has_own_names(names) {
        return None;
    }
    // A directory of somebody's that ends in a number says little where there is no identity file.
    let is_log = |name: &str| {
        is_kafka_log(name) && (text.is_some() || name.starts_with(KAFKA_INTERNAL_PREFIX))
    };
    let named = names.iter().filter_map(|name| name.to_str());
    let mut signs = named.filter(|name| KAFKA_FILES.contains(name) || is_log(name));
    let broker_id = "broker.id";
    let old = properties.is_some_and(|properties| properties.contains_key(broker_id));
    signs
        .next()
        .or(old.then_some(broker_id))
        .map(ToOwned::to_owned)
}

/// What a directory of these names is for `owner`: its identity, or `None` if it is nobody's yet.
pub fn decide(
    names: &[PathBuf],
    text: Option<&str>,
    owner: &Owner,
) -> Result<Option<Identity>, Refusal> {
    if let Some(sign) = kafka_sign(names, text) {
        return Err(Refusal::Kafka(sign));
    }
    let Some(text) = text else {
        return match has_own_names(names) {
            true => Err(Refusal::Missing),
            false => Ok(None),
        };
    };
    let mut identity = Identity::parse(text).map_err(Refusal::Damaged)?;
    // Releases before the key of our own left their data beside a file that looks like Kafka's.
    if identity.standing == Standing::Formatted && has_own_names(names) {
        identity.standing = Standing::Founder;
    }
    if identity.node != owner.node {
        return Err(Refusal::OtherNode(identity.node));
    }
    match &owner.cluster_id {
        Some(expected) if *expected != identity.cluster_id => Err(Refusal::OtherCluster {
            found: identity.cluster_id,
            expected: expected.clone(),
        }),
        _ => Ok(Some(identity)),
    }
}

fn has_own_names(names: &[PathBuf]) -> bool {
    names
        .iter()
        .filter_map(|name| name.to_str())
        .any(|name| OWN_NAMES.contains(&name))
}

/// `topic-0`, and `topic-0.<32 hexadecimal digits>-delete`.
fn is_kafka_log(name: &str) -> bool {
    let ending = |ending: &&str| name.strip_suffix(*ending);
    let log = match KAFKA_LOG_ENDINGS.iter().find_map(ending) {
        Some(leaving) => leaving.rsplit_once('.').map_or(leaving, |(log, _)| log),
        None => name,
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    log.rsplit_once('-')
        .is_some_and(|(topic, partition)| !topic.is_empty() && is_number(partition))
}

impl Identity {
    /// Reads the file.
    fn parse(text: &str) -> Result<Identity, String> {
        let properties = parse_properties(text).map_err(|error| error.to_string())?;
        let field = |name: &str| {
            let value = properties.get(name).map(String::as_str);
            value.ok_or_else(|| format!("{name} is missing"))
        };
        let version = field("version")?;
        if version != VERSION {
            return Err(format!("version={version} is not known, only {VERSION} is"));
        }
        let cluster_id = field("cluster.id")?.to_owned();
        if cluster_id.is_empty() {
            return Err("cluster.id is empty".to_owned());
        }
        let node = field("node.id")?.parse();
        let node = node.map_err(|_| "node.id is not a number".to_owned())?;
        let directory = TopicId::parse(field("directory.id")?)
            .ok_or_else(|| "directory.id is not a 22-character identity".to_owned())?;
        let shards = properties
            .get(SHARDS_KEY)
            .map_or(Ok(0), |text| text.parse());
        let joined = properties.get(JOINED_KEY).map(String::as_str);
        let standing = match (joined, properties.contains_key(SHARDS_KEY)) {
            (Some("true"), _) => Standing::Joined,
            (Some(other), _) => return Err(format!("{JOINED_KEY}={other} is not known")),
            (None, true) => Standing::Founder,
            (None, false) => Standing::Formatted,
        };
        let peer_port = properties.get(PEER_PORT_KEY).map(|text| text.parse());
        let peer_port = peer_port.transpose();
        let epoch = properties.get(EPOCH_KEY).map(|text| text.parse());
        let epoch = epoch.transpose();
        let epoch = epoch.map_err(|_| format!("{EPOCH_KEY} is not a number"))?;
        let boot_id = properties.get(BOOT_KEY).cloned();
        let last_served = epoch.zip(boot_id).map(|(epoch, boot_id)| LastServed {
            epoch: BrokerEpoch(epoch),
            boot_id,
        });
        Ok(Identity {
            cluster_id,
            node: BrokerId(node),
            directory_id: Uuid(directory.0),
            shards: shards.map_err(|_| format!("{SHARDS_KEY} is not a number"))?,
            standing,
            peer_port: peer_port.map_err(|_| format!("{PEER_PORT_KEY} is not a number"))?,
            last_served,
        })
    }

    /// The file's text. The key of our own is always there: it tells the directory from one of Kafka.
    pub fn text(&self) -> String {
        let joined = match self.standing {
            Standing::Joined => format!("{JOINED_KEY}=true\n"),
            Standing::Founder | Standing::Formatted => String::new(),
        };
        let peer_port = self.peer_port;
        let peer_port =
            peer_port.map_or_else(String::new, |port| format!("{PEER_PORT_KEY}={port}\n"));
        let last_served = self.last_served.as_ref();
        let last_served = last_served.map_or_else(String::new, |last| {
            let LastServed { epoch, boot_id } = last;
            format!("{EPOCH_KEY}={epoch}\n{BOOT_KEY}={boot_id}\n")
        });
        format!(
            "version={VERSION}\ncluster.id={}\nnode.id={}\ndirectory.id={}\n{SHARDS_KEY}={}\n{joined}{peer_port}{last_served}",
            self.cluster_id,
            self.node,
            TopicId(self.directory_id.0),
            self.shards
        )
    }
}

/// A random identity in the form of Kafka's (a UUID of version 4) out of 128 random bits.
pub(crate) fn random_uuid(bits: [u64; 2]) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&bits[0].to_be_bytes());
    bytes[8..].copy_from_slice(&bits[1].to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    // 62 is written as `-`, and a text that begins with it reads as an option on a command line.
    if bytes[0] >> 2 == 62 {
        bytes[0] ^= 0x80;
    }
    Uuid(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "version=1\ncluster.id=c\nnode.id=1\n\
        directory.id=AAAAAAAAAAAAAAAAAAAAAQ\nringlog.shards=3\n";
    const JOINED: &str = "version=1\ncluster.id=c\nnode.id=1\n\
        directory.id=AAAAAAAAAAAAAAAAAAAAAQ\nringlog.shards=3\nringlog.joined=true\n";
    /// As `kafka-storage format` writes it, and as releases of ours before the key wrote it.
    const KAFKAS: &str = "#\n#Mon Nov 30 09:00:00 UTC 2026\ncluster.id=c\n\
        directory.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=1\nversion=1\n";
    const ZOOKEEPERS: &str = "cluster.id=c\nversion=0\nbroker.id=1\n";

    fn owner() -> Owner {
        Owner {
            node: BrokerId(1),
            cluster_id: None,
        }
    }

    fn identity(shards: u16) -> Result<Option<Identity>, Refusal> {
        identity_of(shards, Standing::Founder)
    }

    fn identity_of(shards: u16, standing: Standing) -> Result<Option<Identity>, Refusal> {
        let mut directory_id = [0; 16];
        directory_id[15] = 1;
        Ok(Some(Identity {
            cluster_id: "c".to_owned(),
            node: BrokerId(1),
            directory_id: Uuid(directory_id),
            shards,
            standing,
            peer_port: None,
            last_served: None,
        }))
    }

    #[test]
    fn whose_a_directory_is() {
        let kafka = |sign: &str| Err(Refusal::Kafka(sign.to_owned()));
        let table: &[(&[&str], Option<&str>, _)] = &[
            (&[], None, Ok(None)),
            (&[".lock", "lost+found"], None, Ok(None)),
            (&["meta.properties.tmp"], None, Ok(None)),
            (&["backup-1"], None, Ok(None)),
            (&["journal"], None, Err(Refusal::Missing)),
            (&["checkpoint"], None, Err(Refusal::Missing)),
            (&["partitions", ".lock"], None, Err(Refusal::Missing)),
            (&[], Some(OURS), identity(3)),
            (&["orders-0"], Some(OURS), identity(3)),
            (&["journal", "partitions"], Some(OURS), identity(3)),
            (&["journal"], Some(KAFKAS), identity(0)),
            (&[], Some(KAFKAS), identity_of(0, Standing::Formatted)),
            (&[], Some(JOINED), identity_of(3, Standing::Joined)),
            (&["orders-0"], Some(KAFKAS), kafka("orders-0")),
            (&["a.b-12"], Some(KAFKAS), kafka("a.b-12")),
            (
                &["orders-0.0123456789abcdef0123456789abcdef-delete"],
                Some(KAFKAS),
                kafka("orders-0.0123456789abcdef0123456789abcdef-delete"),
            ),
            (
                &["bootstrap.checkpoint"],
                Some(KAFKAS),
                kafka("bootstrap.checkpoint"),
            ),
            (
                &["__cluster_metadata-0"],
                None,
                kafka("__cluster_metadata-0"),
            ),
            (
                &["recovery-point-offset-checkpoint"],
                None,
                kafka("recovery-point-offset-checkpoint"),
            ),
            (&[], Some(ZOOKEEPERS), kafka("broker.id")),
        ];
        for (names, text, expected) in table {
            let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            let decided = decide(&names, *text, &owner());
            assert_eq!(decided, *expected, "{names:?} {text:?}");
        }
    }

    #[test]
    fn others_are_refused() {
        let of = |node, cluster: Option<&str>| {
            let owner = Owner {
                node: BrokerId(node),
                cluster_id: cluster.map(ToOwned::to_owned),
            };
            decide(&[PathBuf::from("journal")], Some(OURS), &owner)
        };
        assert_eq!(of(1, None), identity(3));
        assert_eq!(of(1, Some("c")), identity(3));
        assert_eq!(of(2, None), Err(Refusal::OtherNode(BrokerId(1))));
        let other = Refusal::OtherCluster {
            found: "c".to_owned(),
            expected: "d".to_owned(),
        };
        assert_eq!(of(1, Some("d")), Err(other));
    }

    /// Every beginning of the file, as a torn write would leave it, is refused until all that is asked for is there.
    #[test]
    fn a_torn_file_is_damage() {
        let whole = identity(0).unwrap().unwrap().text();
        let needed = whole.find("\nringlog").unwrap();
        for end in 0..whole.len() {
            let decided = decide(&[PathBuf::from("journal")], Some(&whole[..end]), &owner());
            let is_damaged = matches!(decided, Err(Refusal::Damaged(_)));
            // "ringlog.shards=" is not a number, and the rest of the last line is a line without a value.
            assert!(is_damaged || end >= needed, "{end}: {decided:?}");
        }
        assert_eq!(
            decide(&[PathBuf::from("journal")], Some(&whole), &owner()),
            identity(0)
        );
        for (text, reason) in [
            ("version=2\n", "version=2 is not known"),
            ("version=1\ncluster.id=\n", "cluster.id is empty"),
            ("version=1\ncluster.id=c\nnode.id=x\n", "node.id is not"),
        ] {
            let Err(Refusal::Damaged(said)) = decide(&[], Some(text), &owner()) else {
                panic!("{text:?} was taken");
            };
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn random_identities_are_uuids_that_begin_with_no_dash() {
        for first in 0..=255u64 {
            let uuid = random_uuid([first << 56 | 0x1234, first]);
            let text = TopicId(uuid.0).to_string();
            assert!(!text.starts_with('-'), "{text}");
            assert_eq!((uuid.0[6] >> 4, uuid.0[8] >> 6), (4, 2));
        }
    }
}
