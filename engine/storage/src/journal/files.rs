//! The journal's files: pre-written, filled one after the other, recycled when a checkpoint has made them needless.
//!
//! Invariants: groups fill a file from its start and are placed in sequence order; a file is recycled only when replay
//! begins after its last group; the files together never exceed `journal_bytes_max`.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use model::ShardId;
use runtime::{Buffer, File, Io, OpenMode};
use smallvec::SmallVec;

use crate::descriptors::with_descriptor;
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
}

/// Where the next group goes.
pub(crate) struct Placement<F> {
    pub(crate) file: Rc<F>,
    pub(crate) number: u32,
    pub(crate) position: u64,
    /// The file before, if the group is the first of this one.
    pub(crate) rolled_from: Option<Rc<F>>,
}

/// A file, with what its groups are.
struct Known<F> {
    number: u32,
    size: u64,
    /// The last group placed in it.
    last_sequence: u64,
    file: Rc<F>,
}

/// All journal files of a shard: which are free, which is being filled, which are full. Pure; `F` is a file's handle.
pub(crate) struct JournalFiles<F> {
    /// `None` only before the first file is added.
    active: Option<Known<F>>,
    position: u64,
    free: VecDeque<Known<F>>,
    used: VecDeque<Known<F>>,
    next_number: u32,
    total_bytes: u64,
}

impl<F> Default for JournalFiles<F> {
    fn default() -> JournalFiles<F> {
        JournalFiles {
            active: None,
            position: 0,
            free: VecDeque::new(),
            used: VecDeque::new(),
            next_number: 0,
            total_bytes: 0,
        }
    }
}

impl<F> JournalFiles<F> {
    /// Adds a pre-written file; the first becomes the active one.
    pub(crate) fn add(&mut self, number: u32, size: u64, file: Rc<F>) {
        assert!(size > 0, "a journal file has room");
        self.next_number = self.next_number.max(number + 1);
        self.total_bytes += size;
        let known = Known {
            number,
            size,
            last_sequence: 0,
            file,
        };
        if self.active.is_none() {
            self.active = Some(known);
        } else {
            self.free.push_back(known);
        }
    }

    /// Groups of an earlier run stand in files that were added: `place` is the end of the file that holds group
    /// `last_sequence`. Called in the order of the groups; the last one's file is then the active one.
    pub(crate) fn resume(&mut self, number: u32, place: u64, last_sequence: u64) {
        let before = self.active.take().expect("files were added");
        let known = if before.number == number {
            before
        } else {
            if before.last_sequence > 0 {
                assert!(before.last_sequence < last_sequence, "files in group order");
                self.used.push_back(before);
            } else {
                self.free.push_front(before);
            }
            let found = self.free.iter().position(|file| file.number == number);
            let found = found.expect("the file was added and not resumed before");
            self.free.remove(found).expect("it was found")
        };
        assert!(place <= known.size, "groups lie within their file");
        self.position = place;
        self.active = Some(Known {
            last_sequence,
            ..known
        });
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
            .map_or(0, |file| file.size - self.position)
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
    pub(crate) fn place(&mut self, len: usize, sequence: u64) -> Option<Placement<F>> {
        let mut rolled_from = None;
        if len as u64 > self.active_room() {
            let found = self.free.iter().position(|file| file.size >= len as u64)?;
            let next = self.free.remove(found);
            let full = std::mem::replace(&mut self.active, next)?;
            if self.position == 0 {
                self.free.push_back(full);
            } else {
                rolled_from = Some(full.file.clone());
                self.used.push_back(full);
            }
            self.position = 0;
        }
        let active = self.active.as_mut()?;
        assert!(
            active.last_sequence < sequence,
            "groups are placed in order"
        );
        active.last_sequence = sequence;
        let position = self.position;
        self.position += len as u64;
        assert!(self.position <= active.size, "a group lies within its file");
        Some(Placement {
            file: active.file.clone(),
            number: active.number,
            position,
            rolled_from,
        })
    }

    /// Recycles the files whose groups all precede `sequence`. Returns how many.
    pub(crate) fn recycle(&mut self, sequence: u64) -> usize {
        let mut count = 0;
        while let Some(file) = self.used.pop_front_if(|file| file.last_sequence < sequence) {
            self.free.push_back(file);
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
        self.used.back().map(|file| file.last_sequence)
    }

    /// Number for another file if one is wanted, because none is free or because those that are free are `short` of what
    /// is asked for, and allowed.
    pub(crate) fn wants_file(&self, file_bytes: u64, bytes_max: u64, short: bool) -> Option<u32> {
        let is_wanted = short || self.free.iter().all(|file| file.size < file_bytes);
        (is_wanted && self.can_grow(file_bytes, bytes_max)).then_some(self.next_number)
    }

    /// Whether another file is allowed.
    pub(crate) fn can_grow(&self, file_bytes: u64, bytes_max: u64) -> bool {
        self.total_bytes + file_bytes <= bytes_max
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
    if let Err(error) = write_zeros(io, &new, size).await {
        // What it has taken of a full device goes back at once.
        io.remove_file(&new).await?;
        return Err(error);
    }
    let name = layout.journal_file(shard, number);
    io.rename(&new, &name).await?;
    let directory = layout.journal(shard);
    with_descriptor(io, async || io.sync_dir(&directory).await, || ()).await?;
    open_file(io, layout, shard, number, durable).await
}

/// Asks for all the space before anything is written: a full device says so at once.
async fn write_zeros<I: Io>(io: &I, path: &Path, size: u64) -> io::Result<()> {
    let file = with_descriptor(io, async || io.open(path, OpenMode::Write).await, || ()).await?;
    file.allocate(size).await?;
    let mut zeros = io.buffer(usize::try_from(ZERO_CHUNK_BYTES.min(size)).expect("a MiB"));
    zeros.as_mut().fill(0);
    let rest = usize::try_from(size % ZERO_CHUNK_BYTES).expect("less than a MiB");
    let mut tail = io.buffer(rest.max(1));
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
    file.close().await
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
    let open = async |mode| with_descriptor(io, async || io.open(&name, mode).await, || ()).await;
    let plain = open(OpenMode::Write).await?;
    let durable = if durable {
        Some(open(OpenMode::WriteDurable).await?)
    } else {
        None
    };
    let size = plain.len().await? / runtime::ALIGNMENT as u64 * runtime::ALIGNMENT as u64;
    Ok(JournalFile {
        number,
        size,
        plain,
        durable,
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
