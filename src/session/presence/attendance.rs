//! One session's presence: the channels that it is on, and those of which it is told. Only a session that has any keeps
//! one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

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
    channel: Arc<PresentChannel>,
    is_told: bool,
}

impl Presences {
    /// A channel that may be entered.
    ///
    /// # Errors
    /// What other nodes' sessions cannot be had for.
    pub(crate) async fn place(self: &Arc<Self>, name: &ChannelName, presence: PresenceAsk) -> Result<Place, Problem> {
        let mut place = self.place_unseen(name);
        if presence == PresenceAsk::Members {
            self.follow(&place.channel).await?;
            place.is_told = true;
        }
        Ok(place)
    }

    /// A channel that may be entered by whoever is not told of it.
    pub(crate) fn place_unseen(self: &Arc<Self>, name: &ChannelName) -> Place {
        Place {
            channel: self.channel(name),
            is_told: false,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whether it was entered or not, somebody has to look whether it is still of use.
        self.channel.activate();
    }
}

/// The channels of one session. Most that have any have one and are told of none, so that takes little.
pub(crate) struct Attendance {
    key: SessionKey,
    first: Option<Arc<PresentChannel>>,
    more: Option<Box<More>>,
}

/// What few sessions have.
#[derive(Default)]
struct More {
    others: Vec<Arc<PresentChannel>>,
    /// Only a session that asks for it is told who is on its channels.
    telling: Option<Telling>,
    poll: Option<Polling>,
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
    pub(crate) fn new(key: SessionKey) -> Self {
        Self {
            key,
            first: None,
            more: None,
        }
    }

    /// That of a poll.
    pub(crate) fn of_poll(mark: PollMark) -> Self {
        let mut poll = Self::new(mark.key);
        poll.more.get_or_insert_default().poll = Some(Polling { mark, stay: Stay::No });
        poll
    }

    fn channels(&self) -> impl Iterator<Item = &Arc<PresentChannel>> {
        let others = self.more.iter().flat_map(|more| &more.others);
        self.first.iter().chain(others)
    }

    fn poll_mut(&mut self) -> Option<&mut Polling> {
        self.more.as_mut()?.poll.as_mut()
    }

    fn telling_mut(&mut self) -> Option<&mut Telling> {
        self.more.as_mut()?.telling.as_mut()
    }

    /// Whether it is on any channel.
    pub(crate) fn is_anywhere(&self) -> bool {
        self.channels().next().is_some()
    }

    /// Enters a channel as this user, which the request names as its `nth`.
    pub(crate) fn enter(&mut self, who: Option<&Who>, place: &Place, nth: usize, session: &Arc<Shared>) {
        let channel = &place.channel;
        channel.enter(self.key, who);
        if place.is_told {
            let more = self.more.get_or_insert_default();
            let known = more.poll.as_ref().and_then(|poll| *poll.mark.known.get(nth)?);
            let telling = more.telling.get_or_insert_with(|| Telling::new(session));
            telling.watches.push(Watch::new(Arc::clone(channel), known));
            telling.at = 0;
        }
        match &self.first {
            None => self.first = Some(Arc::clone(channel)),
            Some(_) => self.more.get_or_insert_default().others.push(Arc::clone(channel)),
        }
    }

    /// The session goes on as this user, of whom something else may be said now.
    pub(crate) fn renew(&self, who: Option<&Who>) {
        for channel in self.channels() {
            channel.state().roster.renew(self.key, who);
            channel.activate();
        }
    }

    /// Whether it is on a channel, and then, whether this node has told that somebody is.
    pub(crate) fn is_told_on(&self, name: &ChannelName) -> Option<bool> {
        let channel = self.channels().find(|channel| channel.name == *name)?;
        Some(channel.is_told_occupied.load(Ordering::SeqCst))
    }

    /// Leaves a channel on which presence is off by now: nothing of it is kept.
    pub(crate) fn leave_at_once(&mut self, name: &ChannelName) {
        self.leave_as(name, Stay::Forgotten);
    }

    /// Leaves a channel.
    pub(crate) fn leave(&mut self, name: &ChannelName) {
        self.leave_as(name, self.stay());
    }

    fn leave_as(&mut self, name: &ChannelName, stay: Stay) {
        if let Some(telling) = self.telling_mut() {
            telling.watches.retain(|watch| watch.channel() != name);
            telling.at = 0;
        }
        let is_it = |channel: &mut Arc<PresentChannel>| channel.name == *name;
        let others = self.more.as_mut().map(|more| &mut more.others);
        let left = match self.first.take_if(is_it) {
            Some(first) => {
                self.first = others.and_then(Vec::pop);
                Some(first)
            }
            None => others.and_then(|others| {
                let at = others.iter().position(|channel| channel.name == *name)?;
                Some(others.swap_remove(at))
            }),
        };
        if let Some(left) = left {
            left.leave(self.key, stay);
        }
    }

    fn stay(&self) -> Stay {
        let poll = self.more.as_ref().and_then(|more| more.poll.as_ref());
        poll.map_or(Stay::No, |poll| poll.stay)
    }

    /// Whether it is told of a channel.
    pub(crate) fn watches(&self, name: &ChannelName) -> bool {
        self.watched().any(|watch| watch.channel() == name)
    }

    fn watched(&self) -> impl Iterator<Item = &Watch> {
        let telling = self.more.as_ref().and_then(|more| more.telling.as_ref());
        telling.into_iter().flat_map(|telling| &telling.watches)
    }

    /// Whether there is a channel of which it has not been told what it begins with.
    pub(crate) fn has_new(&self) -> bool {
        self.watched().any(Watch::is_new)
    }

    /// What it is told next. The session's task is woken when there is more.
    pub(crate) fn poll(&mut self) -> Option<PresenceFrame> {
        self.telling_mut()?.poll()
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
        let PresenceSettings { lease, debounce, .. } = self.first.as_ref()?.settings;
        let Polling { mark, stay } = self.poll_mut()?;
        *stay = match (mark.is_handed_back, who) {
            (true, _) => Stay::For(lease),
            (false, None) => Stay::For(debounce),
            (false, Some(_)) => Stay::No,
        };
        mark.known = known;
        Some(mark.to_string())
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

impl Drop for Attendance {
    fn drop(&mut self) {
        let stay = self.stay();
        // Whoever is not told any more is no reason to keep a channel.
        if let Some(more) = &mut self.more {
            more.telling = None;
        }
        for channel in self.channels() {
            channel.leave(self.key, stay);
        }
    }
}

impl fmt::Debug for Attendance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attendance")
            .field("channels", &self.channels().count())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_on_one_channel_costs_stays_small() {
        assert!(size_of::<Attendance>() <= 32, "{}", size_of::<Attendance>());
    }
}
