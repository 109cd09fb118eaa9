//! Numbers as people read them: three digits and a unit, or a dash for what is unknown.

/// A rate or count: `12`, `4.56k`, `1.20M`.
pub fn count(value: f64) -> String {
    scaled(value, &["", "k", "M", "G", "T"], "")
}

/// A size in bytes: `512 B`, `1.20 MB`. Powers of 1000, as network and device rates are written.
pub fn bytes(value: f64) -> String {
    scaled(value, &["B", "kB", "MB", "GB", "TB"], " ")
}

/// A time: `850 ns`, `1.20 ms`, `3.00 s`. A nanosecond is nothing: it ends the bucket of zero.
pub fn nanos(value: f64) -> String {
    let value = if value <= 1.0 { 0.0 } else { value };
    scaled(value, &["ns", "us", "ms", "s", "ks"], " ")
}

/// A share: `7.1 %`, `100 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = usize::from(percent < 99.95);
    format!("{percent:.digits$} %")
}

/// Seconds since something began: `12s`, `5m 03s`, `2h 07m`, `9d 04h`.
pub fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// What is there, or a dash.
pub fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn scaled(value: f64, units: &[&str], space: &str) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let mut value = value.max(0.0);
    let mut unit = 0;
    // 999.5 is written as 1000, so it belongs to the next unit already.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    // Whole things are written whole.
    let digits = if unit == 0 && value.fract() == 0.0 {
        0
    } else {
        digits
    };
    format!("{value:.digits$}{space}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::{age, bytes, count, known, nanos, percent};

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (shown, expected) in [
            (count(0.0), "0"),
            (count(0.25), "0.25"),
            (count(7.0), "7"),
            (count(999.4), "999"),
            (count(999.6), "1.00k"),
            (count(123_456.0), "123k"),
            (count(f64::NAN), "-"),
            (count(-3.0), "0"),
            (bytes(512.0), "512 B"),
            (bytes(1_200_000.0), "1.20 MB"),
            (bytes(9e18), "9000000 TB"),
            (nanos(1.0), "0 ns"),
            (nanos(850.0), "850 ns"),
            (nanos(12_340_000.0), "12.3 ms"),
            (percent(0.071), "7.1 %"),
            (percent(1.0), "100 %"),
            (age(59.9), "59s"),
            (age(303.0), "5m 03s"),
            (age(7_620.0), "2h 07m"),
            (age(792_000.0), "9d 04h"),
            (known(None, count), "-"),
            (known(Some(1.0), count), "1"),
        ] {
            assert_eq!(shown, expected);
        }
    }
}
