//! `ringlog top`: what a broker does, or several do, live in the terminal or once as text.
//!
//! Reads `/metrics.json` of the broker and computes everything from differences of two documents; the broker keeps
//! nothing for it.

mod brokers;
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
pub use units::bytes as size;

use brokers::Watched;

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
    /// The broker's HTTP server (`http=` in its ready line); with several, with commas, a row for each
    #[arg(
        long,
        default_value = "http://127.0.0.1:9191",
        value_name = "URL",
        value_delimiter = ','
    )]
    url: Vec<String>,
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
    let sources = args.url.iter().map(|url| Source::new(url));
    let mut sources = sources.collect::<Result<Vec<Source>, CommandError>>()?;
    if args.once {
        return match sources.as_slice() {
            [source] => once(source, interval, args.format),
            sources => once_each(sources, interval, args.format),
        };
    }
    if !std::io::stdout().is_terminal() {
        return Err(CommandError::Usage(
            "the output is not a terminal: use --once".to_owned(),
        ));
    }
    match sources.len() {
        1 => screen::run(sources.remove(0), interval),
        _ => screen::run_each(sources, interval),
    }
}

/// One look at several brokers. Some may be down; none may be looked at in vain.
fn once_each(sources: &[Source], interval: Duration, format: Format) -> Result<(), CommandError> {
    let mut watched: Vec<Watched> = sources
        .iter()
        .map(|it| Watched::new(it.address()))
        .collect();
    for look in 0..2 {
        if look > 0 {
            std::thread::sleep(interval);
        }
        for (broker, source) in watched.iter_mut().zip(sources) {
            broker.update(source.fetch().map_err(|error| error.to_string()));
        }
    }
    match format {
        Format::Text => print_text(&brokers::render(&watched))?,
        Format::Json => {
            let overviews: Vec<Option<&Overview>> = watched.iter().map(Watched::overview).collect();
            print_json(&overviews)?;
        }
    }
    match watched.iter().any(|broker| broker.overview().is_some()) {
        true => Ok(()),
        false => Err(CommandError::Failed("no broker answers".to_owned())),
    }
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
