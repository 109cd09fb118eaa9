//! Strings and records as values: equality, maps, sharing.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{DecodeError, Records, Text};

#[test]
fn text_is_a_string() {
    let frame = Bytes::from_static("orders-\u{20ac}".as_bytes());
    let text = Text::from_utf8(frame.clone()).unwrap();
    assert_eq!(text, "orders-\u{20ac}");
    assert_eq!(text.len(), 10);
    assert_eq!(
        format!("{text:>9}|{text:?}"),
        " orders-\u{20ac}|\"orders-\u{20ac}\""
    );
    assert_eq!(text.as_bytes().as_ptr(), frame.as_ptr());
    assert_ne!(text.detached().as_bytes().as_ptr(), frame.as_ptr());
    assert_eq!(text.detached(), text);
    let cut = Text::from_utf8(frame.slice(..8));
    assert_eq!(cut, Err(DecodeError::InvalidUtf8));
}

#[test]
fn maps_keyed_by_text_are_asked_with_a_str() {
    let map: BTreeMap<Text, i32> = [("b".into(), 2), (Text::from("a".to_owned()), 1)].into();
    assert_eq!(map.get("a"), Some(&1));
    assert_eq!(map.get("c"), None);
    assert_eq!(map.keys().next(), Some(&Text::copy_from("a")));
}

#[test]
fn records_are_equal_however_they_are_cut() {
    let bytes = Bytes::from_static(b"0123456789");
    let whole = Records::from(bytes.clone());
    let cut: Records = [bytes.slice(..3), Bytes::new(), bytes.slice(3..)]
        .into_iter()
        .collect();
    assert_eq!(whole, cut);
    assert_eq!(cut.byte_count(), 10);
    assert_eq!(cut.pieces().len(), 3);
    assert_ne!(whole, Records::from(bytes.slice(1..)));
    assert_ne!(whole, Records::from(Bytes::from_static(b"012345678x")));
    assert_eq!(cut.into_bytes(), bytes);
    assert_eq!(whole.into_bytes().as_ptr(), bytes.as_ptr());
    assert!(Records::default().is_empty());
}
