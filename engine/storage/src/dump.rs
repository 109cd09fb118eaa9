//! Read-only views of the storage's own files for people who look into them: pure decoders over a file's bytes.
//!
//! They share the parsers of recovery, so what they call sound is what recovery would accept, and they never panic on
//! damaged bytes. Nothing here is used by a running broker. The bytes are defined in FORMAT.md.

use model::record::{BatchHeader, Batches};
use model::{LeaderEpoch, Offset, ShardId, Timestamp, TopicPartition};
use runtime::ALIGNMENT;

use crate::checkpoint::{CheckpointError, RunState};
use crate::checkpoint_chain::decode_file;
use crate::encoding::Decoder;
use crate::index::{self, PageEntry, SegmentId};
use crate::journal::frame::{self, EntryKind, FrameError, GroupHeader};
use crate::log_snapshot::content;
use crate::removals::Removal;
use crate::transaction_index::AbortedTransaction;

/// One entry of a segment's index: a run of whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexChunk {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Where it begins in the `.log` file, in bytes.
    pub position: u32,
    /// Its size in bytes.
    pub length_bytes: u32,
    /// CRC-32C of its bytes, seeded with its place.
    pub checksum: u32,
    /// Largest timestamp of the segment up to its end.
    pub max_timestamp: Timestamp,
}

/// One page of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPage {
    /// Number of the page in its file, from 0.
    pub number: u32,
    /// The partition that the page says it belongs to.
    pub partition: TopicPartition,
    /// First offset of the segment that the page says it belongs to.
    pub segment_base_offset: Offset,
    /// The segment's generation.
    pub generation: u32,
    /// Its chunks, or `None` if the page is damaged or belongs to another place.
    pub chunks: Option<Vec<IndexChunk>>,
}

impl IndexPage {
    /// Whether the bytes of the segment file `log` at the chunk's place are those that the chunk was made of.
    pub fn matches(&self, chunk: &IndexChunk, log: &[u8]) -> bool {
        let start = chunk.position as usize;
        let end = start.saturating_add(chunk.length_bytes as usize);
        let id = SegmentId {
            partition: self.partition,
            base_offset: self.segment_base_offset,
            generation: self.generation,
            incarnation: 0,
        };
        let entry = index::ChunkEntry {
            relative_offset: 0,
            position: chunk.position,
            length: chunk.length_bytes,
            checksum: chunk.checksum,
            max_timestamp: chunk.max_timestamp,
        };
        log.get(start..end)
            .is_some_and(|bytes| entry.matches(id, bytes))
    }
}

/// The pages of an `.index` file, in order. A cut-off last page counts as damaged. `base_offset` is the file's name;
/// the partition is taken from the first page.
pub fn index_pages(bytes: &[u8], base_offset: Offset) -> Vec<IndexPage> {
    // A name that somebody has made up may be any number: what is damaged is shown, too.
    let chunk = |entry: index::ChunkEntry| IndexChunk {
        base_offset: Offset(
            base_offset
                .0
                .saturating_add(i64::from(entry.relative_offset)),
        ),
        position: entry.position,
        length_bytes: entry.length,
        checksum: entry.checksum,
        max_timestamp: entry.max_timestamp,
    };
    pages::<index::ChunkEntry>(bytes, base_offset)
        .map(|(number, owner, entries)| IndexPage {
            number,
            partition: owner.partition,
            segment_base_offset: owner.base_offset,
            generation: owner.generation,
            chunks: entries.map(|entries| entries.into_iter().map(chunk).collect()),
        })
        .collect()
}

/// One page of an index of aborted transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortedPage {
    /// Number of the page in its file, from 0.
    pub number: u32,
    /// The partition that the page says it belongs to.
    pub partition: TopicPartition,
    /// First offset of the segment that the page says it belongs to.
    pub segment_base_offset: Offset,
    /// Its transactions, or `None` if the page is damaged or belongs to another place.
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// The pages of a `.txnindex` file, as [`index_pages`] those of an `.index`.
pub fn aborted_pages(bytes: &[u8], base_offset: Offset) -> Vec<AbortedPage> {
    pages(bytes, base_offset)
        .map(|(number, owner, aborted)| AbortedPage {
            number,
            partition: owner.partition,
            segment_base_offset: owner.base_offset,
            aborted,
        })
        .collect()
}

/// Number, owner by its own words, and entries of each page.
fn pages<E: PageEntry>(
    bytes: &[u8],
    base_offset: Offset,
) -> impl Iterator<Item = (u32, SegmentId, Option<Vec<E>>)> {
    let mut first_owner = None;
    let pages = bytes.chunks(index::PAGE_BYTES).zip(0u32..);
    pages.map(move |(page, number)| {
        let owner = page_owner(page);
        let id = SegmentId {
            partition: *first_owner.get_or_insert(owner.partition),
            base_offset,
            ..owner
        };
        (number, owner, index::read_page(id, number, page))
    })
}

