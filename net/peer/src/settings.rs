//! What the connections between brokers may be told.
//!
//! Pure.

/// What is wrong on purpose, so that tests can show that they would notice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// The checksum of headers is not looked at.
    HeaderUnchecked,
    /// The numbers of frames are not looked at.
    NumbersUnchecked,
    /// Whoever asks for another directory gets this one.
    DirectoryUnchecked,
    /// Whoever comes from another cluster is welcome.
    ClusterUnchecked,
    /// What waits to be sent has no bound.
    QueueUnbounded,
    /// The pauses between attempts to connect double for ever.
    BackoffEndless,
    /// A connection on which nothing is heard stays.
    SilenceUnnoticed,
    /// A request that was sent and got no answer is told to be not carried out.
    LostIsNotCarriedOut,
}
