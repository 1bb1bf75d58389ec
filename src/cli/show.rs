//! `throughline config show`: each value that holds, and where it comes from.

use std::process::ExitCode;

use serde_json::json;
use throughline::config::{Shown, Source};

use super::client::terminal;
use super::configured::Configured;
use super::exit::{Exit, fail};

/// `throughline config`
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print every key with its value and where that comes from; secrets are masked
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    configured: Configured,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(config: Config) -> ExitCode {
    let Command::Show(show) = config.command;
    let loaded = match show.configured.load_unchecked() {
        Ok(loaded) => loaded,
        Err(error) => return fail(Exit::Config, error),
    };
    let line = if show.json { json_line } else { toml_line };
    let lines: Vec<String> = loaded.shown().map(|shown| line(&shown)).collect();
    terminal::print(&lines.join("\n"))
        .break_value()
        .unwrap_or(Exit::Done.into())
}

/// A line of a configuration file, with the source as its comment.
fn toml_line(shown: &Shown) -> String {
    match &shown.value {
        Some(value) => format!("{} = {value}  # {}", shown.key, shown.source),
        None => format!("# {} is not set  # {}", shown.key, shown.source),
    }
}

fn json_line(shown: &Shown) -> String {
    let source = match &shown.source {
        Source::Default => json!({"kind": "default"}),
        Source::File { path, line, column } => {
            json!({"kind": "file", "file": path.to_string_lossy(), "line": line, "column": column})
        }
        Source::Variable(name) => json!({"kind": "variable", "name": name}),
        Source::Flag(name) => json!({"kind": "flag", "name": name}),
    };
    json!({"key": shown.key, "value": shown.value, "source": source}).to_string()
}
