//! Places in a partition as people write them: `start`, `end`, `4711`, `-10`, `@2026-03-01T12:00:00Z`, `@-1h`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::Position;
use model::quantity::{TimeUnit, parse_duration};
use model::{Offset, Timestamp};

/// What a place looks like.
const EXPECTED: &str = "expected start, end, an OFFSET, -COUNT before the end, or @TIME: milliseconds since 1970, a date such as \
    2026-03-01T12:00:00Z, or -DURATION ago";

/// Reads a place.
pub fn position(text: &str) -> Result<Position, String> {
    position_at(text, SystemTime::now())
}

fn position_at(text: &str, now: SystemTime) -> Result<Position, String> {
    if let Some(time) = text.strip_prefix('@') {
        return Ok(Position::Time(time_at(time, now)?));
    }
    match text {
        "start" | "beginning" | "earliest" => return Ok(Position::Start),
        "end" | "latest" => return Ok(Position::End),
        _ => {}
    }
    match (text.strip_prefix('-'), text.parse::<i64>()) {
        (Some(count), Ok(_)) => match count.parse::<i64>() {
            Ok(count) => Ok(Position::BeforeEnd(count)),
            Err(_) => Err(EXPECTED.to_owned()),
        },
        (None, Ok(offset)) => Ok(Position::Offset(Offset(offset))),
        (_, Err(_)) => Err(EXPECTED.to_owned()),
    }
}

/// Reads a point in time: milliseconds since 1970, a date, or so long ago.
pub fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, SystemTime::now())
}

fn time_at(text: &str, now: SystemTime) -> Result<Timestamp, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago, TimeUnit::Second).map_err(|error| error.to_string())?;
        return timestamp(now.checked_sub(ago));
    }
    if let Ok(millis) = text.parse::<u64>() {
        return timestamp(UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
    }
    match humantime::parse_rfc3339_weak(text) {
        Ok(time) => timestamp(Some(time)),
        Err(_) => Err(EXPECTED.to_owned()),
    }
}

fn timestamp(time: Option<SystemTime>) -> Result<Timestamp, String> {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let millis = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    millis
        .map(Timestamp)
        .ok_or_else(|| "that is before 1970, or too far away".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |millis| Ok(Position::Time(Timestamp(millis)));
        let rows = [
            ("start", Ok(Position::Start)),
            ("beginning", Ok(Position::Start)),
            ("end", Ok(Position::End)),
            ("0", Ok(Position::Offset(Offset(0)))),
            ("4711", Ok(Position::Offset(Offset(4711)))),
            ("-10", Ok(Position::BeforeEnd(10))),
            ("-0", Ok(Position::BeforeEnd(0))),
            ("@0", at(0)),
            ("@1700000000123", at(1_700_000_000_123)),
            ("@2023-11-14T22:13:20Z", at(1_700_000_000_000)),
            ("@2023-11-14 22:13:20", at(1_700_000_000_000)),
            ("@2023-11-14T22:13:20.5Z", at(1_700_000_000_500)),
            ("@-1h", at((1_000_000 - 3600) * 1000)),
            ("@-90", at((1_000_000 - 90) * 1000)),
        ];
        for (text, expected) in rows {
            assert_eq!(position_at(text, now), expected, "{text}");
        }
        for bad in [
            "",
            "-",
            "--1",
            "x",
            "1.5",
            "@",
            "@yesterday",
            "@-1000000h",
            "99999999999999999999",
            "@99999999999999999999",
        ] {
            assert!(position_at(bad, now).is_err(), "{bad}");
        }
    }
}
