//! Quantities on the command line: the grammar is `model::quantity`'s, the same in files and variables.

use std::time::Duration;

use model::quantity::{QuantityError, TimeUnit, parse_count, parse_duration, parse_size};

/// `500ms`, `1.5s`, `1h30m`; a number alone is seconds.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    parse_duration(text, TimeUnit::Second)
}

/// `1000`, `64K`, `64KiB`, `1.5G`.
pub fn size(text: &str) -> Result<usize, QuantityError> {
    usize::try_from(parse_size(text)?).map_err(|_| QuantityError::TooLarge)
}

/// `1000`, `16k`, `1m`, in powers of 1,000.
pub fn count(text: &str) -> Result<u64, QuantityError> {
    parse_count(text)
}

/// A duration as it may be written.
pub fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
