//! Names of everything in the data directory. No other file builds a path.
//!
//! ```text
//! <data>/journal/<shard>/<number>.journal    commit journal files; `.new` while being pre-written
//! <data>/checkpoint/<shard>.{0,1}            checkpoints, written in turn
//! <data>/spares/<shard>/<number>              files of gone segments, for new ones; emptied by a start
//! <data>/partitions/<topic id>-<index>/      one directory per partition that has segments
//!     <20-digit base offset>.log             record batches back to back
//!     <20-digit base offset>.index           chunk checksums, offsets and timestamps
//!     <20-digit base offset>.txnindex        aborted transactions, if the segment has any; `.new` while rebuilt
//!     <20-digit base offset>.<generation>.log ...   the same, of segments begun after their log was cut
//!     <20-digit end offset>-<10-digit leader epoch>.checkpoint    snapshots of the log; `.part` while being written
//! <data>/lost+found/<topic id>-<index>/      directories of logs that nobody knew; `.1`, `.2` if the name is taken
//! ```

use std::path::{Path, PathBuf};

use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};

use crate::index::SegmentId;
use crate::log_snapshot::snapshot_id::SnapshotId;

/// Length of a topic id in base64url.
const TOPIC_ID_CHARS: usize = 22;

/// How the name of a snapshot ends until it is complete.
const SNAPSHOT_PART_SUFFIX: &str = ".checkpoint.part";

/// The names below one data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of this data directory.
    pub fn new(root: &Path) -> Layout {
        Layout {
            root: root.to_owned(),
        }
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Parent of all shards' journals.
    pub fn journals(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// A shard's journal directory.
    pub fn journal(&self, shard: ShardId) -> PathBuf {
        self.journals().join(shard.to_string())
    }

    /// A journal file.
    pub fn journal_file(&self, shard: ShardId, number: u32) -> PathBuf {
        self.journal(shard).join(format!("{number}.journal"))
    }

    /// A journal file that is not pre-written yet.
    pub fn journal_file_new(&self, shard: ShardId, number: u32) -> PathBuf {
        self.journal(shard).join(format!("{number}.journal.new"))
    }

    /// The number of a journal file, by its name.
    pub fn journal_file_number(name: &Path) -> Option<u32> {
        name.file_name()?
            .to_str()?
            .strip_suffix(".journal")?
            .parse()
            .ok()
    }

    /// Directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// One of a shard's two checkpoint files.
    pub fn checkpoint(&self, shard: ShardId, slot: u8) -> PathBuf {
        self.checkpoints().join(format!("{shard}.{slot}"))
    }

    /// The shard of a checkpoint file, by its name.
    pub fn checkpoint_shard(name: &Path) -> Option<ShardId> {
        let (shard, slot) = name.file_name()?.to_str()?.split_once('.')?;
        (slot == "0" || slot == "1").then_some(())?;
        shard.parse().ok().map(ShardId)
    }

    /// Parent of all shards' spares.
    pub fn spares(&self) -> PathBuf {
        self.root.join("spares")
    }

    /// A shard's directory of spare files.
    pub fn spares_of(&self, shard: ShardId) -> PathBuf {
        self.spares().join(shard.to_string())
    }

    /// A spare file.
    pub fn spare(&self, shard: ShardId, number: u64) -> PathBuf {
        self.spares_of(shard).join(number.to_string())
    }

    /// Parent of the partition directories.
    pub fn partitions(&self) -> PathBuf {
        self.root.join("partitions")
    }

    /// A partition's directory.
    pub fn partition(&self, id: TopicPartition) -> PathBuf {
        self.partitions().join(id.to_string())
    }

    /// The partition of a directory, by its name. A topic id may contain dashes itself, but has a fixed length.
    pub fn partition_of(name: &Path) -> Option<TopicPartition> {
        let name = name.file_name()?.to_str()?;
        let (topic, rest) = name.split_at_checked(TOPIC_ID_CHARS)?;
        let partition = rest.strip_prefix('-')?.parse().ok()?;
        let id = TopicPartition {
            topic: TopicId::parse(topic)?,
            partition: PartitionIndex(partition),
        };
        (id.to_string() == name).then_some(id)
    }

    /// Where logs lie that were set aside.
    pub fn lost_found(&self) -> PathBuf {
        self.root.join("lost+found")
    }

    /// The directory of a log that was set aside; `number` counts those of one name.
    pub fn set_aside(&self, id: TopicPartition, number: usize) -> PathBuf {
        self.lost_found().join(match number {
            0 => id.to_string(),
            number => format!("{id}.{number}"),
        })
    }

    /// A segment's record batches.
    pub(crate) fn segment(&self, id: SegmentId) -> PathBuf {
        self.file_of(id, "log")
    }

    /// A segment's index.
    pub(crate) fn index(&self, id: SegmentId) -> PathBuf {
        self.file_of(id, "index")
    }

    /// A segment's aborted transactions.
    pub(crate) fn transaction_index(&self, id: SegmentId) -> PathBuf {
        self.file_of(id, "txnindex")
    }

    /// The same while it is written anew.
    pub(crate) fn transaction_index_new(&self, id: SegmentId) -> PathBuf {
        self.file_of(id, "txnindex.new")
    }

    fn file_of(&self, id: SegmentId, kind: &str) -> PathBuf {
        let base_offset = id.base_offset.0;
        let name = match id.generation {
            0 => format!("{base_offset:020}.{kind}"),
            generation => format!("{base_offset:020}.{generation}.{kind}"),
        };
        self.partition(id.partition).join(name)
    }

    /// The base offset of a file of a segment, and its generation, by its name.
    pub fn segment_of(name: &Path) -> Option<(Offset, u32)> {
        let name = name.file_name()?.to_str()?;
        let name = name
            .strip_suffix(".log")
            .or_else(|| name.strip_suffix(".index"))
            .or_else(|| name.strip_suffix(".txnindex"))?;
        let (digits, generation) = match name.split_once('.') {
            Some((digits, generation)) => (digits, generation.parse().ok().filter(|it| *it > 0)?),
            None => (name, 0),
        };
        (digits.len() == 20).then_some(())?;
        Some((Offset(digits.parse().ok()?), generation))
    }

    /// A snapshot of a log.
    pub(crate) fn snapshot(&self, partition: TopicPartition, id: SnapshotId) -> PathBuf {
        self.partition(partition).join(format!("{id}.checkpoint"))
    }

    /// A snapshot of a log that is not complete yet.
    pub(crate) fn snapshot_part(&self, partition: TopicPartition, id: SnapshotId) -> PathBuf {
        self.partition(partition)
            .join(format!("{id}{SNAPSHOT_PART_SUFFIX}"))
    }

    /// Whether a file is what there is of a snapshot that was not completed, by its name.
    pub(crate) fn is_snapshot_part(name: &Path) -> bool {
        let name = name.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_suffix(SNAPSHOT_PART_SUFFIX));
        id.is_some_and(|id| snapshot_id(id).is_some())
    }

    /// Which snapshot of its log a file is, by its name.
    pub fn snapshot_of(name: &Path) -> Option<SnapshotId> {
        let name = name.file_name()?.to_str()?;
        snapshot_id(name.strip_suffix(".checkpoint")?)
    }
}

