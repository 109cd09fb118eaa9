//! How numbers are written in a sweep's report: units that people read, three significant digits.

use std::time::Duration;

/// `512 B`, `32 KiB`, `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    let (scale, unit) = match bytes {
        0..1_024 => (1.0, "B"),
        1_024..1_048_576 => (1_024.0, "KiB"),
        1_048_576..1_073_741_824 => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    };
    format!("{} {unit}", trimmed(bytes as f64 / scale))
}

/// `250 µs`, `1 ms`, `1.5 s`.
pub fn micros(micros: u64) -> String {
    let (scale, unit) = match micros {
        0..1_000 => (1.0, "µs"),
        1_000..1_000_000 => (1e3, "ms"),
        _ => (1e6, "s"),
    };
    format!("{} {unit}", trimmed(micros as f64 / scale))
}

/// Milliseconds with their unit: `0.43 ms`, `12.5 ms`, `1.2 s`.
pub fn milliseconds(ms: f64) -> String {
    if ms >= 1_000.0 {
        return format!("{} s", number(ms / 1_000.0));
    }
    format!("{} ms", number(ms))
}

/// Three significant digits, no exponent: `0.043`, `4.31`, `431`, `43 100`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = value.abs().log10().floor();
    if digits >= 3.0 {
        let rounded = value.round().max(0.0) as u64;
        return crate::report::grouped(rounded);
    }
    let places = (2.0 - digits).clamp(0.0, 6.0) as usize;
    trimmed_at(value, places)
}

/// As `number`, and large counts as `12.3 k` and `4.56 M`.
pub fn compact(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{} M", number(v / 1e6)),
        v if v >= 9_995.0 => format!("{} k", number(v / 1e3)),
        v => number(v),
    }
}

/// A throughput in 10^6 bytes per second.
pub fn megabytes_per_second(mb: f64) -> String {
    format!("{} MB/s", number(mb))
}

/// `500 ms`, `6.7 s`, `4 min 50 s`, `2 h 5 min`.
pub fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{} s", number(duration.as_secs_f64())),
        60..3_600 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// `2026-03-01 09:05:07 UTC` for seconds since 1970.
pub fn date(unix_seconds: u64) -> String {
    let (year, month, day) = civil(unix_seconds / 86_400);
    let second = unix_seconds % 86_400;
    let (hour, minute) = (second / 3_600, second % 3_600 / 60);
    format!(
        "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC",
        second % 60
    )
}

/// `20260301-090507` for seconds since 1970: a date for names of files.
pub fn date_for_files(unix_seconds: u64) -> String {
    date(unix_seconds)
        .trim_end_matches(" UTC")
        .replace(['-', ':'], "")
        .replace(' ', "-")
}

/// Year, month and day of a day since 1970-01-01, by Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Two digits behind the point at most, without trailing zeros.
fn trimmed(value: f64) -> String {
    trimmed_at(value, 2)
}

fn trimmed_at(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (value, text) in [
            (512, "512 B"),
            (32 << 10, "32 KiB"),
            (3 << 19, "1.5 MiB"),
            (1 << 30, "1 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [(250, "250 µs"), (1_000, "1 ms"), (2_500_000, "2.5 s")] {
            assert_eq!(micros(value), text);
        }
        for (value, text) in [
            (0.0431, "0.0431 ms"),
            (12.54, "12.5 ms"),
            (1_230.0, "1.23 s"),
        ] {
            assert_eq!(milliseconds(value), text);
        }
        for (value, text) in [
            (900.0, "900"),
            (12_345.0, "12.3 k"),
            (4_560_000.0, "4.56 M"),
        ] {
            assert_eq!(compact(value), text);
        }
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(43_100.4), crate::report::grouped(43_100));
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (45, "45 s"),
            (120, "2 min"),
            (290, "4 min 50 s"),
            (7_500, "2 h 5 min"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
        assert_eq!(length(Duration::from_millis(6_700)), "6.7 s");
        assert_eq!(length(Duration::from_millis(500)), "500 ms");
        // The last is a leap day of a year that 400 divides.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (1_000_000_000, "2001-09-09 01:46:40 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert_eq!(date_for_files(1_000_000_000), "20010909-014640");
    }
}
