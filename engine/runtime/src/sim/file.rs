//! `File` and `Buffer` of the simulation.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::disk::{Operation, Output};
use super::io::SimIo;
use super::tree::Inode;
use crate::buffer::{ALIGNMENT, Buffer, Frozen, align_up};
use crate::file::{File, OpenMode};

const EBADF: i32 = 9;

/// What a fresh buffer holds: garbage that a test notices where zeros would pass.
const GARBAGE: u8 = 0xA7;

/// Memory of a shard under simulation. Its length is aligned; its address need not be.
#[derive(Debug)]
pub struct SimBuffer {
    bytes: Vec<u8>,
    capacity: usize,
}

impl SimBuffer {
    pub(crate) fn new(len: usize) -> SimBuffer {
        let capacity = align_up(len);
        SimBuffer {
            bytes: vec![GARBAGE; capacity],
            capacity,
        }
    }
}

impl AsRef<[u8]> for SimBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for SimBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Buffer for SimBuffer {
    type Frozen = SimFrozen;

    fn truncate(&mut self, len: usize) {
        assert!(
            len.is_multiple_of(ALIGNMENT),
            "a buffer cut to {len} bytes is not aligned"
        );
        assert!(len <= self.bytes.len(), "truncate cannot lengthen a buffer");
        self.bytes.truncate(len);
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn freeze(self) -> SimFrozen {
        SimFrozen {
            bytes: Bytes::from(self.bytes),
        }
    }
}

/// Frozen memory.
#[derive(Clone, Debug)]
pub struct SimFrozen {
    bytes: Bytes,
}

impl AsRef<[u8]> for SimFrozen {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Frozen for SimFrozen {
    fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

/// An open file of a simulated node.
pub struct SimFile {
    io: SimIo,
    path: Rc<Path>,
    inode: Rc<Inode>,
    mode: OpenMode,
    _descriptor: Descriptor,
}

/// Counts as one open file of its node.
pub(crate) struct Descriptor(Rc<Cell<usize>>);

impl Descriptor {
    pub(crate) fn new(open: &Rc<Cell<usize>>) -> Descriptor {
        open.set(open.get() + 1);
        Descriptor(Rc::clone(open))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl SimFile {
    pub(crate) fn new(
        io: SimIo,
        path: Rc<Path>,
        inode: Rc<Inode>,
        mode: OpenMode,
        descriptor: Descriptor,
    ) -> SimFile {
        SimFile {
            io,
            path,
            inode,
            mode,
            _descriptor: descriptor,
        }
    }

    async fn run(&self, operation: Operation) -> io::Result<Output> {
        self.io.disk(Rc::clone(&self.path), operation).await
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.mode {
            OpenMode::Read => Err(io::Error::from_raw_os_error(EBADF)),
            OpenMode::Write | OpenMode::WriteDurable => Ok(()),
        }
    }
}

impl File for SimFile {
    type Buffer = SimBuffer;

    async fn write_at(&self, data: SimFrozen, position: u64) -> io::Result<()> {
        self.check_writable()?;
        let data = data.bytes;
        assert!(
            position.is_multiple_of(ALIGNMENT as u64)
                && data.len().is_multiple_of(ALIGNMENT)
                && !data.is_empty(),
            "write of {} bytes at {position} of {} is not aligned (seed {})",
            data.len(),
            self.path.display(),
            self.io.seed()
        );
        let operation = Operation::Write {
            inode: Rc::clone(&self.inode),
            position,
            data,
            durable: self.mode == OpenMode::WriteDurable,
        };
        self.run(operation).await.map(drop)
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let operation = Operation::Read {
            inode: Rc::clone(&self.inode),
            position,
            len,
        };
        match self.run(operation).await? {
            Output::Data(data) => Ok(data),
            _ => unreachable!("a read gives data"),
        }
    }

    async fn sync_data(&self) -> io::Result<()> {
        let inode = Rc::clone(&self.inode);
        self.run(Operation::Sync { inode }).await.map(drop)
    }

    async fn allocate(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let inode = Rc::clone(&self.inode);
        let operation = Operation::Allocate { inode, size };
        self.run(operation).await.map(drop)
    }

    async fn truncate(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let inode = Rc::clone(&self.inode);
        let operation = Operation::Truncate { inode, size };
        self.run(operation).await.map(drop)
    }

    async fn len(&self) -> io::Result<u64> {
        let inode = Rc::clone(&self.inode);
        match self.run(Operation::Length { inode }).await? {
            Output::Length(length) => Ok(length),
            _ => unreachable!("len gives a length"),
        }
    }

    async fn close(self) -> io::Result<()> {
        self.run(Operation::Close).await.map(drop)
    }
}
