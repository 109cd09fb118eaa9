//! What the server of a shard counts, and the registry of its metrics.
//!
//! A request is recorded once, when its last byte was accepted by the socket (without an answer: when its records were
//! handed over); one whose connection broke before is not. Histograms exist per API, and for produce per acks level,
//! from the first request on; nothing is per partition or connection.

use std::cell::OnceCell;

use model::ErrorCode;
use protocol::{APIS, ApiKey};
use runtime::metrics::{Labels, labels};
use runtime::{Counter, Histogram, LabelValue, MetricDefinition, Snapshot, Unit};
use shard::request::Acks;

use crate::request_clock::{RequestClock, RequestKind, STAGE_COUNT, Stage};

/// Stages of a produce request that is not answered.
const STAGES_WITHOUT_ANSWER: &[Stage] = &[Stage::Read, Stage::Decode, Stage::Queue, Stage::Append];

/// Stages of a produce request that is answered when the leader has its records.
const STAGES_OF_LEADER: &[Stage] = &[
    Stage::Read,
    Stage::Decode,
    Stage::Queue,
    Stage::Append,
    Stage::JournalWait,
    Stage::DeviceWrite,
    Stage::Purgatory,
    Stage::Send,
];

const STAGES_OF_FETCH: &[Stage] = &[
    Stage::Read,
    Stage::Decode,
    Stage::Queue,
    Stage::Append,
    Stage::Purgatory,
    Stage::Send,
];

/// One more than the largest API key.
const API_CODES: usize = {
    let mut codes = 0;
    let mut at = 0;
    while at < APIS.len() {
        let code = APIS[at].key.code() as usize;
        if code >= codes {
            codes = code + 1;
        }
        at += 1;
    }
    codes
};

/// Error codes of Kafka 4.3.1 go from -1 to 133; a later one would be counted with the last place.
const ERROR_PLACES: usize = 136;

/// Where the time of one kind of request goes.
struct StageHistograms {
    whole: Histogram,
    stages: [OnceCell<Histogram>; STAGE_COUNT],
    used: &'static [Stage],
}

impl StageHistograms {
    fn new(used: &'static [Stage]) -> StageHistograms {
        StageHistograms {
            whole: Histogram::new(),
            stages: Default::default(),
            used,
        }
    }

    fn record(&self, clock: &RequestClock) {
        self.whole.record_value(clock.whole_nanos());
        for stage in self.used {
            let histogram = self.stages[*stage as usize].get_or_init(Histogram::new);
            histogram.record_value(clock.stage_nanos(*stage));
        }
    }

    fn snapshot_into(&self, names: &Labels, into: &mut Snapshot) {
        into.histogram(&REQUEST, names.clone(), self.whole.snapshot());
        for stage in self.used {
            if let Some(histogram) = self.stages[*stage as usize].get() {
                let mut names = names.clone();
                names.push(("stage", stage.name().into()));
                into.histogram(&REQUEST_STAGE, names, histogram.snapshot());
            }
        }
    }
}

/// Counters of a shard's server.
pub struct ServerMetrics {
    pub connections_accepted: Counter,
    pub connections_refused: Counter,
    /// Connections ended because they moved no bytes.
    pub connections_cut_off: Counter,
    /// Connections ended because of what the client sent.
    pub protocol_errors: Counter,
    /// Bytes of records in answers to fetch requests.
    pub fetched_bytes: Counter,
    /// Errors in answers, by code.
    pub errors: ErrorCounters,
    requests: [Counter; API_CODES],
    produce: [OnceCell<StageHistograms>; 3],
    fetch: OnceCell<StageHistograms>,
    other: [OnceCell<Histogram>; API_CODES],
}

impl Default for ServerMetrics {
    fn default() -> ServerMetrics {
        ServerMetrics {
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_cut_off: Counter::default(),
            protocol_errors: Counter::default(),
            fetched_bytes: Counter::default(),
            errors: ErrorCounters::default(),
            requests: std::array::from_fn(|_| Counter::default()),
            produce: Default::default(),
            fetch: OnceCell::new(),
            other: std::array::from_fn(|_| OnceCell::new()),
        }
    }
}

