//! The open commit group: appends are copied into it, then it is sealed and never changes again.
//!
//! Invariant: the first `used` bytes of the buffer are the group so far; nothing beyond them is meaningful.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{Offset, TopicPartition};
use runtime::{ALIGNMENT, Buffer, align_up};

use super::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, GROUP_HEADER_BYTES};
use crate::log::Log;
use crate::placement::{Chosen, Placement};
use crate::segment::BatchPlace;

/// A batch of the open group.
pub(crate) struct GroupBatch {
    /// Which of the group's logs.
    pub(crate) log: u32,
    pub(crate) place: BatchPlace,
    /// Where the batch lies in the group.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// It was in the tail before; the group only gives it a new home.
    pub(crate) carried: bool,
}

/// A log that the group has something of.
#[derive(Clone)]
pub(crate) struct GroupLog {
    pub(crate) log: Rc<Log>,
    /// What becomes durable with the group.
    pub(crate) end: Offset,
}

/// What is reported when a group is committed.
pub(crate) struct GroupReport<F> {
    pub(crate) logs: Vec<GroupLog>,
    /// What the group has written to segments.
    pub(crate) placements: Vec<Rc<Placement<F>>>,
}

/// The group that appends go to.
pub(crate) struct OpenGroup<B> {
    buffer: Option<B>,
    used: usize,
    pub(crate) entry_count: u32,
    pub(crate) entries_checksum: u32,
    pub(crate) batches: Vec<GroupBatch>,
    pub(crate) logs: Vec<GroupLog>,
    /// Logs that an entry of the group deletes.
    deleted: BTreeSet<TopicPartition>,
    /// Some entry asked for durability on the device.
    pub(crate) flushed: bool,
    /// Write it even if it is empty: someone waits for everything before it to be durable.
    pub(crate) barrier: bool,
    /// Size of recent groups; the next buffer is allocated for it.
    expected_bytes: usize,
}

impl<B: Buffer> OpenGroup<B> {
    pub(crate) fn new() -> OpenGroup<B> {
        OpenGroup {
            buffer: None,
            used: GROUP_HEADER_BYTES,
            entry_count: 0,
            entries_checksum: 0,
            batches: Vec::new(),
            logs: Vec::new(),
            deleted: BTreeSet::new(),
            flushed: false,
            barrier: false,
            expected_bytes: ALIGNMENT,
        }
    }

