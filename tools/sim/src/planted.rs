//! The registry of planted bugs: what is broken on purpose, in which scenario, and the words with which a checker must
//! notice it. A checker that no planted bug has set off may be one that cannot fail.

use crate::run::Outcome;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The storage acknowledges groups before they are durable.
    EarlyAcknowledgement,
    /// A broker with a full disk answers nothing.
    SilentWhenFull,
    /// On a full disk nothing can be read from the device.
    UnreadableWhenFull,
    /// A start on a full disk cannot open files.
    NoStartWhenFull,
    /// A full disk stays full, whatever is deleted.
    RoomNotGiven,
    /// On a full disk the controller's records find no place.
    Undecided,
    /// Segments go on hanging after the deletions, until the shard is fenced.
    HangsOn,
    /// Files cannot be removed.
    FilesStay,
    /// A broker whose clients rely on its disk gets the disk of an earlier time.
    RolledBack,
}

/// A planted bug and who must notice.
pub struct PlantedBug {
    /// As on the command line.
    pub name: &'static str,
    /// What is broken.
    pub what: Planted,
    /// The scenario that must notice.
    pub scenario: &'static str,
    /// Words of the violation that must be among those noted.
    pub noticed_as: &'static str,
}

const fn bug(
    name: &'static str,
    what: Planted,
    scenario: &'static str,
    noticed_as: &'static str,
) -> PlantedBug {
    PlantedBug {
        name,
        what,
        scenario,
        noticed_as,
    }
}

/// All of them.
pub const PLANTED: &[PlantedBug] = &[
    bug(
        "early-acknowledgement",
        Planted::EarlyAcknowledgement,
        "power-cut",
        "is lost",
    ),
    bug(
        "early-acknowledgement-full",
        Planted::EarlyAcknowledgement,
        "full-disk",
        "is lost",
    ),
    bug(
        "silent-when-full",
        Planted::SilentWhenFull,
        "full-disk",
        "no answer to a produce",
    ),
    bug(
        "unreadable-when-full",
        Planted::UnreadableWhenFull,
        "full-disk",
        "cannot be read",
    ),
    bug(
        "no-start-when-full",
        Planted::NoStartWhenFull,
        "full-disk",
        "does not start",
    ),
    bug(
        "room-not-given",
        Planted::RoomNotGiven,
        "full-disk",
        "is not taken again",
    ),
    bug(
        "undecided",
        Planted::Undecided,
        "full-disk",
        "is not decided",
    ),
    bug(
        "early-acknowledgement-deletions",
        Planted::EarlyAcknowledgement,
        "many-deletions",
        "is lost",
    ),
    bug(
        "early-acknowledgement-several",
        Planted::EarlyAcknowledgement,
        "several",
        "lacks what is acknowledged",
    ),
    bug(
        "rolled-back",
        Planted::RolledBack,
        "several",
        "lacks what is acknowledged",
    ),
    bug(
        "rolled-back-high-watermark",
        Planted::RolledBack,
        "several",
        "an earlier leader had",
    ),
    bug(
        "hangs-on",
        Planted::HangsOn,
        "many-deletions",
        "is not taken again",
    ),
    bug(
        "files-stay",
        Planted::FilesStay,
        "many-deletions",
        "are still there",
    ),
];

impl PlantedBug {
    /// The violation that shows that it was noticed.
    pub fn noticed(&self, outcome: &Outcome) -> Option<String> {
        let mut violations = outcome.violations.iter();
        violations
            .find(|what| what.contains(self.noticed_as))
            .cloned()
    }
}
