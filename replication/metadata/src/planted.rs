//! What is wrong with the controller's rules on purpose, so that tests can show that they would notice.

/// One condition that is left out. The image carries it, because every decision reads one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// A broker that may have lost the ends of its logs stays eligible.
    SuspectsStay,
    /// A replica in another directory counts as the one before.
    AnyDirectory,
    /// What a broker shows of its last stop counts, whichever registration it names.
    AnyRegistration,
    /// A process that restarts quickly goes on leading under the leader epoch of the one before.
    RestartedLeads,
    /// Who has left the ISR stays eligible although the high watermark moves on.
    EligibleForever,
    /// Members of a proposed ISR may be of earlier registrations.
    StaleBrokerEpoch,
    /// A proposed ISR may be based on an older version of the partition.
    StalePartitionEpoch,
    /// Of suspects, the best of those that have answered leads.
    FirstAnswerLeads,
    /// A move ends when one replica of the target is in sync.
    MoveEndsEarly,
}