fn snapshot_id(text: &str) -> Option<SnapshotId> {
    let (end_offset, epoch) = text.split_once('-')?;
    let id = SnapshotId {
        end_offset: Offset(end_offset.parse().ok()?),
        epoch: LeaderEpoch(epoch.parse().ok()?),
    };
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let layout = Layout::new(Path::new("d"));
        assert_eq!(
            Layout::journal_file_number(&layout.journal_file(ShardId(3), 17)),
            Some(17)
        );
        assert_eq!(
            Layout::journal_file_number(&layout.journal_file_new(ShardId(3), 17)),
            None
        );
        assert_eq!(
            Layout::checkpoint_shard(&layout.checkpoint(ShardId(12), 1)),
            Some(ShardId(12))
        );
        assert_eq!(Layout::checkpoint_shard(Path::new("12.2")), None);
        let id = TopicPartition::default();
        for (base_offset, generation) in [(42, 0), (7, 3)] {
            let segment = SegmentId {
                partition: id,
                base_offset: Offset(base_offset),
                generation,
                incarnation: 0,
            };
            let expected = Some((Offset(base_offset), generation));
            assert_eq!(Layout::segment_of(&layout.segment(segment)), expected);
            assert_eq!(Layout::segment_of(&layout.index(segment)), expected);
            let transactions = layout.transaction_index(segment);
            assert_eq!(Layout::segment_of(&transactions), expected);
        }
        let snapshot = SnapshotId {
            end_offset: Offset(1234),
            epoch: LeaderEpoch(56),
        };
        let (path, part) = (
            layout.snapshot(id, snapshot),
            layout.snapshot_part(id, snapshot),
        );
        assert!(path.ends_with("00000000000000001234-0000000056.checkpoint"));
        assert_eq!(Layout::snapshot_of(&path), Some(snapshot));
        assert_eq!(Layout::snapshot_of(&part), None);
        assert!(Layout::is_snapshot_part(&part) && !Layout::is_snapshot_part(&path));
        assert_eq!(Layout::segment_of(&path), None);
        for other in ["0.1", "1234-56.checkpoint", "x.checkpoint", "-.checkpoint"] {
            assert_eq!(Layout::snapshot_of(Path::new(other)), None);
        }
        for other in [
            "7.log",
            "00000000000000000007.0.log",
            "00000000000000000007.x.log",
        ] {
            assert_eq!(Layout::segment_of(Path::new(other)), None);
        }
        let dashes = TopicPartition {
            topic: TopicId([0xfb; 16]),
            partition: PartitionIndex(12),
        };
        assert!(dashes.topic.to_string().contains('-'));
        for id in [id, dashes] {
            assert_eq!(Layout::partition_of(&layout.partition(id)), Some(id));
            assert_eq!(Layout::partition_of(&layout.set_aside(id, 0)), Some(id));
            assert_eq!(Layout::partition_of(&layout.set_aside(id, 1)), None);
        }
        for other in ["orders-0", "-1", "", "AAAAAAAAAAAAAAAAAAAAAA-+1"] {
            assert_eq!(Layout::partition_of(Path::new(other)), None);
        }
    }
}
