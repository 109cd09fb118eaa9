//! The disk of one node: operations in flight, their delays and faults, and what a crash leaves.
//!
//! An operation is submitted when its future is first polled and takes effect when it completes, so operations in
//! flight at one time take effect in any order. [`super::content`] holds the bytes, [`super::tree`] the names.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use super::clock::Event;
use super::completion::Slot;
use super::content::Survival;
use super::faults::Fault;
use super::lock::Locks;
use super::random::Generator;
use super::trace::Step;
use super::tree::{Directory, Inode, Tree};
use super::world::World;
use crate::buffer::ALIGNMENT;
use crate::file::OpenMode;
use crate::io::FileSystemSpace;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// What has been asked of a disk since its node was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Completed reads.
    pub reads: u64,
    /// Bytes returned by reads.
    pub read_bytes: u64,
    /// Completed writes, durable ones included.
    pub writes: u64,
    /// Bytes of completed writes.
    pub write_bytes: u64,
    /// Completed writes that were durable on completion.
    pub durable_writes: u64,
    /// Completed flushes: `sync_data`, `sync_dir`, `sync_file_system`.
    pub flushes: u64,
    /// Completed operations on names and sizes.
    pub metadata_operations: u64,
}

/// One operation.
pub(crate) enum Operation {
    Write {
        inode: Rc<Inode>,
        position: u64,
        data: Bytes,
        durable: bool,
    },
    Read {
        inode: Rc<Inode>,
        position: u64,
        len: usize,
    },
    Sync {
        inode: Rc<Inode>,
    },
    Allocate {
        inode: Rc<Inode>,
        size: u64,
    },
    Truncate {
        inode: Rc<Inode>,
        size: u64,
    },
    Length {
        inode: Rc<Inode>,
    },
    Close,
    Open {
        mode: OpenMode,
    },
    CreateDirAll,
    CreateDir,
    ReadDir,
    Rename {
        to: PathBuf,
    },
    RemoveFile,
    RemoveDirAll,
    Lock {
        /// The life of the node that asks.
        incarnation: u64,
    },
    SyncDir,
    SyncFileSystem,
}

impl Operation {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Operation::Write { durable: true, .. } => "durable write",
            Operation::Write { .. } => "write",
            Operation::Read { .. } => "read",
            Operation::Sync { .. } => "sync_data",
            Operation::Allocate { .. } => "allocate",
            Operation::Truncate { .. } => "truncate",
            Operation::Length { .. } => "len",
            Operation::Close => "close",
            Operation::Open { .. } => "open",
            Operation::CreateDirAll => "create_dir_all",
            Operation::CreateDir => "create_dir",
            Operation::ReadDir => "read_dir",
            Operation::Rename { .. } => "rename",
            Operation::RemoveFile => "remove_file",
            Operation::RemoveDirAll => "remove_dir_all",
            Operation::Lock { .. } => "try_lock",
            Operation::SyncDir => "sync_dir",
            Operation::SyncFileSystem => "sync_file_system",
        }
    }

    /// Numbers for the trace.
    fn detail(&self) -> [u64; 2] {
        match self {
            Operation::Write { position, data, .. } => [*position, data.len() as u64],
            Operation::Read { position, len, .. } => [*position, *len as u64],
            Operation::Allocate { size, .. } | Operation::Truncate { size, .. } => [*size, 0],
            _ => [0, 0],
        }
    }

    /// Nanoseconds from submission to completion.
    fn delay(&self, random: &Generator) -> u64 {
        let (low, high) = match self {
            Operation::Write { data, durable, .. } => {
                let transfer = data.len() as u64 / 3;
                let flush = if *durable { 100_000 } else { 0 };
                (15_000 + transfer + flush, 150_000 + transfer + 3 * flush)
            }
            Operation::Read { len, .. } => {
                let transfer = *len as u64 / 3;
                (15_000 + transfer, 120_000 + transfer)
            }
            Operation::Sync { .. } | Operation::SyncDir => (100_000, 2_000_000),
            Operation::SyncFileSystem => (1_000_000, 20_000_000),
            _ => (5_000, 100_000),
        };
        let delay = random.between(low, high);
        if random.one_in(64) { delay * 10 } else { delay }
    }

    fn error_fault(&self) -> Option<Fault> {
        match self {
            Operation::Write { .. } => Some(Fault::WriteError),
            Operation::Read { .. } => Some(Fault::ReadError),
            Operation::Sync { .. } | Operation::SyncDir | Operation::SyncFileSystem => {
                Some(Fault::SyncError)
            }
            Operation::Close | Operation::Length { .. } => None,
            _ => Some(Fault::MetadataError),
        }
    }
}

