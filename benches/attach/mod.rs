//! A node, killed and replaced again and again, whose readers come back all at once.

pub(crate) mod other;
mod readers;

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use self::other::Other;
use self::readers::Reader;
use crate::redis_server::Redis;
use crate::support::cores::Cores;
use crate::support::process::Process;

const READERS: usize = 200;
const CHANNELS_EACH: usize = 100;

/// For how long the other client asks while nothing happens.
const BEFORE: Duration = Duration::from_secs(2);

/// Restarts the node round by round, and says what came out.
pub(crate) async fn report(rounds: usize, all: &[usize]) -> io::Result<()> {
    // The nodes and this process on one core, Redis and its other client on the others.
    let of_redis = Cores::apart(all).unwrap_or_else(|| Cores::shared(all));
    of_redis.move_here()?;
    let redis = Redis::start()?;
    let mut other = Other::start(&redis)?;
    let of_nodes = all
        .first()
        .map_or_else(|| Cores::shared(all), |core| Cores::shared(&[*core]));
    of_nodes.move_here()?;

    let mut node = start(&redis, &of_nodes).await?;
    let mut readers = attach(&node, (0..READERS).map(Reader::new).collect()).await?;
    println!(
        "{} channels, {READERS} readers (Server-Sent Events) of {CHANNELS_EACH} each, {rounds} restarts, medians; the node\n\
         and the readers on one core, Redis and its other client on the others.\n",
        READERS * CHANNELS_EACH
    );
    let (mut took, mut before, mut meanwhile) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        other.p99_us()?;
        tokio::time::sleep(BEFORE).await;
        let quiet = other.p99_us()?;
        drop(node);
        for reader in &mut readers {
            reader.leave();
        }
        node = start(&redis, &of_nodes).await?;
        other.p99_us()?;
        let began = Instant::now();
        readers = attach(&node, readers).await?;
        let all_after = began.elapsed();
        let busy = other.p99_us()?;
        // The first warms up.
        if round > 0 {
            took.push(all_after.as_secs_f64());
            before.push(quiet);
            meanwhile.push(busy);
        }
    }
    let emptied = Instant::now();
    redis.cli(&["FLUSHALL"])?;
    try_join_all(readers.iter_mut().map(Reader::is_told)).await?;
    let emptied = emptied.elapsed().as_secs_f64();
    let mut ratios: Vec<_> = before
        .iter()
        .zip(&meanwhile)
        .map(|(quiet, busy)| busy / quiet)
        .collect();
    println!("{:<44}{:>9.2}", "all attached again, s", median(&mut took));
    println!(
        "{:<44}{:>9.2}",
        "the slowest restart, s",
        took.last().copied().unwrap_or(f64::NAN)
    );
    println!("{:<44}{:>9.0}", "another client's p99 before, µs", median(&mut before));
    println!(
        "{:<44}{:>9.0}",
        "another client's p99 meanwhile, µs",
        median(&mut meanwhile)
    );
    println!("{:<44}{:>9.2}", "meanwhile × before", median(&mut ratios));
    println!("{:<44}{emptied:>9.2}", "Redis emptied, all readers told, s");
    println!("\nEvery channel went on where it was.");
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn attach(node: &Process, readers: Vec<Reader>) -> io::Result<Vec<Reader>> {
    try_join_all(readers.into_iter().map(|reader| reader.attach(node.address))).await
}

/// A node that has found Redis.
async fn start(redis: &Redis, cores: &Cores) -> io::Result<Process> {
    let variables = [
        ("THROUGHLINE_ENGINE__KIND", "redis".to_owned()),
        ("THROUGHLINE_ENGINE__REDIS__URL", redis.url()),
        ("THROUGHLINE_RATES__IP_CONNECTIONS_PER_S", "0".to_owned()),
        ("THROUGHLINE_RATES__IP_OPEN_CONNECTIONS_MAX", "0".to_owned()),
    ];
    let node = Process::throughline_with(cores, &variables)?;
    while !readers::is_ready(node.address).await? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(node)
}
