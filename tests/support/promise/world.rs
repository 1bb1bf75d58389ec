//! One small world: nodes that share an engine, channels, publishers, and readers that live in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use throughline::engine::MemoryEngine;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Violation;
use super::channels::Channel;
use super::ledger::{Bell, Ledger};
use super::publishers::publish;
use super::reader::Reader;
use super::tally::Tally;
use crate::support::clock::Clock;
use crate::support::node::{Node, Setup};
use crate::support::proxy::Kind;

/// The kernel's send buffer of every connection, so that a reader that does not read is felt soon.
const SEND_BUFFER_BYTES: usize = 8 * 1024;

/// What everybody in a world shares.
#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) engine: Arc<MemoryEngine>,
    pub(super) ledgers: Vec<Arc<Ledger>>,
    bell: Bell,
    is_over: AtomicBool,
    /// How many readers have done all that they meant to do.
    pub(super) ready: watch::Sender<usize>,
    /// The last offsets, by channel, once they are known.
    pub(super) finals: watch::Sender<Option<Vec<u64>>>,
}

/// Lives through one world, which its seed decides up to the order in which things happen.
/// Readers and publishers reach the nodes directly, or through a proxy in front of each.
pub(super) async fn live(seed: u64, front: Option<Kind>) -> Result<Tally, Violation> {
    let mut rng = Rng::with_seed(seed);
    let window_max = if rng.bool() { 15 } else { 60 };
    let window = rng.usize(5..=window_max);
    let engine = Arc::new(MemoryEngine::new(Clock::new()));
    let mut setup = Setup {
        send_buffer_bytes: SEND_BUFFER_BYTES,
        engine: Some(engine.clone()),
        ..Setup::window(window)
    };
    if rng.u8(..6) == 0 {
        // Answers to polls end after any push, a gap too.
        setup.limits.answer_bytes_max = rng.usize(1..4_000);
    }
    let nodes: Vec<_> = (0..rng.usize(1..=2)).map(|_| Node::start(setup.clone())).collect();
    let mut proxies = Vec::new();
    for node in &nodes {
        if let Some(kind) = front {
            proxies.push(kind.start(node.address).await);
        }
    }
    let direct = nodes.iter().map(|node| node.address);
    let doors = if front.is_none() {
        direct.collect()
    } else {
        proxies.iter().map(|proxy| proxy.address).collect()
    };
    let channels = (0..rng.usize(2..=4)).map(|number| Channel::random(&mut rng, number));
    let bell = Bell::new(());
    let ledgers = channels.map(|channel| Arc::new(Ledger::new(channel, window as u64, bell.clone())));
    let world = Arc::new(World {
        nodes: doors,
        engine,
        ledgers: ledgers.collect(),
        bell,
        is_over: AtomicBool::new(false),
        ready: watch::Sender::new(0),
        finals: watch::Sender::new(None),
    });
    let mut publishers = JoinSet::new();
    for _ in 0..rng.usize(1..=3) {
        publishers.spawn(publish(Arc::clone(&world), rng.fork()));
    }
    let mut readers = JoinSet::new();
    for _ in 0..rng.usize(7..=12) {
        readers.spawn(Reader::new(Arc::clone(&world), rng.fork()).live());
    }
    world.run(&mut rng, publishers, readers).await
}

impl World {
    async fn run(
        &self,
        rng: &mut Rng,
        mut publishers: JoinSet<Result<Tally, Violation>>,
        mut readers: JoinSet<Result<Tally, Violation>>,
    ) -> Result<Tally, Violation> {
        let mut tally = Tally::default();
        let count = readers.len();
        let mut ready = self.ready.subscribe();
        tokio::select! {
            ready = ready.wait_for(|ready| *ready == count) => must!(ready.is_ok(), "no readers"),
            Some(ended) = readers.join_next() => return Err(unexpected(ended)),
            Some(ended) = publishers.join_next() => return Err(unexpected(ended)),
        }
        self.publish_the_last(rng).await?;
        while let Some(ended) = readers.join_next().await {
            tally.take_over(&ended.map_err(|error| Violation(error.to_string()))??);
        }
        self.is_over.store(true, Ordering::SeqCst);
        self.bell.send_replace(());
        while let Some(ended) = publishers.join_next().await {
            tally.take_over(&ended.map_err(|error| Violation(error.to_string()))??);
        }
        self.ledgers.iter().try_for_each(|ledger| ledger.settle())?;
        Ok(tally)
    }

    /// When every reader waits at the top, publishes a little more, after which nothing comes.
    async fn publish_the_last(&self, rng: &mut Rng) -> Result<(), Violation> {
        for ledger in &self.ledgers {
            ledger.reach(ledger.wanted()).await?;
        }
        let more = |ledger: &Arc<Ledger>| ledger.wanted() + u64::from(!ledger.is_idle()) * rng.u64(1..=2);
        let finals: Vec<_> = self.ledgers.iter().map(more).collect();
        self.finals.send_replace(Some(finals.clone()));
        for (ledger, last) in self.ledgers.iter().zip(finals) {
            ledger.reach(last).await?;
        }
        Ok(())
    }

    /// Rings when somebody wants something, and when all is over.
    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

fn unexpected(ended: Result<Result<Tally, Violation>, tokio::task::JoinError>) -> Violation {
    match ended {
        Ok(Err(violation)) => violation,
        Ok(Ok(_)) => Violation("somebody left too early".to_owned()),
        Err(error) => Violation(format!("somebody panicked: {error}")),
    }
}
