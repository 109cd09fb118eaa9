//! Bars: what a figure must reach, alone, against a peer, or against the machine.

use super::Metric;
use crate::workloads::Durability;

/// Share of the machine's limit that counts as reaching it: the limits themselves vary by as much between two looks.
pub const LIMIT_SHARE: f64 = 0.9;

/// One bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The figure is this or more.
    AtLeast(Metric, f64),
    /// The figure is this or less.
    AtMost(Metric, f64),
    /// At least so many times the peer's figure in that class.
    TimesPeer(Metric, Durability, f64),
    /// At most this share of the peer's figure in that class.
    ShareOfPeer(Metric, Durability, f64),
    /// At least [`LIMIT_SHARE`] of what the device and the loopback do, whichever is less, in MB/s.
    MachineLimit,
}

/// What a bar is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Against {
    /// The figure of Ringlog.
    pub own: Option<f64>,
    /// Ringlog's over the peer's.
    pub ratio: Option<f64>,
    /// The machine's limit in MB/s.
    pub limit: Option<f64>,
    /// The peer's figure.
    pub peer: Option<f64>,
    /// The figure of a server that answers and keeps nothing.
    pub idle: Option<f64>,
}

impl Bar {
    /// What it is about.
    pub fn metric(self) -> Metric {
        match self {
            Bar::AtLeast(metric, _)
            | Bar::AtMost(metric, _)
            | Bar::TimesPeer(metric, ..)
            | Bar::ShareOfPeer(metric, ..) => metric,
            Bar::MachineLimit => Metric::MbPerSecond,
        }
    }

    /// Whether it belongs beside the peer in that class; bars about Ringlog alone belong everywhere.
    pub fn applies(self, peer: Durability) -> bool {
        match self {
            Bar::TimesPeer(_, class, _) | Bar::ShareOfPeer(_, class, _) => class == peer,
            Bar::AtLeast(..) | Bar::AtMost(..) | Bar::MachineLimit => true,
        }
    }

    /// Whether it is met; `None` if what it needs was not measured.
    pub fn is_met(self, against: Against) -> Option<bool> {
        match self {
            Bar::AtLeast(_, least) => against.own.map(|own| own >= least),
            Bar::AtMost(_, most) => against.own.map(|own| own <= most),
            Bar::TimesPeer(_, _, least) => against.ratio.map(|ratio| ratio >= least),
            Bar::ShareOfPeer(_, _, most) => against.ratio.map(|ratio| ratio <= most),
            Bar::MachineLimit => {
                let (own, limit) = (against.own?, against.limit?);
                Some(own >= limit * LIMIT_SHARE)
            }
        }
    }

    /// What a server that answers and keeps nothing takes, if no broker can meet the bar because that is more.
    pub fn is_out_of_reach(self, against: Against) -> Option<f64> {
        match self {
            Bar::ShareOfPeer(_, _, share) => {
                let most = against.peer? * share;
                against.idle.filter(|idle| *idle > most)
            }
            Bar::AtLeast(..) | Bar::AtMost(..) | Bar::TimesPeer(..) | Bar::MachineLimit => None,
        }
    }

    /// In words, for a table.
    pub fn text(self, against: Against) -> String {
        let format = |metric: Metric, value| metric.format(value);
        match self {
            Bar::AtLeast(metric, least) => format!("≥ {}", format(metric, least)),
            Bar::AtMost(metric, most) => format!("≤ {}", format(metric, most)),
            Bar::TimesPeer(_, _, least) => format!("≥ {least} x"),
            Bar::ShareOfPeer(_, _, most) => format!("≤ {most} x"),
            Bar::MachineLimit => match against.limit {
                Some(limit) => format!(
                    "≥ {:.0} % of the machine's {}",
                    LIMIT_SHARE * 100.0,
                    format(Metric::MbPerSecond, limit)
                ),
                None => "the machine's limit".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_judged_by_what_they_are_about() {
        let against = Against {
            own: Some(950.0),
            ratio: Some(3.1),
            limit: Some(1000.0),
            ..Against::default()
        };
        let metric = Metric::MbPerSecond;
        for (bar, met) in [
            (Bar::AtLeast(metric, 1000.0), false),
            (Bar::AtLeast(metric, 900.0), true),
            (Bar::AtMost(metric, 949.0), false),
            (Bar::TimesPeer(metric, Durability::PageCache, 3.0), true),
            (Bar::ShareOfPeer(metric, Durability::PageCache, 3.0), false),
            (Bar::MachineLimit, true),
        ] {
            assert_eq!(bar.is_met(against), Some(met), "{bar:?}");
            assert_eq!(bar.is_met(Against::default()), None, "{bar:?}");
        }
    }

    #[test]
    fn a_share_below_what_answering_takes_is_out_of_reach() {
        let bar = Bar::ShareOfPeer(Metric::P99Ms, Durability::PageCache, 0.2);
        let check = |peer, idle, out_of_reach| {
            let against = Against {
                peer: Some(peer),
                idle: Some(idle),
                ..Against::default()
            };
            assert_eq!(bar.is_out_of_reach(against), out_of_reach);
        };
        check(2.0, 0.5, Some(0.5));
        check(3.0, 0.5, None);
        assert_eq!(bar.is_out_of_reach(Against::default()), None);
    }
}