/// Whose page its header says it is; zeros if it is too short.
fn page_owner(page: &[u8]) -> SegmentId {
    let mut fields = Decoder::new(page.get(8..).unwrap_or_default());
    let partition = fields.topic_partition().unwrap_or_default();
    let base_offset = fields.offset().unwrap_or(Offset::ZERO);
    // The page's number and count of entries lie between.
    let between = fields.u64();
    let generation = between.and_then(|_| fields.u32()).unwrap_or(0);
    SegmentId {
        partition,
        base_offset,
        generation,
        incarnation: 0,
    }
}

/// What one entry of a commit group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalAction {
    /// Appends a batch; it lies at this position of the file.
    Batch {
        /// The batch's header.
        header: BatchHeader,
        /// Where the batch begins in the journal file, in bytes.
        position: usize,
    },
    /// Repeats a batch of an older group.
    CarriedBatch {
        /// The batch's header.
        header: BatchHeader,
        /// Where the batch begins in the journal file, in bytes.
        position: usize,
    },
    /// Something else happens to the log.
    Mark {
        /// What, in words.
        what: &'static str,
        /// At which offset, if at any.
        offset: Option<Offset>,
    },
}

/// One entry of a commit group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Which log.
    pub partition: TopicPartition,
    /// Leader epoch under which it was written.
    pub leader_epoch: LeaderEpoch,
    /// What it does.
    pub action: JournalAction,
}

/// One commit group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalGroup {
    /// Where it begins in the file, in bytes.
    pub position: usize,
    /// The shard that wrote it.
    pub shard: ShardId,
    /// The run that wrote it; recycled files keep groups of older runs behind the newer ones.
    pub generation: u64,
    /// Its number within the generation, from 1.
    pub sequence: u64,
    /// All groups up to this one were durable when it was sealed.
    pub durable_sequence: u64,
    /// Checksum of the header of the group before.
    pub previous_checksum: u32,
    /// Its own header's checksum.
    pub checksum: u32,
    /// Bytes of header and entries, without padding.
    pub used_bytes: u32,
    /// Its entries, or what is wrong with them.
    pub entries: Result<Vec<JournalEntry>, String>,
}

/// What lies in a journal file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalFileContents {
    /// Every group with a sound header, by position. A group of an older round may have been partly overwritten; then
    /// its entries are an error without anything being wrong.
    pub groups: Vec<JournalGroup>,
    /// Position and format of sound headers of a version that is not ours.
    pub other_formats: Vec<(usize, u16)>,
}

/// Lists the commit groups of a journal file.
pub fn journal_groups(bytes: &[u8]) -> JournalFileContents {
    let mut contents = JournalFileContents::default();
    let mut position = 0;
    while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
        let mut step = ALIGNMENT;
        match GroupHeader::parse(rest) {
            Ok((header, checksum)) => {
                let entries = frame::read_group(&header, rest);
                if entries.is_ok() {
                    step = header.group_bytes();
                }
                contents.groups.push(JournalGroup {
                    position,
                    shard: header.shard,
                    generation: header.generation,
                    sequence: header.sequence,
                    durable_sequence: header.durable_sequence,
                    previous_checksum: header.previous_checksum,
                    checksum,
                    used_bytes: header.used_bytes,
                    entries: entries.map(|entries| {
                        let entry = |entry: &frame::Entry| journal_entry(position, entry);
                        entries.iter().map(entry).collect()
                    }),
                });
            }
            Err(FrameError::Format(format)) => contents.other_formats.push((position, format)),
            Err(FrameError::NotAGroup) => {}
        }
        position = position.saturating_add(step);
    }
    contents
}

fn journal_entry(group: usize, entry: &frame::Entry) -> JournalEntry {
    let position = group.saturating_add(entry.batch_start);
    let action = match (entry.header.kind, entry.batch) {
        (EntryKind::CarriedBatch, Some(header)) => JournalAction::CarriedBatch { header, position },
        (_, Some(header)) => JournalAction::Batch { header, position },
        (kind, None) => {
            let (what, has_offset) = mark(kind);
            let offset = has_offset.then_some(entry.header.offset);
            JournalAction::Mark { what, offset }
        }
    };
    JournalEntry {
        partition: entry.header.id,
        leader_epoch: entry.header.leader_epoch,
        action,
    }
}

