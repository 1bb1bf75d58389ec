//! `throughline init`: a configuration file to begin with.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use throughline::config::{self, Config};

use super::client::terminal::{self, talk};
use super::exit::{Exit, fail};

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The file to write; one that is there is left as it is
    #[arg(value_name = "FILE", default_value = "throughline.toml")]
    path: PathBuf,
    /// Print it instead
    #[arg(long, conflicts_with = "path")]
    stdout: bool,
}

pub(crate) fn run(init: &Init) -> ExitCode {
    let text = config::template::<Config>();
    if init.stdout {
        return terminal::print(text.trim_end())
            .break_value()
            .unwrap_or(Exit::Done.into());
    }
    let path = init.path.display();
    let written = File::create_new(&init.path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            talk(format_args!(
                "wrote {path}; try it with `throughline check --config {path}`"
            ));
            Exit::Done.into()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fail(
            Exit::CannotCreate,
            format_args!("{path} is there already, and is left as it is; name another file, or print it with --stdout"),
        ),
        Err(error) => fail(Exit::CannotCreate, format_args!("{path} cannot be made: {error}")),
    }
}