/// What an operation gives back.
pub(crate) enum Output {
    Done,
    Data(Bytes),
    Length(u64),
    File(Rc<Inode>),
    Locked(Rc<Inode>),
    Names(Vec<PathBuf>),
}

pub(crate) type DiskSlot = Slot<io::Result<Output>>;

/// An operation in flight.
pub(crate) struct DiskRequest {
    pub(crate) node: usize,
    /// The path the file was opened by, or that the operation names.
    path: Rc<Path>,
    operation: Operation,
    /// The last change that a sync covers.
    watermark: u64,
    slot: Rc<DiskSlot>,
}

/// A disk.
pub(crate) struct Disk {
    pub(crate) tree: RefCell<Rc<Tree>>,
    pub(crate) counters: Cell<DiskCounters>,
    pub(crate) capacity_bytes: Cell<u64>,
    pub(crate) locks: Locks,
    hung: RefCell<Vec<DiskRequest>>,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk {
            tree: RefCell::new(Rc::new(Tree::default())),
            counters: Cell::new(DiskCounters::default()),
            capacity_bytes: Cell::new(u64::MAX),
            locks: Locks::default(),
            hung: RefCell::new(Vec::new()),
        }
    }

    pub(crate) fn tree(&self) -> Rc<Tree> {
        Rc::clone(&self.tree.borrow())
    }

    fn count(&self, update: impl FnOnce(&mut DiskCounters)) {
        let mut counters = self.counters.get();
        update(&mut counters);
        self.counters.set(counters);
    }

    /// Whether `growth` more bytes fit.
    fn has_room(&self, growth: u64) -> bool {
        let capacity = self.capacity_bytes.get();
        if capacity == u64::MAX || growth == 0 {
            return true;
        }
        self.used_bytes() + growth <= capacity
    }

    fn used_bytes(&self) -> u64 {
        let page = ALIGNMENT as u64;
        let mut used = 0;
        for (_, inode) in self.tree().files() {
            used += inode.content.borrow().length().next_multiple_of(page);
        }
        used
    }

    /// The capacity may have been set below what is used already.
    pub(crate) fn space(&self) -> FileSystemSpace {
        let total_bytes = self.capacity_bytes.get();
        FileSystemSpace {
            total_bytes,
            available_bytes: total_bytes.saturating_sub(self.used_bytes()),
        }
    }
}

/// Starts an operation; its result arrives in the slot.
pub(crate) fn submit(
    world: &World,
    node: usize,
    path: Rc<Path>,
    operation: Operation,
) -> Rc<DiskSlot> {
    let disk = &world.node(node).disk;
    let random = &world.node(node).random.disk;
    let detail = operation.detail();
    world.trace(
        Step::DiskSubmit,
        operation.label(),
        [node as u64, detail[0], detail[1]],
    );
    let slot = Slot::new();
    let mut delay = operation.delay(random);
    if world.fault(Fault::Slow, node, Some(&path)) {
        delay += random.between(10_000_000, 2_000_000_000);
    }
    let hangs = world.fault(Fault::Hang, node, Some(&path));
    let request = DiskRequest {
        node,
        path,
        watermark: disk.tree().watermark(),
        operation,
        slot: Rc::clone(&slot),
    };
    if hangs {
        disk.hung.borrow_mut().push(request);
    } else {
        world.clock.schedule_in(delay, Event::Disk(request));
    }
    slot
}

/// Completes an operation whose time has come.
pub(crate) fn complete(world: &World, request: DiskRequest) {
    let detail = request.operation.detail();
    world.trace(
        Step::DiskComplete,
        request.operation.label(),
        [request.node as u64, detail[0], detail[1]],
    );
    let result = perform(world, &request);
    request.slot.complete(result);
}

