//! Which broker a command asks: `--bootstrap`, `RINGLOG_BOOTSTRAP`, or the broker of this machine; and profiles, which
//! are names for brokers: `--bootstrap @staging`.
//!
//! Profiles lie in a properties file, a line each: `staging.bootstrap=10.0.0.7:9092,10.0.0.8:9092`.

use std::path::{Path, PathBuf};

use model::config::Properties;
use model::config::nearest::nearest;

use crate::configuration::read_file;
use crate::variables;

/// The broker that is asked when nothing is said.
pub const BOOTSTRAP_DEFAULT: &str = "127.0.0.1:9092";
/// What the name of a profile begins with.
const MARK: char = '@';
/// What a profile says.
const SETTING: &str = "bootstrap";

/// What `--bootstrap` is when it is not given.
pub fn bootstrap_default() -> String {
    variables::text(variables::BOOTSTRAP).unwrap_or_else(|| BOOTSTRAP_DEFAULT.to_owned())
}

/// Reads `HOST:PORT`, several with commas, or `@PROFILE`.
pub fn bootstrap(text: &str) -> Result<String, String> {
    match text.strip_prefix(MARK) {
        None => address_list(text),
        Some(name) => {
            let path = file()?;
            let (path, properties) = read_file(&path).map_err(|error| error.to_string())?;
            find(name, &path, &properties)
        }
    }
}

fn address_list(text: &str) -> Result<String, String> {
    let is_address = |entry: &str| {
        let port = entry.trim().rsplit_once(':').map(|(_, port)| port);
        port.is_some_and(|port| port.parse::<u16>().is_ok())
    };
    match text.split(',').all(is_address) {
        true => Ok(text.to_owned()),
        false => Err("expected HOST:PORT, several with commas, or @PROFILE".to_owned()),
    }
}

/// Where profiles are.
fn file() -> Result<PathBuf, String> {
    if let Some(path) = variables::text(variables::PROFILES) {
        return Ok(PathBuf::from(path));
    }
    let base = variables::text("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || variables::text("HOME").map(|home| Path::new(&home).join(".config"));
    let base = base.or_else(home);
    base.map(|base| base.join("ringlog").join("profiles.properties"))
        .ok_or_else(|| format!("profiles need HOME or {} to be set", variables::PROFILES))
}

/// The brokers of a profile. What the file holds besides must make sense, too.
fn find(name: &str, path: &Path, properties: &Properties) -> Result<String, String> {
    let place = |key: &str| {
        let line = properties.lines.get(key).copied().unwrap_or_default();
        format!("{}:{line}", path.display())
    };
    let mut names = Vec::new();
    let mut found = None;
    for (key, value) in &properties.settings {
        let Some((profile, SETTING)) = key.rsplit_once('.') else {
            return Err(format!(
                "{}: {key}: a profile is written as NAME.{SETTING}=HOST:PORT",
                place(key)
            ));
        };
        let brokers = address_list(value).map_err(|reason| format!("{}: {reason}", place(key)))?;
        if profile == name {
            found = Some(brokers);
        }
        names.push(profile);
    }
    found.ok_or_else(|| {
        let meant = nearest(name, names.into_iter());
        let meant = meant.map(|name| format!("; did you mean {MARK}{name}?"));
        format!(
            "there is no profile {name} in {}{}",
            path.display(),
            meant.unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, expected: Result<&str, &str>) {
        let properties = Properties::parse(text).unwrap();
        let found = find(name, Path::new("p"), &properties);
        let found = found.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(found, expected, "{name} of {text:?}");
    }

    #[test]
    fn profiles() {
        let two = "# mine\nstaging.bootstrap = a:1,b:2\nlocal.bootstrap=c:3\n";
        check(two, "staging", Ok("a:1,b:2"));
        check(two, "local", Ok("c:3"));
        check(
            two,
            "stagin",
            Err("there is no profile stagin in p; did you mean @staging?"),
        );
        check(two, "zzzzzzz", Err("there is no profile zzzzzzz in p"));
        check(
            "x.bootstrap=a:1\n\nx.acks=1",
            "x",
            Err("p:3: x.acks: a profile is written as NAME.bootstrap=HOST:PORT"),
        );
        check(
            "x.bootstrap=a",
            "x",
            Err("p:1: expected HOST:PORT, several with commas, or @PROFILE"),
        );
    }

    #[test]
    fn addresses() {
        assert_eq!(bootstrap("a:1, [::1]:2").as_deref(), Ok("a:1, [::1]:2"));
        for bad in ["", "a", "a:", "a:70000", "a:1,,b:2"] {
            assert!(bootstrap(bad).is_err(), "{bad}");
        }
    }
}
