//! What a broker is in its cluster, and what the partitions that it leads lack, out of one [`Document`].

use serde::Serialize;

use crate::document::{Document, Series, Value};

/// A broker in its cluster. Counts are as they are now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replication {
    /// Its number.
    pub broker_id: Option<String>,
    /// Partitions that it leads.
    pub leads: f64,
    /// Replicas that it has, of partitions that it leads or follows.
    pub replicas: f64,
    /// Of those led: a replica is not in sync.
    pub under_replicated: f64,
    /// Of those led: `acks=all` is refused.
    pub under_min_isr: f64,
    /// Records that the slowest follower of those led lacks.
    pub follower_lag: f64,
    /// What it tells of the cluster, if it is the controller.
    pub controller: Option<Controlled>,
}

/// A cluster, as its controller tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Controlled {
    /// Brokers that are registered.
    pub brokers: f64,
    /// Those of them that are fenced.
    pub fenced: f64,
    /// All partitions.
    pub partitions: f64,
    /// Those without a leader.
    pub offline: f64,
}

impl Replication {
    /// As a document says; `None` of a broker that does not tell.
    pub(crate) fn of(document: &Document) -> Option<Replication> {
        let numbers = |name: &str| {
            let series = document.family(name).map(|family| &family.series);
            series.into_iter().flatten().filter_map(number)
        };
        let sum = |name: &str| numbers(name).reduce(|a, b| a + b);
        let of = |name: &str| sum(name).unwrap_or(0.0);
        let info = document.family("ringlog_broker_info");
        let info = info.and_then(|family| family.series.first());
        let is_controller = of("ringlog_active_controller") > 0.0;
        Some(Replication {
            replicas: sum("ringlog_replicas")?,
            broker_id: info.and_then(|series| series.labels.get("broker_id").cloned()),
            leads: of("ringlog_partitions_led"),
            under_replicated: of("ringlog_under_replicated_partitions"),
            under_min_isr: of("ringlog_under_min_isr_partitions"),
            follower_lag: numbers("ringlog_follower_lag_records_max").fold(0.0, f64::max),
            controller: is_controller.then(|| Controlled {
                brokers: of("ringlog_brokers"),
                fenced: of("ringlog_brokers_fenced"),
                partitions: of("ringlog_partitions"),
                offline: of("ringlog_offline_partitions"),
            }),
        })
    }
}

fn number(series: &Series) -> Option<f64> {
    match &series.value {
        Value::Number(number) => Some(number.as_f64()),
        Value::Histogram(_) => None,
    }
}
