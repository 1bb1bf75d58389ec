//! `throughline completions`: what a shell needs to complete our command lines.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;
use super::client::terminal;
use super::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(completions: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "throughline", &mut script);
    terminal::print(String::from_utf8_lossy(&script).trim_end())
        .break_value()
        .unwrap_or(Exit::Done.into())
}
