//! One session's presence: the channels that it is on, and those of which it is told. Only a session that has any keeps
//! one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use super::channel::{PresentChannel, Watch};
use super::mark::PollMark;
use super::roster::Stay;
use super::{PresenceSettings, Presences};
use crate::delivery::{ChannelName, SessionKey, Who};
use crate::protocol::{PresenceAsk, PresenceFrame, Problem};
use crate::session::registry::Shared;

/// A channel with presence that a session may enter, and whether it is told of it.
#[derive(Debug)]
pub(crate) struct Place {
    presences: Arc<Presences>,
    channel: Arc<PresentChannel>,
    is_told: bool,
}

impl Presences {
    /// A channel that may be entered.
    ///
    /// # Errors
    /// What other nodes' sessions cannot be had for.
    pub(crate) async fn place(self: &Arc<Self>, name: &ChannelName, presence: PresenceAsk) -> Result<Place, Problem> {
        let place = Place {
            presences: Arc::clone(self),
            channel: self.channel(name),
            is_told: presence == PresenceAsk::Members,
        };
        if place.is_told {
            self.follow(&place.channel).await?;
        }
        Ok(place)
    }
}

impl Place {
    pub(crate) fn presences(&self) -> Arc<Presences> {
        Arc::clone(&self.presences)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whether it was entered or not, somebody has to look whether it is still of use.
        self.presences.activate(&self.channel);
    }
}

/// The channels of one session. Many sessions have one, so what few of them need is boxed.
pub(crate) struct Attendance {
    presences: Arc<Presences>,
    key: SessionKey,
    holds: Vec<Hold>,
    /// Only a session that asks for it is told who is on its channels.
    telling: Option<Box<Telling>>,
    poll: Option<Box<Polling>>,
}

/// What there is to a session of which each poll is a part.
struct Polling {
    mark: PollMark,
    /// How it is kept until the next one.
    stay: Stay,
}

/// The channels of which a session is told who is on them.
struct Telling {
    watches: Vec<Watch>,
    /// The watch that is asked next, as long as one may have something.
    at: usize,
    raised: Arc<Raised>,
    waker: Waker,
}

impl Attendance {
    pub(crate) fn new(presences: Arc<Presences>, key: SessionKey) -> Self {
        Self {
            presences,
            key,
            holds: Vec::new(),
            telling: None,
            poll: None,
        }
    }

    /// That of a poll.
    pub(crate) fn of_poll(presences: Arc<Presences>, mark: PollMark) -> Self {
        let mut poll = Self::new(presences, mark.key);
        poll.poll = Some(Box::new(Polling { mark, stay: Stay::No }));
        poll
    }

    /// Whether it is on any channel.
    pub(crate) fn is_anywhere(&self) -> bool {
        !self.holds.is_empty()
    }

    /// Enters a channel as this user, which the request names as its `nth`.
    pub(crate) fn enter(&mut self, who: Option<&Who>, place: Place, nth: usize, session: &Arc<Shared>) {
        let channel = Arc::clone(&place.channel);
        self.presences.metrics.note_present();
        channel.state().roster.enter(self.key, who);
        if place.is_told {
            let known = self.poll.as_ref().and_then(|poll| *poll.mark.known.get(nth)?);
            let telling = self.telling.get_or_insert_with(|| Box::new(Telling::new(session)));
            telling.watches.push(Watch::new(Arc::clone(&channel), known));
            telling.at = 0;
        }
        // Most sessions are on one channel.
        self.holds.reserve_exact(1);
        self.holds.push(Hold { channel });
        drop(place);
    }

    /// The session goes on as this user, of whom something else may be said now.
    pub(crate) fn renew(&self, who: Option<&Who>) {
        for Hold { channel } in &self.holds {
            channel.state().roster.renew(self.key, who);
            self.presences.activate(channel);
        }
    }

