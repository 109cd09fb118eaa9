//! `cargo xtask`: what keeps the house in order.

// A tool of the workshop, not of the broker: it runs programs and reads files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// Nothing outside can reach a binary: `pub` says what a file offers to the others.
#![allow(unreachable_pub)]

mod arrows;
mod ci;
mod docs;
mod processes;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

commands:
  ci [STEP...]   everything that must hold before a change lands, or the named steps
  arrows         which crate may use which
  tidy           sizes, unsafe code, formats and their documents
  docs           writes the generated documents (engine/model/CONFIG.md)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("ci") => ci::run(&arguments[1..]),
        Some("arrows") => arrows::check(),
        Some("tidy") => tidy::check(),
        Some("docs") => docs::write(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}
