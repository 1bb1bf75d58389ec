//! `throughline check`: whether the configuration is well, without serving.

use std::process::ExitCode;

use super::client::terminal::talk;
use super::configured::Configured;
use super::exit::{Exit, fail};

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    configured: Configured,
}

pub(crate) fn run(check: Check) -> ExitCode {
    match check.configured.load() {
        Ok(loaded) => {
            match loaded.file() {
                Some(path) => talk(format_args!("the configuration is well: {}", path.display())),
                None => talk("the configuration is well: no file, so the defaults and the environment"),
            }
            Exit::Done.into()
        }
        Err(error) => fail(Exit::Config, error),
    }
}
