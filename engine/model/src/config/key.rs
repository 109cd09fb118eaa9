//! What the registry knows about one key, and how its value is read and checked.
//!
//! A value is text everywhere outside; [`Key::parse`] is the only way from text to a typed [`Value`]. Parsing and ranges are
//! those of Apache Kafka 4.3.1, so that a value that one accepts the other accepts too.

use std::fmt;

use super::error::ConfigError;

/// Longest value accepted, in bytes: far above any sensible one, far below what would hurt.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Type of a value, with its number in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// A key of a plug-in, unknown to Kafka's own tables. Its value is never shown.
    Unknown = 0,
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Words separated by commas.
    List = 7,
    /// Name of a Java class.
    Class = 8,
    /// Text that is never shown.
    Password = 9,
}

impl Kind {
    /// The number in DescribeConfigs.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The name in documentation.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unknown => "unknown",
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
            Kind::Class => "class",
            Kind::Password => "password",
        }
    }
}

/// What a key accepts beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    /// Anything.
    Any,
    /// A whole number from the first to the second, inclusive.
    Range(i64, i64),
    /// A number from the first to the second, inclusive.
    Between(f64, f64),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A list of these, possibly empty.
    ListOf(&'static [&'static str]),
    /// -1, or 1 to 9.
    GzipLevel,
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
}

/// Whether and where a key can be changed while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only by a restart.
    ReadOnly,
    /// For all brokers or one (and, for a topic or a group, on that).
    Cluster,
    /// For one broker.
    PerBroker,
}

/// Whether the broker does anything with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what the documentation says.
    Effective,
    /// Accepted and reported, and why nothing more.
    Ignored(&'static str),
}

/// One entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default; `None` is null.
    pub default: Option<&'static str>,
    /// What it accepts.
    pub valid: Valid,
    /// Whether it can be changed at run time.
    pub access: Access,
    /// For a topic or group key the broker keys that default it, for a broker key coarser forms of it; first match wins.
    pub synonyms: &'static [&'static str],
    /// Whether it does anything.
    pub effect: Effect,
    /// One sentence.
    pub doc: &'static str,
}

macro_rules! constructors {
    ($($name:ident $kind:ident,)*) => {
        $(
            pub(super) const fn $name(
                name: &'static str,
                default: Option<&'static str>,
                doc: &'static str,
            ) -> Key {
                Key {
                    name,
                    kind: Kind::$kind,
                    default,
                    valid: Valid::Any,
                    access: Access::ReadOnly,
                    synonyms: &[],
                    effect: Effect::Effective,
                    doc,
                }
            }
        )*
    };
}

constructors! {
    boolean Boolean,
    string String,
    int Int,
    short Short,
    long Long,
    double Double,
    list List,
    class Class,
    password Password,
    unknown Unknown,
}

impl Key {
    pub(super) const fn valid(mut self, valid: Valid) -> Key {
        self.valid = valid;
        self
    }

    pub(super) const fn at_least(self, min: i64) -> Key {
        self.range(min, i64::MAX)
    }

    pub(super) const fn range(self, min: i64, max: i64) -> Key {
        self.valid(Valid::Range(min, max))
    }

    pub(super) const fn between(self, min: f64, max: f64) -> Key {
        self.valid(Valid::Between(min, max))
    }

