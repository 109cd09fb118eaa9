//! The last groups of a journal that may not be durable, and how a start makes them so.

use std::path::Path;

use runtime::{ALIGNMENT, Buffer, File, Io, OpenMode, align_up};

use crate::error::{OpenError, open_io};
use crate::inner::Inner;
use crate::journal::placed::Placed;
use crate::journal::replay::ReplayedGroup;

/// The last groups of a journal, of which nothing says that they are durable: the run that wrote them may have been killed
/// before their flush, or because of it. A flush that has failed says nothing about what a later one does for these
/// writes (Rebello et al., 2020), so they are written once more, where they stand, before anything builds on them.
pub(super) struct Doubtful {
    known_durable: u64,
    groups: Vec<ReplayedGroup>,
}

impl Doubtful {
    pub(super) fn after(known_durable: u64) -> Doubtful {
        Doubtful {
            known_durable,
            groups: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, group: &ReplayedGroup) {
        self.known_durable = self.known_durable.max(group.durable_sequence);
        self.groups.push(group.clone());
        let known = self.known_durable;
        self.groups.retain(|group| group.place.sequence > known);
    }

    /// The same bytes at the same place: a torn write changes nothing.
    pub(super) async fn write_again<I: Io>(self, inner: &Inner<I>) -> Result<(), OpenError> {
        for group in self.groups {
            // First what it describes: only then it may be durable.
            for number in group.placed.keys() {
                let entry = &group.entries[*number];
                let start = entry.batch_start;
                let description = &group.bytes[start..start + entry.header.length as usize];
                let placed = Placed::decode(description).expect("it was found");
                let path = inner.layout.segment(placed.segment_of(entry.header.id));
                let (position, bytes) = (placed.position, u64::from(placed.bytes));
                write_blocks_again(&inner.io, &path, position, bytes).await?;
            }
            let path = inner
                .layout
                .journal_file(inner.options.shard, group.place.file);
            write_again(&inner.io, &path, group.place.position, &group.bytes).await?;
        }
        Ok(())
    }
}

/// The blocks that hold these bytes of a file.
async fn write_blocks_again<I: Io>(
    io: &I,
    path: &Path,
    position: u64,
    bytes: u64,
) -> Result<(), OpenError> {
    let start = position / ALIGNMENT as u64 * ALIGNMENT as u64;
    let len = usize::try_from(position + bytes - start).expect("less than a segment");
    let file = io.open(path, OpenMode::Read).await;
    let file = file.map_err(open_io("open", path))?;
    let blocks = file.read_at(start, align_up(len)).await;
    let blocks = blocks.map_err(open_io("read", path))?;
    file.close().await.map_err(open_io("close", path))?;
    assert!(blocks.len() >= len, "what was found there is there");
    // A segment that was sealed since ends within a block. This start takes it for longer, and cuts it again.
    write_again(io, path, start, &blocks).await
}

async fn write_again<I: Io>(
    io: &I,
    path: &Path,
    position: u64,
    bytes: &[u8],
) -> Result<(), OpenError> {
    let opened = io.open(path, OpenMode::Write).await;
    let file = opened.map_err(open_io("open", path))?;
    let len = align_up(bytes.len());
    let mut buffer = io.buffer(len);
    buffer.truncate(len);
    buffer.as_mut()[..bytes.len()].copy_from_slice(bytes);
    buffer.as_mut()[bytes.len()..].fill(0);
    let written = file.write_at(buffer.freeze(), position).await;
    written.map_err(open_io("write", path))?;
    file.sync_data().await.map_err(open_io("flush", path))
}
