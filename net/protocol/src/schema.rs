//! The `schema!` macro: Kafka's message schemas, line by line, into structs with a decoder and an encoder.
//!
//! A line of the schema is `name: type, versions [, null versions] [, tag N] [, ignorable] [, = default];`.
//! `versions` is `3+` or `0-12`. A tagged field is written after the others, if it differs from its default.
//! A field that a version lacks has its default there; encoding another value is an error unless it is `ignorable`.

/// `version` within `low..=high`, or from `low` on.
macro_rules! within {
    ($version:expr; $low:literal) => {
        ($low..).contains(&$version)
    };
    ($version:expr; $low:literal, $high:literal) => {
        ($low..=$high).contains(&$version)
    };
    ($version:expr;) => {
        false
    };
}

/// The first alternative if there is one.
macro_rules! or_else {
    (; $otherwise:expr) => {
        $otherwise
    };
    ($given:expr; $otherwise:expr) => {
        $given
    };
}

/// The tag of a field, if it is tagged.
macro_rules! tag {
    () => {
        None::<u32>
    };
    ($tag:literal) => {
        Some::<u32>($tag)
    };
}

macro_rules! schema {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {$(
            $(#[$field_meta:meta])*
            $field:ident : $type:ty, $low:literal $(- $high:literal)? $(+)?
            $(, null $null_low:literal $(- $null_high:literal)? $(+)?)?
            $(, tag $tag:literal)?
            $(, ignorable $($ignorable:lifetime)?)?
            $(, = $default:expr)?
            ;
        )*}
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {$(
            $(#[$field_meta])*
            #[doc = concat!("Versions ", stringify!($low $(- $high)?), ".")]
            pub $field: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                $name {$(
                    $field: $crate::schema::or_else!($($default)?; <$type as $crate::wire::Field>::zero()),
                )*}
            }
        }

        impl $crate::wire::Wire for $name {
            fn zero() -> Self {
                Self::default()
            }

            #[inline]
            fn wire_bytes_min(version: i16, flexible: bool) -> usize {
                let mut bytes = usize::from(flexible);
                $(
                    if $crate::schema::tag!($($tag)?).is_none() && $crate::schema::within!(version; $low $(, $high)?) {
                        let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                        bytes += <$type as $crate::wire::Field>::wire_bytes_min(version, flexible, nullable);
                    }
                )*
                bytes
            }

            // A message without tagged fields assigns none of its variables again.
            #[allow(unused_mut)]
            fn decode_wire(
                reader: &mut $crate::reader::Reader<'_>,
            ) -> Result<Self, $crate::error::DecodeError> {
                let version = reader.version;
                $(
                    let mut $field: $type = if $crate::schema::tag!($($tag)?).is_none()
                        && $crate::schema::within!(version; $low $(, $high)?)
                    {
                        let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                        $crate::wire::Field::decode_field(reader, nullable)?
                    } else {
                        $crate::schema::or_else!($($default)?; <$type as $crate::wire::Field>::zero())
                    };
                )*
                if reader.flexible {
                    reader.tagged_fields(|reader, tag| {
                        $(
                            if $crate::schema::tag!($($tag)?) == Some(tag)
                                && $crate::schema::within!(version; $low $(, $high)?)
                            {
                                let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                                $field = $crate::wire::Field::decode_field(reader, nullable)?;
                                return Ok(true);
                            }
                        )*
                        Ok(false)
                    })?;
                }
                Ok($name { $($field),* })
            }

            fn encode_wire(&self, writer: &mut $crate::writer::Writer) {
                let version = writer.version;
                $(
                    if $crate::schema::within!(version; $low $(, $high)?) {
                        if $crate::schema::tag!($($tag)?).is_none() {
                            let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                            $crate::wire::Field::encode_field(&self.$field, writer, nullable, stringify!($field));
                        }
                    } else if !$crate::schema::or_else!($(true $($ignorable)?)?; false)
                        && self.$field
                            != $crate::schema::or_else!($($default)?; <$type as $crate::wire::Field>::zero())
                    {
                        let field = stringify!($field);
                        writer.fail($crate::error::EncodeError::FieldNotInVersion { field, version });
                    }
                )*
                if writer.flexible {
                    let fields = writer.tagged_fields();
                    $(
                        if let Some(tag) = $crate::schema::tag!($($tag)?)
                            && $crate::schema::within!(version; $low $(, $high)?)
                            && self.$field
                                != $crate::schema::or_else!($($default)?; <$type as $crate::wire::Field>::zero())
                        {
                            let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                            writer.tagged_field(fields, tag, |writer| {
                                $crate::wire::Field::encode_field(
                                    &self.$field, writer, nullable, stringify!($field),
                                );
                            });
                        }
                    )*
                }
            }

            fn sample(rng: &mut $crate::sample::Rng, version: i16) -> Self {
                $name {$(
                    $field: if $crate::schema::within!(version; $low $(, $high)?) {
                        let nullable = $crate::schema::within!(version; $($null_low $(, $null_high)?)?);
                        $crate::wire::Field::sample_field(rng, version, nullable)
                    } else {
                        $crate::schema::or_else!($($default)?; <$type as $crate::wire::Field>::zero())
                    },
                )*}
            }
        }

        impl $crate::wire::Nullable for $name {
            fn decode_nullable(
                reader: &mut $crate::reader::Reader<'_>,
            ) -> Result<Option<Self>, $crate::error::DecodeError> {
                // KIP-893: a byte below zero is null.
                if reader.i8()? < 0 {
                    return Ok(None);
                }
                Ok(Some($crate::wire::Wire::decode_wire(reader)?))
            }

            fn encode_nullable(value: Option<&Self>, writer: &mut $crate::writer::Writer) {
                match value {
                    None => writer.put(&(-1i8).to_be_bytes()),
                    Some(value) => {
                        writer.put(&[1]);
                        $crate::wire::Wire::encode_wire(value, writer);
                    }
                }
            }
        }
    )*};
}

pub(crate) use {or_else, schema, tag, within};
