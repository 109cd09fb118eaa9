//! `ringlog top`: what a broker does, live in the terminal or once as text.
//!
//! Reads `/metrics.json` of the broker and computes everything from differences of two documents; the broker keeps
//! nothing for it.

mod feed;
mod screen;
mod text;
mod units;
mod words;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::time::Duration;

use console::{Document, Overview};
pub use text::bar;

use super::CommandError;
use super::table::{Format, print_json};
use crate::commands::metrics_source::Source;
use crate::quantity::{duration, written};
use crate::stdio::print_text;

/// Shortest time between two looks: each costs every shard a snapshot.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Arguments of `ringlog top`.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// The broker's HTTP server (`http=` in its ready line)
    #[arg(long, default_value = "http://127.0.0.1:9191", value_name = "URL")]
    url: String,
    /// Time between two looks, and what rates are computed over
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "TIME")]
    interval: Duration,
    /// Look for one interval, print, and exit; needs no terminal
    #[arg(long)]
    once: bool,
    /// With --once: text or json
    #[arg(long, value_enum, default_value_t, requires = "once")]
    format: Format,
}

/// Shows a broker.
pub fn run(args: TopArgs) -> Result<(), CommandError> {
    let interval = args.interval;
    if interval < INTERVAL_MIN {
        return Err(CommandError::Usage(format!(
            "--interval {}: at least {}",
            written(interval),
            written(INTERVAL_MIN)
        )));
    }
    let source = Source::new(&args.url)?;
    if args.once {
        return once(&source, interval, args.format);
    }
    if !std::io::stdout().is_terminal() {
        return Err(CommandError::Usage(
            "the output is not a terminal: use --once".to_owned(),
        ));
    }
    screen::run(source, interval)
}

fn once(source: &Source, interval: Duration, format: Format) -> Result<(), CommandError> {
    let earlier = source.fetch()?;
    std::thread::sleep(interval);
    let later = source.fetch()?;
    let overview = between(&earlier, &later)?;
    match format {
        Format::Text => print_text(&text::render(&overview, source.address())),
        Format::Json => print_json(&overview),
    }
}

fn between(earlier: &Document, later: &Document) -> Result<Overview, CommandError> {
    Overview::between(earlier, later).ok_or_else(|| {
        CommandError::Failed(
            "the broker or one of its shards came or went in the meantime: try again".to_owned(),
        )
    })
}
