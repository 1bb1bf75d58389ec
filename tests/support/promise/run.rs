//! A run: worlds from seeds, several at a time, until enough histories were lived or the promise was broken.

use std::fmt;

use tokio::task::JoinSet;

use super::Violation;
use super::tally::{Happening, Tally};
use super::world;
use crate::support::proxy::Kind;

/// Worlds that live at the same time: one waits while another works.
const WORLDS_MAX: usize = 6;

/// The promise was broken: how, and in which world.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) seed: u64,
    pub(crate) violation: Violation,
    /// What had happened in the worlds before.
    pub(crate) tally: Tally,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "THROUGHLINE_SEED={}: {}", self.seed, self.violation)
    }
}

/// Lives through worlds until so many histories have ended well.
pub(crate) async fn run(
    histories: u64,
    front: Option<Kind>,
    mut seeds: impl Iterator<Item = u64>,
) -> Result<Tally, Box<Broken>> {
    let mut tally = Tally::default();
    let mut worlds = JoinSet::new();
    loop {
        while worlds.len() < WORLDS_MAX && tally.count(Happening::Histories) < histories {
            let Some(seed) = seeds.next() else { break };
            worlds.spawn(async move { (seed, world::live(seed, front).await) });
        }
        match worlds.join_next().await {
            None => return Ok(tally),
            Some(Ok((_, Ok(lived)))) => tally.take_over(&lived),
            Some(Ok((seed, Err(violation)))) => return Err(Box::new(Broken { seed, violation, tally })),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
