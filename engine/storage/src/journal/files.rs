//! The journal's files: pre-written, filled one after the other, recycled when a checkpoint has made them needless.
//!
//! Invariants: groups fill a file from its start and are placed in sequence order; a file is recycled only when replay
//! begins after its last group; the files together never exceed `journal_bytes_max`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use model::ShardId;
use runtime::{Buffer, File, Io, OpenMode};
use smallvec::SmallVec;

use crate::error::{OpenError, open_io};
use crate::layout::Layout;

/// Pre-writing goes in pieces of this size.
const ZERO_CHUNK_BYTES: u64 = 1 << 20;

/// An open journal file.
pub(crate) struct JournalFile<I: Io> {
    pub(crate) number: u32,
    pub(crate) size: u64,
    /// Writes through it need a sync.
    pub(crate) plain: I::File,
    /// Writes through it are durable; only with that flush method.
    pub(crate) durable: Option<I::File>,
    /// The last group placed in it.
    pub(crate) last_sequence: Cell<u64>,
}

/// Where the next group goes.
pub(crate) struct Placement<I: Io> {
    pub(crate) file: Rc<JournalFile<I>>,
    pub(crate) position: u64,
    /// The file before, if the group is the first of this one.
    pub(crate) rolled_from: Option<Rc<JournalFile<I>>>,
}

/// All journal files of a shard.
pub(crate) struct JournalFiles<I: Io> {
    /// `None` only during recovery, which writes no groups.
    active: Option<Rc<JournalFile<I>>>,
    position: u64,
    free: VecDeque<Rc<JournalFile<I>>>,
    used: VecDeque<Rc<JournalFile<I>>>,
    next_number: u32,
    total_bytes: u64,
}

impl<I: Io> JournalFiles<I> {
    /// Takes the files found or made at start; the first becomes the active one.
    pub(crate) fn new(mut files: VecDeque<Rc<JournalFile<I>>>) -> JournalFiles<I> {
        let total_bytes = files.iter().map(|file| file.size).sum();
        let next_number = files
            .iter()
            .map(|file| file.number.saturating_add(1))
            .max()
            .unwrap_or(0);
        let active = files.pop_front();
        JournalFiles {
            active,
            position: 0,
            free: files,
            used: VecDeque::new(),
            next_number,
            total_bytes,
        }
    }

    /// File and position of the next group, if it fits there.
    pub(crate) fn next_place(&self) -> (u32, u64) {
        (
            self.active.as_ref().map_or(0, |file| file.number),
            self.position,
        )
    }

    /// Bytes left in the active file.
    pub(crate) fn active_room(&self) -> u64 {
        self.active
            .as_ref()
            .map_or(0, |file| file.size.saturating_sub(self.position))
    }

    /// Whether groups of these sizes can be placed one after the other.
    pub(crate) fn fits(&self, lens: impl Iterator<Item = usize>) -> bool {
        let mut room = self.active_room();
        let mut free: SmallVec<[u64; 16]> = self.free.iter().map(|file| file.size).collect();
        for len in lens {
            let len = len as u64;
            if len > room {
                let Some(found) = free.iter().position(|size| *size >= len) else {
                    return false;
                };
                room = free.remove(found);
            }
            room -= len;
        }
        true
    }

    /// Places a group. `None` if there is no room.
    pub(crate) fn place(&mut self, len: usize, sequence: u64) -> Option<Placement<I>> {
        let mut rolled_from = None;
        if len as u64 > self.active_room() {
            let found = self.free.iter().position(|file| file.size >= len as u64)?;
            let full = std::mem::replace(&mut self.active, self.free.remove(found))?;
            if self.position == 0 {
                self.free.push_back(full);
            } else {
                self.used.push_back(full.clone());
                rolled_from = Some(full);
            }
            self.position = 0;
        }
        let file = self.active.clone()?;
        let position = self.position;
        self.position += len as u64;
        file.last_sequence.set(sequence);
        Some(Placement {
            file,
            position,
            rolled_from,
        })
    }

