//! The bytes of one file: what readers see and what the device keeps.
//!
//! A write is *submitted* (in the clock's events), then *completed* (visible, in the device's volatile cache), then
//! *flushed* (durable). Pages of 4096 bytes are the unit of a write, sectors of 512 the unit of tearing.
//! Invariants: every change has a sequence number, given at completion; a durable page never goes back to an older
//! sequence number; replaying changes in sequence over the durable image gives the visible one.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::random::Generator;
use crate::buffer::ALIGNMENT;

/// What a device writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

const PAGE: u64 = ALIGNMENT as u64;
const SECTORS_PER_PAGE: usize = ALIGNMENT / SECTOR;
static ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];

#[derive(Clone)]
struct Page {
    data: Bytes,
    sequence: u64,
}

struct Write {
    sequence: u64,
    position: u64,
    data: Bytes,
}

#[derive(Clone, Copy)]
enum SizeChange {
    Grow(u64),
    Truncate(u64),
}

struct Size {
    sequence: u64,
    change: SizeChange,
    durable: bool,
}

/// A sparse image of a file.
#[derive(Clone, Default)]
struct Image {
    length: u64,
    pages: BTreeMap<u64, Page>,
}

impl Image {
    fn put(&mut self, write: &Write) {
        for (offset, chunk) in pages_of(write) {
            let page = (write.position + offset) / PAGE;
            if self
                .pages
                .get(&page)
                .is_none_or(|old| old.sequence < write.sequence)
            {
                self.pages.insert(
                    page,
                    Page {
                        data: chunk,
                        sequence: write.sequence,
                    },
                );
            }
        }
    }

    /// Puts those sectors that `survives` chooses.
    fn put_torn(&mut self, write: &Write, mut survives: impl FnMut() -> bool) {
        for (offset, chunk) in pages_of(write) {
            let page = (write.position + offset) / PAGE;
            let old = self.pages.get(&page);
            let newer = old.is_none_or(|old| old.sequence < write.sequence);
            let mut merged = BytesMut::from(old.map_or(&ZEROS[..], |old| &old.data[..]));
            let mut changed = false;
            for sector in 0..SECTORS_PER_PAGE {
                if survives() && newer {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    merged[range.clone()].copy_from_slice(&chunk[range]);
                    changed = true;
                }
            }
            if changed {
                self.pages.insert(
                    page,
                    Page {
                        data: merged.freeze(),
                        sequence: write.sequence,
                    },
                );
            }
        }
    }

    fn resize(&mut self, change: SizeChange, sequence: u64) {
        match change {
            SizeChange::Grow(to) => self.length = self.length.max(to),
            SizeChange::Truncate(to) => {
                let boundary = to / PAGE;
                let keep_of_boundary = (to % PAGE) as usize;
                let first_gone = boundary + u64::from(keep_of_boundary > 0);
                let mut beyond = self.pages.split_off(&first_gone);
                beyond.retain(|_, page| page.sequence > sequence);
                self.pages.append(&mut beyond);
                if keep_of_boundary > 0
                    && let Some(page) = self.pages.get_mut(&boundary)
                    && page.sequence < sequence
                {
                    let mut data = BytesMut::from(&page.data[..]);
                    data[keep_of_boundary..].fill(0);
                    *page = Page {
                        data: data.freeze(),
                        sequence,
                    };
                }
                self.length = to;
            }
        }
    }

    fn read(&self, position: u64, len: usize) -> Bytes {
        let end = self.length.min(position.saturating_add(len as u64));
        if position >= end {
            return Bytes::new();
        }
        let first = position / PAGE;
        let last = (end - 1) / PAGE;
        if first == last {
            let from = (position % PAGE) as usize;
            let to = from + (end - position) as usize;
            return match self.pages.get(&first) {
                Some(page) => page.data.slice(from..to),
                None => Bytes::from_static(&ZEROS[from..to]),
            };
        }
        let mut result = BytesMut::zeroed((end - position) as usize);
        for (number, page) in self.pages.range(first..=last) {
            let start = number * PAGE;
            let from = position.max(start);
            let to = end.min(start + PAGE);
            result[(from - position) as usize..(to - position) as usize]
                .copy_from_slice(&page.data[(from - start) as usize..(to - start) as usize]);
        }
        result.freeze()
    }

    /// Makes bytes beyond the end read as zeros if the file grows again, and every page older than any change to come.
    fn settle(&mut self) {
        self.resize(SizeChange::Truncate(self.length), u64::MAX);
        for page in self.pages.values_mut() {
            page.sequence = 0;
        }
    }
}

fn pages_of(write: &Write) -> impl Iterator<Item = (u64, Bytes)> + '_ {
    (0..write.data.len()).step_by(ALIGNMENT).map(|offset| {
        let chunk = write.data.slice(offset..offset + ALIGNMENT);
        let chunk = if chunk[..] == ZEROS[..] {
            Bytes::from_static(&ZEROS)
        } else {
            chunk
        };
        (offset as u64, chunk)
    })
}

