//! Locks of files: who holds them, and what the end of a process does to them.
//!
//! Owned by the disk of a node. A lock belongs to a file and not to its name, and goes when its holder lets go, when
//! the process is gone (a little later, if a fault says so), or with the power.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};

use super::file::Descriptor;
use super::io::SimIo;
use super::tree::Inode;
use super::world::World;

enum Holder {
    /// The present life of the node.
    Process,
    /// A process that is gone, until the time in nanoseconds.
    Gone { until: u64 },
}

struct Held {
    path: Rc<Path>,
    inode: Rc<Inode>,
    holder: Holder,
}

/// The locks of one disk.
#[derive(Default)]
pub(crate) struct Locks {
    held: RefCell<Vec<Held>>,
}

impl Locks {
    /// `WouldBlock` if somebody has it.
    pub(crate) fn take(&self, path: &Rc<Path>, inode: &Rc<Inode>, now: u64) -> io::Result<()> {
        let mut all = self.held.borrow_mut();
        all.retain(|held| !matches!(held.holder, Holder::Gone { until } if until <= now));
        if all.iter().any(|held| Rc::ptr_eq(&held.inode, inode)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        all.push(Held {
            path: Rc::clone(path),
            inode: Rc::clone(inode),
            holder: Holder::Process,
        });
        Ok(())
    }

    fn release(&self, inode: &Rc<Inode>) {
        let mut all = self.held.borrow_mut();
        let before = all.len();
        all.retain(|held| !Rc::ptr_eq(&held.inode, inode));
        assert_eq!(all.len() + 1, before, "a lock that was not held was let go");
    }

    /// The process is gone: its locks go after `linger` nanoseconds.
    pub(crate) fn process_ended(&self, now: u64, mut linger: impl FnMut(&Path) -> u64) {
        for held in self.held.borrow_mut().iter_mut() {
            if matches!(held.holder, Holder::Process) {
                let until = now + linger(&held.path);
                held.holder = Holder::Gone { until };
            }
        }
    }

    /// The machine is gone.
    pub(crate) fn clear(&self) {
        self.held.borrow_mut().clear();
    }
}

/// A lock that a life of a node holds.
pub struct SimLock {
    /// Whoever keeps a lock for the rest of its life does not keep the world.
    world: Weak<World>,
    node: usize,
    incarnation: u64,
    inode: Rc<Inode>,
    _descriptor: Descriptor,
}

impl SimLock {
    pub(crate) fn new(
        io: &SimIo,
        incarnation: u64,
        inode: Rc<Inode>,
        descriptor: Descriptor,
    ) -> SimLock {
        SimLock {
            world: Rc::downgrade(io.world()),
            node: io.node(),
            incarnation,
            inode,
            _descriptor: descriptor,
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let Some(world) = self.world.upgrade() else {
            return;
        };
        // Otherwise its process has ended, and that has seen to its locks.
        if world.is_alive(self.node, self.incarnation) {
            world.node(self.node).disk.locks.release(&self.inode);
        }
    }
}
