//! `SimIo`: one shard's view of the simulated machine.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use model::{MonotonicTime, Timestamp};

use super::clock::Event;
use super::completion::{Completion, Slot, Watch};
use super::detached::{self, SimDetached};
use super::disk::{self, Operation, Output};
use super::file::{Descriptor, SimBuffer, SimFile};
use super::lock::SimLock;
use super::network;
use super::scheduler::Owner;
use super::stream::{SimListener, SimStream};
use super::trace::Step;
use super::world::World;
use crate::file::OpenMode;
use crate::io::{FileSystemSpace, Io, TaskClass};

/// One in so many calls of `yield_if_needed` yields.
const YIELD_SHARE: u64 = 3;

/// A timer fires up to so many nanoseconds late.
const TIMER_LATE_MAX: u64 = 50_000;

struct Shard {
    world: Rc<World>,
    node: usize,
    shard: usize,
    incarnation: u64,
}

/// One shard of one node, in one life of that node. After the node was killed every operation fails with
/// `NotConnected` and tasks are not started.
#[derive(Clone)]
pub struct SimIo {
    shard: Rc<Shard>,
}

impl SimIo {
    pub(crate) fn new(world: &Rc<World>, node: usize, shard: usize) -> SimIo {
        SimIo {
            shard: Rc::new(Shard {
                world: Rc::clone(world),
                node,
                shard,
                incarnation: world.node(node).incarnation.get(),
            }),
        }
    }

    pub(crate) fn world(&self) -> &Rc<World> {
        &self.shard.world
    }

    /// The number of the node.
    pub fn node(&self) -> usize {
        self.shard.node
    }

    /// The number of the shard on its node.
    pub fn shard(&self) -> usize {
        self.shard.shard
    }

    /// The seed of the simulation, for messages.
    pub fn seed(&self) -> u64 {
        self.world().seed
    }

    /// Whether the node still lives the life that this value belongs to.
    pub fn is_alive(&self) -> bool {
        self.world().is_alive(self.node(), self.shard.incarnation)
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.shard.incarnation
    }

    pub(crate) fn watch(&self, label: &'static str) -> Watch {
        Watch::new(self.world(), self.node(), self.shard.incarnation, label)
    }

    pub(crate) async fn disk(&self, path: Rc<Path>, operation: Operation) -> io::Result<Output> {
        self.check_alive()?;
        let watch = self.watch(operation.label());
        let slot = disk::submit(self.world(), self.node(), path, operation);
        Completion::new(slot, watch).await
    }

    async fn names(&self, path: &Path, operation: Operation) -> io::Result<Output> {
        self.disk(Rc::from(path), operation).await
    }

    pub(crate) fn check_alive(&self) -> io::Result<()> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    pub(crate) fn owner(&self, class: TaskClass, location: &'static Location<'static>) -> Owner {
        Owner {
            node: self.node(),
            shard: self.shard(),
            class,
            location,
        }
    }
}

impl Io for SimIo {
    type Buffer = SimBuffer;
    type File = SimFile;
    type Lock = SimLock;
    type Stream = SimStream;
    type Detached = SimDetached;
    type Listener = SimListener;

    fn now(&self) -> MonotonicTime {
        let world = self.world();
        let clock = &world.node(self.node()).clock;
        MonotonicTime(clock.monotonic(world.clock.nanos()))
    }

    fn wall_clock(&self) -> Timestamp {
        let offset = self.world().node(self.node()).clock.wall_offset_ms();
        Timestamp(self.world().clock.wall_ms().saturating_add(offset))
    }

    fn random(&self) -> u64 {
        self.world().node(self.node()).random.own.next()
    }

    #[track_caller]
    fn spawn(&self, class: TaskClass, task: impl Future<Output = ()> + 'static) {
        if !self.is_alive() {
            return;
        }
        let owner = self.owner(class, Location::caller());
        let id = self.world().scheduler.add(owner, Some(Box::pin(task)));
        let detail = [id, self.node() as u64, self.shard() as u64];
        self.world().trace(Step::Spawn, "spawn", detail);
    }

    async fn sleep(&self, duration: Duration) {
        let watch = self.watch("sleep");
        let slot = Slot::new();
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let late = self.world().random.schedule.below(TIMER_LATE_MAX);
        let due = self.now().0.saturating_add(nanos);
        let event = Event::Timer {
            node: self.node(),
            due,
            slot: Rc::clone(&slot),
        };
        if self.is_alive() {
            let at = self.world().node(self.node()).clock.world_time(due);
            let at = at.saturating_add(late);
            self.world().clock.schedule_at(at, event);
        }
        Completion::new(slot, watch).await;
    }

    async fn yield_if_needed(&self) {
        if !self.world().random.schedule.one_in(YIELD_SHARE) {
            return;
        }
        let mut has_yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn buffer(&self, len: usize) -> SimBuffer {
        SimBuffer::new(len)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let path: Rc<Path> = Rc::from(path);
        let descriptor = Descriptor::new(&self.world().open_files(self.node()));
        match self
            .disk(Rc::clone(&path), Operation::Open { mode })
            .await?
        {
            Output::File(inode) => Ok(SimFile::new(self.clone(), path, inode, mode, descriptor)),
            _ => unreachable!("open gives a file"),
        }
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::CreateDirAll).await.map(drop)
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::CreateDir).await.map(drop)
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match self.names(path, Operation::ReadDir).await? {
            Output::Names(names) => Ok(names),
            _ => unreachable!("read_dir gives names"),
        }
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.names(from, Operation::Rename { to }).await.map(drop)
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::RemoveFile).await.map(drop)
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::RemoveDirAll).await.map(drop)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::SyncDir).await.map(drop)
    }

    async fn try_lock(&self, path: &Path) -> io::Result<SimLock> {
        let descriptor = Descriptor::new(&self.world().open_files(self.node()));
        let incarnation = self.shard.incarnation;
        match self.names(path, Operation::Lock { incarnation }).await? {
            Output::Locked(inode) => Ok(SimLock::new(self, incarnation, inode, descriptor)),
            _ => unreachable!("try_lock gives a lock"),
        }
    }

    async fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.names(path, Operation::SyncFileSystem).await.map(drop)
    }

    async fn file_system_space(&self, _path: &Path) -> io::Result<FileSystemSpace> {
        self.check_alive()?;
        Ok(self.world().node(self.node()).disk.space())
    }

    async fn listen(&self, address: SocketAddr, shared: bool) -> io::Result<SimListener> {
        self.check_alive()?;
        let network = &self.world().network;
        let listening = network.listen(self.node(), address, shared)?;
        Ok(SimListener::new(self.clone(), listening))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimStream> {
        self.check_alive()?;
        let watch = self.watch("connect");
        let slot = network::connect(self.world(), self.node(), self.shard.incarnation, address);
        let link = Completion::new(slot, watch).await?;
        Ok(SimStream::new(self.clone(), link, 0))
    }

    fn detach(&self, stream: SimStream) -> io::Result<SimDetached> {
        stream.detach()
    }

    fn attach(&self, detached: SimDetached) -> io::Result<SimStream> {
        assert_eq!(
            detached.node,
            self.node(),
            "a connection does not change its node"
        );
        self.check_alive()?;
        if detached.incarnation != self.incarnation() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (link, side) = detached::attach(self.world(), &detached);
        Ok(SimStream::new(self.clone(), link, side))
    }
}
