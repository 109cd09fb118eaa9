//! `cargo xtask`: what keeps the house in order.

// A tool of the workshop, not of the broker: it runs programs and reads files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// Nothing outside can reach a binary: `pub` says what a file offers to the others.
#![allow(unreachable_pub)]

mod arrows;
mod assertions;
mod ci;
mod circles;
mod dist;
mod docs;
mod processes;
mod sources;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

commands:
  ci [STEP...]   everything that must hold before a change lands, or the named steps
  arrows         which crate may use which, and circles between the files of a crate
  arrows --circles   the same, with every circle in full
  tidy           sizes, unsafe code, assertions, formats and their documents
  docs           writes what is generated: engine/model/CONFIG.md, the table of arrows
  dist           a stripped binary and a Debian package, in target/dist
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("ci") => ci::run(&arguments[1..]),
        Some("arrows") => {
            let print = arguments.get(1).is_some_and(|word| word == "--circles");
            arrows::check().and_then(|arrows| Ok(arrows + &circles::check(print)?))
        }
        Some("tidy") => tidy::check(),
        Some("docs") => docs::write(),
        Some("dist") => dist::make(),
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
