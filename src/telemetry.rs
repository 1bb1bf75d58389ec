//! Logs, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Begins to log what `THROUGHLINE_LOG` asks for: `info` unless told.
pub(crate) fn begin() {
    let filter = EnvFilter::try_from_env("THROUGHLINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let is_plain = std::env::var_os("NO_COLOR").is_some() || !stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(!is_plain)
        .init();
}
