//! One node and one channel by hand: for histories that are no accident.

use std::sync::Arc;

use fastrand::Rng;

use super::Violation;
use super::channels::{Channel, Load};
use super::ledger::{Bell, Ledger, Sent};
use crate::support::node::{Node, Setup};
use crate::support::place::Place;
use crate::support::publisher::Publisher;

/// A node, a channel, and its only publisher.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) node: Node,
    pub(crate) ledger: Arc<Ledger>,
    publisher: Publisher,
    rng: Rng,
}

impl Desk {
    pub(crate) fn new(setup: Setup, load: Load) -> Self {
        let window = setup.window.count_max as u64;
        let node = Node::start(setup);
        let channel = Channel {
            name: "by:hand".to_owned(),
            load,
        };
        Self {
            publisher: Publisher::new(node.address),
            node,
            ledger: Arc::new(Ledger::new(channel, window, Bell::new(()))),
            rng: Rng::new(),
        }
    }

    /// The channel's log was forgotten: another life begins.
    pub(crate) fn begin_another_life(&mut self) {
        let (channel, window) = (self.ledger.channel.clone(), self.ledger.window);
        self.ledger = Arc::new(Ledger::new(channel, window, Bell::new(())));
    }

    /// Publishes so many, one after the other, and says where the last one stands.
    pub(crate) async fn publish(&mut self, count: u64) -> Result<Option<Place>, Violation> {
        let mut last = None;
        for _ in 0..count {
            self.ledger.want(self.ledger.started() + 1);
            self.ledger.claim();
            let data = self.ledger.channel.data(&mut self.rng);
            let body = format!(r#"{{"channel":"{}","data":{data}}}"#, self.ledger.channel.name);
            let key = format!("{:x}", self.rng.u64(..));
            for published in self.publisher.publish(&body, &key).await? {
                let sent = Sent {
                    data: data.clone(),
                    event: None,
                };
                self.ledger.record(&published.place, sent)?;
                last = Some(published.place);
            }
        }
        Ok(last)
    }
}
