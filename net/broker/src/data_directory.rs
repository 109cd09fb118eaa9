//! The data directory's owner: its lock and its identity, which must hold before any shard opens it.
//!
//! Owned by shard 0. Invariants: nothing is changed in a directory before it is known to be nobody's or ours, and
//! nothing but the lock before it is locked; the identity is durable before anything else is written; the lock is let
//! go only when every shard has closed its logs, else it goes with the process.

use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metadata::Uuid;
use model::{BrokerId, TopicId};
use runtime::{Io, small_file};

use crate::identity::{
    IDENTITY_FILE, Identity, LastServed, Owner, Refusal, Standing, decide, kafka_sign, random_uuid,
};

/// Held by one process. Kafka's name for it, too.
const LOCK_FILE: &str = ".lock";

/// How long the lock of a data directory is waited for: the kernel lets go of the files of a killed process, which its
/// rings hold, some time after the process is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried meanwhile.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another broker has it.
    #[error(
        "{} is in use by another broker: stop that one, or give this one its own --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    /// Apache Kafka's.
    #[error(
        "{} is a data directory of Apache Kafka ({sign}), and nothing in it was changed: give this broker its own \
         --data-dir (ringlog.data.dir)",
        path.display()
    )]
    Kafka {
        /// The directory.
        path: PathBuf,
        /// What says so.
        sign: String,
    },
    /// There is data, and nothing that says whose.
    #[error(
        "{} is missing, and there is data beside it. Restore the file; without it the broker does not know whose data \
         this is",
        .0.display()
    )]
    Missing(PathBuf),
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
        found: BrokerId,
        /// In the configuration.
        configured: BrokerId,
    },
    /// The data belongs to another cluster.
    #[error("this directory belongs to cluster {found}, but this broker is to join {expected}")]
    OtherCluster {
        /// In the file.
        found: String,
        /// As planned.
        expected: String,
    },
}

/// A data directory that this process owns.
pub struct DataDirectory<I: Io> {
    /// What it says about itself.
    pub identity: Identity,
    io: I,
    path: PathBuf,
    /// Dropping does not let it go: after a failure other shards of this process may still write.
    lock: ManuallyDrop<I::Lock>,
}

/// A data directory that this process has locked.
pub enum Taken<I: Io> {
    /// It has been begun.
    Known(DataDirectory<I>),
    /// It is to be begun, as [`NewDirectory::begin`] is told.
    New(NewDirectory<I>),
}

/// A data directory that nothing was written to.
pub struct NewDirectory<I: Io> {
    /// Drawn for it, or found in a file that was made beforehand.
    pub directory_id: Uuid,
    /// The cluster that it is meant for, if one is named.
    pub cluster_id: Option<String>,
    node: BrokerId,
    io: I,
    path: PathBuf,
    lock: ManuallyDrop<I::Lock>,
}

/// What a new directory is told of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// `None`: a new one is drawn.
    pub cluster_id: Option<String>,
    pub standing: Standing,
}

impl<I: Io> NewDirectory<I> {
    /// Writes whose it is.
    pub async fn begin(self, birth: Birth) -> Result<DataDirectory<I>, DirectoryError> {
        let io = &self.io;
        let new_cluster = || TopicId(random_uuid([io.random(), io.random()]).0).to_string();
        let named = birth.cluster_id.or(self.cluster_id);
        let identity = Identity {
            cluster_id: named.unwrap_or_else(new_cluster),
            node: self.node,
            directory_id: self.directory_id,
            shards: 0,
            standing: birth.standing,
            peer_port: None,
            last_served: None,
        };
        write(io, &self.path, &identity).await?;
        Ok(DataDirectory {
            identity,
            io: self.io,
            path: self.path,
            lock: self.lock,
        })
    }
}

impl<I: Io> DataDirectory<I> {
    /// Opens a data directory, making it if it is not there; a new one begins a cluster.
    pub async fn open(io: &I, path: &Path, owner: &Owner) -> Result<Self, DirectoryError> {
        match Self::take(io, path, owner).await? {
            Taken::Known(known) => Ok(known),
            Taken::New(new) => {
                let birth = Birth {
                    cluster_id: None,
                    standing: Standing::Founder,
                };
                new.begin(birth).await
            }
        }
    }

