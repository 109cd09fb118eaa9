//! What is wrong with the rules of replication on purpose, so that tests can show that they would notice.

/// One condition that is left out.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlantedFault {
    /// The high watermark counts what the leader has not made durable itself.
    CountsOwnLogEnd,
    /// While an expansion of the ISR is under way its candidate does not count.
    PendingJoinDoesNotCount,
    /// While a shrinking of the ISR is under way the one that leaves does not count.
    PendingLeaveDoesNotCount,
    /// A refusal settles a proposal that was made more than once.
    TrustsAnyRefusal,
    /// The high watermark moves though the ISR is smaller than its minimum.
    BelowMinimum,
    /// A follower joins the ISR that has not reached the beginning of the leader epoch.
    JoinsBeforeEpochStart,
    /// What a follower has told another process of it, or under another leader epoch, counts.
    AnySession,
    /// A follower's log is continued without a look at where it departs from the leader's.
    UncheckedSubscription,
    /// A follower tells of records before they are durable.
    AcknowledgesAppended,
    /// A follower takes records from a leader whose epoch is over.
    AnyFrame,
    /// A follower cuts its log to its high watermark when another broker leads.
    TruncatesToHighWatermark,
}
