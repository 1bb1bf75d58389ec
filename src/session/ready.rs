//! Which of a session's channels have something: each marks itself, and the rest are never polled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use super::registry::Shared;

/// The keys of the subscriptions that may have something, in the order in which they said so.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<VecDeque<u32>>);

impl Ready {
    fn push(&self, key: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(key);
    }

    pub(super) fn pop(&self) -> Option<usize> {
        let key = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        key.map(|key| key as usize)
    }
}

/// One subscription's mark; as a waker it raises itself and wakes the session.
pub(super) struct Flag {
    key: u32,
    raised: AtomicBool,
    session: Arc<Shared>,
}

impl Flag {
    pub(super) fn new(key: usize, session: Arc<Shared>) -> Arc<Self> {
        let key = u32::try_from(key).unwrap_or(u32::MAX);
        Arc::new(Self {
            key,
            raised: AtomicBool::new(false),
            session,
        })
    }

    /// To be called before the subscription is polled, so that what comes during the poll raises it again.
    pub(super) fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            self.session.ready.push(self.key);
            self.session.wake();
        }
    }
}
