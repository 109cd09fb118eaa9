//! The data directory's identity and lock: what must hold before any shard opens it.
//!
//! `meta.properties` is Kafka's file of that name (cluster id, node id, directory id). `.lock` is held by one process.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metadata::Uuid;
use model::config::parse_properties;
use model::{BrokerId, TopicId};

/// How long the lock of a data directory is waited for: the kernel lets go of the files of a killed process, which its
/// rings hold, some time after the process is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried meanwhile.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Kafka's name for it.
const IDENTITY_FILE: &str = "meta.properties";

/// The key of [`DataDirectory::shards`].
const SHARDS_KEY: &str = "ringlog.shards";

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
    /// Shards that it has had, if that was noted.
    pub shards: u16,
    path: PathBuf,
    node: BrokerId,
    /// Held as long as the process lives.
    _lock: File,
}

impl DataDirectory {
    /// Opens a data directory, making it if it is not there.
    pub fn open(path: &Path, node: BrokerId) -> Result<DataDirectory, DirectoryError> {
        DataDirectory::open_within(path, node, LOCK_PATIENCE)
    }

    fn open_within(
        path: &Path,
        node: BrokerId,
        patience: Duration,
    ) -> Result<DataDirectory, DirectoryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = path.join(".lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        take(&lock, patience).map_err(|error| match error {
            TryLockError::WouldBlock => DirectoryError::Locked(path.to_owned()),
            TryLockError::Error(source) => failed(&lock_path)(source),
        })?;
        let file = path.join(IDENTITY_FILE);
        match fs::read_to_string(&file) {
            Ok(text) => DataDirectory::read(path, &text, node, lock),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                DataDirectory::create(path, node, lock)
            }
            Err(source) => Err(failed(&file)(source)),
        }
    }

    fn read(
        path: &Path,
        text: &str,
        node: BrokerId,
        lock: File,
    ) -> Result<DataDirectory, DirectoryError> {
        let damaged = |reason: &str| DirectoryError::Damaged {
            path: path.join(IDENTITY_FILE),
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
        let shards = match properties.get(SHARDS_KEY) {
            Some(shards) => shards
                .parse()
                .map_err(|_| damaged("ringlog.shards is not a number"))?,
            None => 0,
        };
        Ok(DataDirectory {
            cluster_id: field("cluster.id")?.to_owned(),
            directory_id: Uuid(directory.0),
            shards,
            path: path.to_owned(),
            node,
            _lock: lock,
        })
    }

    fn create(path: &Path, node: BrokerId, lock: File) -> Result<DataDirectory, DirectoryError> {
        let failed = |source| DirectoryError::Io {
            path: path.join(IDENTITY_FILE),
            source,
        };
        let cluster_id = random_identity().map_err(failed)?;
        let directory_id = random_identity().map_err(failed)?;
        let directory = DataDirectory {
            cluster_id: cluster_id.to_string(),
            directory_id: Uuid(directory_id.0),
            shards: 0,
            path: path.to_owned(),
            node,
            _lock: lock,
        };
        directory.write().map_err(failed)?;
        Ok(directory)
    }

    /// Notes how many shards have left their checkpoints here, so that one that is missing is missed. To be called when
    /// all of them are there: a number that is too large would refuse a good directory.
    pub fn note_shards(&mut self, shards: u16) {
        if shards == self.shards {
            return;
        }
        let before = std::mem::replace(&mut self.shards, shards);
        if let Err(error) = self.write() {
            // The next start does it, if there is space then; until then one shard less is watched over.
            tracing::warn!(%error, "the number of shards cannot be noted in {IDENTITY_FILE}");
            self.shards = before;
        }
    }

    /// Replaces the identity file.
    fn write(&self) -> std::io::Result<()> {
        let directory_id = TopicId(self.directory_id.0);
        let mut text = format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={directory_id}\n",
            self.cluster_id, self.node
        );
        if self.shards > 0 {
            text += &format!("{SHARDS_KEY}={}\n", self.shards);
        }
        let temporary = self.path.join("meta.properties.tmp");
        let mut out = File::create(&temporary)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, self.path.join(IDENTITY_FILE))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Takes the lock, maybe after its last holder has gone.
fn take(lock: &File, patience: Duration) -> Result<(), TryLockError> {
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_INTERVAL);
            }
            outcome => return outcome,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for each test.
    fn place(name: &str) -> PathBuf {
        let process = std::process::id();
        let path = std::env::temp_dir().join(format!("ringlog-directory-{name}-{process}"));
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        path
    }

    #[test]
    fn a_lock_that_is_let_go_soon_is_waited_for() {
        let path = place("lock");
        let first = DataDirectory::open(&path, BrokerId(1)).unwrap();
        let within = |ms| {
            let patience = Duration::from_millis(ms);
            DataDirectory::open_within(&path, BrokerId(1), patience)
        };
        let begun = Instant::now();
        assert!(matches!(within(100), Err(DirectoryError::Locked(_))));
        assert!(begun.elapsed() >= Duration::from_millis(100));
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(first);
        });
        within(20_000).expect("the lock was let go");
        dying.join().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_number_of_shards_is_kept_with_the_identity() {
        let path = place("shards");
        let mut first = DataDirectory::open(&path, BrokerId(1)).unwrap();
        assert_eq!(first.shards, 0);
        first.note_shards(3);
        let identity = (first.cluster_id.clone(), first.directory_id);
        drop(first);
        let second = DataDirectory::open(&path, BrokerId(1)).unwrap();
        assert_eq!(second.shards, 3);
        assert_eq!((second.cluster_id.clone(), second.directory_id), identity);
        drop(second);
        let other = DataDirectory::open(&path, BrokerId(2));
        assert!(matches!(other, Err(DirectoryError::OtherNode { .. })));
        fs::remove_dir_all(&path).unwrap();
    }
}
