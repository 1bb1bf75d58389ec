//! How a command ends: one table of exit codes, those of `sysexits.h` where it has a word.

use std::fmt::Display;
use std::process::ExitCode;

use super::client::terminal::talk;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Refused = 1,
    Usage = 2,
    Data = 65,
    Unavailable = 69,
    Software = 70,
    CannotCreate = 73,
    Io = 74,
    Temporary = 75,
    Config = 78,
    Interrupted = 130,
}

/// The same in words, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; also when whoever reads standard output has had enough
  1    refused by the server; not healthy
  2    the command line makes no sense
  65   the input makes no sense: not JSON, not UTF-8, a line too long
  69   nobody serves there, or the address to listen on cannot be had
  70   what answers there does not keep to the protocol
  73   the file is there already, or cannot be made
  74   standard input or output failed
  75   it may or may not have been done: try again; or --wait passed before --count was reached
  78   the configuration is wrong
  130  ended by ctrl-c, or by a second signal while draining

Environment:
  THROUGHLINE_URL            where the server is, for --url
  THROUGHLINE_TOKEN          the token, for --token
  THROUGHLINE_CONFIG         the configuration file, for --config
  THROUGHLINE_SECTION__KEY   any key of the configuration, such as THROUGHLINE_WINDOW__COUNT
  THROUGHLINE_LOG            what is logged, such as debug, or throughline::server=debug,info
  NO_COLOR                   no colours in the log";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Says why it ends here. Several lines stay several.
pub(crate) fn fail(exit: Exit, why: impl Display) -> ExitCode {
    for (index, line) in why.to_string().lines().enumerate() {
        talk(format_args!("{}{line}", if index == 0 { "error: " } else { "       " }));
    }
    exit.into()
}
