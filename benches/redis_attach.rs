//! A node that has 20,000 channels is killed, and another takes its readers: how long until all are attached again, and
//! what another client of the same Redis waits meanwhile, beside what it waited before.
//!
//! `cargo bench --bench redis_attach`; needs `redis-server` and `redis-cli`.
//! `THROUGHLINE_BENCH_ROUNDS` (here each is a restart) changes its size. Speed is reported, never judged by the exit code;
//! a channel that does not go on where it was is a failure.
#![allow(clippy::print_stdout, reason = "a benchmark prints its report")]
#![allow(clippy::cast_precision_loss, reason = "figures for people to read")]

mod attach;
#[allow(dead_code, reason = "each benchmark uses its own part of this")]
mod redis_server;
#[allow(dead_code, reason = "each benchmark uses its own part of this")]
mod support;

use std::env;
use std::io;
use std::process::ExitCode;

use attach::other;
use support::{Options, cores};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().collect();
    let outcome = match (arguments.get(1).map(String::as_str), arguments.get(2)) {
        (Some(other::ARGUMENT), Some(port)) => other::serve(port),
        // `cargo test --all-targets` runs benches too, without this argument.
        _ if !arguments.iter().any(|argument| argument == "--bench") => Ok(()),
        _ => bench(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<()> {
    let rounds = Options::from_env()?.rounds;
    let all = cores::allowed()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(attach::report(rounds, &all))
}
