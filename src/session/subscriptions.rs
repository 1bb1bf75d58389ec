//! The subscriptions of one session, served in turn: those that have something, and never the rest.

use std::num::NonZeroU8;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use super::Output;
use super::occupancy::Occupant;
use super::ready::Flag;
use super::registry::Shared;
use crate::delivery::{ChannelName, Delivery, EndReason, Position, Subscription};
use crate::protocol::{Problem, Push};

/// Deliveries of one channel before the others of the session get a turn.
const TURN_COUNT: NonZeroU8 = NonZeroU8::MIN.saturating_add(15);

/// Subscriptions by key: 0, 1, 2 … in the order in which they began; the key of one that ended is used again.
///
/// A session that never had more than one (`entries.len() == 1`) polls it directly, with the waker of its own task.
/// From the second one on, each has a mark, raised by its own waker, and only marked ones are polled.
pub(super) struct Subscriptions {
    entries: Vec<Option<Entry>>,
    turn: Option<Turn>,
}

struct Entry {
    subscription: Subscription,
    mark: Option<Mark>,
    /// By whom it is known that somebody follows the channel, where that is told.
    occupant: Option<Box<Occupant>>,
}

/// How one of several subscriptions says that it has something. A session's only one is polled without asking.
struct Mark {
    flag: Arc<Flag>,
    waker: Waker,
}

/// Whose turn it is, and for how many deliveries more. It is small, for every session has room for one.
struct Turn {
    key: u32,
    left: NonZeroU8,
}

impl Turn {
    fn new(key: usize) -> Self {
        Self {
            key: u32::try_from(key).unwrap_or(u32::MAX),
            left: TURN_COUNT,
        }
    }

    fn key(&self) -> usize {
        self.key as usize
    }

    /// One delivery less; says whether that was the last.
    fn take_one(&mut self) -> bool {
        match NonZeroU8::new(self.left.get() - 1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => true,
        }
    }
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            turn: None,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.entries.iter().flatten().map(|entry| entry.subscription.channel())
    }

    pub(super) fn key_of(&self, channel: &ChannelName) -> Option<usize> {
        let reads = |entry: &Option<Entry>| {
            entry
                .as_ref()
                .is_some_and(|entry| entry.subscription.channel() == channel)
        };
        self.entries.iter().position(reads)
    }

    /// Takes a subscription under the first free key, which it answers.
    pub(super) fn admit(&mut self, subscription: Subscription, session: &Arc<Shared>) -> usize {
        let free = self.entries.iter().position(Option::is_none);
        match free {
            Some(key) => self.put(key, subscription, session),
            None => self.append(Some(subscription), session),
        }
        free.unwrap_or(self.entries.len() - 1)
    }

    /// Takes a subscription, or the place of one that was refused, under the next key.
    pub(super) fn append(&mut self, subscription: Option<Subscription>, session: &Arc<Shared>) {
        let key = self.entries.len();
        if key == 0 {
            // Most sessions have one subscription: it gets no more room than it needs.
            self.entries.reserve_exact(1);
        }
        self.entries.push(None);
        if key == 1
            && let Some(only) = self.entries[0].take()
        {
            let occupant = only.occupant;
            self.put(0, only.subscription, session);
            if let Some(first) = &mut self.entries[0] {
                first.occupant = occupant;
            }
        }
        if let Some(subscription) = subscription {
            self.put(key, subscription, session);
        }
    }

    /// Puts a subscription in its place, marked as having something if it is not the only one.
    pub(super) fn put(&mut self, key: usize, subscription: Subscription, session: &Arc<Shared>) {
        let mark = (self.entries.len() > 1).then(|| {
            let flag = Flag::new(key, Arc::clone(session));
            let waker = Waker::from(Arc::clone(&flag));
            waker.wake_by_ref();
            Mark { flag, waker }
        });
        self.entries[key] = Some(Entry {
            subscription,
            mark,
            occupant: None,
        });
    }

    /// Keeps an occupant of a channel for as long as its subscription.
    pub(super) fn occupy(&mut self, channel: &ChannelName, occupant: Occupant) {
        let key = self.key_of(channel);
        if let Some(Some(entry)) = key.and_then(|key| self.entries.get_mut(key)) {
            entry.occupant = Some(Box::new(occupant));
        }
    }

    /// Ends a subscription; answers where it was.
    pub(super) fn remove(&mut self, key: usize) -> Option<Position> {
        self.turn = self.turn.take().filter(|turn| turn.key() != key);
        let entry = self.entries.get_mut(key)?.take()?;
        Some(entry.subscription.cursor())
    }

    /// The next delivery of a channel that has one.
    pub(super) fn serve(&mut self, session: &Shared, cx: &mut Context<'_>) -> Option<Output> {
        loop {
            let key = match &self.turn {
                Some(turn) => turn.key(),
                None if self.entries.len() == 1 => 0,
                None => session.ready.pop()?,
            };
            let Some(polled) = self.poll(key, cx) else {
                if self.entries.len() == 1 {
                    return None;
                }
                continue;
            };
            return Some(match polled {
                Delivery::Publication(publication) => Output::Publication { key, publication },
                Delivery::Gap(gap) => {
                    let Some(channel) = self.channel(key) else { continue };
                    Output::Gap { key, channel, gap }
                }
                Delivery::Ended(EndReason::Engine(error)) => {
                    let Some(channel) = self.channel(key) else { continue };
                    self.remove(key);
                    Output::Push(Box::new(Push::Unsubscribed {
                        channel,
                        problem: Some(Problem::from(error)),
                        id: None,
                    }))
                }
            });
        }
    }

    fn channel(&self, key: usize) -> Option<ChannelName> {
        let entry = self.entries.get(key)?.as_ref()?;
        Some(entry.subscription.channel().clone())
    }

    /// One delivery of the only subscription, or of the one whose turn it is.
    fn poll(&mut self, key: usize, cx: &mut Context<'_>) -> Option<Delivery> {
        let entry = self.entries.get_mut(key).and_then(Option::as_mut);
        let polled = match entry {
            None => Poll::Ready(None),
            Some(Entry {
                subscription,
                mark: None,
                ..
            }) => Pin::new(subscription).poll_next(cx),
            Some(Entry {
                subscription,
                mark: Some(mark),
                ..
            }) => {
                let turn = self.turn.get_or_insert_with(|| {
                    mark.flag.lower();
                    Turn::new(key)
                });
                let is_over = turn.take_one();
                let polled = Pin::new(subscription).poll_next(&mut Context::from_waker(&mark.waker));
                if is_over {
                    mark.waker.wake_by_ref();
                }
                if is_over || polled.is_pending() {
                    self.turn = None;
                }
                polled
            }
        };
        match polled {
            Poll::Ready(Some(delivery)) => Some(delivery),
            Poll::Ready(None) => {
                self.remove(key);
                None
            }
            Poll::Pending => None,
        }
    }
}
