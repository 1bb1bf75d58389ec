//! The parts of the benchmark: two servers as processes, a lean audience, what is measured, and the report.

pub(crate) mod audience;
pub(crate) mod bare;
pub(crate) mod connect;
pub(crate) mod cores;
pub(crate) mod delivery;
pub(crate) mod frames;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod publisher;
pub(crate) mod report;
pub(crate) mod terms;

use std::env;
use std::io;

/// How big a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) subscribers: usize,
    pub(crate) rounds: usize,
    /// Publications in each round of each variant.
    pub(crate) publications: usize,
    /// Idle connections held at a time.
    pub(crate) idle: usize,
}

impl Options {
    pub(crate) fn from_env() -> io::Result<Options> {
        Ok(Options {
            subscribers: number("THROUGHLINE_BENCH_SUBSCRIBERS", 1_000)?,
            rounds: number("THROUGHLINE_BENCH_ROUNDS", 20)?,
            publications: number("THROUGHLINE_BENCH_PUBLICATIONS", 50)?,
            idle: number("THROUGHLINE_BENCH_IDLE", 10_000)?,
        })
    }

    /// The most files that one process has open at a time, and some to spare.
    pub(crate) fn open_files(self) -> usize {
        self.idle.max(3 * self.subscribers) + 256
    }
}

fn number(name: &str, default: usize) -> io::Result<usize> {
    let Ok(text) = env::var(name) else { return Ok(default) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(io::Error::other(format!(
            "{name} is {text:?}; a number above 0 is wanted"
        ))),
    }
}
