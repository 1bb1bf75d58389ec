//! The channels of this node, found by what Redis calls them; and those whose readers are to be woken.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::channel::Channel;
use super::keys::Keys;
use crate::delivery::{ChannelName, FirstByName, Followed};

/// For how long a channel is kept that nobody uses, so that those who come back soon find it attached.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Readers woken before others get a turn.
const WAKE_CHUNK: usize = 24;

/// Channels by the name under which hints of them come.
#[derive(Debug, Default)]
pub(super) struct Channels {
    known: RwLock<HashMap<String, Arc<Channel>>>,
}

impl Channels {
    /// The channel that has this name, made known if it was not.
    pub(super) fn channel(&self, name: &ChannelName, keys: Keys) -> Arc<Channel> {
        if let Some(known) = self.find(keys.hints.as_bytes()) {
            return known;
        }
        let mut channels = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let channel = channels
            .entry(keys.hints.clone())
            .or_insert_with(|| Arc::new(Channel::new(name.clone(), keys)));
        Arc::clone(channel)
    }

    pub(super) fn find(&self, hints: &[u8]) -> Option<Arc<Channel>> {
        let hints = str::from_utf8(hints).ok()?;
        let channels = self.known.read().unwrap_or_else(PoisonError::into_inner);
        channels.get(hints).cloned()
    }

    /// Those of which hints are wanted.
    pub(super) fn wanted(&self) -> Vec<Arc<Channel>> {
        let channels = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = channels.values().filter(|channel| channel.is_wanted());
        wanted.cloned().collect()
    }

    /// Lets go of the channels that nobody has used for a while, and gives back those of which Redis has told.
    pub(super) fn sweep(&self, now: Instant) -> Vec<Arc<Channel>> {
        let mut channels = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        channels.retain(|_, channel| {
            let idle_since = channel.idle_since(now);
            let is_due = idle_since.is_some_and(|since| now.duration_since(since) >= IDLE_MAX);
            // Whoever is about to attach, to read or to fill in holds the channel.
            let keep = !is_due || Arc::strong_count(channel) > 1;
            if !keep && channel.is_wanted() {
                left.push(Arc::clone(channel));
            }
            keep
        });
        let (used, room) = (channels.len(), channels.capacity());
        if room > 64 && used < room / 4 {
            channels.shrink_to(used * 2);
        }
        left
    }

    /// Those that somebody follows, the first ones by name.
    pub(super) fn followed(&self, mut first: FirstByName<'_>) -> Vec<Followed> {
        for channel in self.known.read().unwrap_or_else(PoisonError::into_inner).values() {
            first.look_at(&channel.name, || {
                let live = channel.live.get()?;
                // One hold is the channel's own.
                let subscriptions = Arc::strong_count(live) - 1;
                (subscriptions > 0).then(|| (subscriptions, live.top()))
            });
        }
        first.finish()
    }

    pub(super) fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Channels whose readers are to be woken, each at most once: what hears of publications does not wait for the readers.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    due: Mutex<VecDeque<Arc<Channel>>>,
    added: Notify,
}

impl Wakes {
    /// The readers of a channel are due, if they are not yet.
    pub(super) fn add(&self, channel: &Arc<Channel>) {
        if !channel.is_woken.swap(true, Ordering::SeqCst) {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.push_back(Arc::clone(channel));
            self.added.notify_one();
        }
    }

    /// Wakes for as long as this future lives.
    pub(super) async fn run(&self) {
        loop {
            let next = self.due.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(channel) = next else {
                self.added.notified().await;
                continue;
            };
            channel.is_woken.store(false, Ordering::SeqCst);
            let Some(live) = channel.live.get() else { continue };
            let mut readers = live.wake();
            while readers.wake_some(WAKE_CHUNK) {
                tokio::task::yield_now().await;
            }
        }
    }
}
