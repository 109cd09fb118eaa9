//! Opens a shard: replays its journal into memory and goes on in the same journal.

use std::collections::BTreeMap;
use std::rc::Rc;

use model::{ShardId, Timestamp, TopicPartition};
use runtime::Io;

use super::apply::Applier;
use super::doubtful::Doubtful;
use super::probe::probe;
use super::{RecoveryReport, load_checkpoint};
use crate::cache::tail::JournalPosition;
use crate::checkpoint::{Checkpoint, RunState};
use crate::error::{OpenError, StorageError, open_io};
use crate::identity::BrokerIdentity;
use crate::inner::{Found, Inner};
use crate::journal::Journal;
use crate::journal::files::{JournalFiles, list_files, open_file, prepare_file};
use crate::journal::generations::Generations;
use crate::journal::replay::Replay;
use crate::journal::room::Claim;
use crate::layout::Layout;
use crate::log::Log;
use crate::options::{FlushMethod, StorageOptions};

impl<I: Io> Inner<I> {
    /// Opens a shard of a recovered data directory. Nothing is written but a checkpoint that names the new run.
    pub(crate) async fn open(
        io: I,
        options: StorageOptions,
    ) -> Result<(Rc<Inner<I>>, RecoveryReport), OpenError> {
        let layout = Layout::new(&options.directory);
        let shard = options.shard;
        let checkpoint = load_checkpoint(&io, &layout, shard).await?;
        let divided = checkpoint.filter(|found| found.shard_count == options.shard_count);
        let Some(checkpoint) = divided else {
            return Err(OpenError::Options(format!(
                "shard {shard} must be recovered before it is opened"
            )));
        };
        prepare_directories(&io, &layout, shard).await?;
        let mut report = RecoveryReport {
            clean: checkpoint.state == RunState::CleanShutdown,
            shards: 1,
            ..RecoveryReport::default()
        };
        let numbers = first_files(&io, &layout, &options).await?;
        let has_journal = checkpoint.has_journal();
        let is_durable = match options.flush_method {
            FlushMethod::DurableWrite => true,
            FlushMethod::WriteThenSync => false,
            FlushMethod::Probe => match free_file(&numbers, &checkpoint) {
                Some(number) => probe(&io, &layout, shard, number).await?,
                None => true,
            },
        };
        let mut files = JournalFiles::default();
        for number in numbers {
            let path = layout.journal_file(shard, number);
            let file = open_file(&io, &layout, shard, number, is_durable)
                .await
                .map_err(open_io("open", path))?;
            if file.size > 0 {
                files.add(number, file.size, Rc::new(file));
            }
        }
        let (generations, place) = if has_journal {
            (checkpoint.generations.clone(), checkpoint.replay)
        } else {
            (Generations::default(), JournalPosition::first())
        };
        let mut replay = match has_journal {
            true => Some(Replay::new(&io, &layout, &checkpoint).await?),
            false => None,
        };
        let checkpoint_durable_through = checkpoint.durable_through;
        let found = Found {
            journal: Journal::new(generations, place, files, options.groups_in_flight_max),
            logs: logs_of(&checkpoint, io.wall_clock(), has_journal),
            removals: checkpoint.removals,
            checkpoint_sequence: checkpoint.sequence,
            checkpoint_slot: checkpoint.slot,
            identity: BrokerIdentity::adopt(checkpoint.identity, options.identity.as_ref()),
            journal_durable_writes: is_durable,
        };
        let inner = Inner::new(io, options, found);
        if let Some(replay) = &mut replay {
            let known_durable = checkpoint_durable_through;
            inner.replay(replay, known_durable, &mut report).await?;
        }
        inner.begin_logs();
        inner.begin_run();
        report.logs = inner.logs.borrow().len();
        // Both files: neither may lead back to before this run.
        inner.checkpoint(RunState::Running).await?;
        inner.checkpoints.begin_anew();
        inner.checkpoint(RunState::Running).await?;
        Ok((Rc::new(inner), report))
    }

