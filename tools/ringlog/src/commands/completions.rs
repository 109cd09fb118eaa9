//! `ringlog completions`: what a shell needs to complete commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::CommandError;
use crate::Cli;
use crate::stdio::print_bytes;

/// Arguments of `ringlog completions`.
#[derive(Debug, Args)]
#[command(after_help = "For example, in ~/.bashrc: source <(ringlog completions bash)")]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: CompletionsArgs) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ringlog", &mut script);
    print_bytes(&script)
}
