//! Telling an app over HTTP what happens to channels: who is there, signed, in order, and again until it is taken.
//!
//! What happens goes into a log of this node (`backlog`), which is bounded like every log of a channel; each receiver
//! has a cursor over it, and a task that sends what follows (`sending`).
//! What a receiver was too slow for falls out of the log, and the next delivery says how much.

mod backlog;
mod event;
mod sending;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::backlog::Backlog;
use super::hooks::Surroundings;
use super::outgoing::{Ask, host};
use crate::delivery::{ChannelName, Epoch, LogPolicy, Offset, Outside, Position, PresenceEvent, PresenceEvents};
use crate::metrics::Metrics;

pub use event::EventKind;
pub use signature::{BadSecret, SigningSecret};

/// Whom to tell what, and how patiently.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// The receivers' URLs; each is told everything.
    pub urls: Vec<String>,
    /// What deliveries are signed with; each signs, so that a receiver may still have an earlier one.
    pub secrets: Vec<SigningSecret>,
    /// What is told.
    pub events: Vec<EventKind>,
    /// The most events in one delivery.
    pub batch_count_max: usize,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// How much is kept for receivers that do not take it; a position's life does not matter here.
    pub backlog: LogPolicy,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    settings: WebhookSettings,
    backlog: Backlog,
    ask: Arc<dyn Ask>,
    outside: Arc<dyn Outside>,
    metrics: Arc<Metrics>,
    receivers: watch::Sender<Vec<Receiver>>,
    /// Whether this process is about to end: nobody waits long any more.
    is_ending: watch::Sender<bool>,
}

/// How far one receiver is.
#[derive(Debug, Clone, Copy)]
struct Receiver {
    /// It has taken everything up to here, or was told that it is lost.
    taken: Position,
    /// Everything up to here that it had not taken is lost.
    lost_to: Offset,
    /// The log says that it loses events; until it has caught up, that is enough.
    is_losing: bool,
    /// It has not taken what it was last asked to take.
    is_failing: bool,
}

/// The webhooks of one node; dropping it gives up what was not delivered.
#[derive(Debug)]
pub struct Webhooks {
    shared: Arc<Shared>,
    _sending: JoinSet<()>,
}

impl Webhooks {
    /// Begins to deliver. Must be called inside a tokio runtime, on which there is one task for each receiver.
    pub fn start(settings: WebhookSettings, around: Surroundings) -> Self {
        let Surroundings {
            ask, outside, metrics, ..
        } = around;
        let epoch = Epoch::from_bits(outside.random());
        let backlog = Backlog::new(epoch, settings.backlog, settings.urls.len());
        let receiver = Receiver {
            taken: backlog.top(),
            lost_to: 0,
            is_losing: false,
            is_failing: false,
        };
        let shared = Arc::new(Shared {
            receivers: watch::Sender::new(vec![receiver; settings.urls.len()]),
            is_ending: watch::Sender::new(false),
            settings,
            backlog,
            ask,
            outside,
            metrics,
        });
        let mut sending = JoinSet::new();
        for receiver in 0..shared.settings.urls.len() {
            sending.spawn(sending::send(Arc::clone(&shared), receiver));
        }
        Self {
            shared,
            _sending: sending,
        }
    }

    /// Waits until every receiver has taken everything, at most so long, and says how many events were not taken by
    /// the one that is farthest behind. For the end: retries come faster from now on.
    pub async fn finish(&self, wait_max: Duration) -> u64 {
        self.shared.is_ending.send_replace(true);
        let mut receivers = self.shared.receivers.subscribe();
        let top = self.shared.backlog.top();
        let is_all = |receivers: &Vec<Receiver>| receivers.iter().all(|receiver| receiver.taken.offset >= top.offset);
        // Whether it was in time is seen by what is left. What is awaited holds the receivers: not beyond this line.
        drop(tokio::time::timeout(wait_max, receivers.wait_for(is_all)).await);
        let left = self.shared.look();
        if left > 0 {
            tracing::warn!(events = left, "the end has come before the webhooks were taken");
        }
        left
    }
}

impl PresenceEvents for Webhooks {
    fn note(&self, channel: &ChannelName, event: PresenceEvent) {
        let kind = EventKind::of(&event);
        if self.shared.settings.events.contains(&kind) {
            let json = event::to_json(channel, &event);
            self.shared
                .backlog
                .add(kind.as_str(), json, self.shared.outside.now_ms());
            self.shared.look();
        }
    }
}

impl Shared {
    /// Looks at what has fallen out of the log, and says how many events the receiver has not taken that is farthest
    /// behind.
    fn look(&self) -> u64 {
        let top = self.backlog.top();
        let start = self.backlog.start(self.outside.now_ms());
        let (mut lost, mut behind) = (0, 0);
        self.receivers.send_if_modified(|receivers| {
            for (receiver, url) in receivers.iter_mut().zip(&self.settings.urls) {
                let known = receiver.lost_to.max(receiver.taken.offset);
                lost += start.offset.saturating_sub(known);
                if start.offset > known && !receiver.is_losing {
                    receiver.is_losing = true;
                    receiver.tell_of_loss(host(url));
                }
                receiver.lost_to = start.offset.max(known);
                behind = behind.max(top.offset.saturating_sub(receiver.taken.offset));
            }
            false
        });
        self.metrics.note_webhook_events("lost", lost);
        self.metrics.note_webhook_backlog(behind);
        behind
    }

    /// A receiver did not take what it was asked to.
    fn note_failed(&self, receiver: usize) {
        self.receivers.send_if_modified(|receivers| {
            if let Some(receiver) = receivers.get_mut(receiver) {
                receiver.is_failing = true;
            }
            false
        });
        self.look();
    }

    /// A receiver has taken everything up to here.
    fn note_taken(&self, receiver: usize, position: Position) {
        let top = self.backlog.top();
        self.receivers.send_modify(|receivers| {
            if let Some(receiver) = receivers.get_mut(receiver) {
                receiver.taken = position;
                receiver.is_losing &= position.offset < top.offset;
                receiver.is_failing = false;
            }
            if let Some(by_all) = receivers.iter().map(|receiver| receiver.taken.offset).min() {
                self.backlog.forget(by_all);
            }
        });
        self.look();
    }
}

impl Receiver {
    /// Of a receiver that is well nobody should look for the fault.
    fn tell_of_loss(&self, receiver: &str) {
        if self.is_failing {
            tracing::warn!(
                receiver,
                "webhooks are lost, for they are not taken; the next one that is will say how many"
            );
        } else {
            tracing::warn!(
                receiver,
                "webhooks are lost, for they come faster than they are taken; the next one says how many, and \
                 `webhooks.backlog_count` is how many may wait"
            );
        }
    }
}