impl ServerMetrics {
    /// A request was taken from the wire.
    pub fn received(&self, api: ApiKey) {
        self.requests[place_of(api)].increment();
    }

    /// A request has ended.
    pub fn record(&self, clock: &RequestClock) {
        match clock.kind {
            RequestKind::Produce(acks) => {
                let (place, stages) = match acks {
                    Acks::None => (0, STAGES_WITHOUT_ANSWER),
                    Acks::Leader => (1, STAGES_OF_LEADER),
                    Acks::All => (2, Stage::ALL.as_slice()),
                };
                self.produce[place]
                    .get_or_init(|| StageHistograms::new(stages))
                    .record(clock);
            }
            RequestKind::Api(ApiKey::Fetch) => self
                .fetch
                .get_or_init(|| StageHistograms::new(STAGES_OF_FETCH))
                .record(clock),
            RequestKind::Api(api) => self.other[place_of(api)]
                .get_or_init(Histogram::new)
                .record_value(clock.whole_nanos()),
        }
    }

    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        for (place, acks) in ["0", "1", "all"].into_iter().enumerate() {
            if let Some(histograms) = self.produce[place].get() {
                let names = labels([("api", "produce"), ("acks", acks)]);
                histograms.snapshot_into(&names, into);
            }
        }
        if let Some(histograms) = self.fetch.get() {
            histograms.snapshot_into(&labels([("api", "fetch")]), into);
        }
        for api in APIS {
            let names = labels([("api", label_of(api.name))]);
            if let Some(histogram) = self.other[place_of(api.key)].get() {
                into.histogram(&REQUEST, names.clone(), histogram.snapshot());
            }
            let requests = self.requests[place_of(api.key)].get();
            if requests > 0 {
                into.counter(&REQUESTS, names, requests);
            }
        }
        for (definition, counter) in [
            (&CONNECTIONS_ACCEPTED, &self.connections_accepted),
            (&CONNECTIONS_REFUSED, &self.connections_refused),
            (&CONNECTIONS_CUT_OFF, &self.connections_cut_off),
            (&PROTOCOL_ERRORS, &self.protocol_errors),
            (&FETCHED_BYTES, &self.fetched_bytes),
        ] {
            into.counter(definition, Labels::new(), counter.get());
        }
        self.errors.snapshot_into(into);
    }
}

fn place_of(api: ApiKey) -> usize {
    usize::from(api.code().unsigned_abs())
}

/// Kafka's name of an API as a label: `list_offsets`.
fn label_of(name: &str) -> LabelValue {
    let mut label = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label.into()
}

/// How often which error code was answered.
pub struct ErrorCounters([Counter; ERROR_PLACES]);

impl Default for ErrorCounters {
    fn default() -> ErrorCounters {
        ErrorCounters(std::array::from_fn(|_| Counter::default()))
    }
}

impl ErrorCounters {
    /// Counts a code if it is an error, and passes it on.
    pub fn count(&self, error: ErrorCode) -> ErrorCode {
        if !error.is_none() {
            let place = usize::try_from(error.code() + 1).unwrap_or(0);
            self.0[place.min(ERROR_PLACES - 1)].increment();
        }
        error
    }

    /// Counts the code of an answer if it is an error.
    pub fn count_code(&self, code: i16) {
        if code != 0 {
            self.count(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError));
        }
    }

    fn snapshot_into(&self, into: &mut Snapshot) {
        for (counter, code) in self.0.iter().zip(-1..) {
            if counter.get() > 0 {
                let name = ErrorCode::from_code(code).map(|error| format!("{error:?}"));
                let name = name.unwrap_or_else(|| code.to_string());
                into.counter(&ERRORS, labels([("error", name)]), counter.get());
            }
        }
    }
}

