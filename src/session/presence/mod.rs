//! Presence on this node: who is on which channel, and whoever wants to be told.
//!
//! Sessions enter and leave (`attendance`); a clock looks at the channels on which something happened, so that what
//! happens within one tick is told at once; watchers have a cursor over that (`notices`) and pull, as readers of
//! publications do. A thousand who come at once are one list of members for each watcher, encoded once.

mod attendance;
mod changes;
mod channel;
mod heirs;
mod infos;
mod kept;
mod mark;
mod nodes;
mod notices;
mod roster;
mod users;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) use attendance::{Attendance, Place};
use changes::{Changes, Turned};
use channel::PresentChannel;
pub use mark::PollMark;
pub use nodes::Nodes;
use roster::Reach;

use super::occupancy::Occupancies;
use crate::delivery::{ChannelName, PresenceEvent, PresenceEvents};
use crate::metrics::Metrics;
use crate::protocol::{PresenceQuery, PresenceReply, Problem};

/// How often channels are looked at on which something happened.
const TICK: Duration = Duration::from_millis(100);

/// Watchers woken before others get a turn.
const WAKE_CHUNK: usize = 24;

/// How presence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceSettings {
    /// How long what a node said of its sessions holds, should it say no more; and how long a poll is there between two
    /// of its requests.
    pub lease: Duration,
    /// How long a user who went is kept, so that a reconnect changes nothing.
    pub debounce: Duration,
    /// The most members in a list.
    pub members_max: usize,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            debounce: Duration::from_secs(5),
            members_max: 1_000,
        }
    }
}

/// The channels of this node that have sessions or watchers.
#[derive(Debug)]
pub struct Presences {
    settings: PresenceSettings,
    metrics: Arc<Metrics>,
    events: Vec<Arc<dyn PresenceEvents>>,
    channels: Mutex<HashMap<ChannelName, Arc<PresentChannel>>>,
    /// Those on which something happened.
    active: Mutex<Vec<Arc<PresentChannel>>>,
    activated: Arc<Notify>,
    nodes: Option<Nodes>,
    /// Those about which there may be something to say to other nodes, or to hear from them.
    tied: Mutex<Vec<Arc<PresentChannel>>>,
    /// Those who are told what happens on channels without presence, too.
    occupancies: OnceLock<Arc<Occupancies>>,
}

impl Presences {
    /// Nobody anywhere. Somebody has to [run](Presences::run) it.
    pub fn new(settings: PresenceSettings, metrics: Arc<Metrics>, events: Vec<Arc<dyn PresenceEvents>>) -> Self {
        Self {
            settings,
            metrics,
            events,
            channels: Mutex::default(),
            active: Mutex::default(),
            activated: Arc::default(),
            nodes: None,
            tied: Mutex::default(),
            occupancies: OnceLock::new(),
        }
    }

    /// The same, on one of several nodes. Somebody has to run the [exchange](Presences::exchange), too.
    #[must_use]
    pub fn with_nodes(mut self, nodes: Option<Nodes>) -> Self {
        self.nodes = nodes;
        self
    }

    /// The same, and others are told, too: those who are told what happens on channels without presence.
    pub(super) fn tell_with(&self, occupancies: Arc<Occupancies>) {
        // The second time nothing is told.
        let _ = self.occupancies.set(occupancies);
    }

    /// Whether a session of this node is on a channel.
    pub(super) fn has_here(&self, name: &ChannelName) -> bool {
        let channel = lock(&self.channels).get(name).cloned();
        channel.is_some_and(|channel| channel.state().roster.has_here())
    }

    /// Sessions that nobody holds go at once from channels on which presence is off by now.
    pub(super) fn end_kept(&self, is_on: impl Fn(&ChannelName) -> bool) {
        let channels: Vec<_> = lock(&self.channels).values().cloned().collect();
        for channel in channels.into_iter().filter(|channel| !is_on(&channel.name)) {
            channel.state().roster.end_kept();
            self.activate(&channel);
        }
    }

    /// Who is on a channel now.
    ///
    /// # Errors
    /// What other nodes' sessions cannot be had for.
    pub(super) async fn reply(&self, query: PresenceQuery) -> Result<PresenceReply, Problem> {
        let known = lock(&self.channels).get(&query.channel).cloned();
        let Some(nodes) = &self.nodes else {
            let channel = known.unwrap_or_else(|| Arc::new(self.empty(query.channel.clone(), Weak::new())));
            return Ok(channel.reply(query));
        };
        if let Some(known) = &known
            && known.state().ties.is_read
        {
            return Ok(known.reply(query));
        }
        let others = nodes.port.others(&query.channel).await?;
        let whole = self.empty(query.channel.clone(), Weak::new());
        whole.state().roster.set_others(others.sessions);
        let here: Vec<_> = known.map_or_else(Vec::new, |known| known.state().roster.here().collect());
        for (key, who) in here {
            whole.state().roster.enter(key, who.as_ref());
        }
        Ok(whole.reply(query))
    }

