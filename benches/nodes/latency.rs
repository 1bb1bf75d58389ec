//! From a publisher on one node to a subscriber on another: between two engines, and between two clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use throughline::delivery::{Ack, ChannelName, Delivery, Draft, Engine, LogPolicy, Since, Subscription, subscribe};
use throughline::engine::RedisEngine;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::percentile;
use crate::redis_server::{Redis, engine};
use crate::support::connect::Connected;
use crate::support::cores::Cores;
use crate::support::process::Process;
use crate::support::publisher::{PAYLOAD_BYTES, Publisher, Request};
use crate::support::{Options, frames, terms};

/// One publication each.
const PACE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);
const CHANNEL: &str = "latency";

/// Measures all in turn, round by round, and says what came out.
pub(crate) async fn report(options: Options, all: &[usize]) -> io::Result<()> {
    let redis = Redis::start()?;
    let count = options.publications * 10;
    let mut bare = Bare::start(&redis).await?;
    let mut engines = Engines::start(&redis).await?;
    let mut clients = Clients::start(&redis, &Cores::shared(all)).await?;
    println!(
        "Latency in µs, {PAYLOAD_BYTES} bytes of data, a publication every {PACE:?}, {count} in each of {} rounds in turn:\n\
         medians over the rounds.\n",
        options.rounds
    );
    let mut rounds: [Vec<[f64; 2]>; 3] = Default::default();
    for round in 0..=options.rounds {
        let measured = [
            bare.round(count).await?,
            engines.round(count).await?,
            clients.round(count).await?,
        ];
        // The first warms up.
        if round > 0 {
            for (mut figures, rounds) in measured.into_iter().zip(&mut rounds) {
                rounds.push([percentile(&mut figures, 50), percentile(&mut figures, 99)]);
            }
        }
    }
    let names = [
        "bare: PUBLISH to a subscriber",
        "engine to engine, two nodes",
        "HTTP to WebSocket, two nodes",
    ];
    println!("{:<34}{:>8}{:>8}{:>16}", "", "p50", "p99", "p99 × bare");
    for (name, of) in names.into_iter().zip(&rounds) {
        let median = |figures: &mut dyn Iterator<Item = f64>| percentile(&mut figures.collect::<Vec<_>>(), 50);
        let p50 = median(&mut of.iter().map(|round| round[0]));
        let p99 = median(&mut of.iter().map(|round| round[1]));
        let ratio = median(&mut of.iter().zip(&rounds[0]).map(|(round, bare)| round[1] / bare[1]));
        println!("{name:<34}{p50:>8.0}{p99:>8.0}{ratio:>16.2}");
    }
    println!();
    Ok(())
}

/// What a round's publications took, in µs.
type Figures = Vec<f64>;

/// Keeps the pace.
fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn us(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e6
}

fn late(what: &str) -> io::Error {
    io::Error::other(format!("{what} did not arrive"))
}

/// Two connections to Redis, by the library that the engine uses.
struct Bare {
    publishing: redis::aio::MultiplexedConnection,
    hearing: redis::aio::PubSub,
}

impl Bare {
    async fn start(redis: &Redis) -> io::Result<Self> {
        let client = redis::Client::open(redis.url()).map_err(io::Error::other)?;
        let publishing = client.get_multiplexed_async_connection().await;
        let mut hearing = client.get_async_pubsub().await.map_err(io::Error::other)?;
        hearing.subscribe(CHANNEL).await.map_err(io::Error::other)?;
        Ok(Self {
            publishing: publishing.map_err(io::Error::other)?,
            hearing,
        })
    }

    async fn round(&mut self, count: usize) -> io::Result<Figures> {
        let (mut figures, mut ticks) = (Vec::with_capacity(count), ticks());
        let data = "x".repeat(PAYLOAD_BYTES);
        let mut heard = self.hearing.on_message();
        for _ in 0..count {
            ticks.tick().await;
            let began = Instant::now();
            let mut publishing = redis::cmd("PUBLISH");
            publishing.arg(CHANNEL).arg(&data);
            let published = publishing.query_async::<u64>(&mut self.publishing);
            let (published, message) = tokio::join!(published, async {
                let message = timeout(PATIENCE, heard.next()).await;
                (message, us(began))
            });
            published.map_err(io::Error::other)?;
            if !matches!(message.0, Ok(Some(_))) {
                return Err(late("a message"));
            }
            figures.push(message.1);
        }
        Ok(figures)
    }
}

