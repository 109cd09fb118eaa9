//! Log lines: what is shown, how it is written, and where it goes (standard error).

use clap::ValueEnum;
use model::config::nearest::nearest;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::commands::CommandError;
use crate::stdio::{LogLines, has_colours};
use crate::variables;

/// What is shown unless told otherwise. glommio speaks of its own affairs.
const FILTER_DEFAULT: &str = "info,glommio=off";

/// Words that are a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Crates whose lines can be asked for by name.
const SOURCES: [&str; 13] = [
    "broker", "client", "console", "glommio", "load", "metadata", "model", "ringlog", "runtime",
    "server", "shard", "storage", "uring",
];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

/// Arguments of every command.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// How log lines are written to standard error [env: RINGLOG_LOG_FORMAT; RINGLOG_LOG=debug shows more]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    log_format: Option<LogFormat>,
}

/// Starts logging.
pub fn begin(args: &LogArgs) -> Result<(), CommandError> {
    let filter = filter(variables::text(variables::LOG).as_deref())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogLines)
        .with_ansi(has_colours())
        .log_internal_errors(false);
    match format(args, variables::text(variables::LOG_FORMAT).as_deref())? {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

fn format(args: &LogArgs, variable: Option<&str>) -> Result<LogFormat, CommandError> {
    match (args.log_format, variable) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(LogFormat::default()),
        (None, Some(name)) => LogFormat::from_str(name, true).map_err(|_| {
            CommandError::Usage(format!(
                "{}={name}: it must be text or json",
                variables::LOG_FORMAT
            ))
        }),
    }
}

/// The filter of a variable's text. A word that is neither a level nor a source would show nothing at all, so it is
/// refused.
fn filter(text: Option<&str>) -> Result<EnvFilter, CommandError> {
    let Some(text) = text else {
        return Ok(EnvFilter::new(FILTER_DEFAULT));
    };
    let refused = |reason: String| {
        CommandError::Usage(format!(
            "{}={text}: {reason}; write a level ({}), or levels of sources such as info,storage=debug",
            variables::LOG,
            LEVELS.join(", ")
        ))
    };
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        word.parse::<Directive>()
            .map_err(|error| refused(format!("{word}: {error}")))?;
        let target = word.split(['=', '[']).next().unwrap_or(word);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        if !target.chars().all(is_name) {
            return Err(refused(format!("{word}: a comma separates words")));
        }
        // What is given a level of its own may be any library's.
        let source = target.split("::").next().unwrap_or(target);
        let lower = word.to_ascii_lowercase();
        if target == word && !SOURCES.contains(&source) && !LEVELS.contains(&lower.as_str()) {
            let known = LEVELS.into_iter().chain(SOURCES);
            let meant = nearest(&source.to_ascii_lowercase(), known)
                .map(|name| format!("; did you mean {name}?"));
            return Err(refused(format!(
                "{word} is neither a level nor a source{}",
                meant.unwrap_or_default()
            )));
        }
    }
    EnvFilter::try_new(text).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_would_show_nothing_are_refused() {
        for good in [
            None,
            Some("debug"),
            Some("INFO"),
            Some("info,glommio=off"),
            Some("storage"),
            Some("storage::recovery,hyper=debug"),
            Some("warn,shard::boot=trace"),
        ] {
            assert!(filter(good).is_ok(), "{good:?}");
        }
        for (bad, reason) in [
            ("debgu", "did you mean debug?"),
            ("verbose", "neither a level nor a source"),
            ("info,storage=lots", "storage=lots"),
            ("info;debug", "a comma separates words"),
            ("infos::x", "did you mean info?"),
        ] {
            let error = filter(Some(bad)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable() {
        let args = |log_format| LogArgs { log_format };
        assert_eq!(format(&args(None), None).unwrap(), LogFormat::Text);
        assert_eq!(format(&args(None), Some("JSON")).unwrap(), LogFormat::Json);
        assert_eq!(
            format(&args(Some(LogFormat::Text)), Some("json")).unwrap(),
            LogFormat::Text
        );
        assert!(format(&args(None), Some("xml")).is_err());
    }
}
