//! A snapshot on its way to this replica.
//!
//! Pure. The leader only says which one; the driver gets its bytes. Until they are here nothing changes: a fetch that fails
//! costs nothing but another offer. One fetch at a time.

use crate::message::SnapshotMark;

/// How far it is.
#[derive(Debug, Default)]
pub(crate) enum SnapshotFetch {
    #[default]
    None,
    /// With the driver.
    UnderWay(SnapshotMark),
    /// Its bytes are here: to be taken as soon as a leader is known.
    Here(SnapshotMark),
}

impl SnapshotFetch {
    /// A leader offers a snapshot. Whether to fetch it: not while another is on its way.
    #[must_use]
    pub(crate) fn offer(&mut self, mark: &SnapshotMark) -> bool {
        let is_free = matches!(self, SnapshotFetch::None);
        if is_free {
            *self = SnapshotFetch::UnderWay(mark.clone());
        }
        is_free
    }

    /// The fetch is over.
    pub(crate) fn end(&mut self, is_here: bool) {
        let SnapshotFetch::UnderWay(mark) = std::mem::take(self) else {
            panic!("no snapshot is being fetched");
        };
        if is_here {
            *self = SnapshotFetch::Here(mark);
        }
    }

    /// Takes the snapshot that is here.
    pub(crate) fn take(&mut self) -> Option<SnapshotMark> {
        match std::mem::take(self) {
            SnapshotFetch::Here(mark) => Some(mark),
            other => {
                *self = other;
                None
            }
        }
    }
}
