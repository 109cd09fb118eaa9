//! Documents of a broker, one after another: asked for by a thread of its own, so that a broker that does not answer
//! leaves the keyboard alive.

use std::time::{Duration, Instant};

use console::Document;

use crate::commands::metrics_source::Source;

/// How often the thread looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// Asks at every interval until nobody receives any more.
pub fn watch(source: Source, interval: Duration) -> flume::Receiver<Result<Document, String>> {
    let (to, documents) = flume::bounded(1);
    std::thread::spawn(move || {
        while !to.is_disconnected() {
            let start = Instant::now();
            let fetched = source.fetch().map_err(|error| error.to_string());
            if to.send(fetched).is_err() {
                return;
            }
            while start.elapsed() < interval && !to.is_disconnected() {
                std::thread::sleep(SLICE.min(interval.saturating_sub(start.elapsed())));
            }
        }
    });
    documents
}
