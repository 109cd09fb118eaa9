//! `ringlog man`: the manual, a page for each command.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::CommandError;
use crate::Cli;
use crate::stdio::{outln, print_bytes};

/// Arguments of `ringlog man`.
#[derive(Debug, Args)]
#[command(after_help = "For example: ringlog man | man -l -")]
pub struct ManArgs {
    /// Write the pages of all commands into this folder, which exists. [default: print the first page]
    folder: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: ManArgs) -> Result<(), CommandError> {
    let mut command = Cli::command();
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        let rendered = Man::new(command).render(&mut page);
        rendered.map_err(|error| CommandError::io("rendering the page", error))?;
        return print_bytes(&page);
    };
    command.build();
    let mut pages = 0;
    write_pages(&folder, command, &mut pages)?;
    outln!("{pages} pages written to {}", folder.display())
}

/// Writes the page of a command and of those below it.
fn write_pages(
    folder: &std::path::Path,
    command: clap::Command,
    pages: &mut u32,
) -> Result<(), CommandError> {
    let below: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
        .cloned()
        .collect();
    let man = Man::new(command);
    let path = folder.join(man.get_filename());
    let mut page = Vec::new();
    let written = man
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, &page));
    written.map_err(|error| CommandError::io(path.display().to_string(), error))?;
    *pages += 1;
    below
        .into_iter()
        .try_for_each(|below| write_pages(folder, below, pages))
}
