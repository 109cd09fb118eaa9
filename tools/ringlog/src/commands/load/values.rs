//! How durations, sizes and counts are written on the command line.

use std::time::Duration;

use model::record::Compression;

/// `500ms`, `30s`, `5m`, `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with us, ms, s, m or h, for example 30s".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number, for example 30s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// `1000`, `16k`, `1m`, `2g`, in powers of 1024.
pub fn size(text: &str) -> Result<usize, String> {
    let bytes = scaled(text, 1024)?;
    usize::try_from(bytes).map_err(|error| error.to_string())
}

/// `1000`, `16k`, `1m`, in powers of 1000.
pub fn count(text: &str) -> Result<u64, String> {
    scaled(text, 1000)
}

fn scaled(text: &str, base: u64) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (number, power) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 1),
        Some((at, 'm')) => (&lower[..at], 2),
        Some((at, 'g')) => (&lower[..at], 3),
        _ => (lower.as_str(), 0),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number, perhaps with k, m or g".to_owned())?;
    number
        .checked_mul(base.pow(power))
        .ok_or_else(|| "too large".to_owned())
}

pub fn compression(name: &str) -> Result<Compression, String> {
    Compression::from_name(name)
        .ok_or_else(|| "expected none, gzip, snappy, lz4 or zstd".to_owned())
}

/// `name=value`.
pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        assert_eq!(setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(setting("a").is_err() && setting("=a").is_err());
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("3", 3000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5 parsecs", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size("16k"), Ok(16_384));
        assert_eq!(size("1M"), Ok(1_048_576));
        assert_eq!(count("16k"), Ok(16_000));
        assert_eq!(count("7"), Ok(7));
        for text in ["", "k", "-1", "1t", "99999999999g"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