/// Lets hung operations go on.
pub(crate) fn release_hung(world: &World, node: usize) {
    let hung = std::mem::take(&mut *world.node(node).disk.hung.borrow_mut());
    for request in hung {
        let delay = request.operation.delay(&world.node(node).random.disk);
        world.clock.schedule_in(delay, Event::Disk(request));
    }
}

/// The process died: what was in flight happens or not, the rest stays.
pub(crate) fn kill(world: &World, node: usize, in_flight: Vec<DiskRequest>) {
    let hung = std::mem::take(&mut *world.node(node).disk.hung.borrow_mut());
    for request in in_flight.into_iter().chain(hung) {
        if world.node(node).random.disk.one_in(2) {
            // Nobody is left to hear of an error.
            perform(world, &request).ok();
        }
    }
    let locks = &world.node(node).disk.locks;
    locks.process_ended(world.clock.nanos(), |path| {
        match world.fault(Fault::LateUnlock, node, Some(path)) {
            true => world
                .node(node)
                .random
                .disk
                .between(10_000_000, 2_000_000_000),
            false => 0,
        }
    });
}

/// Power went off: the device keeps what was flushed and a random part of the rest, torn at sectors.
pub(crate) fn power_cut(world: &World, node: usize, in_flight: Vec<DiskRequest>) {
    let disk = &world.node(node).disk;
    let hung = std::mem::take(&mut *disk.hung.borrow_mut());
    let tree = disk.tree();
    for request in in_flight.into_iter().chain(hung) {
        match &request.operation {
            // In the cache, in part: how much of it, the cut decides.
            Operation::Write {
                inode,
                position,
                data,
                ..
            } => {
                let mut content = inode.content.borrow_mut();
                content.complete_write(tree.next_sequence(), *position, data.clone(), false);
            }
            // An unfinished flush promises nothing, and may have done everything.
            _ if world.node(node).random.disk.one_in(2) => {
                // Nobody is left to hear of an error.
                perform(world, &request).ok();
            }
            _ => {}
        }
    }
    disk.locks.clear();
    let survival = Survival::draw(&world.node(node).random.disk);
    tree.power_cut(&survival);
}

fn perform(world: &World, request: &DiskRequest) -> io::Result<Output> {
    let path = &*request.path;
    let fault = request.operation.error_fault();
    let fails = fault.is_some_and(|fault| world.fault(fault, request.node, Some(path)));
    let disk = &world.node(request.node).disk;
    let tree = disk.tree();
    match &request.operation {
        Operation::Write {
            inode,
            position,
            data,
            durable,
        } => perform_write(world, request, inode, *position, data, *durable, fails),
        Operation::Sync { inode } => {
            let mut content = inode.content.borrow_mut();
            if fails {
                content.fail_flush(request.watermark, &world.node(request.node).random.disk);
                return Err(io::Error::from_raw_os_error(EIO));
            }
            content.flush(request.watermark);
            disk.count(|c| c.flushes += 1);
            Ok(Output::Done)
        }
        _ if fails => Err(io::Error::from_raw_os_error(EIO)),
        Operation::Read {
            inode,
            position,
            len,
        } => {
            let data = inode.content.borrow().read(*position, *len);
            disk.count(|c| {
                c.reads += 1;
                c.read_bytes += data.len() as u64;
            });
            Ok(Output::Data(data))
        }
        Operation::Allocate { inode, size } => {
            let growth = size.saturating_sub(inode.content.borrow().length());
            check_room(world, request, growth)?;
            let sequence = tree.next_sequence();
            inode.content.borrow_mut().allocate(sequence, *size);
            disk.count(|c| c.metadata_operations += 1);
            Ok(Output::Done)
        }
        Operation::Truncate { inode, size } => {
            let sequence = tree.next_sequence();
            inode.content.borrow_mut().truncate(sequence, *size);
            disk.count(|c| c.metadata_operations += 1);
            Ok(Output::Done)
        }
        Operation::Length { inode } => Ok(Output::Length(inode.content.borrow().length())),
        Operation::Close => Ok(Output::Done),
        Operation::SyncDir | Operation::SyncFileSystem => {
            perform_sync_names(disk, &tree, request)?;
            disk.count(|c| c.flushes += 1);
            Ok(Output::Done)
        }
        _ => {
            disk.count(|c| c.metadata_operations += 1);
            perform_names(world, &tree, request)
        }
    }
}