/// The content of one file.
#[derive(Default)]
pub(crate) struct Content {
    visible: Image,
    durable: Image,
    writes: Vec<Write>,
    sizes: Vec<Size>,
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        self.visible.length
    }

    pub(crate) fn read(&self, position: u64, len: usize) -> Bytes {
        self.visible.read(position, len)
    }

    /// What a power cut would surely keep.
    pub(crate) fn durable(&self) -> Bytes {
        let len = usize::try_from(self.durable.length).unwrap_or(usize::MAX);
        self.durable.read(0, len)
    }

    /// A write reaches the device's cache, or with `durable` its medium.
    pub(crate) fn complete_write(
        &mut self,
        sequence: u64,
        position: u64,
        data: Bytes,
        durable: bool,
    ) {
        let end = position + data.len() as u64;
        let write = Write {
            sequence,
            position,
            data,
        };
        self.visible.put(&write);
        let grows = end > self.visible.length;
        self.visible.resize(SizeChange::Grow(end), sequence);
        if durable {
            self.durable.put(&write);
            // Only this write becomes durable, not what is before it in the cache; the length that its own bytes need
            // does too.
            if !self.sizes.is_empty() || end > self.durable.length {
                self.push_size(sequence, SizeChange::Grow(end), true);
            }
        } else {
            self.writes.push(write);
            if grows {
                self.push_size(sequence, SizeChange::Grow(end), false);
            }
        }
    }

    /// The file becomes at least `size` long.
    pub(crate) fn allocate(&mut self, sequence: u64, size: u64) {
        if size > self.visible.length {
            self.visible.resize(SizeChange::Grow(size), sequence);
            self.push_size(sequence, SizeChange::Grow(size), false);
        }
    }

    /// The file becomes exactly `size` long.
    pub(crate) fn truncate(&mut self, sequence: u64, size: u64) {
        self.visible.resize(SizeChange::Truncate(size), sequence);
        self.push_size(sequence, SizeChange::Truncate(size), false);
    }

    /// Everything completed up to and including `watermark` becomes durable.
    pub(crate) fn flush(&mut self, watermark: u64) {
        self.flush_some(watermark, || true);
    }

    /// A flush failed: what it covered is durable or leaves the cache unwritten, at random.
    pub(crate) fn fail_flush(&mut self, watermark: u64, random: &Generator) {
        self.flush_some(watermark, || random.one_in(2));
    }

    fn flush_some(&mut self, watermark: u64, mut succeeds: impl FnMut() -> bool) {
        let durable = &mut self.durable;
        self.writes.retain(|write| {
            if write.sequence > watermark {
                return true;
            }
            if succeeds() {
                durable.put(write);
            }
            false
        });
        for size in &mut self.sizes {
            if size.sequence <= watermark {
                size.durable = true;
            }
        }
        self.fold_sizes();
    }

    fn push_size(&mut self, sequence: u64, change: SizeChange, durable: bool) {
        if let (
            SizeChange::Grow(to),
            Some(Size {
                change: SizeChange::Grow(last),
                durable: true,
                ..
            }),
            true,
        ) = (change, self.sizes.last_mut(), durable)
        {
            *last = to.max(*last);
            return;
        }
        self.sizes.push(Size {
            sequence,
            change,
            durable,
        });
        self.fold_sizes();
    }

    /// Applies the durable size changes that no volatile one precedes.
    fn fold_sizes(&mut self) {
        let ready = self.sizes.iter().take_while(|size| size.durable).count();
        for size in self.sizes.drain(..ready) {
            self.durable.resize(size.change, size.sequence);
        }
    }

    /// Power is gone: what is visible becomes what the device kept, the durable image and a random part of the rest.
    pub(crate) fn power_cut(&mut self, survival: &Survival<'_>) {
        let mut writes = std::mem::take(&mut self.writes).into_iter().peekable();
        let image = &mut self.durable;
        for size in std::mem::take(&mut self.sizes) {
            while let Some(write) = writes.next_if(|write| write.sequence <= size.sequence) {
                survival.apply(image, &write);
            }
            if size.durable || survival.keeps_metadata() {
                image.resize(size.change, size.sequence);
            }
        }
        for write in writes {
            survival.apply(image, &write);
        }
        image.settle();
        self.visible = image.clone();
    }

    /// What readers see, on a device that has flushed it.
    pub(crate) fn settled_copy(&self) -> Content {
        let mut image = self.visible.clone();
        image.settle();
        Content {
            durable: image.clone(),
            visible: image,
            ..Content::default()
        }
    }

    /// Turns one bit over, on the device and so for readers.
    pub(crate) fn flip_bit(&mut self, position: u64, bit: u8) {
        for image in [&mut self.visible, &mut self.durable] {
            if position >= image.length {
                continue;
            }
            let page = image.pages.entry(position / PAGE).or_insert_with(|| Page {
                data: Bytes::from_static(&ZEROS),
                sequence: 0,
            });
            let mut data = BytesMut::from(&page.data[..]);
            data[(position % PAGE) as usize] ^= 1 << (bit % 8);
            page.data = data.freeze();
        }
    }
}

/// What the device keeps of its volatile cache at one power cut.
///
/// The share is drawn once per cut, so that all of it, none of it and anything between are common.
pub(crate) struct Survival<'a> {
    random: &'a Generator,
    keep_percent: u64,
}

impl<'a> Survival<'a> {
    pub(crate) fn draw(random: &'a Generator) -> Survival<'a> {
        const SHARES: [u64; 5] = [0, 20, 50, 80, 100];
        Survival {
            random,
            keep_percent: SHARES[random.index(SHARES.len())],
        }
    }

    pub(crate) fn keeps_metadata(&self) -> bool {
        self.random.below(100) < self.keep_percent
    }

    fn apply(&self, image: &mut Image, write: &Write) {
        let is_torn = self.random.one_in(3);
        if is_torn {
            // Half of the torn writes lose their end, the others any sectors.
            if self.random.one_in(2) {
                let sectors = write.data.len() / SECTOR;
                let mut left = self.random.below(sectors as u64 + 1);
                image.put_torn(write, || {
                    let survives = left > 0;
                    left = left.saturating_sub(1);
                    survives
                });
            } else {
                image.put_torn(write, || self.random.below(100) < self.keep_percent);
            }
        } else if self.random.below(100) < self.keep_percent {
            image.put(write);
        }
    }
}
