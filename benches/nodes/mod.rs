//! Nodes on one Redis, and what is measured of them.

pub(crate) mod latency;
pub(crate) mod sharing;

use crate::redis_server::Redis;
use crate::support::connect::Client;
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