fn perform_sync_names(disk: &Disk, tree: &Tree, request: &DiskRequest) -> io::Result<()> {
    let directory: Option<Rc<Directory>> = match request.operation {
        Operation::SyncDir => Some(tree.directory(&request.path)?),
        _ => {
            tree.entry(&request.path)?.ok_or(io::ErrorKind::NotFound)?;
            for (_, inode) in disk.tree().files() {
                inode.content.borrow_mut().flush(request.watermark);
            }
            None
        }
    };
    tree.sync(directory.as_ref(), request.watermark);
    Ok(())
}

fn perform_names(world: &World, tree: &Tree, request: &DiskRequest) -> io::Result<Output> {
    let path = &*request.path;
    let opens = matches!(
        request.operation,
        Operation::Open { .. } | Operation::Lock { .. }
    );
    if opens && world.fault(Fault::NoDescriptors, request.node, Some(path)) {
        return Err(io::Error::from_raw_os_error(EMFILE));
    }
    match &request.operation {
        Operation::Open {
            mode: OpenMode::Read,
        } => tree.file(path).map(Output::File),
        Operation::Open { .. } => tree.create(path).map(Output::File),
        Operation::Lock { incarnation } => {
            let inode = tree.create(path)?;
            // A request that outlived its process must not leave a lock that nobody holds.
            if !world.is_alive(request.node, *incarnation) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let locks = &world.node(request.node).disk.locks;
            locks.take(&request.path, &inode, world.clock.nanos())?;
            Ok(Output::Locked(inode))
        }
        Operation::CreateDirAll => tree.create_dir_all(path).map(|()| Output::Done),
        Operation::CreateDir => tree.create_dir(path).map(|()| Output::Done),
        Operation::ReadDir => tree.read_dir(path).map(Output::Names),
        Operation::Rename { to } => tree.rename(path, to).map(|()| Output::Done),
        Operation::RemoveFile => tree.remove_file(path).map(|()| Output::Done),
        Operation::RemoveDirAll => tree.remove_dir_all(path).map(|()| Output::Done),
        _ => unreachable!("not an operation on names"),
    }
}

fn check_room(world: &World, request: &DiskRequest, growth: u64) -> io::Result<()> {
    let has_room = world.node(request.node).disk.has_room(growth);
    if !has_room || world.fault(Fault::NoSpace, request.node, Some(&request.path)) {
        return Err(io::Error::from_raw_os_error(ENOSPC));
    }
    Ok(())
}

fn perform_write(
    world: &World,
    request: &DiskRequest,
    inode: &Rc<Inode>,
    position: u64,
    data: &Bytes,
    durable: bool,
    fails: bool,
) -> io::Result<Output> {
    let random = &world.node(request.node).random.disk;
    let path = Some(&*request.path);
    let disk = &world.node(request.node).disk;
    let mut content = inode.content.borrow_mut();
    let end = position
        .checked_add(data.len() as u64)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let growth = end.saturating_sub(content.length());
    let page = ALIGNMENT as u64;
    drop(content);
    check_room(world, request, growth)?;
    content = inode.content.borrow_mut();
    let sequence = disk.tree().next_sequence();
    if fails {
        // Any pages of it may have arrived.
        let pages = data.len() / ALIGNMENT;
        let kept = random.index(pages + 1) * ALIGNMENT;
        if kept > 0 {
            content.complete_write(sequence, position, data.slice(..kept), false);
        }
        return Err(io::Error::from_raw_os_error(EIO));
    }
    let mut data = data.clone();
    let mut position = position;
    if world.fault(Fault::BitFlip, request.node, path) {
        let mut wrong = data.to_vec();
        let byte = random.index(wrong.len());
        wrong[byte] ^= 1 << random.below(8);
        data = Bytes::from(wrong);
    }
    if world.fault(Fault::MisdirectedWrite, request.node, path) {
        let pages = content.length().max(end) / page;
        position = random.below(pages.max(1)) * page;
    }
    disk.count(|c| {
        c.writes += 1;
        c.write_bytes += data.len() as u64;
        c.durable_writes += u64::from(durable);
    });
    if world.fault(Fault::LostWrite, request.node, path) {
        content.allocate(sequence, end);
    } else {
        content.complete_write(sequence, position, data, durable);
    }
    Ok(Output::Done)
}
