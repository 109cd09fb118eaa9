//! What a broker that registers has kept of its logs.
//!
//! A broker that stops cleanly flushes everything and says under which registration. After any other stop its disk
//! speaks: the end of its journal is witnessed, or it may have lost records that were acknowledged.

use model::BrokerEpoch;
use model::config::Durability;
use serde::{Deserialize, Serialize};

use crate::image::BrokerRegistration;

/// What the disk of a broker shows that has not stopped cleanly: nothing is damaged, and the last commit group that it
/// ever called durable is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The registration under which that group was written. A disk that was set back names an older one.
    pub broker_epoch: BrokerEpoch,
    /// Whether the kernel has run on since: then also what was only written to it is there.
    pub same_boot: bool,
    /// The durability of topics that set none, on this broker.
    pub durability_default: Durability,
}

/// How a broker's last process ended, as far as its logs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStop {
    /// In order: everything is there.
    Clean,
    /// Not in order, and nothing is lost.
    Whole(Witness),
    /// Something may be lost, or nobody knows.
    Suspect,
}

impl LastStop {
    /// What follows from what a registration claims, after the registration before it.
    ///
    /// Both proofs name that registration. A disk that was set back, or that belongs to a broker which the cluster has
    /// forgotten meanwhile, proves nothing: what it shows is older than what the cluster counts on.
    pub(super) fn of(
        previous: Option<&BrokerRegistration>,
        clean_shutdown_epoch: Option<BrokerEpoch>,
        witness: Option<Witness>,
    ) -> LastStop {
        let Some(previous) = previous else {
            return LastStop::Suspect;
        };
        if clean_shutdown_epoch == Some(previous.epoch) {
            return LastStop::Clean;
        }
        match witness {
            Some(witness) if witness.broker_epoch == previous.epoch => LastStop::Whole(witness),
            _ => LastStop::Suspect,
        }
    }

    /// Whether the logs of a topic are whole that sets this durability itself, or none.
    pub(super) fn is_whole(self, durability: Option<Durability>) -> bool {
        match self {
            LastStop::Clean => true,
            LastStop::Whole(witness) => {
                let durability = durability.unwrap_or(witness.durability_default);
                durability == Durability::Flushed || witness.same_boot
            }
            LastStop::Suspect => false,
        }
    }
}
