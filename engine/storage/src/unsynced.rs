//! What the next checkpoint has to flush. Pure.

/// What of a segment no sync has covered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsynced {
    pub(crate) log: bool,
    pub(crate) index: bool,
    /// The index of aborted transactions.
    pub(crate) aborted: bool,
    /// The names are new too, perhaps that of the partition's directory as well.
    pub(crate) directory: bool,
}
