//! `Io`: what a shard may ask of the machine.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{MonotonicTime, Timestamp};

use crate::buffer::Buffer;
use crate::file::{File, OpenMode};
use crate::metrics::Snapshot;
use crate::socket::{Listener, Stream};

/// Which queue of the executor a task runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskClass {
    /// The request path and the journal: runs first.
    Foreground,
    /// Segment writing, retention, recovery: gets a small share while foreground work waits.
    Background,
}

/// Sizes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemSpace {
    pub total_bytes: u64,
    /// What this process may still use.
    pub available_bytes: u64,
}

/// One shard's view of the machine: time, chance, tasks, files and sockets.
///
/// Futures of this trait belong to the task that first polls them; see [`File`] for the rule.
#[allow(async_fn_in_trait)]
pub trait Io: Clone + 'static {
    /// Aligned memory.
    type Buffer: Buffer;
    /// Open files.
    type File: File<Buffer = Self::Buffer>;
    /// The lock of a file, held until it is dropped or the process ends, however it ends.
    type Lock: 'static;
    /// Connections.
    type Stream: Stream;
    /// A connection between two shards of one process: no shard has it. Whoever drops it ends the connection.
    type Detached: Send + 'static;
    /// Listening sockets.
    type Listener: Listener<Stream = Self::Stream>;

    /// Monotonic time. Cheap: may be called for every request.
    fn now(&self) -> MonotonicTime;

    /// Adds what the machine has counted about this shard, if it counts anything.
    fn snapshot_into(&self, _snapshot: &mut Snapshot) {}

    /// Wall-clock time. Labels records and ages them; never decides safety.
    fn wall_clock(&self) -> Timestamp;

    /// 64 random bits (seeded under simulation). Not for secrets.
    fn random(&self) -> u64;

    /// Starts a task on this shard. It is detached: its result is lost and it ends with the process.
    /// For long-lived tasks; a request does not spawn one.
    fn spawn(&self, class: TaskClass, task: impl Future<Output = ()> + 'static);

    /// Completes `duration` from now, or a little later.
    async fn sleep(&self, duration: Duration);

    /// Lets other tasks run if this one has had its turn. Long CPU loops call it every 100 us.
    async fn yield_if_needed(&self);

    /// Aligned memory of at least `len` bytes, rounded up to [`crate::ALIGNMENT`].
    fn buffer(&self, len: usize) -> Self::Buffer;

    /// Opens a file. Its directory must exist.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;

    /// Creates a directory and those above it, and makes their entries durable.
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory in one that is there. No error if it is there already. Durable after [`Io::sync_dir`] of the
    /// one above it.
    async fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Names of the entries of a directory, sorted.
    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Renames. Durable after [`Io::sync_dir`] of the directories concerned.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. No error if it is not there.
    async fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all it holds. No error if it is not there.
    async fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Locks a file against every other holder, this process included; creates it if it is not there. `WouldBlock` if
    /// somebody has it. The kernel may let go of a killed process's locks some time after the process is gone.
    async fn try_lock(&self, path: &Path) -> io::Result<Self::Lock>;

    /// Makes everything written to the file system that holds `path` durable (syncfs). One call instead of thousands
    /// of [`File::sync_data`]; it also flushes what other programs wrote there.
    async fn sync_file_system(&self, path: &Path) -> io::Result<()>;

    /// How large the file system is that holds `path`, and what is left of it.
    async fn file_system_space(&self, path: &Path) -> io::Result<FileSystemSpace>;

    /// Listens on an address. `shared` lets other cores listen on it too.
    async fn listen(&self, address: SocketAddr, shared: bool) -> io::Result<Self::Listener>;

    /// Connects to an address.
    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream>;

    /// Takes a connection off this shard, so that another one of the same process may have it. What has arrived and was
    /// not read is read there. After an error the connection has ended.
    ///
    /// Panics if a clone of it is left: two shards would have one connection.
    fn detach(&self, stream: Self::Stream) -> io::Result<Self::Detached>;

    /// Puts a connection that another shard of this process took off onto this one. After an error it has ended.
    fn attach(&self, detached: Self::Detached) -> io::Result<Self::Stream>;
}
