//! One channel whose sessions this node counts, and those who watch it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::changes::Changes;
use super::nodes::Ties;
use super::notices::{Notice, Notices, listed};
use super::roster::{Reach, Roster, Stay};
use super::{PresenceSettings, Presences};
use crate::delivery::{ChannelName, Parked, Parking, SessionKey, Who, Woken};
use crate::protocol::{PresenceQuery, PresenceReply};

/// The least time between two times at which watchers are told of changes.
const TELL_PERIOD: Duration = Duration::from_millis(500);

/// The bytes that one channel's watchers on this node are told in a second: a large and busy channel is told of less
/// often.
const TOLD_BYTES_PER_S: u64 = 8 * 1024 * 1024;

/// A channel with presence, while anybody is on it or looks at it.
#[derive(Debug)]
pub(super) struct PresentChannel {
    pub(super) name: ChannelName,
    pub(super) settings: PresenceSettings,
    /// Those that it is one of.
    presences: Weak<Presences>,
    state: Mutex<State>,
    /// The version up to which those who have begun may read.
    told: AtomicU64,
    pub(super) watching: AtomicUsize,
    watchers: Parking,
    /// Those who wait for what they begin with.
    newcomers: Parking,
    /// Whether it stands in the list of those that are looked at.
    pub(super) is_active: AtomicBool,
    /// Whether this node has told that it is occupied, and nothing else since.
    pub(super) is_told_occupied: AtomicBool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) roster: Roster,
    notices: Notices,
    tell_from: Instant,
    /// To other nodes, where there are any.
    pub(super) ties: Ties,
}

/// What one look at a channel brought.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) changes: Changes,
    pub(super) woken: Vec<Woken>,
    /// Whether it has to be looked at again soon.
    pub(super) is_active: bool,
}

impl PresentChannel {
    /// Nobody is on it yet.
    pub(super) fn new(name: ChannelName, settings: PresenceSettings, reach: Reach, presences: Weak<Presences>) -> Self {
        let state = State {
            roster: Roster::new(settings.debounce, reach),
            notices: Notices::default(),
            tell_from: Instant::now(),
            ties: Ties::default(),
        };
        Self {
            name,
            settings,
            presences,
            state: Mutex::new(state),
            told: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            watchers: Parking::new(),
            newcomers: Parking::new(),
            is_active: AtomicBool::new(false),
            is_told_occupied: AtomicBool::new(false),
        }
    }

    /// A session of this node is on it from now on.
    pub(super) fn enter(&self, key: SessionKey, who: Option<&Who>) {
        if let Some(presences) = self.presences.upgrade() {
            presences.metrics.note_present();
        }
        self.state().roster.enter(key, who);
    }

    /// A session of this node is on it no more.
    pub(super) fn leave(self: &Arc<Self>, key: SessionKey, stay: Stay) {
        if let Some(presences) = self.presences.upgrade() {
            presences.metrics.note_absent();
        }
        self.state().roster.leave(key, stay, Instant::now());
        self.activate();
    }

