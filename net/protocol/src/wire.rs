//! The types a schema line can have, and how each is read and written.
//!
//! | schema | Rust |
//! |---|---|
//! | bool, int8, int16, uint16, int32, int64 | `bool`, `i8`, `i16`, `u16`, `i32`, `i64` |
//! | uuid | `TopicId` for topics, `Uuid` otherwise |
//! | string, bytes, records | `Text`, `Bytes`, `Records` |
//! | []T | `Vec<T>` |
//! | struct | the struct |
//! | any of these with "null" | `Option<T>` |

use bytes::Bytes;
use model::TopicId;

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::records::Records;
use crate::sample::Rng;
use crate::text::Text;
use crate::writer::Writer;

/// 128 bits that are not a topic id (a log directory, for instance).
pub type Uuid = [u8; 16];

/// A type that stands in a schema, in a version where it is not null.
pub trait Wire: Sized + PartialEq {
    /// The value of a field without a stated default.
    fn zero() -> Self;
    /// Fewest bytes an instance takes on the wire.
    fn wire_bytes_min(version: i16, flexible: bool) -> usize;
    /// Reads an instance.
    fn decode_wire(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Writes the instance.
    fn encode_wire(&self, writer: &mut Writer);
    /// A random instance that `version` can express.
    fn sample(rng: &mut Rng, version: i16) -> Self;
}

/// A type that has a null on the wire.
pub trait Nullable: Wire {
    /// The value of a nullable field without a stated default.
    fn nullable_zero() -> Option<Self> {
        Some(Self::zero())
    }
    /// Reads an instance or null.
    fn decode_nullable(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError>;
    /// Writes an instance or null.
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer);
}

/// A field: a type, or an `Option` of it if any version has a null.
pub trait Field: Sized + PartialEq {
    /// The value of a field without a stated default.
    fn zero() -> Self;
    /// Fewest bytes on the wire.
    fn wire_bytes_min(version: i16, flexible: bool, nullable: bool) -> usize;
    /// Reads the field; `nullable` says whether this version has a null.
    fn decode_field(reader: &mut Reader<'_>, nullable: bool) -> Result<Self, DecodeError>;
    /// Writes the field; `name` is for the error.
    fn encode_field(&self, writer: &mut Writer, nullable: bool, name: &'static str);
    /// A random value that `version` can express.
    fn sample_field(rng: &mut Rng, version: i16, nullable: bool) -> Self;
}

impl<T: Wire> Field for T {
    fn zero() -> T {
        T::zero()
    }

    #[inline]
    fn wire_bytes_min(version: i16, flexible: bool, _nullable: bool) -> usize {
        <T as Wire>::wire_bytes_min(version, flexible)
    }

    #[inline]
    fn decode_field(reader: &mut Reader<'_>, _nullable: bool) -> Result<T, DecodeError> {
        T::decode_wire(reader)
    }

    #[inline]
    fn encode_field(&self, writer: &mut Writer, _nullable: bool, _name: &'static str) {
        self.encode_wire(writer);
    }

    fn sample_field(rng: &mut Rng, version: i16, _nullable: bool) -> T {
        T::sample(rng, version)
    }
}

impl<T: Nullable> Field for Option<T> {
    fn zero() -> Option<T> {
        T::nullable_zero()
    }

    #[inline]
    fn wire_bytes_min(version: i16, flexible: bool, nullable: bool) -> usize {
        if nullable {
            return 1;
        }
        <T as Wire>::wire_bytes_min(version, flexible)
    }

    #[inline]
    fn decode_field(reader: &mut Reader<'_>, nullable: bool) -> Result<Option<T>, DecodeError> {
        if nullable {
            return T::decode_nullable(reader);
        }
        Ok(Some(T::decode_wire(reader)?))
    }

    #[inline]
    fn encode_field(&self, writer: &mut Writer, nullable: bool, field: &'static str) {
        match self {
            value if nullable => T::encode_nullable(value.as_ref(), writer),
            Some(value) => value.encode_wire(writer),
            None => {
                let version = writer.version;
                writer.fail(EncodeError::NullNotAllowed { field, version });
            }
        }
    }

    fn sample_field(rng: &mut Rng, version: i16, nullable: bool) -> Option<T> {
        if nullable && rng.chance(4) {
            return None;
        }
        Some(T::sample(rng, version))
    }
}

macro_rules! number {
    ($($type:ty: $bytes:literal),*) => {$(
        impl Wire for $type {
            fn zero() -> $type {
                0
            }

            #[inline]
            fn wire_bytes_min(_version: i16, _flexible: bool) -> usize {
                $bytes
            }

            #[inline]
            fn decode_wire(reader: &mut Reader<'_>) -> Result<$type, DecodeError> {
                Ok(<$type>::from_be_bytes(reader.array()?))
            }

            #[inline]
            fn encode_wire(&self, writer: &mut Writer) {
                writer.put(&self.to_be_bytes());
            }

            fn sample(rng: &mut Rng, _version: i16) -> $type {
                rng.number() as $type
            }
        }
    )*};
}

number!(i8: 1, i16: 2, u16: 2, i32: 4, i64: 8);

impl Wire for bool {
    fn zero() -> bool {
        false
    }

    #[inline]
    fn wire_bytes_min(_version: i16, _flexible: bool) -> usize {
        1
    }

    #[inline]
    fn decode_wire(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        Ok(reader.i8()? != 0)
    }

    #[inline]
    fn encode_wire(&self, writer: &mut Writer) {
        writer.put(&[u8::from(*self)]);
    }

    fn sample(rng: &mut Rng, _version: i16) -> bool {
        rng.chance(2)
    }
}

impl Wire for Uuid {
    fn zero() -> Uuid {
        [0; 16]
    }

    #[inline]
    fn wire_bytes_min(_version: i16, _flexible: bool) -> usize {
        16
    }

    #[inline]
    fn decode_wire(reader: &mut Reader<'_>) -> Result<Uuid, DecodeError> {
        reader.array()
    }

    #[inline]
    fn encode_wire(&self, writer: &mut Writer) {
        writer.put(self);
    }

    fn sample(rng: &mut Rng, _version: i16) -> Uuid {
        let mut id = [0; 16];
        id.fill_with(|| rng.bits() as u8);
        id
    }
}

impl Wire for TopicId {
    fn zero() -> TopicId {
        TopicId::ZERO
    }

    #[inline]
    fn wire_bytes_min(_version: i16, _flexible: bool) -> usize {
        16
    }

    #[inline]
    fn decode_wire(reader: &mut Reader<'_>) -> Result<TopicId, DecodeError> {
        Ok(TopicId(reader.array()?))
    }

    #[inline]
    fn encode_wire(&self, writer: &mut Writer) {
        writer.put(&self.0);
    }

    fn sample(rng: &mut Rng, version: i16) -> TopicId {
        TopicId(Uuid::sample(rng, version))
    }
}

macro_rules! nullable {
    ($($type:ty, zero $zero:expr, min $flexible:literal or $fixed:literal,
        $decode:expr, $encode:expr, $sample:expr;)*) => {$(
        impl Wire for $type {
            fn zero() -> $type {
                $zero
            }

            #[inline]
            fn wire_bytes_min(_version: i16, flexible: bool) -> usize {
                if flexible { $flexible } else { $fixed }
            }

            #[inline]
            fn decode_wire(reader: &mut Reader<'_>) -> Result<$type, DecodeError> {
                Self::decode_nullable(reader)?.ok_or(DecodeError::NullNotAllowed)
            }

            #[inline]
            fn encode_wire(&self, writer: &mut Writer) {
                Self::encode_nullable(Some(self), writer);
            }

            fn sample(rng: &mut Rng, _version: i16) -> $type {
                $sample(rng)
            }
        }

        impl Nullable for $type {
            #[inline]
            fn decode_nullable(reader: &mut Reader<'_>) -> Result<Option<$type>, DecodeError> {
                $decode(reader)
            }

            #[inline]
            fn encode_nullable(value: Option<&$type>, writer: &mut Writer) {
                $encode(value, writer);
            }
        }
    )*};
}

nullable! {
    Text, zero Text::EMPTY, min 1 or 2,
        |reader: &mut Reader<'_>| reader.text(),
        |text: Option<&Text>, writer: &mut Writer| writer.text(text.map(Text::as_bytes)),
        |rng: &mut Rng| rng.text();
    Bytes, zero Bytes::new(), min 1 or 4,
        |reader: &mut Reader<'_>| reader.bytes(),
        |bytes: Option<&Bytes>, writer: &mut Writer| {
            writer.length(bytes.map(Bytes::len));
            writer.put(bytes.map(|bytes| &bytes[..]).unwrap_or_default());
        },
        |rng: &mut Rng| rng.bytes();
}

impl Wire for Records {
    fn zero() -> Records {
        Records::EMPTY
    }

    #[inline]
    fn wire_bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }

    #[inline]
    fn decode_wire(reader: &mut Reader<'_>) -> Result<Records, DecodeError> {
        Self::decode_nullable(reader)?.ok_or(DecodeError::NullNotAllowed)
    }

    #[inline]
    fn encode_wire(&self, writer: &mut Writer) {
        writer.records(Some(self));
    }

    fn sample(rng: &mut Rng, _version: i16) -> Records {
        rng.records()
    }
}

impl Nullable for Records {
    // Kafka's generator gives `records` the default null.
    fn nullable_zero() -> Option<Records> {
        None
    }