    pub(super) const fn one_of(self, words: &'static [&'static str]) -> Key {
        self.valid(Valid::OneOf(words))
    }

    pub(super) const fn list_of(self, words: &'static [&'static str]) -> Key {
        self.valid(Valid::ListOf(words))
    }

    pub(super) const fn cluster(mut self) -> Key {
        self.access = Access::Cluster;
        self
    }

    pub(super) const fn per_broker(mut self) -> Key {
        self.access = Access::PerBroker;
        self
    }

    pub(super) const fn synonyms(mut self, synonyms: &'static [&'static str]) -> Key {
        self.synonyms = synonyms;
        self
    }

    pub(super) const fn ignored(mut self, reason: &'static str) -> Key {
        self.effect = Effect::Ignored(reason);
        self
    }

    /// Whether a value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password | Kind::Unknown)
    }

    /// Whether only a restart changes it.
    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Whether the key is Ringlog's own.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("ringlog.")
    }

    /// The unit of its number, as the name says it.
    pub fn unit(&self) -> Option<&'static str> {
        if !matches!(self.kind, Kind::Int | Kind::Short | Kind::Long) {
            return None;
        }
        let last = |suffix| self.name.rsplit('.').next() == Some(suffix);
        let named = [
            ("ms", "ms"),
            ("secs", "s"),
            ("seconds", "s"),
            ("minutes", "min"),
            ("hours", "h"),
            ("bytes", "bytes"),
        ];
        let unit = named
            .into_iter()
            .find(|(suffix, _)| last(suffix))
            .map(|(_, unit)| unit);
        unit.or_else(|| self.name.contains(".bytes").then_some("bytes"))
    }

    /// Reads a value.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let fail = |reason: String| Err(ConfigError::invalid(self, text, reason));
        if text.len() > VALUE_BYTES_MAX {
            return Err(ConfigError::invalid(
                self,
                "...",
                "it is too long".to_owned(),
            ));
        }
        let word = text.trim();
        let value = match self.kind {
            Kind::Boolean if word.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Kind::Boolean if word.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Kind::Boolean => return fail("it must be true or false".to_owned()),
            Kind::Short => return self.whole(text, word.parse::<i16>().map(i64::from)),
            Kind::Int => return self.whole(text, word.parse::<i32>().map(i64::from)),
            Kind::Long => return self.whole(text, word.parse::<i64>()),
            Kind::Double => match word.parse::<f64>() {
                Ok(number) if !number.is_nan() => Value::Double(number),
                _ => return fail("it must be a number".to_owned()),
            },
            Kind::List => Value::List(split_list(word)),
            Kind::String | Kind::Class => Value::Text(word.to_owned()),
            Kind::Password | Kind::Unknown => Value::Text(text.to_owned()),
        };
        match self.violation(&value) {
            Some(reason) => fail(reason),
            None => Ok(value),
        }
    }

    fn whole(
        &self,
        text: &str,
        number: Result<i64, std::num::ParseIntError>,
    ) -> Result<Value, ConfigError> {
        let reason = match number {
            Ok(number) => match self.violation(&Value::Whole(number)) {
                None => return Ok(Value::Whole(number)),
                Some(reason) => reason,
            },
            Err(_) => format!("it must be a whole number of type {}", self.kind.name()),
        };
        Err(ConfigError::invalid(self, text, reason))
    }

    fn violation(&self, value: &Value) -> Option<String> {
        let bad = match (self.valid, value) {
            (Valid::Range(min, max), Value::Whole(number)) => *number < min || *number > max,
            (Valid::Between(min, max), Value::Double(number)) => *number < min || *number > max,
            (Valid::OneOf(words), Value::Text(text)) => !words.contains(&text.as_str()),
            (Valid::ListOf(words), Value::List(list)) => {
                list.iter().any(|word| !words.contains(&word.as_str()))
            }
            (Valid::GzipLevel, Value::Whole(level)) => *level != -1 && !(1..=9).contains(level),
            (Valid::ThrottledReplicas, Value::List(list)) => !is_throttled_replicas(list),
            _ => false,
        };
        bad.then(|| format!("it must be {}", self.valid))
    }
}

fn is_throttled_replicas(list: &[String]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |word: &String| {
        word.split_once(':')
            .is_some_and(|(a, b)| number(a) && number(b))
    };
    list == ["*"] || list.iter().all(pair)
}

/// Splits at commas; blanks around words do not count. Empty text is an empty list.
pub fn split_list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|word| word.trim().to_owned()).collect()
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Valid::Any => f.write_str("anything"),
            Valid::Range(min, i64::MAX) => write!(f, "{min} or more"),
            Valid::Range(min, max) => write!(f, "{min} to {max}"),
            Valid::Between(min, max) => write!(f, "{min} to {max}"),
            Valid::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Valid::ListOf(words) => write!(f, "a list of {}, or empty", words.join(", ")),
            Valid::GzipLevel => f.write_str("-1, or 1 to 9"),
            Valid::ThrottledReplicas => f.write_str("*, or a list of partition:broker"),
        }
    }
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a boolean.
    Boolean(bool),
    /// Of a short, int or long.
    Whole(i64),
    /// Of a double.
    Double(f64),
    /// Of a string, class or password.
    Text(String),
    /// Of a list.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// The form that DescribeConfigs answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Whole(value) => value.fmt(f),
            Value::Double(value) => f.write_str(&double_text(*value)),
            Value::Text(value) => value.fmt(f),
            Value::List(value) => f.write_str(&value.join(",")),
        }
    }
}

/// A double as Java writes it: plain between 0.001 and 10 million, otherwise with an exponent.
fn double_text(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}
