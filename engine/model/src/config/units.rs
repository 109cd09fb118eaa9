//! Values with units: `64KiB` for a key in bytes, `1h` for one in milliseconds.
//!
//! For files, variables and flags, which people write. What comes over the wire is as strict as Apache Kafka's.

use crate::quantity::{QuantityError, TimeUnit, parse_duration, parse_size};

use super::error::ConfigError;
use super::key::Key;

/// What the number of a key counts.
enum Counts {
    Bytes,
    Time(TimeUnit),
}

impl Key {
    /// A value as people write it, as the plain number that Kafka writes. Values without a unit are left as they are,
    /// and so are those of keys that have none.
    pub fn without_unit(&self, text: &str) -> Result<String, ConfigError> {
        let counts = match self.unit() {
            Some("bytes") => Counts::Bytes,
            Some("ms") => Counts::Time(TimeUnit::Millisecond),
            Some("s") => Counts::Time(TimeUnit::Second),
            Some("min") => Counts::Time(TimeUnit::Minute),
            Some("h") => Counts::Time(TimeUnit::Hour),
            _ => return Ok(text.to_owned()),
        };
        if text.trim().parse::<i128>().is_ok() {
            return Ok(text.to_owned());
        }
        let number = match counts {
            Counts::Bytes => parse_size(text).map_err(|error| error.to_string()),
            Counts::Time(unit) => parse_duration(text, unit)
                .map_err(|error| error.to_string())
                .and_then(|duration| whole(duration.as_nanos(), unit)),
        };
        match number {
            Ok(number) => Ok(number.to_string()),
            Err(reason) => Err(ConfigError::invalid(self, text, reason)),
        }
    }
}

/// So many nanoseconds in whole units.
fn whole(nanos: u128, unit: TimeUnit) -> Result<u64, String> {
    let length = unit.length().as_nanos();
    if !nanos.is_multiple_of(length) {
        return Err(format!("it must be a multiple of {:?}", unit.length()));
    }
    u64::try_from(nanos / length).map_err(|_| QuantityError::TooLarge.to_string())
}
