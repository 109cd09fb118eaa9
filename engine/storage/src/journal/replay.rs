//! Reads the journal's chain of groups back after a restart.
//!
//! The chain ends at the first place where the next group is not. That is a torn tail, of which nothing was
//! acknowledged, unless something proves that the missing group had been durable: the checkpoint, or any later group
//! of the same generation whose `durable_sequence` covers it. Then it is damage, and an error; never cut silently
//! (reliability, decision 5 and R6).

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use model::ShardId;
use runtime::{ALIGNMENT, File, Io, OpenMode, align_up};

use super::files::list_files;
use super::frame::{Entry, EntryKind, GROUP_HEADER_BYTES, GroupHeader, read_group};
use super::placed::{FoundBatch, Placed};
use crate::cache::tail::JournalPosition;
use crate::checkpoint::{Checkpoint, RunState};
use crate::error::{OpenError, open_io};
use crate::journal::generations::Generations;
use crate::layout::Layout;

/// Reading goes in windows of this size.
const WINDOW_BYTES: usize = 1 << 20;

/// A verified group.
#[derive(Clone)]
pub(crate) struct ReplayedGroup {
    pub(crate) place: JournalPosition,
    /// All groups up to this one were durable when it was sealed.
    pub(crate) durable_sequence: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) bytes: Bytes,
    /// What the entries of these numbers have placed in segments. Of groups that the checkpoint says to be durable it is not
    /// looked at here: hardly anybody needs it, and of a log that is gone it is gone.
    pub(crate) placed: BTreeMap<usize, Vec<FoundBatch>>,
}

struct JournalFile<F> {
    number: u32,
    path: PathBuf,
    file: F,
    size: u64,
}

/// Walks the chain.
pub(crate) struct Replay<I: Io> {
    io: I,
    layout: Layout,
    files: Vec<JournalFile<I::File>>,
    window: (usize, u64, Bytes),
    shard: ShardId,
    generations: Generations,
    /// The group expected next.
    sequence: u64,
    previous_checksum: u32,
    /// Where it should be.
    file: usize,
    position: u64,
    durable_through: u64,
    /// And nothing was written after it.
    ends_there: bool,
    started: bool,
    /// The chain ended at a bad group rather than at an untouched place.
    pub(crate) torn: bool,
}

/// The batches that an entry of a group says to lie in a segment, or why they do not; `None` if it says no such thing.
pub(crate) async fn find_placed<I: Io>(
    io: &I,
    layout: &Layout,
    entry: &Entry,
    group: &Bytes,
) -> Result<Option<Result<Vec<FoundBatch>, String>>, OpenError> {
    if entry.header.kind != EntryKind::Placed {
        return Ok(None);
    }
    let description = &group[entry.batch_start..entry.batch_start + entry.header.length as usize];
    let Ok(placed) = Placed::decode(description) else {
        return Ok(Some(Err("a description is not one".to_owned())));
    };
    let path = layout.segment(placed.segment_of(entry.header.id));
    let file = match io.open(&path, OpenMode::Read).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(Err(format!("{} is not there", path.display()))));
        }
        opened => opened.map_err(open_io("open", &path))?,
    };
    let skipped = placed.position % ALIGNMENT as u64;
    let wanted = skipped as usize + placed.bytes as usize;
    let start = placed.position - skipped;
    let read = file.read_at(start, align_up(wanted)).await;
    let read = read.map_err(open_io("read", &path))?;
    file.close().await.map_err(open_io("close", &path))?;
    let found = read.slice((skipped as usize).min(read.len())..wanted.min(read.len()));
    // A copy of its own: it may be kept for long.
    let found = Bytes::copy_from_slice(&found);
    let batches = placed.read(entry.header.offset, &found);
    Ok(Some(
        batches.map_err(|reason| format!("{}: {reason}", path.display())),
    ))
}

/// What is at a place.
enum Found {
    Group(GroupHeader, u32),
    Other,
}