    /// Locks a data directory, making it if it is not there, and says whether it has been begun.
    pub async fn take(io: &I, path: &Path, owner: &Owner) -> Result<Taken<I>, DirectoryError> {
        io.create_dir_all(path).await.map_err(failed(path))?;
        let (names, text) = look(io, path).await?;
        if let Some(sign) = kafka_sign(&names, text.as_deref()) {
            return Err(refused(path, Refusal::Kafka(sign), owner));
        }
        let lock = take(io, path).await?;
        // Its last holder may have made it what it is.
        let (names, text) = look(io, path).await?;
        let decided = decide(&names, text.as_deref(), owner);
        let known = decided.map_err(|refusal| refused(path, refusal, owner))?;
        let lock = ManuallyDrop::new(lock);
        let (directory_id, cluster_id) = match known {
            Some(identity) if identity.standing != Standing::Formatted => {
                // Whoever wrote it may have been killed before it was durable.
                let file = path.join(IDENTITY_FILE);
                let durable = small_file::make_durable(io, &file).await;
                durable.map_err(failed(&file))?;
                return Ok(Taken::Known(DataDirectory {
                    identity,
                    io: io.clone(),
                    path: path.to_owned(),
                    lock,
                }));
            }
            Some(formatted) => (formatted.directory_id, Some(formatted.cluster_id)),
            None => {
                let drawn = random_uuid([io.random(), io.random()]);
                (drawn, owner.cluster_id.clone())
            }
        };
        Ok(Taken::New(NewDirectory {
            directory_id,
            cluster_id,
            node: owner.node,
            io: io.clone(),
            path: path.to_owned(),
            lock,
        }))
    }

    /// Notes how many shards have left their checkpoints here, so that one that is missing is missed, where other brokers
    /// reach this one, and that this process serves. To be called when all shards are there: a number that is too large would
    /// refuse a good directory.
    pub async fn note(
        &mut self,
        shards: u16,
        peer_port: Option<u16>,
        last_served: Option<LastServed>,
    ) {
        let noted = Identity {
            shards,
            peer_port,
            last_served,
            ..self.identity.clone()
        };
        if noted == self.identity {
            return;
        }
        match write(&self.io, &self.path, &noted).await {
            Ok(()) => self.identity = noted,
            // The next start does it, if there is space then; until then one shard less is watched over.
            Err(error) => {
                tracing::warn!("the number of shards and the port cannot be noted: {error}")
            }
        }
    }

    /// Lets another process have the directory. Nothing of this one may write to it any more.
    pub fn release(self) {
        drop(ManuallyDrop::into_inner(self.lock));
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { path, source }
}

fn refused(path: &Path, refusal: Refusal, owner: &Owner) -> DirectoryError {
    let file = path.join(IDENTITY_FILE);
    match refusal {
        Refusal::Kafka(sign) => DirectoryError::Kafka {
            path: path.to_owned(),
            sign,
        },
        Refusal::Missing => DirectoryError::Missing(file),
        Refusal::Damaged(reason) => DirectoryError::Damaged { path: file, reason },
        Refusal::OtherNode(found) => DirectoryError::OtherNode {
            found,
            configured: owner.node,
        },
        Refusal::OtherCluster { found, expected } => {
            DirectoryError::OtherCluster { found, expected }
        }
    }
}

/// The names in a directory, and the text of its identity file if there is one.
async fn look<I: Io>(
    io: &I,
    path: &Path,
) -> Result<(Vec<PathBuf>, Option<String>), DirectoryError> {
    let names = io.read_dir(path).await.map_err(failed(path))?;
    let file = path.join(IDENTITY_FILE);
    let bytes = match small_file::read(io, &file).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((names, None)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let reason = error.to_string();
            return Err(DirectoryError::Damaged { path: file, reason });
        }
        read => read.map_err(failed(&file))?,
    };
    match String::from_utf8(bytes.into()) {
        Ok(text) => Ok((names, Some(text))),
        Err(error) => Err(DirectoryError::Damaged {
            path: file,
            reason: error.to_string(),
        }),
    }
}

/// Takes the lock, maybe after its last holder has gone.
async fn take<I: Io>(io: &I, path: &Path) -> Result<I::Lock, DirectoryError> {
    let file = path.join(LOCK_FILE);
    let deadline = io.now().plus(LOCK_PATIENCE);
    loop {
        match io.try_lock(&file).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if io.now() >= deadline {
                    return Err(DirectoryError::Locked(path.to_owned()));
                }
                io.sleep(LOCK_INTERVAL).await;
            }
            outcome => return outcome.map_err(failed(&file)),
        }
    }
}

async fn write<I: Io>(io: &I, path: &Path, identity: &Identity) -> Result<(), DirectoryError> {
    let file = path.join(IDENTITY_FILE);
    let written = small_file::replace(io, &file, identity.text().as_bytes()).await;
    written.map_err(failed(&file))
}
