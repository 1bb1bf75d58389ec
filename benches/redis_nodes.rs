//! What it costs that nodes share a Redis: how long a publication takes from one node to another, beside a bare Redis
//! Pub/Sub round trip under the same load; and the CPU time of a delivery on each of two nodes that share a channel's
//! subscribers, beside that of one node which has all of them.
//!
//! `cargo bench --bench redis_nodes`; needs `redis-server` and `redis-cli`.
//! `THROUGHLINE_BENCH_ROUNDS` (20), `THROUGHLINE_BENCH_SUBSCRIBERS` (1,000) and `THROUGHLINE_BENCH_PUBLICATIONS` (50 a
//! round, 500 where it is about latency) change its size. Speed is reported, never judged by the exit code; a delivery
//! that is lost or comes twice is a failure.
#![allow(clippy::print_stdout, reason = "a benchmark prints its report")]
#![allow(clippy::cast_precision_loss, reason = "figures for people to read")]

mod nodes;
mod redis_server;
#[allow(dead_code, reason = "each benchmark uses its own part of this")]
mod support;

use std::env;
use std::io;
use std::process::ExitCode;

use support::{Options, cores, limits};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<()> {
    let options = Options::from_env()?;
    limits::raise_open_files(options.open_files())?;
    let all = cores::allowed()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(nodes::latency::report(options, &all))?;
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(nodes::sharing::report(options, &all))
}
