//! A broker as a formula, for tests: what is found can be compared with what is true.
//!
//! One server of fixed speed. A request costs a fixed time and a time per byte. At a rate below its capacity the p99 of
//! an M/M/1 queue is `ln(100) / (capacity - rate)`; a closed loop keeps `in_flight` requests waiting all the time.

use super::record::{Figures, Latency};

/// Bytes of a record.
const RECORD_BYTES: u64 = 1_024;
/// Connections of the load.
const CONNECTIONS: f64 = 4.0;

/// The formula's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    /// Seconds per request.
    pub(crate) request_s: f64,
    /// Seconds per byte.
    pub(crate) byte_s: f64,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            request_s: 50e-6,
            byte_s: 1e-9,
        }
    }
}

impl Model {
    fn records(batch_bytes: u64) -> f64 {
        (batch_bytes / RECORD_BYTES).max(1) as f64
    }

    /// Requests per second at most.
    fn capacity(&self, batch_bytes: u64) -> f64 {
        1.0 / (self.request_s + self.byte_s * batch_bytes as f64)
    }

    fn figures(batch_bytes: u64, requests_per_second: f64, p50_s: f64, p99_s: f64) -> Figures {
        let records_per_second = requests_per_second * Model::records(batch_bytes);
        Figures {
            seconds: 5.0,
            records_per_second,
            mb_per_second: records_per_second * RECORD_BYTES as f64 / 1e6,
            requests: (requests_per_second * 5.0) as u64,
            requests_per_second,
            offered_records_per_second: None,
            latency_ms: Latency {
                p50: p50_s * 1e3,
                p99: p99_s * 1e3,
                p999: p99_s * 1.5e3,
                max: p99_s * 2e3,
            },
            errors: 0,
            generator_cores: 0.5,
            invalid: None,
            note: None,
        }
    }

    pub(crate) fn closed_loop(&self, batch_bytes: u64, in_flight: u64) -> Figures {
        let capacity = self.capacity(batch_bytes);
        let waiting = in_flight as f64 * CONNECTIONS;
        let mean = waiting / capacity;
        Model::figures(batch_bytes, capacity, mean, mean * 1.2)
    }

    pub(crate) fn open_loop(&self, batch_bytes: u64, rate: u64) -> Figures {
        let capacity = self.capacity(batch_bytes);
        let offered = rate as f64 / Model::records(batch_bytes);
        let served = offered.min(capacity);
        let room = (capacity - offered).max(1e-3);
        let mut figures = Model::figures(batch_bytes, served, 2f64.ln() / room, 100f64.ln() / room);
        figures.offered_records_per_second = Some(rate as f64);
        figures
    }

    /// The rate in records per second whose p99 is exactly so many milliseconds.
    pub(crate) fn rate_at_p99(&self, batch_bytes: u64, p99_ms: f64) -> f64 {
        let requests = self.capacity(batch_bytes) - 100f64.ln() / (p99_ms / 1e3);
        requests * Model::records(batch_bytes)
    }
}