impl<I: Io> Replay<I> {
    /// From the checkpoint's position.
    pub(crate) async fn new(
        io: &I,
        layout: &Layout,
        checkpoint: &Checkpoint,
    ) -> Result<Replay<I>, OpenError> {
        let shard = checkpoint.shard;
        let mut files = Vec::new();
        for number in list_files(io, layout, shard).await? {
            let path = layout.journal_file(shard, number);
            let file = io
                .open(&path, OpenMode::Read)
                .await
                .map_err(open_io("open", &path))?;
            let size = file.len().await.map_err(open_io("size", &path))? / ALIGNMENT as u64
                * ALIGNMENT as u64;
            files.push(JournalFile {
                number,
                path,
                file,
                size,
            });
        }
        let named = checkpoint.replay.file;
        let found = files.iter().position(|file| file.number == named);
        // Reclaiming waits for the checkpoint that is read here: what it names was not given up by the journal.
        if found.is_none() && !files.is_empty() && checkpoint.state == RunState::Running {
            return Err(OpenError::Corrupt {
                path: layout.journal_file(shard, named),
                position: 0,
                reason: "the shard was running, but this file of its journal is missing".to_owned(),
            });
        }
        let file = found.unwrap_or(0);
        Ok(Replay {
            io: io.clone(),
            layout: layout.clone(),
            files,
            window: (0, 0, Bytes::new()),
            shard,
            generations: checkpoint.generations.clone(),
            sequence: checkpoint.replay.sequence,
            previous_checksum: checkpoint.replay.previous_checksum,
            file,
            position: checkpoint.replay.position,
            durable_through: checkpoint.durable_through,
            ends_there: checkpoint.state == RunState::CleanShutdown,
            started: false,
            torn: false,
        })
    }

    /// The next group, or `None` at the end of the journal.
    pub(crate) async fn next_group(&mut self) -> Result<Option<ReplayedGroup>, OpenError> {
        if self.ends_there && self.sequence > self.durable_through {
            return Ok(None);
        }
        if self.files.is_empty() {
            return self.end("the journal has no files").await;
        }
        let mut place = None;
        for (file, position) in self.candidates() {
            if let Found::Group(header, checksum) = self.look(file, position).await?
                && self.is_next(&header)
            {
                place = Some((file, position, header, checksum));
                break;
            }
        }
        if place.is_none() && !self.started {
            place = self.locate().await?;
        }
        let Some((file, position, header, checksum)) = place else {
            return self.end("the next group is not there").await;
        };
        (self.file, self.position) = (file, position);
        if header.group_bytes() as u64 > self.files[file].size.saturating_sub(position) {
            return self.end("the group is longer than its file").await;
        }
        // A copy of its own: what is kept of one group is not to keep the memory of all that were read with it.
        let bytes = self.read(file, position, header.group_bytes()).await?;
        let bytes = Bytes::copy_from_slice(&bytes);
        let entries = match read_group(&header, &bytes) {
            Ok(entries) => entries,
            Err(reason) => {
                self.torn = true;
                return self.end(&reason).await;
            }
        };
        let placed = match self.find_placed(header.sequence, &entries, &bytes).await? {
            Ok(placed) => placed,
            Err(reason) => {
                self.torn = true;
                return self.end(&reason).await;
            }
        };
        let place = JournalPosition {
            sequence: header.sequence,
            previous_checksum: header.previous_checksum,
            file: self.files[file].number,
            position,
        };
        assert_eq!(place.sequence, self.sequence, "the chain has no gaps");
        assert!(
            self.position.is_multiple_of(ALIGNMENT as u64),
            "groups are whole blocks"
        );
        self.started = true;
        self.sequence += 1;
        self.previous_checksum = checksum;
        self.position += header.group_bytes() as u64;
        Ok(Some(ReplayedGroup {
            place,
            durable_sequence: header.durable_sequence,
            entries,
            bytes,
            placed,
        }))
    }