    /// Leaves a channel.
    pub(crate) fn leave(&mut self, name: &ChannelName) {
        if let Some(telling) = &mut self.telling {
            telling.watches.retain(|watch| watch.channel() != name);
            telling.at = 0;
        }
        let holds = std::mem::take(&mut self.holds);
        let (left, kept) = holds.into_iter().partition(|hold| hold.channel.name == *name);
        self.holds = kept;
        self.let_go(left);
    }

    /// Whether it is told of a channel.
    pub(crate) fn watches(&self, name: &ChannelName) -> bool {
        self.watched().any(|watch| watch.channel() == name)
    }

    fn watched(&self) -> impl Iterator<Item = &Watch> {
        self.telling.iter().flat_map(|telling| &telling.watches)
    }

    /// Whether there is a channel of which it has not been told what it begins with.
    pub(crate) fn has_new(&self) -> bool {
        self.watched().any(Watch::is_new)
    }

    /// What it is told next. The session's task is woken when there is more.
    pub(crate) fn poll(&mut self) -> Option<PresenceFrame> {
        self.telling.as_mut()?.poll()
    }

    /// A poll has its answer: what the next one hands back. It stays for a while, for longer if its client has shown
    /// that it hands back.
    pub(crate) fn answered(&mut self, who: Option<&Who>, channels: &[ChannelName]) -> Option<String> {
        let known = |name: &ChannelName| self.watched().find(|watch| watch.channel() == name)?.mark();
        let known = if self.watched().next().is_none() {
            Vec::new()
        } else {
            channels.iter().map(known).collect()
        };
        let is_anywhere = self.is_anywhere();
        let PresenceSettings { lease, debounce, .. } = self.presences.settings;
        let Polling { mark, stay } = self.poll.as_deref_mut()?;
        *stay = match (mark.is_handed_back, who) {
            (true, _) => Stay::For(lease),
            (false, None) => Stay::For(debounce),
            (false, Some(_)) => Stay::No,
        };
        mark.known = known;
        is_anywhere.then(|| mark.to_string())
    }

    fn let_go(&self, holds: Vec<Hold>) {
        let now = Instant::now();
        let stay = self.poll.as_ref().map_or(Stay::No, |poll| poll.stay);
        for Hold { channel } in holds {
            self.presences.metrics.note_absent();
            channel.state().roster.leave(self.key, stay, now);
            self.presences.activate(&channel);
        }
    }
}

impl Telling {
    fn new(session: &Arc<Shared>) -> Self {
        let raised = Raised::new(session);
        Self {
            watches: Vec::new(),
            at: 0,
            waker: Waker::from(Arc::clone(&raised)),
            raised,
        }
    }

    fn poll(&mut self) -> Option<PresenceFrame> {
        if self.raised.is_raised.load(Ordering::SeqCst) {
            self.raised.is_raised.store(false, Ordering::SeqCst);
            self.at = 0;
        }
        while let Some(watch) = self.watches.get_mut(self.at) {
            if let Poll::Ready(notice) = watch.poll_next(&Context::from_waker(&self.waker)) {
                return Some(notice.frame.clone());
            }
            self.at += 1;
        }
        None
    }
}

/// The session is on this channel. It must be given back by [`Attendance::let_go`].
#[derive(Debug)]
struct Hold {
    channel: Arc<PresentChannel>,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        // Whoever is not told any more is no reason to keep a channel.
        self.telling = None;
        let holds = std::mem::take(&mut self.holds);
        self.let_go(holds);
    }
}

impl fmt::Debug for Attendance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attendance")
            .field("channels", &self.holds.len())
            .finish_non_exhaustive()
    }
}

/// Says that one of a session's watches may have something; as a waker it wakes the session too.
struct Raised {
    is_raised: AtomicBool,
    session: Arc<Shared>,
}

impl Raised {
    fn new(session: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            is_raised: AtomicBool::new(true),
            session: Arc::clone(session),
        })
    }
}

impl Wake for Raised {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_raised.swap(true, Ordering::SeqCst) {
            self.session.wake();
        }
    }
}