    /// Brings what the journal holds into the tails, and the journal to where it ends.
    async fn replay(
        &self,
        replay: &mut Replay<I>,
        known_durable: u64,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let mut applier = Applier::new(self, report);
        // The last group of each file, and where it ends.
        let mut ends: Vec<(u32, u64, u64)> = Vec::new();
        let mut doubtful = Doubtful::after(known_durable);
        while let Some(group) = replay.next_group().await? {
            let place = group.place;
            let end = (
                place.file,
                place.position + group.bytes.len() as u64,
                place.sequence,
            );
            match ends.last_mut().filter(|last| last.0 == place.file) {
                Some(last) => *last = end,
                None => ends.push(end),
            }
            doubtful.add(&group);
            applier.apply(group).await?;
        }
        applier.complete()?;
        doubtful.write_again(self).await?;
        applier.remove_strangers().await?;
        self.resume_journal(&ends, replay.next_position());
        // A run that was cut short may have used what is kept for marks and barriers. Then room is made before the next
        // one begins; on a full device it begins with what there is.
        if !self.journal_has_room(self.options.group_bytes_max, Claim::Append) {
            match applier.write_dirty().await {
                Err(OpenError::Storage(StorageError::DiskFull)) => {}
                written => written?,
            }
            self.tail.borrow_mut().evict(0);
        }
        report.torn_tail |= replay.torn;
        Ok(())
    }

    fn resume_journal(&self, ends: &[(u32, u64, u64)], place: JournalPosition) {
        let mut journal = self.journal.borrow_mut();
        for (file, end, sequence) in ends {
            journal.pipeline.files.resume(*file, *end, *sequence);
        }
        journal.pipeline.resume(place);
    }

    /// What the logs know only of this run.
    fn begin_logs(&self) {
        let now = self.io.wall_clock();
        for log in self.logs.borrow().values() {
            let mut state = log.state_mut();
            state.appended_at = now;
            if !state.producers.reaches(log.log_end_offset()) {
                state.producers.forget_undo(log.log_end_offset());
            }
        }
    }

    /// From here on groups are of this run: what an earlier one has left behind the end of the chain is none of them.
    fn begin_run(&self) {
        let mut journal = self.journal.borrow_mut();
        let first = journal.pipeline.next_sequence();
        assert!(
            journal.rests(),
            "a run begins with an empty journal before it"
        );
        journal.generations.begin(first, self.io.random() | 1);
    }
}

/// The logs that a checkpoint names. Without a journal, entries of earlier logs of their names are no more.
fn logs_of(
    checkpoint: &Checkpoint,
    now: Timestamp,
    has_journal: bool,
) -> BTreeMap<TopicPartition, Rc<Log>> {
    let mut logs = BTreeMap::new();
    for log in &checkpoint.logs {
        let mut state = log.state_mut();
        for segment in &mut state.segments {
            if segment.written_at == Timestamp::NONE {
                segment.written_at = now;
            }
        }
        drop(state);
        if !has_journal {
            log.forget_journal();
        }
        logs.insert(log.id(), log.clone());
    }
    logs
}

async fn prepare_directories<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<(), OpenError> {
    let journal = layout.journal(shard);
    io.create_dir_all(&journal)
        .await
        .map_err(open_io("create", &journal))?;
    // A run that was killed may have made files whose names are not durable yet; groups in them are not either then.
    io.sync_dir(&journal)
        .await
        .map_err(open_io("flush", &journal))?;
    let spares = layout.spares_of(shard);
    io.create_dir_all(&spares)
        .await
        .map_err(open_io("create", &spares))
}

/// The journal files there are; makes the first if there is none.
async fn first_files<I: Io>(
    io: &I,
    layout: &Layout,
    options: &StorageOptions,
) -> Result<Vec<u32>, OpenError> {
    let shard = options.shard;
    let mut numbers = list_files(io, layout, shard).await?;
    if numbers.is_empty() {
        let size = options.journal_first_file_bytes;
        prepare_file(io, layout, shard, 0, size, false)
            .await
            .map_err(open_io("write", layout.journal_file(shard, 0)))?;
        numbers.push(0);
    }
    Ok(numbers)
}

/// A file that may be written over: none if the journal holds anything.
fn free_file(numbers: &[u32], checkpoint: &Checkpoint) -> Option<u32> {
    numbers
        .first()
        .copied()
        .filter(|_| !checkpoint.has_journal())
}
