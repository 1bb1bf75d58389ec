//! A node with a Redis engine of its own, wherever that is.

use std::sync::Arc;
use std::time::Duration;

use throughline::delivery::{Ack, Engine, Health};
use throughline::engine::redis::Prefix;
use throughline::engine::{RedisEngine, RedisSettings, System};

use super::deadline::until_told;
use super::http;
use super::node::{Node, Setup};
use super::publisher::Publisher;

/// A node with an engine of its own.
pub(crate) struct Edge {
    pub(crate) node: Node,
    pub(crate) engine: Arc<RedisEngine>,
}

impl Edge {
    pub(crate) fn start(url: String) -> Self {
        Self::start_with(url, Ack::Stored)
    }

    /// One whose publishers are told when this has come true.
    pub(crate) fn start_with(url: String, ack: Ack) -> Self {
        let settings = RedisSettings {
            url,
            prefix: Prefix::default(),
        };
        let engine = Arc::new(RedisEngine::start(settings, Arc::new(System)).unwrap());
        let setup = Setup {
            engine: Some(Arc::clone(&engine) as Arc<dyn Engine>),
            health: Some(Arc::clone(&engine) as Arc<dyn Health>),
            ..Setup::window(100_000)
        };
        let node = Node::start(setup.acknowledging(ack));
        Self { node, engine }
    }

    /// The status of a path.
    pub(crate) async fn status(&self, path: &str) -> u16 {
        let mut publisher = Publisher::new(self.node.address);
        let status = publisher.status(&http::get(path, &[])).await;
        status.unwrap()
    }

    pub(crate) async fn becomes_ready(&self) {
        until_told("a node that is ready", async || self.status("/readyz").await == 200).await;
    }
}

/// Judges how long something took, and says it.
#[expect(clippy::print_stdout, reason = "says how long things took, with `--nocapture`")]
pub(crate) fn took_at_most(what: &str, took: Duration, most: Duration) {
    /// Time that a slow machine needs, beyond what is promised.
    const SLACK: Duration = Duration::from_secs(2);
    println!("{what}: {took:.2?}, at most {most:?}");
    assert!(took < most + SLACK, "{what} took {took:?}");
}