pub static REQUEST: MetricDefinition = MetricDefinition::histogram(
    "ringlog_request_seconds",
    Unit::Seconds,
    "Time of requests on the broker, from their first byte to the last byte of their answer.",
);
/// Their parts.
pub static REQUEST_STAGE: MetricDefinition = MetricDefinition::histogram(
    "ringlog_request_stage_seconds",
    Unit::Seconds,
    "Time of requests on the broker by stage; the stages of a request add up to the whole.",
);
pub static REQUESTS: MetricDefinition = MetricDefinition::counter(
    "ringlog_requests_total",
    Unit::Count,
    "Requests taken from the wire.",
);
pub static ERRORS: MetricDefinition = MetricDefinition::counter(
    "ringlog_errors_total",
    Unit::Count,
    "Errors in answers, by Kafka's error code; a request for several partitions may count several.",
);
pub static CONNECTIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_connections",
    Unit::Count,
    "Open client connections.",
);
pub static CONNECTIONS_ACCEPTED: MetricDefinition = MetricDefinition::counter(
    "ringlog_connections_accepted_total",
    Unit::Count,
    "Client connections accepted.",
);
pub static CONNECTIONS_REFUSED: MetricDefinition = MetricDefinition::counter(
    "ringlog_connections_refused_total",
    Unit::Count,
    "Client connections refused because there were too many.",
);
/// Connections that broke the protocol.
pub static PROTOCOL_ERRORS: MetricDefinition = MetricDefinition::counter(
    "ringlog_protocol_errors_total",
    Unit::Count,
    "Connections ended because of what the client sent.",
);
/// Bytes that clients fetched from all topics.
pub static FETCHED_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_fetched_bytes_total",
    Unit::Bytes,
    "Bytes of record batches in answers to fetch requests.",
);
/// Memory for large requests in use.
pub static REQUEST_BUDGET_USED: MetricDefinition = MetricDefinition::gauge(
    "ringlog_request_budget_used_bytes",
    Unit::Bytes,
    "Memory for requests in use: large ones, and those on their way to another shard.",
);
/// Memory for large requests.
pub static REQUEST_BUDGET_CAPACITY: MetricDefinition = MetricDefinition::gauge(
    "ringlog_request_budget_capacity_bytes",
    Unit::Bytes,
    "Memory for requests: large ones, and those on their way to another shard.",
);
/// Memory for answers in use.
pub static ANSWER_BUDGET_USED: MetricDefinition = MetricDefinition::gauge(
    "ringlog_answer_budget_used_bytes",
    Unit::Bytes,
    "Memory for answers in use, until the socket has them.",
);
pub static ANSWER_BUDGET_CAPACITY: MetricDefinition = MetricDefinition::gauge(
    "ringlog_answer_budget_capacity_bytes",
    Unit::Bytes,
    "Memory for answers.",
);
pub static CONNECTIONS_CUT_OFF: MetricDefinition = MetricDefinition::counter(
    "ringlog_connections_cut_off_total",
    Unit::Count,
    "Client connections ended because they moved no bytes while they held memory, or for too long.",
);
pub static FETCH_SESSIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_fetch_sessions",
    Unit::Count,
    "Incremental fetch sessions.",
);

#[cfg(test)]
mod tests {
    use model::ErrorCode;
    use runtime::Snapshot;

    use super::{ERROR_PLACES, ErrorCounters, label_of};

    #[test]
    fn every_error_code_has_a_place_of_its_own() {
        let counters = ErrorCounters::default();
        let mut errors = 0;
        for code in -1..=i16::MAX {
            if let Some(error) = ErrorCode::from_code(code)
                && !error.is_none()
            {
                assert!(usize::try_from(code + 1).unwrap() < ERROR_PLACES);
                assert_eq!(counters.count(error), error);
                errors += 1;
            }
        }
        counters.count(ErrorCode::None);
        let mut snapshot = Snapshot::new();
        counters.snapshot_into(&mut snapshot);
        assert_eq!(snapshot.total("ringlog_errors_total"), errors);
        let families: Vec<_> = snapshot
            .families()
            .map(|(_, series)| series.count())
            .collect();
        assert_eq!(families, [errors as usize]);
    }

    #[test]
    fn labels_are_in_snake_case() {
        assert_eq!(label_of("Produce").as_str(), "produce");
        assert_eq!(
            label_of("OffsetForLeaderEpoch").as_str(),
            "offset_for_leader_epoch"
        );
    }
}
