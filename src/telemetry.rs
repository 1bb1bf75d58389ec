//! Logs, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The variable that says what is logged, whatever is configured.
const VARIABLE: &str = "THROUGHLINE_LOG";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people; with colours on a terminal, unless `NO_COLOR` is set.
    Pretty,
    /// For programs.
    Json,
}

impl Format {
    /// For people on a terminal, for programs elsewhere.
    pub(crate) fn of_stderr() -> Self {
        if stderr().is_terminal() {
            Self::Pretty
        } else {
            Self::Json
        }
    }
}

/// Begins to log from `level` on, or what the environment's `THROUGHLINE_LOG` asks for.
///
/// # Errors
/// The variable, if it makes no sense.
pub(crate) fn begin(format: Format, level: &str) -> Result<(), String> {
    let asked = std::env::var(VARIABLE).ok().filter(|asked| !asked.is_empty());
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(level)).map_err(|error: ParseError| {
        let asked = asked.unwrap_or_default();
        format!("{VARIABLE}={asked}: {error}; say off, error, warn, info, debug or trace, or MODULE=LEVEL,LEVEL")
    })?;
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        Format::Pretty => log.with_ansi(!is_plain).init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
