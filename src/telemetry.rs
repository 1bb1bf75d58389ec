//! Logs, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;

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

/// What is logged, which may change.
pub(crate) struct Filter {
    is_asked: bool,
    replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl Filter {
    /// Logs from `level` on from now on, unless the environment asks for something else.
    pub(crate) fn set(&self, level: &str) {
        if self.is_asked {
            return tracing::warn!("log.level does not count: {VARIABLE} wins over it");
        }
        if let Err(error) = (self.replace)(EnvFilter::new(level)) {
            tracing::warn!(%error, "log.level stays as it was");
        }
    }
}

/// Begins to log from `level` on, or what the environment's `THROUGHLINE_LOG` asks for.
///
/// # Errors
/// The variable, if it makes no sense.
pub(crate) fn begin(format: Format, level: &str) -> Result<Filter, String> {
    let asked = std::env::var(VARIABLE).ok().filter(|asked| !asked.is_empty());
    let is_asked = asked.is_some();
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(level)).map_err(|error: ParseError| {
        let asked = asked.unwrap_or_default();
        format!("{VARIABLE}={asked}: {error}; say off, error, warn, info, debug or trace, or MODULE=LEVEL,LEVEL")
    })?;
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let replace: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync> = match format {
        Format::Pretty => {
            let log = log.with_ansi(!is_plain).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter))
        }
        Format::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    Ok(Filter { is_asked, replace })
}
