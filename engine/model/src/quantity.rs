//! How sizes, durations and counts are written: one grammar for flags, files and variables.
//!
//! A size has binary units (`64KiB`, `64K` and `65536` are the same), a duration those of a clock (`500ms`, `1.5s`,
//! `1h 30m`), a count thousands (`16k` is 16,000). A number without a unit is bytes, or whatever unit the place names.

use std::time::Duration;

/// Most digits of a size: more do not fit 64 bits, and the parser's rounding of them overflows.
const SIZE_DIGITS_MAX: usize = 19;

/// Why a text is no quantity. The text says what would be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No size.
    #[error(
        "expected a size: a number of bytes, or one with K, M, G or T such as 64K, 64KiB or 1.5G"
    )]
    Size,
    /// No duration.
    #[error(
        "expected a duration: a number with us, ms, s, m, h or d, such as 500ms, 1.5s or 1h30m"
    )]
    Duration,
    /// No count.
    #[error("expected a whole number, perhaps with k, m or g for thousands, such as 250k")]
    Count,
    /// A quantity that its place cannot hold.
    #[error("too large")]
    TooLarge,
}

/// The unit of a duration that is a number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
}

impl TimeUnit {
    /// How long one is.
    pub fn length(self) -> Duration {
        match self {
            TimeUnit::Millisecond => Duration::from_millis(1),
            TimeUnit::Second => Duration::from_secs(1),
            TimeUnit::Minute => Duration::from_secs(60),
            TimeUnit::Hour => Duration::from_secs(3600),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            TimeUnit::Millisecond => "ms",
            TimeUnit::Second => "s",
            TimeUnit::Minute => "min",
            TimeUnit::Hour => "h",
        }
    }
}

/// Bytes: `1000`, `64K`, `64KiB`, `1.5G`.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    use parse_size::{Config, Error};
    if text.bytes().filter(u8::is_ascii_digit).count() > SIZE_DIGITS_MAX {
        return Err(QuantityError::TooLarge);
    }
    match Config::new().with_binary().parse_size(text.trim()) {
        Ok(bytes) => Ok(bytes),
        Err(Error::PosOverflow) => Err(QuantityError::TooLarge),
        Err(_) => Err(QuantityError::Size),
    }
}

/// A duration: `500ms`, `1.5s`, `1h 30m`; a number alone is so many of `unit`.
pub fn parse_duration(text: &str, unit: TimeUnit) -> Result<Duration, QuantityError> {
    use humantime::DurationError;
    let text = text.trim();
    let is_number = text.ends_with(|c: char| c.is_ascii_digit());
    let suffix = if is_number { unit.suffix() } else { "" };
    match humantime::parse_duration(&format!("{text}{suffix}")) {
        Ok(duration) => Ok(duration),
        Err(DurationError::NumberOverflow) => Err(QuantityError::TooLarge),
        Err(_) => Err(QuantityError::Duration),
    }
}

/// How many: `7`, `250k`, `1m`, in powers of 1,000.
pub fn parse_count(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    let (number, thousands) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Count);
    }
    let number: u64 = number.parse().map_err(|_| QuantityError::TooLarge)?;
    number.checked_mul(thousands).ok_or(QuantityError::TooLarge)
}