/// What an entry that is no batch does, and whether it says where.
fn mark(kind: EntryKind) -> (&'static str, bool) {
    match kind {
        EntryKind::Batch | EntryKind::CarriedBatch => ("a batch", true),
        EntryKind::Placed => ("batches that lie in a segment, from", true),
        EntryKind::LogStartAdvanced => ("log start advanced to", true),
        EntryKind::PartitionDeleted => ("deleted", false),
        EntryKind::Truncated => ("cut at", true),
        EntryKind::Reset => ("emptied, begins anew at", true),
        EntryKind::Gap => ("no records from here to the next batch:", true),
        EntryKind::EpochStarted => ("leader epoch begins at", true),
        EntryKind::QuorumState => ("quorum state", false),
    }
}

/// A segment as a checkpoint knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSegment {
    /// Its first offset and the offset behind its last.
    pub offsets: (Offset, Offset),
    /// Bytes of batches in its file.
    pub size_bytes: u64,
    /// Largest timestamp.
    pub max_timestamp: Timestamp,
    /// Whether it is complete.
    pub sealed: bool,
    /// Pages of its index file.
    pub index_pages: u32,
}

/// A log as a checkpoint knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointLog {
    /// Which partition.
    pub partition: TopicPartition,
    /// First offset that may be read.
    pub log_start_offset: Offset,
    /// The offset behind the last that is in a segment file.
    pub written_end_offset: Offset,
    /// Its segments in order.
    pub segments: Vec<CheckpointSegment>,
    /// Newest leader epoch.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Idempotent producers that are remembered.
    pub producer_count: usize,
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointContents {
    /// The shard that wrote it.
    pub shard: ShardId,
    /// Its number: of a shard's two files the higher counts.
    pub sequence: u64,
    /// `running`, `recovered` or `clean shutdown`; only in the first the journal must be replayed.
    pub state: &'static str,
    /// Which groups of the journal are valid.
    pub generation: u64,
    /// Sequence of the group at which replay begins, its file's number, and its position there in bytes.
    pub replay_from: (u64, u32, u64),
    /// The journal is durable at least through this group.
    pub durable_through: u64,
    /// What waits for its removal, in words.
    pub removals: Vec<String>,
    /// All logs.
    pub logs: Vec<CheckpointLog>,
}

/// Reads a checkpoint file; the error says what is wrong with it.
pub fn checkpoint(bytes: &[u8]) -> Result<CheckpointContents, String> {
    let checkpoint = decode_file(bytes).map_err(|error| match error {
        CheckpointError::Damaged(what) => what.to_owned(),
        CheckpointError::Broken { sequence, position } => {
            format!(
                "byte {position}: damaged, and what was durable after it ({sequence}) builds on it"
            )
        }
        CheckpointError::Format(format) => format!("format {format}, which is not ours"),
    })?;
    Ok(CheckpointContents {
        shard: checkpoint.shard,
        sequence: checkpoint.sequence,
        state: match checkpoint.state {
            RunState::Running => "running",
            RunState::Recovered => "recovered",
            RunState::CleanShutdown => "clean shutdown",
        },
        generation: checkpoint.generations.latest(),
        replay_from: (
            checkpoint.replay.sequence,
            checkpoint.replay.file,
            checkpoint.replay.position,
        ),
        durable_through: checkpoint.durable_through,
        removals: checkpoint
            .removals
            .iter()
            .map(|removal| match removal {
                Removal::Partition(partition) => partition.to_string(),
                Removal::Segment(segment) => {
                    let (base, generation) = (segment.base_offset, segment.generation);
                    format!(
                        "{} segment {base} of generation {generation}",
                        segment.partition
                    )
                }
                Removal::Behind(segment, bytes) => {
                    let base = segment.base_offset;
                    format!("{} segment {base} behind byte {bytes}", segment.partition)
                }
            })
            .collect(),
        logs: checkpoint
            .logs
            .iter()
            .map(|log| checkpoint_log(log))
            .collect(),
    })
}

fn checkpoint_log(log: &crate::Log) -> CheckpointLog {
    let state = log.state();
    CheckpointLog {
        partition: log.id(),
        log_start_offset: log.log_start_offset(),
        written_end_offset: state.written_end_offset,
        segments: state
            .segments
            .iter()
            .map(|segment| CheckpointSegment {
                offsets: (segment.id.base_offset, segment.next_offset),
                size_bytes: segment.size_bytes,
                max_timestamp: segment.max_timestamp,
                sealed: segment.sealed,
                index_pages: segment.index_pages,
            })
            .collect(),
        leader_epoch: state.leader_epochs.latest(),
        producer_count: state.producers.len(),
    }
}