    /// What the group has placed in segments, by entry, if it is there.
    async fn find_placed(
        &self,
        sequence: u64,
        entries: &[Entry],
        group: &Bytes,
    ) -> Result<Result<BTreeMap<usize, Vec<FoundBatch>>, String>, OpenError> {
        let mut placed = BTreeMap::new();
        if sequence <= self.durable_through {
            return Ok(Ok(placed));
        }
        for (number, entry) in entries.iter().enumerate() {
            match find_placed(&self.io, &self.layout, entry, group).await? {
                None => {}
                Some(Ok(batches)) => {
                    placed.insert(number, batches);
                }
                Some(Err(reason)) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(placed))
    }

    /// The group that was not there.
    pub(crate) fn next_position(&self) -> JournalPosition {
        JournalPosition {
            sequence: self.sequence,
            previous_checksum: self.previous_checksum,
            file: self.files.get(self.file).map_or(0, |file| file.number),
            position: self.position,
        }
    }

    /// Where the next group may be: after the last one, or at the start of another file.
    fn candidates(&self) -> Vec<(usize, u64)> {
        let others = (0..self.files.len())
            .filter(|file| *file != self.file)
            .map(|file| (file, 0));
        std::iter::once((self.file, self.position))
            .chain(others)
            .collect()
    }

    fn is_next(&self, header: &GroupHeader) -> bool {
        self.is_ours(header)
            && header.sequence == self.sequence
            && header.previous_checksum == self.previous_checksum
    }

    fn is_ours(&self, header: &GroupHeader) -> bool {
        header.shard == self.shard && header.generation == self.generations.of(header.sequence)
    }

    /// The chain has ended; decides whether it may.
    async fn end(&mut self, reason: &str) -> Result<Option<ReplayedGroup>, OpenError> {
        let missing = self.sequence;
        let proof = if missing <= self.durable_through {
            Some(format!(
                "the checkpoint knows the journal to be durable through group {}",
                self.durable_through
            ))
        } else {
            self.find(|header| header.sequence > missing && header.durable_sequence >= missing)
                .await?
                .map(|(_, _, header, _)| {
                    format!("group {} says that it had been durable", header.sequence)
                })
        };
        match proof {
            None => Ok(None),
            Some(proof) => Err(OpenError::Corrupt {
                path: self
                    .files
                    .get(self.file)
                    .map(|file| file.path.clone())
                    .unwrap_or_default(),
                position: self.position,
                reason: format!(
                    "commit group {missing} is missing or damaged ({reason}), but {proof}"
                ),
            }),
        }
    }

    /// Finds the first group if the checkpoint's hint does not lead to it.
    async fn locate(&mut self) -> Result<Option<(usize, u64, GroupHeader, u32)>, OpenError> {
        let (sequence, previous) = (self.sequence, self.previous_checksum);
        (self.file, self.position) = (0, 0);
        self.find(|header| header.sequence == sequence && header.previous_checksum == previous)
            .await
    }

    /// Searches the blocks of the files that may hold groups after the current place.
    async fn find(
        &mut self,
        wanted: impl Fn(&GroupHeader) -> bool,
    ) -> Result<Option<(usize, u64, GroupHeader, u32)>, OpenError> {
        for file in 0..self.files.len() {
            let mut position = if file == self.file { self.position } else { 0 };
            if file != self.file
                && let Found::Group(first, _) = self.look(file, 0).await?
                && (self.is_ours(&first) && self.started && first.sequence < self.sequence)
            {
                // Groups fill a file from its start: this one holds only older ones. A file that begins with a group of
                // an earlier run may go on with groups of this one.
                continue;
            }
            while position < self.files[file].size {
                if let Found::Group(header, checksum) = self.look(file, position).await?
                    && self.is_ours(&header)
                    && wanted(&header)
                {
                    return Ok(Some((file, position, header, checksum)));
                }
                position += ALIGNMENT as u64;
            }
        }
        Ok(None)
    }

    async fn look(&mut self, file: usize, position: u64) -> Result<Found, OpenError> {
        if position >= self.files[file].size {
            return Ok(Found::Other);
        }
        let bytes = self.read(file, position, ALIGNMENT).await?;
        let head = bytes.get(..GROUP_HEADER_BYTES).unwrap_or_default();
        Ok(match GroupHeader::parse(head) {
            Ok((header, checksum)) => Found::Group(header, checksum),
            Err(_) => Found::Other,
        })
    }

    async fn read(&mut self, file: usize, position: u64, len: usize) -> Result<Bytes, OpenError> {
        let (known, start, bytes) = &self.window;
        if *known == file
            && position >= *start
            && position + len as u64 <= start + bytes.len() as u64
        {
            let from = usize::try_from(position - start).unwrap_or(usize::MAX);
            return Ok(bytes.slice(from..from + len));
        }
        let journal = &self.files[file];
        let read = journal
            .file
            .read_at(position, len.max(WINDOW_BYTES))
            .await
            .map_err(open_io("read", &journal.path))?;
        let slice = read.slice(..len.min(read.len()));
        self.window = (file, position, read);
        Ok(slice)
    }
}
