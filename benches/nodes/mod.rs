//! Nodes on one Redis, and what is measured of them.

pub(crate) mod latency;
pub(crate) mod sharing;

use std::time::Duration;

use crate::redis_server::Redis;
use crate::support::connect::{self, Client, Connected};
use crate::support::cores::Cores;
use crate::support::process::Process;
use crate::support::terms;

/// A node on that Redis.
fn start(redis: &Redis, cores: &Cores) -> std::io::Result<Process> {
    let variables = [
        ("THROUGHLINE_ENGINE__KIND", "redis".to_owned()),
        ("THROUGHLINE_ENGINE__REDIS__URL", redis.url()),
        // All subscribers come from few addresses.
        ("THROUGHLINE_RATES__IP_CONNECTIONS_PER_S", "0".to_owned()),
        ("THROUGHLINE_RATES__IP_OPEN_CONNECTIONS_MAX", "0".to_owned()),
        // One publisher publishes as fast as the benchmark asks.
        ("THROUGHLINE_RATES__IP_PUBLICATIONS_PER_S", "0".to_owned()),
        ("THROUGHLINE_RATES__CHANNEL_PUBLICATIONS_PER_S", "0".to_owned()),
    ];
    Process::throughline_with(cores, &variables)
}

/// The first client of a node, as soon as that has found Redis.
async fn connect_first(node: &Process, channel: &str) -> std::io::Result<Connected> {
    loop {
        match connect::websocket(client(node, 0), channel).await {
            Err(error) if error.to_string().contains("503") => tokio::time::sleep(Duration::from_millis(50)).await,
            connected => return connected,
        }
    }
}

/// The `number`-th client of a node.
fn client(server: &Process, number: usize) -> Client<'_> {
    let terms = &terms::OPEN;
    Client { server, terms, number }
}

/// The figure that so many of a hundred are below.
fn percentile(figures: &mut [f64], percent: usize) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = (figures.len() * percent / 100).min(figures.len().saturating_sub(1));
    figures.get(at).copied().unwrap_or(f64::NAN)
}