    /// Something happened on it.
    pub(super) fn activate(self: &Arc<Self>) {
        if let Some(presences) = self.presences.upgrade() {
            presences.activate(self);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what changed, and says who is to be woken for it.
    pub(super) fn look(&self, now: Instant) -> Look {
        let mut state = self.state();
        let State {
            roster, notices, ties, ..
        } = &mut *state;
        let is_let_go = ties.is_read && !self.is_followed(ties.watched_at, self.settings.lease, now);
        if is_let_go {
            ties.is_read = false;
            roster.set_others(Vec::new());
        }
        let mut changes = roster.take_changes(now);
        notices.add(&self.name, &changes, roster, self.settings.members_max);
        if is_let_go {
            // Nobody left: it is only not known any more.
            changes = Changes::default();
        }
        let is_held = ties.is_read && self.watching.load(Ordering::SeqCst) == 0;
        let version = notices.version();
        let has_untold = version > self.told.load(Ordering::SeqCst);
        let is_time = has_untold && now >= state.tell_from;
        if is_time {
            self.told.store(version, Ordering::SeqCst);
            state.tell_from = now + self.pace(state.notices.bytes());
        }
        let is_active = is_held || !state.roster.is_quiet() || (has_untold && !is_time);
        drop(state);
        let mut woken = vec![self.newcomers.wake()];
        if is_time {
            woken.push(self.watchers.wake());
        }
        Look {
            changes,
            woken,
            is_active,
        }
    }

    /// How long to wait after telling everybody so many bytes.
    fn pace(&self, bytes: usize) -> Duration {
        let all = (bytes as u64).saturating_mul(self.watching.load(Ordering::SeqCst) as u64);
        TELL_PERIOD.max(Duration::from_millis(all.saturating_mul(1000) / TOLD_BYTES_PER_S))
    }

    /// Who is there now.
    pub(super) fn reply(&self, query: PresenceQuery) -> PresenceReply {
        let state = self.state();
        let members_max = query.members.unwrap_or(usize::MAX).min(self.settings.members_max);
        PresenceReply {
            channel: query.channel,
            members: (query.members != Some(0)).then(|| listed(state.roster.there(), members_max)),
            counts: state.roster.counts(),
        }
    }
}

/// A cursor over what is told of a channel: it begins with the whole, and goes on with the changes.
#[derive(Debug)]
pub(super) struct Watch {
    channel: Arc<PresentChannel>,
    parked: Parked,
    /// The version that its reader knows.
    seen: Option<u64>,
    /// Stands for what its reader knows.
    mark: Option<u64>,
}

impl Watch {
    /// For a reader who knows what `mark` stands for, if anything.
    pub(super) fn new(channel: Arc<PresentChannel>, mark: Option<u64>) -> Self {
        let spread = channel.watching.fetch_add(1, Ordering::SeqCst);
        Self {
            channel,
            parked: Parked::new(spread),
            seen: None,
            mark,
        }
    }

    pub(super) fn channel(&self) -> &ChannelName {
        &self.channel.name
    }

    /// Whether its reader does not know the whole yet.
    pub(super) fn is_new(&self) -> bool {
        self.seen.is_none()
    }

    /// Stands for what its reader knows.
    pub(super) fn mark(&self) -> Option<u64> {
        self.mark
    }

    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Arc<Notice>> {
        loop {
            if let Some(notice) = self.take() {
                return Poll::Ready(notice);
            }
            let channel = &self.channel;
            let seen = self.seen;
            let parking = match seen {
                None => &channel.newcomers,
                Some(_) => &channel.watchers,
            };
            if parking.park(&mut self.parked, cx.waker(), || !channel.has_more(seen)) {
                return Poll::Pending;
            }
        }
    }

    /// The next notice, if there is one; a reader who knows the whole already begins without being told it.
    fn take(&mut self) -> Option<Arc<Notice>> {
        let channel = Arc::clone(&self.channel);
        if !channel.has_more(self.seen) {
            return None;
        }
        if self.seen.is_none() {
            // Not under the state's lock, which is taken under that of the parking place.
            channel.newcomers.leave(&mut self.parked);
        }
        let mut state = channel.state();
        let State { roster, notices, .. } = &mut *state;
        if self.seen.is_none() && self.mark == Some(notices.mark()) {
            self.seen = Some(notices.version());
            return None;
        }
        let (notice, seen) = notices.next(&channel.name, self.seen, roster, channel.settings.members_max);
        self.seen = Some(seen);
        self.mark = Some(notice.mark);
        Some(notice)
    }
}

impl PresentChannel {
    fn has_more(&self, seen: Option<u64>) -> bool {
        match seen {
            None => self.state().roster.is_told(),
            Some(seen) => seen < self.told.load(Ordering::SeqCst),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.channel.watching.fetch_sub(1, Ordering::SeqCst);
        self.channel.state().ties.watched_at = Some(Instant::now());
        match self.seen {
            None => self.channel.newcomers.leave(&mut self.parked),
            Some(_) => self.channel.watchers.leave(&mut self.parked),
        }
    }
}
