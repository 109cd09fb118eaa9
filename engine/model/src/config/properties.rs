//! Reads the text of a Java properties file.
//!
//! Comments (`#`, `!`), `=`, `:` or blanks between name and value, continuation by a backslash at the end of a line, and the
//! escapes `\t \n \r \f`, `\u` with four hexadecimal digits, and backslash-anything. A name given twice keeps its last value, as in Java.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::error::ConfigError;

/// Largest file accepted, in bytes.
pub const PROPERTIES_BYTES_MAX: usize = 4 << 20;

/// Names, values, and where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Values by name.
    pub settings: BTreeMap<String, String>,
    /// Line of each name's last value, from 1.
    pub lines: BTreeMap<String, usize>,
}

impl Properties {
    /// Reads a properties text.
    pub fn parse(text: &str) -> Result<Properties, ConfigError> {
        if text.len() > PROPERTIES_BYTES_MAX {
            return Err(ConfigError::Syntax {
                line: 1,
                reason: "the file is too large",
            });
        }
        let mut out = Properties::default();
        for (line, logical) in logical_lines(text) {
            let (name, value) = split(&logical, line)?;
            out.lines.insert(name.clone(), line);
            out.settings.insert(name, value);
        }
        Ok(out)
    }
}

/// Names and values of a properties text.
pub fn parse_properties(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    Properties::parse(text).map(|properties| properties.settings)
}

/// Lines without comments and empty ones, continuations joined, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    let text = text.replace("\r\n", "\n");
    for (index, line) in text.split(['\n', '\r']).enumerate() {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        let skipped = line.is_empty() || line.starts_with(['#', '!']);
        if !open && skipped {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let continues = backslashes % 2 == 1;
        let kept = if continues {
            &line[..line.len() - 1]
        } else {
            line
        };
        match out.last_mut() {
            Some((_, last)) if open => last.push_str(kept),
            _ => out.push((index + 1, kept.to_owned())),
        }
        open = continues;
    }
    out
}

fn split(logical: &str, line: usize) -> Result<(String, String), ConfigError> {
    let blank = |c: &char| matches!(c, ' ' | '\t' | '\x0c');
    let mut chars = logical.chars().peekable();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| !blank(c) && !matches!(c, '=' | ':')) {
        push(&mut name, c, &mut chars, line)?;
    }
    while chars.next_if(blank).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(blank).is_some() {}
    }
    let mut value = String::new();
    while let Some(c) = chars.next() {
        push(&mut value, c, &mut chars, line)?;
    }
    if name.is_empty() {
        return Err(ConfigError::Syntax {
            line,
            reason: "the name is missing",
        });
    }
    Ok((name, value))
}

/// Appends `c`, or what it escapes.
fn push(
    out: &mut String,
    c: char,
    rest: &mut Peekable<Chars<'_>>,
    line: usize,
) -> Result<(), ConfigError> {
    if c != '\\' {
        out.push(c);
        return Ok(());
    }
    match rest.next() {
        None => {}
        Some('t') => out.push('\t'),
        Some('n') => out.push('\n'),
        Some('r') => out.push('\r'),
        Some('f') => out.push('\x0c'),
        Some('u') => out.push(unicode(rest, line)?),
        Some(other) => out.push(other),
    }
    Ok(())
}

/// The character of `\u` with four hexadecimal digits, or of two of them that form a surrogate pair.
fn unicode(rest: &mut Peekable<Chars<'_>>, line: usize) -> Result<char, ConfigError> {
    let fail = ConfigError::Syntax {
        line,
        reason: "\\u needs four hexadecimal digits",
    };
    let unit = |rest: &mut Peekable<Chars<'_>>| {
        (0..4).try_fold(0u16, |unit, _| {
            let digit = rest.next()?.to_digit(16)?;
            Some(unit << 4 | u16::try_from(digit).ok()?)
        })
    };
    let first = unit(rest).ok_or_else(|| fail.clone())?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Ok(c);
    }
    if (rest.next(), rest.next()) != (Some('\\'), Some('u')) {
        return Err(fail);
    }
    let second = unit(rest).ok_or_else(|| fail.clone())?;
    match char::decode_utf16([first, second]).next() {
        Some(Ok(c)) => Ok(c),
        _ => Err(fail),
    }
}
