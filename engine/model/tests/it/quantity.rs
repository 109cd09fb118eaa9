//! Sizes, durations and counts as people write them.

use std::time::Duration;

use model::quantity::{QuantityError, TimeUnit, parse_count, parse_duration, parse_size};
use proptest::prelude::*;

#[test]
fn sizes() {
    let rows = [
        ("0", Ok(0)),
        ("7b", Ok(7)),
        ("1000", Ok(1000)),
        ("16k", Ok(16 << 10)),
        ("64K", Ok(64 << 10)),
        ("64KiB", Ok(64 << 10)),
        ("64kb", Ok(64 << 10)),
        (" 512M ", Ok(512 << 20)),
        ("2GiB", Ok(2 << 30)),
        ("1.5G", Ok(3 << 29)),
        ("1t", Ok(1 << 40)),
        ("99999999999999T", Err(QuantityError::TooLarge)),
        ("184467440737095516159", Err(QuantityError::TooLarge)),
        ("", Err(QuantityError::Size)),
        ("M", Err(QuantityError::Size)),
        ("1X", Err(QuantityError::Size)),
        ("-1", Err(QuantityError::Size)),
    ];
    for (text, expected) in rows {
        assert_eq!(parse_size(text), expected, "{text:?}");
    }
}

#[test]
fn durations() {
    let rows = [
        ("500ms", Ok(500_000)),
        ("30s", Ok(30_000_000)),
        ("1.5s", Ok(1_500_000)),
        ("2m", Ok(120_000_000)),
        ("1h30m", Ok(5_400_000_000)),
        ("1h 30m", Ok(5_400_000_000)),
        ("1d", Ok(86_400_000_000)),
        ("250us", Ok(250)),
        ("0", Ok(0)),
        ("3", Ok(3_000_000)),
        ("0.5", Ok(500_000)),
        ("99999999999999999999d", Err(QuantityError::TooLarge)),
        ("", Err(QuantityError::Duration)),
        ("s", Err(QuantityError::Duration)),
        ("5 parsecs", Err(QuantityError::Duration)),
        ("-1s", Err(QuantityError::Duration)),
        ("-1", Err(QuantityError::Duration)),
    ];
    for (text, micros) in rows {
        let expected = micros.map(Duration::from_micros);
        assert_eq!(parse_duration(text, TimeUnit::Second), expected, "{text:?}");
    }
    let two_hours = Ok(Duration::from_secs(7200));
    assert_eq!(parse_duration("2", TimeUnit::Hour), two_hours);
}

#[test]
fn counts() {
    let rows = [
        ("7", Ok(7)),
        ("16k", Ok(16_000)),
        ("1M", Ok(1_000_000)),
        ("2g", Ok(2_000_000_000)),
        ("99999999999g", Err(QuantityError::TooLarge)),
        ("99999999999999999999", Err(QuantityError::TooLarge)),
        ("", Err(QuantityError::Count)),
        ("k", Err(QuantityError::Count)),
        ("-1", Err(QuantityError::Count)),
        ("+1", Err(QuantityError::Count)),
        ("1.5k", Err(QuantityError::Count)),
        ("16KiB", Err(QuantityError::Count)),
    ];
    for (text, expected) in rows {
        assert_eq!(parse_count(text), expected, "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_text_panics(text in "[0-9kmgMGTibsuhdeE. +_é-]{0,30}") {
        let _any_result = parse_size(&text);
        let _any_result = parse_duration(&text, TimeUnit::Millisecond);
        let _any_result = parse_count(&text);
    }
}