/// Two engines, as two nodes have them.
struct Engines {
    publishing: Arc<RedisEngine>,
    subscription: Subscription,
}

impl Engines {
    async fn start(redis: &Redis) -> io::Result<Self> {
        let (publishing, hearing) = (engine(&redis.url()).await?, engine(&redis.url()).await?);
        let channel = ChannelName::parse("engines").map_err(io::Error::other)?;
        let subscribed = subscribe(hearing as Arc<dyn Engine>, channel, Since::Now).await;
        let (_, subscription) = subscribed.map_err(io::Error::other)?;
        Ok(Self {
            publishing,
            subscription,
        })
    }

    async fn round(&mut self, count: usize) -> io::Result<Figures> {
        let (mut figures, mut ticks) = (Vec::with_capacity(count), ticks());
        let draft = [Draft {
            channel: ChannelName::parse("engines").map_err(io::Error::other)?,
            data: vec![b'1'; PAYLOAD_BYTES].into(),
            event: None,
            sender: None,
            key: None,
            policy: LogPolicy {
                count_max: 1_000,
                bytes_max: 1024 * 1024,
                age_ms_max: 5 * 60 * 1000,
                position_ttl_ms: 24 * 60 * 60 * 1000,
            },
            ack: Ack::Stored,
        }];
        for _ in 0..count {
            ticks.tick().await;
            let began = Instant::now();
            let (results, delivery) = tokio::join!(self.publishing.publish(&draft), async {
                let delivery = timeout(PATIENCE, self.subscription.next()).await;
                (delivery, us(began))
            });
            if results.iter().any(Result::is_err) || !matches!(delivery.0, Ok(Some(Delivery::Publication(_)))) {
                return Err(late("a publication"));
            }
            figures.push(delivery.1);
        }
        Ok(figures)
    }
}

/// A publisher at one node and a subscriber at another, each node a process.
struct Clients {
    _nodes: [Process; 2],
    publisher: Publisher,
    subscriber: Connected,
}

impl Clients {
    async fn start(redis: &Redis, cores: &Cores) -> io::Result<Self> {
        let nodes = [super::start(redis, cores)?, super::start(redis, cores)?];
        let subscriber = super::connect_first(&nodes[1], CHANNEL).await?;
        Ok(Self {
            publisher: Publisher::connect(nodes[0].address).await?,
            _nodes: nodes,
            subscriber,
        })
    }

    async fn round(&mut self, count: usize) -> io::Result<Figures> {
        let (mut figures, mut ticks) = (Vec::with_capacity(count), ticks());
        let request = Request::new(CHANNEL, 1, &terms::OPEN);
        self.publisher.revive().await?;
        for _ in 0..count {
            ticks.tick().await;
            let began = Instant::now();
            let (published, received) = tokio::join!(self.publisher.publish(&request), async {
                let received = timeout(PATIENCE, receive(&mut self.subscriber)).await;
                (received, us(began))
            });
            published?;
            received.0.map_err(|_| late("a publication"))??;
            figures.push(received.1);
        }
        Ok(figures)
    }
}

/// Reads until one publication has come, whole.
async fn receive(subscriber: &mut Connected) -> io::Result<()> {
    let Connected { stream, rest } = subscriber;
    loop {
        stream.readable().await?;
        match stream.try_read_buf(rest) {
            Ok(0) => return Err(io::Error::other("the server ended a connection")),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let seen = frames::count(rest)?;
        rest.drain(..seen.length);
        if seen.pings > 0 {
            stream.try_write(&frames::PONG)?;
        }
        match seen.publications {
            0 => {}
            1 => return Ok(()),
            more => return Err(io::Error::other(format!("{more} came instead of one"))),
        }
    }
}
