//! The data directory's identity and lock: what must hold before any shard opens it.
//!
//! `meta.properties` is Kafka's file of that name (cluster id, node id, directory id). `.lock` is held by one process.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use metadata::Uuid;
use model::config::parse_properties;
use model::{BrokerId, TopicId};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Another broker has it.
    #[error(
        "{} is in use by another broker: stop that one, or give this one its own --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    /// The identity file is damaged.
    #[error("{}: {reason}. Restore the file; without it the broker does not know whose data this is", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data belongs to another broker.
    #[error("this directory belongs to node.id={found}, but node.id={configured} is configured")]
    OtherNode {
        /// In the file.
        found: i32,
        /// In the configuration.
        configured: i32,
    },
}

/// A data directory that this process owns.
#[derive(Debug)]
pub struct DataDirectory {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Identity of the directory.
    pub directory_id: Uuid,
    /// Held as long as the process lives.
    _lock: File,
}

impl DataDirectory {
    /// Opens a data directory, making it if it is not there.
    pub fn open(path: &Path, node: BrokerId) -> Result<DataDirectory, DirectoryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = path.join(".lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        let file = path.join("meta.properties");
        match fs::read_to_string(&file) {
            Ok(text) => DataDirectory::read(&file, &text, node, lock),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                DataDirectory::create(path, &file, node, lock)
            }
            Err(source) => Err(failed(&file)(source)),
        }
    }

    fn read(
        file: &Path,
        text: &str,
        node: BrokerId,
        lock: File,
    ) -> Result<DataDirectory, DirectoryError> {
        let damaged = |reason: &str| DirectoryError::Damaged {
            path: file.to_owned(),
            reason: reason.to_owned(),
        };
        let properties = parse_properties(text).map_err(|error| damaged(&error.to_string()))?;
        let field = |name: &str| {
            let value = properties.get(name).map(String::as_str);
            value.ok_or_else(|| damaged(&format!("{name} is missing")))
        };
        let found = field("node.id")?
            .parse()
            .map_err(|_| damaged("node.id is not a number"))?;
        if found != node.0 {
            return Err(DirectoryError::OtherNode {
                found,
                configured: node.0,
            });
        }
        let directory = TopicId::parse(field("directory.id")?)
            .ok_or_else(|| damaged("directory.id is not a 22-character identity"))?;
        Ok(DataDirectory {
            cluster_id: field("cluster.id")?.to_owned(),
            directory_id: Uuid(directory.0),
            _lock: lock,
        })
    }

    fn create(
        path: &Path,
        file: &Path,
        node: BrokerId,
        lock: File,
    ) -> Result<DataDirectory, DirectoryError> {
        let failed = |source| DirectoryError::Io {
            path: file.to_owned(),
            source,
        };
        let cluster_id = random_identity().map_err(failed)?;
        let directory_id = random_identity().map_err(failed)?;
        let text = format!(
            "version=1\ncluster.id={cluster_id}\nnode.id={node}\ndirectory.id={directory_id}\n"
        );
        let temporary = path.join("meta.properties.tmp");
        let mut out = File::create(&temporary).map_err(failed)?;
        out.write_all(text.as_bytes())
            .and_then(|()| out.sync_all())
            .and_then(|()| fs::rename(&temporary, file))
            .and_then(|()| File::open(path)?.sync_all())
            .map_err(failed)?;
        Ok(DataDirectory {
            cluster_id: cluster_id.to_string(),
            directory_id: Uuid(directory_id.0),
            _lock: lock,
        })
    }
}

/// 128 random bits, in the form of topic ids.
pub fn random_identity() -> std::io::Result<TopicId> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(TopicId(bytes))
}
