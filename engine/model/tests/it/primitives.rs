//! Primitives: known bytes, round trips, and refusal of what does not fit.

use model::TopicId;
use model::primitives::{
    PrimitiveError, Reader, put_compact_nullable_string, put_nullable_bytes, put_nullable_string,
    put_tagged_fields, put_uuid, put_uvarint, put_uvarlong, put_varint, put_varint_nullable_bytes,
    put_varlong, uvarlong_size, varint_size, varlong_size,
};
use proptest::prelude::*;

#[test]
fn varints_have_known_bytes() {
    let rows: [(i32, &[u8]); 7] = [
        (0, &[0]),
        (-1, &[1]),
        (1, &[2]),
        (63, &[0x7e]),
        (64, &[0x80, 0x01]),
        (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    for (value, bytes) in rows {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, bytes, "{value}");
        assert_eq!(Reader::new(bytes).varint(), Ok(value));
        assert_eq!(varint_size(value), bytes.len());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    use PrimitiveError::{ArrayTooLong, NegativeLength, TagsUnordered, Underflow, VarintTooLong};
    let reader = Reader::new;
    assert_eq!(reader(&[0xff; 5]).uvarint(), Err(VarintTooLong));
    assert_eq!(
        reader(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(),
        Err(VarintTooLong)
    );
    assert_eq!(reader(&[0xff; 4]).uvarint(), Err(Underflow));
    assert_eq!(reader(&[0xff; 10]).uvarlong(), Err(VarintTooLong));
    assert_eq!(reader(&[]).varint(), Err(Underflow));
    assert_eq!(reader(&[0xff, 0xfe]).nullable_string(), Err(NegativeLength));
    assert_eq!(reader(&[0, 2, b'a']).nullable_string(), Err(Underflow));
    assert_eq!(reader(&[0, 1, 0xff]).string(), Err(PrimitiveError::NotUtf8));
    assert_eq!(
        reader(&[0]).compact_string(),
        Err(PrimitiveError::UnexpectedNull)
    );
    assert_eq!(
        reader(&[0x7f, 0xff, 0xff, 0xff]).array_count(1),
        Err(ArrayTooLong)
    );
    assert_eq!(
        reader(&[0xff, 0xff, 0xff, 0x7f]).compact_array_count(8),
        Err(ArrayTooLong)
    );
    assert_eq!(
        reader(&[2, 5, 0, 5, 0]).skip_tagged_fields(),
        Err(TagsUnordered)
    );
    assert_eq!(reader(&[0x70]).skip_tagged_fields(), Err(ArrayTooLong));
    assert_eq!(reader(&[1, 2, 3]).i32(), Err(Underflow));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn numbers_round_trip(a in any::<i32>(), b in any::<i64>(), c in any::<u32>(), shift in 0u32..64) {
        let (b, d) = (b >> shift, b.cast_unsigned() >> shift);
        let mut out = Vec::new();
        put_varint(&mut out, a);
        prop_assert_eq!(out.len(), varint_size(a));
        put_varlong(&mut out, b);
        put_uvarint(&mut out, c);
        put_uvarlong(&mut out, d);
        let sizes = varint_size(a) + varlong_size(b) + uvarlong_size(c.into()) + uvarlong_size(d);
        prop_assert_eq!(out.len(), sizes);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.varint(), Ok(a));
        prop_assert_eq!(reader.varlong(), Ok(b));
        prop_assert_eq!(reader.uvarint(), Ok(c));
        prop_assert_eq!(reader.uvarlong(), Ok(d));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn fields_round_trip(
        text in proptest::option::of(".{0,40}"),
        bytes in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        id in any::<[u8; 16]>(),
    ) {
        let (text, bytes) = (text.as_deref(), bytes.as_deref());
        let mut out = Vec::new();
        put_compact_nullable_string(&mut out, text);
        put_nullable_string(&mut out, text);
        put_nullable_bytes(&mut out, bytes);
        put_varint_nullable_bytes(&mut out, bytes);
        put_uuid(&mut out, TopicId(id));
        put_tagged_fields(&mut out, &[(0, b"x"), (7, bytes.unwrap_or_default())]);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.compact_nullable_string(), Ok(text));
        prop_assert_eq!(reader.nullable_string(), Ok(text));
        prop_assert_eq!(reader.nullable_bytes(), Ok(bytes));
        prop_assert_eq!(reader.varint_nullable_bytes(), Ok(bytes));
        prop_assert_eq!(reader.uuid(), Ok(TopicId(id)));
        let mut tags = Vec::new();
        reader.tagged_fields(|tag, payload| {
            tags.push((tag, payload));
            Ok::<_, PrimitiveError>(())
        }).unwrap();
        prop_assert_eq!(tags, [(0, &b"x"[..]), (7, bytes.unwrap_or_default())]);
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let reader = Reader::new(&bytes);
        let mut each = [reader; 8];
        let _any = (each[0].compact_nullable_string(), each[1].nullable_string());
        let _any = (each[2].nullable_bytes(), each[3].varint_nullable_bytes());
        let _any = (each[4].skip_tagged_fields(), each[5].compact_array_count(3));
        let _any = (each[6].array_count(0), each[7].uvarlong());
    }
}