/// What a snapshot of a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotContents {
    /// Position of each batch and its header, those of the snapshot's header and footer included, as far as there are any.
    pub batches: Vec<(usize, BatchHeader)>,
    /// The timestamp of the last record that it stands for, or position and reason of what is wrong.
    pub sound: Result<Timestamp, (usize, &'static str)>,
}

/// Reads a snapshot of a log. `epoch` is the second part of the file's name.
pub fn snapshot(bytes: &[u8], epoch: LeaderEpoch) -> SnapshotContents {
    let mut batches = Vec::new();
    let mut position = 0;
    for (header, batch) in Batches::new(bytes).map_while(Result::ok) {
        batches.push((position, header));
        position += batch.len();
    }
    let checked = content::check(bytes, epoch);
    SnapshotContents {
        batches,
        sound: checked
            .map(|content| content.last_contained_log_timestamp)
            .map_err(|damage| (damage.position, damage.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_nothing_decode_to_nothing() {
        for length in [0, 1, 63, 64, 4095, 4096, 4097, 12_000] {
            for fill in [0, 0xff, b'R'] {
                let bytes = vec![fill; length];
                assert_eq!(journal_groups(&bytes), JournalFileContents::default());
                assert!(checkpoint(&bytes).is_err());
                let contents = snapshot(&bytes, LeaderEpoch(0));
                assert!(contents.batches.is_empty() && contents.sound.is_err());
                let pages = index_pages(&bytes, Offset(7));
                assert_eq!(pages.len(), length.div_ceil(4096));
                assert!(pages.iter().all(|page| page.chunks.is_none()));
                let pages = aborted_pages(&bytes, Offset(7));
                assert!(pages.iter().all(|page| page.aborted.is_none()));
            }
        }
    }

    #[test]
    fn groups_are_found_behind_damage() {
        let header = GroupHeader {
            shard: ShardId(2),
            generation: 5,
            sequence: 1,
            durable_sequence: 0,
            previous_checksum: 0,
            used_bytes: 64,
            entry_count: 0,
            entries_checksum: 0,
        };
        let mut bytes = vec![0; 4 * ALIGNMENT];
        header.write(&mut bytes[ALIGNMENT..]);
        let torn = GroupHeader {
            sequence: 2,
            entry_count: 1,
            used_bytes: 200,
            ..header
        };
        torn.write(&mut bytes[2 * ALIGNMENT..]);
        let found = journal_groups(&bytes).groups;
        let places: Vec<_> = found.iter().map(|g| (g.position, g.sequence)).collect();
        assert_eq!(places, [(ALIGNMENT, 1), (2 * ALIGNMENT, 2)]);
        assert_eq!(found[0].entries, Ok(Vec::new()));
        assert!(found[1].entries.is_err());
    }

    #[test]
    fn an_index_page_tells_its_chunks_and_whose_it_is() {
        let id = SegmentId {
            partition: TopicPartition {
                topic: model::TopicId([7; 16]),
                partition: model::PartitionIndex(3),
            },
            base_offset: Offset(100),
            generation: 0,
            incarnation: 0,
        };
        let entry = index::ChunkEntry {
            relative_offset: 5,
            position: 10,
            length: 20,
            checksum: 30,
            max_timestamp: Timestamp(40),
        };
        let mut bytes = vec![0; 2 * index::PAGE_BYTES];
        let (first, second) = bytes.split_at_mut(index::PAGE_BYTES);
        index::write_page(id, 0, &[entry], first);
        index::write_page(id, 1, &[entry, entry], second);
        bytes[index::PAGE_BYTES + 70] ^= 1;
        let pages = index_pages(&bytes, id.base_offset);
        assert_eq!(pages[0].partition, id.partition);
        let chunk = pages[0].chunks.as_ref().unwrap()[0];
        assert_eq!((chunk.base_offset, chunk.position), (Offset(105), 10));
        assert!(!pages[0].matches(&chunk, &[0; 100]), "other bytes");
        assert!(!pages[0].matches(&chunk, &[0; 15]), "cut off");
        let mut builder = index::ChunkBuilder::new(id);
        let built = builder.push(b"batch", 0, Timestamp(1), 1).unwrap();
        let own = IndexChunk {
            position: built.position,
            length_bytes: built.length,
            checksum: built.checksum,
            ..chunk
        };
        assert!(pages[0].matches(&own, b"batch and more"));
        assert_eq!(pages[1].chunks, None, "damaged");
        assert_eq!(pages[1].segment_base_offset, Offset(100));
        assert!(index_pages(&bytes, Offset(99))[0].chunks.is_none());
    }
}
