//! Extents of segment files for cold reads, and loaded indexes: one cache per shard with a byte budget.
//!
//! Eviction is scan-resistant (a variant of S3-FIFO), so a reader that passes once over a backlog does not displace
//! what several readers share. Only verified bytes get in. The hasher is fixed: the same run evicts the same entries.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::rc::Rc;

use bytes::Bytes;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, Weighter};
use runtime::Counter;

use crate::index::{ChunkEntry, SegmentId};
use crate::waiters::Waiters;

/// What is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ExtentKey {
    /// The chunks of a segment that begin in the n-th run of `extent_bytes`.
    Extent(SegmentId, u32),
    /// The entries in the pages of a segment's index file.
    Index(SegmentId),
    /// The n-th run of pages of a segment's aborted transactions.
    Aborted(SegmentId, u32),
}

#[derive(Clone)]
enum Cached {
    Extent(Bytes),
    Index(u32, Rc<Vec<ChunkEntry>>),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<ExtentKey, Cached> for ByBytes {
    fn weight(&self, _: &ExtentKey, value: &Cached) -> u64 {
        let bytes = match value {
            Cached::Extent(bytes) => bytes.len(),
            Cached::Index(_, entries) => entries.len() * size_of::<ChunkEntry>(),
        };
        bytes.max(64) as u64
    }
}

/// Counts what leaves the cache.
#[derive(Clone, Default)]
struct Evictions(Rc<Counter>);

impl Lifecycle<ExtentKey, Cached> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: ExtentKey, _: Cached) {
        self.0.increment();
    }
}

type Store = Cache<ExtentKey, Cached, ByBytes, BuildHasherDefault<DefaultHasher>, Evictions>;

/// The cache.
pub(crate) struct ExtentCache {
    store: RefCell<Store>,
    in_flight: RefCell<BTreeSet<ExtentKey>>,
    evictions: Evictions,
    /// Lookups that found something.
    pub(crate) hits: Counter,
    /// Lookups that did not.
    pub(crate) misses: Counter,
    /// A read from the device has ended.
    pub(crate) landed: Waiters,
}

impl ExtentCache {
    pub(crate) fn new(bytes_max: u64, extent_bytes: u32) -> ExtentCache {
        let items = usize::try_from(bytes_max / u64::from(extent_bytes.max(1)))
            .unwrap_or(usize::MAX)
            .max(16);
        let evictions = Evictions::default();
        let store = Cache::with(
            items,
            bytes_max,
            ByBytes,
            BuildHasherDefault::default(),
            evictions.clone(),
        );
        ExtentCache {
            store: RefCell::new(store),
            in_flight: RefCell::default(),
            evictions,
            hits: Counter::default(),
            misses: Counter::default(),
            landed: Waiters::default(),
        }
    }

    /// The extent, if at least `len` bytes of it are here.
    pub(crate) fn extent(&self, key: ExtentKey, len: usize) -> Option<Bytes> {
        match self.store.borrow().get(&key)? {
            Cached::Extent(bytes) if bytes.len() >= len => {
                self.hits.increment();
                Some(bytes.clone())
            }
            _ => None,
        }
    }

    /// The entries of the first `pages` pages of a segment's index.
    pub(crate) fn index(&self, id: SegmentId, pages: u32) -> Option<Rc<Vec<ChunkEntry>>> {
        match self.store.borrow().get(&ExtentKey::Index(id))? {
            Cached::Index(known, entries) if *known == pages => Some(entries.clone()),
            _ => None,
        }
    }

    pub(crate) fn insert_extent(&self, key: ExtentKey, bytes: Bytes) {
        self.store.borrow_mut().insert(key, Cached::Extent(bytes));
    }

    pub(crate) fn insert_index(&self, id: SegmentId, pages: u32, entries: Rc<Vec<ChunkEntry>>) {
        self.store
            .borrow_mut()
            .insert(ExtentKey::Index(id), Cached::Index(pages, entries));
    }

    /// The index of a segment that was cut is another one.
    pub(crate) fn forget_index(&self, id: SegmentId) {
        self.forget(ExtentKey::Index(id));
    }

    /// It is not what it was.
    pub(crate) fn forget(&self, key: ExtentKey) {
        self.store.borrow_mut().remove(&key);
    }

    /// Claims the reading of an extent; false if another task is at it.
    pub(crate) fn claim(&self, key: ExtentKey) -> bool {
        let claimed = self.in_flight.borrow_mut().insert(key);
        self.misses.add(u64::from(claimed));
        claimed
    }

    /// Ends the claim and wakes who waited for it.
    pub(crate) fn release(&self, key: ExtentKey) {
        let was_claimed = self.in_flight.borrow_mut().remove(&key);
        assert!(was_claimed, "who releases has claimed");
        self.landed.notify();
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.store.borrow().weight()
    }

    /// Entries that gave way to others.
    pub(crate) fn evictions(&self) -> &Counter {
        &self.evictions.0
    }
}
