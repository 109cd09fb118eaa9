//! How bytes of keys, values and headers are written as text, and read from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::Value;

/// How bytes are text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// As they are. In JSON, bytes that are no UTF-8 are an object with their base64.
    #[default]
    Text,
    /// Two digits for each byte.
    Hex,
    /// Base64.
    Base64,
}

/// Name of the member that holds bytes which are no UTF-8.
const BASE64_MEMBER: &str = "base64";

impl Encoding {
    /// Bytes as they are written.
    pub fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Encoding::Text => out.extend_from_slice(bytes),
            Encoding::Hex => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                for byte in bytes {
                    out.push(DIGITS[usize::from(byte >> 4)]);
                    out.push(DIGITS[usize::from(byte & 15)]);
                }
            }
            Encoding::Base64 => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
        }
    }

    /// What [`Encoding::write`] has written.
    pub fn read(self, text: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Encoding::Text => Ok(text.to_vec()),
            Encoding::Hex => read_hex(text),
            Encoding::Base64 => STANDARD
                .decode(text.trim_ascii())
                .map_err(|error| format!("no base64: {error}")),
        }
    }

    /// Bytes, or their absence, as JSON.
    pub fn to_json(self, bytes: Option<&[u8]>) -> Value {
        let Some(bytes) = bytes else {
            return Value::Null;
        };
        if self == Encoding::Text {
            return match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => serde_json::json!({ BASE64_MEMBER: STANDARD.encode(bytes) }),
            };
        }
        let mut text = Vec::new();
        self.write(bytes, &mut text);
        String::from_utf8_lossy(&text).into()
    }

    /// What [`Encoding::to_json`] has made.
    pub fn of_json(self, value: &Value) -> Result<Option<Vec<u8>>, String> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => self.read(text.as_bytes()).map(Some),
            Value::Object(members) if members.len() == 1 => match members.get(BASE64_MEMBER) {
                Some(Value::String(text)) => Encoding::Base64.read(text.as_bytes()).map(Some),
                _ => Err(format!(
                    "expected a text, null, or {{\"{BASE64_MEMBER}\": \"...\"}}"
                )),
            },
            _ => Err(format!(
                "expected a text, null, or {{\"{BASE64_MEMBER}\": \"...\"}}"
            )),
        }
    }
}

fn read_hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| {
            let digit = char::from(*byte).to_digit(16);
            digit.ok_or_else(|| format!("no hexadecimal digit: {:?}", char::from(*byte)))
        });
    let digits = digits.collect::<Result<Vec<u32>, String>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of hexadecimal digits".to_owned());
    }
    let byte =
        |pair: &[u32; 2]| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits are a byte");
    Ok(pairs.iter().map(byte).collect())
}

/// A text in which `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH` stand for bytes.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        out.push(match rest.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => {
                        u8::try_from(high << 4 | low).expect("two digits are a byte")
                    }
                    _ => return Err("\\x needs two hexadecimal digits".to_owned()),
                }
            }
            other => {
                let other = other.map_or(String::new(), String::from);
                return Err(format!(
                    "\\{other} is not known: \\n \\t \\r \\0 \\\\ \\xHH are"
                ));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        let samples: [&[u8]; 5] = [
            b"",
            b"plain",
            "päper".as_bytes(),
            b"\x00\xff\n",
            &[0x80; 300],
        ];
        for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
            for bytes in samples {
                let mut text = Vec::new();
                encoding.write(bytes, &mut text);
                assert_eq!(encoding.read(&text).unwrap(), bytes, "{encoding:?}");
                let json = encoding.to_json(Some(bytes));
                assert_eq!(
                    encoding.of_json(&json).unwrap().unwrap(),
                    bytes,
                    "{encoding:?}: {json}"
                );
            }
            assert_eq!(encoding.of_json(&encoding.to_json(None)), Ok(None));
        }
        assert_eq!(Encoding::Hex.read(b"0A ff").unwrap(), b"\x0a\xff");
        assert!(Encoding::Hex.read(b"abc").is_err() && Encoding::Hex.read(b"zz").is_err());
        assert!(Encoding::Base64.read(b"***").is_err());
        assert!(
            Encoding::Text
                .of_json(&serde_json::json!({ "base64": 5 }))
                .is_err()
        );
        assert!(Encoding::Text.of_json(&serde_json::json!(7)).is_err());
    }

    #[test]
    fn escapes() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("a:b", b"a:b"),
            ("\\t", b"\t"),
            ("\\n\\r\\0\\\\", b"\n\r\0\\"),
            ("\\x1e|\\xFF", b"\x1e|\xff"),
            ("ä", "ä".as_bytes()),
        ] {
            assert_eq!(unescape(text).unwrap(), bytes, "{text}");
        }
        for bad in ["\\", "\\q", "\\x1", "\\xzz"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
