//! `throughline man`: the manual pages, made from the command line's own definition.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use super::Arguments;
use super::client::terminal::{self, talk};
use super::exit::{Exit, fail};

#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Write a page for each command into this folder, instead of printing the first
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(man: &Man) -> ExitCode {
    match &man.folder {
        Some(folder) => match write(folder) {
            Ok(()) => {
                talk(format_args!("wrote the manual pages into {}", folder.display()));
                Exit::Done.into()
            }
            Err(error) => fail(Exit::CannotCreate, format_args!("{}: {error}", folder.display())),
        },
        None => match page() {
            Ok(page) => terminal::print(page.trim_end())
                .break_value()
                .unwrap_or(Exit::Done.into()),
            Err(error) => fail(Exit::Io, error),
        },
    }
}

fn page() -> io::Result<String> {
    let mut page = Vec::new();
    Page::new(Arguments::command()).render(&mut page)?;
    String::from_utf8(page).map_err(io::Error::other)
}

fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}
