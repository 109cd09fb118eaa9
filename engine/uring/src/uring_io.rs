//! `UringIo`: what one shard asks of the machine, answered by the executor of its core.
//!
//! Made by [`crate::start`] or [`crate::block_on`], used only inside that executor's tasks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use glommio::{Latency, Shares, TaskQueueHandle};
use model::{MonotonicTime, Timestamp};
use runtime::{FileSystemSpace, Io, OpenMode, Snapshot, TaskClass};

use crate::buffer::UringBuffer;
use crate::clock;
use crate::directory;
use crate::file::UringFile;
use crate::lock::{self, UringLock};
use crate::metrics::Counters;
use crate::options::UringOptions;
use crate::pool::Pool;
use crate::prime::Device;
use crate::reserve::Reserve;
use crate::socket::{UringDetached, UringListener, UringStream};

/// Shares of the foreground queue, of 1000.
const FOREGROUND_SHARES: usize = 1000;
/// Shares of the background queue: about 5 % of the core while the foreground wants all of it, all of it otherwise.
const BACKGROUND_SHARES: usize = 50;

/// One shard's state in this crate.
pub(crate) struct Shared {
    pub(crate) pool: Rc<Pool>,
    /// Devices seen by this core.
    pub(crate) devices: RefCell<BTreeMap<u64, Device>>,
    /// File and blocking operations that were started and have not ended, those of dropped futures included.
    operation_count: Cell<usize>,
    random: Cell<u64>,
    pub(crate) counters: Counters,
    foreground: TaskQueueHandle,
    background: TaskQueueHandle,
}

impl Shared {
    /// Counts an operation that the kernel or a thread of the pool performs for us.
    pub(crate) fn operation(&self) -> Operation<'_> {
        self.operation_count.set(self.operation_count.get() + 1);
        Operation { shared: self }
    }

    pub(crate) fn operation_count(&self) -> usize {
        self.operation_count.get()
    }
}

/// An operation under way. Deliberately without drop: when its future is dropped the operation goes on, and the executor
/// must not be taken down under it.
pub(crate) struct Operation<'a> {
    shared: &'a Shared,
}

impl Operation<'_> {
    pub(crate) fn end(self) {
        let count = &self.shared.operation_count;
        count.set(count.get() - 1);
    }
}

/// One shard's view of the machine.
#[derive(Clone)]
pub struct UringIo {
    pub(crate) shared: Rc<Shared>,
}

impl UringIo {
    /// Inside an executor.
    pub(crate) fn new(options: &UringOptions, reserve: Reserve) -> io::Result<UringIo> {
        let executor = glommio::executor();
        let foreground = executor.create_task_queue(
            Shares::Static(FOREGROUND_SHARES),
            Latency::Matters(options.preempt_timer),
            "foreground",
        );
        let background = executor.create_task_queue(
            Shares::Static(BACKGROUND_SHARES),
            Latency::NotImportant,
            "background",
        );
        Ok(UringIo {
            shared: Rc::new(Shared {
                pool: Pool::new(options.pool_bytes_max, Some(reserve)),
                devices: RefCell::default(),
                operation_count: Cell::new(0),
                random: Cell::new(seed()?),
                counters: Counters::default(),
                foreground,
                background,
            }),
        })
    }

    /// Bytes of idle buffers that the shard keeps for reuse.
    pub fn pool_idle_bytes(&self) -> usize {
        self.shared.pool.idle_bytes()
    }
}

impl Io for UringIo {
    type Buffer = UringBuffer;
    type File = UringFile;
    type Lock = UringLock;
    type Stream = UringStream;
    type Detached = UringDetached;
    type Listener = UringListener;

    fn snapshot_into(&self, snapshot: &mut Snapshot) {
        self.shared.snapshot_into(snapshot);
    }

    fn now(&self) -> MonotonicTime {
        clock::monotonic()
    }

    fn wall_clock(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): one addition and a mix, equidistributed over its period of 2^64.
        let state = self.shared.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.shared.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn spawn(&self, class: TaskClass, task: impl Future<Output = ()> + 'static) {
        let queue = match class {
            TaskClass::Foreground => self.shared.foreground,
            TaskClass::Background => self.shared.background,
        };
        let task = glommio::spawn_local_into(task, queue)
            .expect("both queues live as long as the executor");
        // The join handle goes at once: only detached tasks may wait for something that another thread wakes.
        drop(task.detach());
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    async fn yield_if_needed(&self) {
        glommio::yield_if_needed().await;
    }

    fn buffer(&self, len: usize) -> UringBuffer {
        self.shared.pool.buffer(len)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<UringFile> {
        UringFile::open(&self.shared, path, mode).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        directory::create_dir_all(&self.shared, path).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        directory::create_dir(&self.shared, path).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        directory::read_dir(&self.shared, path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        directory::rename(&self.shared, from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        directory::remove_file(&self.shared, path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        directory::remove_dir_all(&self.shared, path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        directory::sync_dir(&self.shared, path).await
    }

    async fn try_lock(&self, path: &Path) -> io::Result<UringLock> {
        lock::try_lock(&self.shared, path).await
    }

    async fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        directory::sync_file_system(&self.shared, path).await
    }

    async fn file_system_space(&self, path: &Path) -> io::Result<FileSystemSpace> {
        directory::file_system_space(&self.shared, path).await
    }

    async fn listen(&self, address: SocketAddr, shared: bool) -> io::Result<UringListener> {
        UringListener::bind(address, shared)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<UringStream> {
        UringStream::connect(address).await
    }

    fn detach(&self, stream: UringStream) -> io::Result<UringDetached> {
        stream.detach()
    }

    fn attach(&self, detached: UringDetached) -> io::Result<UringStream> {
        detached.attach()
    }
}

/// 64 bits from the kernel.
fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the kernel writes at most `bytes.len()` bytes to a live local.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Reads of up to 256 bytes are never short.
    if read != bytes.len() as isize {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}
