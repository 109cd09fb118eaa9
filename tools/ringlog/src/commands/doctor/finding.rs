//! What one check has found.

use std::fmt;

use serde::Serialize;

/// How bad it is; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Nothing is wrong, but it is good to know.
    Note,
    /// A broker runs, and would run better.
    Change,
    /// A broker does not run, or loses what it should keep.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Change => "change",
            Verdict::Bad => "BAD",
        })
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// What that gains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            change: None,
            gain: None,
        }
    }

    /// Something else.
    pub fn is(verdict: Verdict, name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            verdict,
            ..Finding::good(name, found)
        }
    }

    /// What to do about it, and what for.
    pub fn change(mut self, change: impl Into<String>, gain: impl Into<String>) -> Finding {
        self.change = Some(change.into());
        self.gain = Some(gain.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8}{:<16}{}", self.verdict, self.name, self.found)?;
        for (what, text) in [("change: ", &self.change), ("gain:   ", &self.gain)] {
            if let Some(text) = text {
                write!(f, "\n{:24}{what}{text}", "")?;
            }
        }
        Ok(())
    }
}