    fn empty(&self, name: ChannelName, presences: Weak<Self>) -> PresentChannel {
        let reach = self.nodes.as_ref().map_or(Reach::ThisNode, |_| Reach::AllNodes);
        PresentChannel::new(name, self.settings, reach, presences)
    }

    fn channel(self: &Arc<Self>, name: &ChannelName) -> Arc<PresentChannel> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(name) {
            return Arc::clone(channel);
        }
        let channel = Arc::new(self.empty(name.clone(), Arc::downgrade(self)));
        channels.insert(name.clone(), Arc::clone(&channel));
        self.metrics.set_presence_channels(channels.len());
        channel
    }

    /// Something happened on a channel.
    fn activate(&self, channel: &Arc<PresentChannel>) {
        if !channel.is_active.swap(true, Ordering::SeqCst) {
            lock(&self.active).push(Arc::clone(channel));
            self.activated.notify_one();
        }
    }

    /// Tells watchers what happened, until nobody else holds these.
    pub async fn run(presences: Weak<Self>) {
        let Some(activated) = presences.upgrade().map(|held| Arc::clone(&held.activated)) else {
            return;
        };
        loop {
            match presences.upgrade() {
                None => return,
                Some(held) if !lock(&held.active).is_empty() => {}
                Some(held) => {
                    drop(held);
                    activated.notified().await;
                    continue;
                }
            }
            tokio::time::sleep(TICK).await;
            if let Some(held) = presences.upgrade() {
                held.look_at_all().await;
            }
        }
    }

    async fn look_at_all(&self) {
        let active = std::mem::take(&mut *lock(&self.active));
        for channel in active {
            // Lowered before it is looked at, so that what happens meanwhile raises it again.
            channel.is_active.store(false, Ordering::SeqCst);
            let look = channel.look(Instant::now());
            self.note(&channel, &look.changes);
            for mut woken in look.woken {
                while woken.wake_some(WAKE_CHUNK) {
                    tokio::task::yield_now().await;
                }
            }
            if look.is_active {
                self.activate(&channel);
            }
            if self.nodes.is_some() {
                // The exchange lets go of it, when other nodes were told.
                lock(&self.tied).push(channel);
            } else if !look.is_active {
                self.forget(&channel);
            }
        }
    }

    fn note(&self, channel: &PresentChannel, changes: &Changes) {
        self.metrics
            .note_presence(changes.joined.len() as u64, changes.left.len() as u64);
        // With other nodes, exactly one is told of what changed over all of them, by its report.
        if self.nodes.is_some() {
            return;
        }
        if changes.turned == Some(Turned::Occupied) {
            self.tell(&channel.name, &PresenceEvent::Occupied);
        }
        for change in &changes.joined {
            self.tell(&channel.name, &PresenceEvent::Joined(change.member.clone()));
        }
        for change in &changes.left {
            self.tell(&channel.name, &PresenceEvent::Left(change.member.clone()));
        }
        if changes.turned == Some(Turned::Vacant) {
            self.tell(&channel.name, &PresenceEvent::Vacated);
        }
    }

    fn tell(&self, channel: &ChannelName, event: &PresenceEvent) {
        if matches!(event, PresenceEvent::Occupied | PresenceEvent::Vacated)
            && let Some(channel) = lock(&self.channels).get(channel)
        {
            let is_occupied = *event == PresenceEvent::Occupied;
            channel.is_told_occupied.store(is_occupied, Ordering::SeqCst);
        }
        for events in &self.events {
            events.note(channel, event.clone());
        }
        if let Some(occupancies) = self.occupancies.get() {
            occupancies.note_of_presence(channel, event);
        }
    }

    /// Lets go of a channel that nobody is on and nobody looks at, and of which no other node has to be told.
    fn forget(&self, channel: &Arc<PresentChannel>) {
        let mut channels = lock(&self.channels);
        // Held by the map and by us: whoever else gets it now, gets it from the map.
        if Arc::strong_count(channel) != 2 {
            return;
        }
        let is_over = {
            let state = channel.state();
            state.roster.is_empty() && !state.roster.has_unreported()
        };
        if is_over {
            channels.remove(&channel.name);
            self.metrics.set_presence_channels(channels.len());
            if channels.capacity() > 64 && channels.len() < channels.capacity() / 4 {
                let room = channels.len() * 2;
                channels.shrink_to(room);
            }
        }
    }
}

impl Drop for Presences {
    fn drop(&mut self) {
        self.activated.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