    /// Recycles the files whose groups all precede `sequence`. Returns how many.
    pub(crate) fn recycle(&mut self, sequence: u64) -> usize {
        let mut count = 0;
        while self
            .used
            .front()
            .is_some_and(|file| file.last_sequence.get() < sequence)
        {
            self.free.extend(self.used.pop_front());
            count += 1;
        }
        count
    }

    /// Bytes of files that are full of groups.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used.iter().map(|file| file.size).sum()
    }

    /// The last group of the newest full file.
    pub(crate) fn used_through(&self) -> Option<u64> {
        self.used.back().map(|file| file.last_sequence.get())
    }

    /// Number for another file if one is wanted and allowed.
    pub(crate) fn wants_file(&self, file_bytes: u64, bytes_max: u64) -> Option<u32> {
        let large = self.free.iter().any(|file| file.size >= file_bytes);
        (!large && self.total_bytes + file_bytes <= bytes_max).then_some(self.next_number)
    }

    /// Adds a pre-written file.
    pub(crate) fn add(&mut self, file: Rc<JournalFile<I>>) {
        self.next_number = self.next_number.max(file.number.saturating_add(1));
        self.total_bytes += file.size;
        self.free.push_back(file);
    }

    /// How many files there are.
    pub(crate) fn count(&self) -> usize {
        self.free.len() + self.used.len() + usize::from(self.active.is_some())
    }

    /// Bytes of all files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

/// Writes a new journal file full of zeros, so that no later group changes the file's size or extents (reliability
/// R3), and gives it its name.
pub(crate) async fn prepare_file<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
    number: u32,
    size: u64,
    durable: bool,
) -> io::Result<JournalFile<I>> {
    let new = layout.journal_file_new(shard, number);
    io.remove_file(&new).await?;
    let file = io.open(&new, OpenMode::Write).await?;
    let mut zeros = io.buffer(usize::try_from(ZERO_CHUNK_BYTES.min(size)).unwrap_or(usize::MAX));
    zeros.as_mut().fill(0);
    let mut tail = io.buffer(usize::try_from(size % ZERO_CHUNK_BYTES).unwrap_or(0).max(1));
    tail.as_mut().fill(0);
    let (zeros, tail) = (zeros.freeze(), tail.freeze());
    let mut position = 0;
    while position < size {
        let left = size - position;
        let chunk = if left >= ZERO_CHUNK_BYTES {
            &zeros
        } else {
            &tail
        };
        file.write_at(chunk.clone(), position).await?;
        position += left.min(ZERO_CHUNK_BYTES);
    }
    file.sync_data().await?;
    file.close().await?;
    let name = layout.journal_file(shard, number);
    io.rename(&new, &name).await?;
    io.sync_dir(&layout.journal(shard)).await?;
    open_file(io, layout, shard, number, durable).await
}

/// Opens a journal file.
pub(crate) async fn open_file<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
    number: u32,
    durable: bool,
) -> io::Result<JournalFile<I>> {
    let name = layout.journal_file(shard, number);
    let plain = io.open(&name, OpenMode::Write).await?;
    let durable = if durable {
        Some(io.open(&name, OpenMode::WriteDurable).await?)
    } else {
        None
    };
    let size = plain.len().await? / runtime::ALIGNMENT as u64 * runtime::ALIGNMENT as u64;
    Ok(JournalFile {
        number,
        size,
        plain,
        durable,
        last_sequence: Cell::new(0),
    })
}

/// Numbers of the journal files of a shard, in order; leftovers of interrupted pre-writing are removed.
pub(crate) async fn list_files<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<Vec<u32>, OpenError> {
    let directory = layout.journal(shard);
    let names = io
        .read_dir(&directory)
        .await
        .map_err(open_io("list", &directory))?;
    let mut numbers = Vec::new();
    for name in names {
        if let Some(number) = Layout::journal_file_number(&name) {
            numbers.push(number);
        } else if name.extension().is_some_and(|extension| extension == "new") {
            let leftover = directory.join(name.file_name().unwrap_or_default());
            io.remove_file(&leftover)
                .await
                .map_err(open_io("remove", &leftover))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
