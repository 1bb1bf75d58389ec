//! The CPU time of a delivery where two nodes share a channel's subscribers, and where one has them all.

use std::io;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::percentile;
use crate::redis_server::Redis;
use crate::support::audience::Audience;
use crate::support::connect::{self, Connected};
use crate::support::cores::Cores;
use crate::support::process::Process;
use crate::support::publisher::{Publisher, Request};
use crate::support::{Options, terms};

const CONNECTING_MAX: usize = 32;

/// Measures both in turn, round by round, and says what came out.
pub(crate) async fn report(options: Options, all: &[usize]) -> io::Result<()> {
    let cores = Cores::apart(all).unwrap_or_else(|| Cores::shared(all));
    cores.move_here()?;
    let redis = Redis::start()?;
    // Publications come by a third node, so that those that are measured do nothing but deliver.
    let entrance = super::start(&redis, &cores)?;
    let mut publisher = Publisher::connect(entrance.address).await?;
    let half = options.subscribers / 2;
    let mut alone = Scene::start(&redis, &cores, ("alone", &[2 * half])).await?;
    let mut shared = Scene::start(&redis, &cores, ("shared", &[half, half])).await?;
    let (mut of_alone, mut of_shared) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..=options.rounds {
        let one = alone.round(&mut publisher, options.publications).await?;
        let two = shared.round(&mut publisher, options.publications).await?;
        // The first warms up.
        if round > 0 {
            of_alone.extend(&one);
            for (at, us) in two.into_iter().enumerate() {
                of_shared[at].push(us);
                ratios[at].push(us / one[0]);
            }
        }
    }
    alone.audience.assert_complete()?;
    shared.audience.assert_complete()?;
    println!(
        "CPU time per delivery in µs, medians of {} rounds of {} publications, one in flight; {} subscribers in all,\n\
         nodes on one core, Redis and subscribers on the others.\n",
        options.rounds,
        options.publications,
        2 * half
    );
    println!(
        "{:<34}{:>8.2}",
        "one node with all of them",
        percentile(&mut of_alone, 50)
    );
    for (figures, ratios) in of_shared.iter_mut().zip(&mut ratios) {
        let (us, ratio) = (percentile(figures, 50), percentile(ratios, 50));
        println!("{:<34}{us:>8.2}{ratio:>8.2} ×", "each of two with half of them");
    }
    println!("\nEvery delivery arrived, once.");
    Ok(())
}

/// Nodes that share a channel's subscribers.
struct Scene {
    nodes: Vec<(Process, usize)>,
    audience: Audience,
    request: Request,
}

impl Scene {
    async fn start(redis: &Redis, cores: &Cores, (channel, sizes): (&str, &[usize])) -> io::Result<Self> {
        let mut nodes = Vec::new();
        let mut seated: Vec<Connected> = Vec::new();
        for subscribers in sizes {
            let node = super::start(redis, cores)?;
            super::connect_first(&node, channel).await?;
            let client = |number| super::client(&node, number);
            let connecting = (0..*subscribers).map(|number| connect::websocket(client(number), channel));
            let connected: Vec<_> = stream::iter(connecting).buffered(CONNECTING_MAX).try_collect().await?;
            seated.extend(connected);
            nodes.push((node, *subscribers));
        }
        Ok(Self {
            nodes,
            audience: Audience::seat(seated),
            request: Request::new(channel, 1, &terms::OPEN),
        })
    }

    /// What a delivery took on each node, in µs.
    async fn round(&mut self, publisher: &mut Publisher, publications: usize) -> io::Result<Vec<f64>> {
        publisher.revive().await?;
        let before = self.cpu_times()?;
        for _ in 0..publications {
            self.audience.expect(1);
            publisher.publish(&self.request).await?;
            self.audience.caught_up().await?;
        }
        let after = self.cpu_times()?;
        let per_delivery = |at: usize| {
            let deliveries = publications * self.nodes[at].1;
            (after[at] - before[at]) as f64 / 1_000.0 / deliveries as f64
        };
        Ok((0..self.nodes.len()).map(per_delivery).collect())
    }

    fn cpu_times(&self) -> io::Result<Vec<u64>> {
        let times = self.nodes.iter().map(|(node, _)| Ok(node.cpu_time()?.total_ns));
        times.collect()
    }
}
