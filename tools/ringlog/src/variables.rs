//! Environment variables that commands read, beside those that set a broker's configuration.
//!
//! A registry: adding one is one constant and one entry of [`OWN`].

/// The filter of log lines.
pub const LOG: &str = "RINGLOG_LOG";
/// How log lines are written.
pub const LOG_FORMAT: &str = "RINGLOG_LOG_FORMAT";
/// The broker that commands ask.
pub const BOOTSTRAP: &str = "RINGLOG_BOOTSTRAP";
/// The file of profiles.
pub const PROFILES: &str = "RINGLOG_PROFILES";

/// Variables that are no configuration of a broker's.
const OWN: [&str; 4] = [LOG, LOG_FORMAT, BOOTSTRAP, PROFILES];

/// The variables that may set a broker's configuration. Names and values that are not text cannot.
pub fn of_broker() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    let texts = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut found: Vec<(String, String)> = texts
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect();
    found.sort();
    found
}

/// A variable that is set to something.
pub fn text(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    // What is no text is refused by whoever reads the value, who shows it.
    let value = value.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}
