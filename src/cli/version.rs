//! `throughline version`: what this binary is.

use std::process::ExitCode;

use serde_json::json;

use super::client::terminal;
use super::exit::Exit;

/// The version of the wire protocol.
const PROTOCOL: &str = "v1";

#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(version: &Version) -> ExitCode {
    let number = env!("CARGO_PKG_VERSION");
    let commit = option_env!("THROUGHLINE_BUILD_COMMIT").filter(|commit| !commit.is_empty());
    let rustc = env!("THROUGHLINE_BUILD_RUSTC");
    let target = env!("THROUGHLINE_BUILD_TARGET");
    let features: &[&str] = if cfg!(feature = "seeded-faults") {
        &["seeded-faults"]
    } else {
        &[]
    };
    let text = if version.json {
        let all = json!({
            "version": number, "commit": commit, "rustc": rustc, "target": target, "features": features,
            "protocol": PROTOCOL,
        });
        all.to_string()
    } else {
        let commit = commit.unwrap_or("unknown");
        format!("throughline {number} (commit {commit}, {rustc}, {target}, protocol {PROTOCOL})")
    };
    terminal::print(&text).break_value().unwrap_or(Exit::Done.into())
}