    #[inline]
    fn decode_nullable(reader: &mut Reader<'_>) -> Result<Option<Records>, DecodeError> {
        Ok(reader.bytes()?.map(Records::from))
    }

    #[inline]
    fn encode_nullable(value: Option<&Records>, writer: &mut Writer) {
        writer.records(value);
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn zero() -> Vec<T> {
        Vec::new()
    }

    #[inline]
    fn wire_bytes_min(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }

    #[inline]
    fn decode_wire(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        Self::decode_nullable(reader)?.ok_or(DecodeError::NullNotAllowed)
    }

    #[inline]
    fn encode_wire(&self, writer: &mut Writer) {
        Self::encode_nullable(Some(self), writer);
    }

    fn sample(rng: &mut Rng, version: i16) -> Vec<T> {
        let count = rng.count();
        (0..count).map(|_| T::sample(rng, version)).collect()
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn decode_nullable(reader: &mut Reader<'_>) -> Result<Option<Vec<T>>, DecodeError> {
        let wire_bytes_min = T::wire_bytes_min(reader.version, reader.flexible);
        let Some(count) = reader.element_count(wire_bytes_min, size_of::<T>())? else {
            return Ok(None);
        };
        // Exactly what the budget was charged: growing by doubling would hold up to three times as much.
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode_wire(reader)?);
        }
        Ok(Some(elements))
    }

    fn encode_nullable(value: Option<&Vec<T>>, writer: &mut Writer) {
        writer.length(value.map(Vec::len));
        for element in value.map(|elements| &elements[..]).unwrap_or_default() {
            element.encode_wire(writer);
        }
    }
}