    /// Nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.entry_count == 0 && !self.barrier
    }

    /// Bytes so far.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes that the group takes in the journal.
    pub(crate) fn disk_bytes(&self) -> usize {
        align_up(self.used)
    }

    /// The number of `log` in this group, whose sequence is `sequence`; adds it with durable end `end`.
    pub(crate) fn log_number(
        &mut self,
        log: &Rc<Log>,
        slot: &mut (u64, u32),
        sequence: u64,
        end: Offset,
    ) -> u32 {
        if slot.0 == sequence {
            let known = &mut self.logs[slot.1 as usize];
            assert!(
                Rc::ptr_eq(&known.log, log),
                "a log knows its place in the group"
            );
            known.end = known.end.max(end);
            return slot.1;
        }
        let number = u32::try_from(self.logs.len()).expect("fewer logs than bytes in a group");
        *slot = (sequence, number);
        self.logs.push(GroupLog {
            log: log.clone(),
            end,
        });
        number
    }

    /// Copies a batch in and lets `patch` finish it; returns where it starts. `entry` gets the CRC that `patch` left.
    pub(crate) fn add_batch<E>(
        &mut self,
        mut entry: EntryHeader,
        batch: &[u8],
        allocate: impl Fn(usize) -> B,
        patch: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.reserve(ENTRY_HEADER_BYTES + batch.len(), &allocate);
        let start = self.used + ENTRY_HEADER_BYTES;
        let end = start + batch.len();
        let buffer = self.buffer.as_mut().expect("reserved above").as_mut();
        buffer[start..end].copy_from_slice(batch);
        patch(&mut buffer[start..end])?;
        let crc = &buffer[start + CRC_START..start + CRC_START + 4];
        entry.batch_crc = u32::from_be_bytes([crc[0], crc[1], crc[2], crc[3]]);
        self.put_header(entry);
        self.used = end;
        Ok(start)
    }

    /// Adds an entry that is final, with the bytes that follow it, if any.
    pub(crate) fn add_mark(
        &mut self,
        entry: EntryHeader,
        bytes: &[u8],
        allocate: impl Fn(usize) -> B,
    ) {
        assert_eq!(entry.length as usize, bytes.len(), "as the entry says");
        if entry.kind == EntryKind::PartitionDeleted {
            self.deleted.insert(entry.id);
        }
        self.reserve(ENTRY_HEADER_BYTES + bytes.len(), &allocate);
        self.put_header(entry);
        let start = self.used + ENTRY_HEADER_BYTES;
        let end = start + bytes.len();
        let buffer = self.buffer.as_mut().expect("reserved above").as_mut();
        buffer[start..end].copy_from_slice(bytes);
        self.used = end;
    }

    /// Whether an entry of this group deletes the log of this name: whatever follows belongs to another log.
    pub(crate) fn deletes(&self, id: TopicPartition) -> bool {
        self.deleted.contains(&id)
    }

    /// The bytes of a batch.
    pub(crate) fn bytes_of(&self, batch: &GroupBatch) -> &[u8] {
        let buffer = self.buffer.as_ref().expect("it has batches").as_ref();
        &buffer[batch.start..batch.start + batch.len]
    }

    /// Puts descriptions in the place of the batches of some logs, by their numbers. Returns the buffer that has the
    /// batches, all of them where they were.
    pub(crate) fn place(
        &mut self,
        chosen: &BTreeMap<u32, Chosen>,
        allocate: impl Fn(usize) -> B,
    ) -> B {
        let full = self.buffer.take().expect("it has batches");
        let batches = std::mem::take(&mut self.batches);
        let end = std::mem::replace(&mut self.used, GROUP_HEADER_BYTES);
        self.entry_count = 0;
        self.entries_checksum = 0;
        let mut position = GROUP_HEADER_BYTES;
        let mut next = batches.iter().peekable();
        let mut described = BTreeSet::new();
        while position < end {
            let bytes = &full.as_ref()[position..end];
            let entry = EntryHeader::parse_first(bytes).expect("it was put there");
            let start = position + ENTRY_HEADER_BYTES;
            position = start + entry.length as usize;
            let batch = next.next_if(|batch| batch.start == start);
            match batch.and_then(|batch| chosen.get_key_value(&batch.log)) {
                None => self.add_mark(entry, &full.as_ref()[start..position], &allocate),
                Some((number, chosen)) if described.insert(*number) => {
                    let description = chosen.placed.encode();
                    let entry = EntryHeader {
                        kind: EntryKind::Placed,
                        id: entry.id,
                        leader_epoch: entry.leader_epoch,
                        offset: entry.offset,
                        length: u32::try_from(description.len()).expect("a few bytes a batch"),
                        batch_crc: crc32c::crc32c(&description),
                        offset_delta_of_max_timestamp: 0,
                    };
                    self.add_mark(entry, &description, &allocate);
                }
                Some(_) => {}
            }
        }
        assert!(next.next().is_none(), "every batch was come to");
        assert_eq!(described.len(), chosen.len(), "and every log");
        self.batches = batches;
        full
    }

    fn put_header(&mut self, entry: EntryHeader) {
        let bytes = entry.to_bytes();
        let buffer = self
            .buffer
            .as_mut()
            .expect("reserved by the caller")
            .as_mut();
        buffer[self.used..self.used + ENTRY_HEADER_BYTES].copy_from_slice(&bytes);
        self.entries_checksum = crc32c::crc32c_append(self.entries_checksum, &bytes);
        self.entry_count += 1;
    }

    /// Makes room by moving to a larger buffer: twice as large at least, so that all moves together copy no more than the
    /// group holds in the end.
    fn reserve(&mut self, bytes: usize, allocate: &impl Fn(usize) -> B) {
        let needed = self.used + bytes;
        assert!(
            u32::try_from(needed).is_ok(),
            "a group is smaller than 4 GiB"
        );
        let present = self
            .buffer
            .as_ref()
            .map_or(0, |buffer| buffer.as_ref().len());
        if needed <= present {
            return;
        }
        let wanted = if present == 0 {
            // A batch more than last time should not mean a copy of all the others.
            needed.max(self.expected_bytes + self.expected_bytes / 8)
        } else {
            needed.max(2 * present)
        };
        let mut larger = allocate(wanted);
        if let Some(old) = &self.buffer {
            larger.as_mut()[..self.used].copy_from_slice(&old.as_ref()[..self.used]);
        }
        self.buffer = Some(larger);
    }

    /// Ends the group: `write_header` fills its first bytes, the padding is zeroed. The group starts anew, empty.
    pub(crate) fn seal(
        &mut self,
        allocate: impl Fn(usize) -> B,
        write_header: impl FnOnce(&mut [u8]),
    ) -> B {
        self.reserve(0, &allocate);
        let mut buffer = self.buffer.take().unwrap_or_else(|| allocate(ALIGNMENT));
        let len = self.disk_bytes();
        assert!(
            self.used >= GROUP_HEADER_BYTES && buffer.as_ref().len() >= len,
            "a group lies in its buffer"
        );
        buffer.truncate(len);
        let bytes = buffer.as_mut();
        bytes[self.used..].fill(0);
        write_header(bytes);
        // Fast up, slow down: one large group must not make a hundred small ones pin large buffers.
        self.expected_bytes = len.max(self.expected_bytes - self.expected_bytes / 4);
        self.used = GROUP_HEADER_BYTES;
        self.entry_count = 0;
        self.entries_checksum = 0;
        self.deleted.clear();
        self.flushed = false;
        self.barrier = false;
        buffer
    }
}

/// Where a batch holds its CRC.
const CRC_START: usize = 17;
