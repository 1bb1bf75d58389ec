//! The live end of a channel's log on this node, and the readers that wait at it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use super::{Follow, Log, Parked, Parking, Position, Publication, Woken};

/// The publications that a live end keeps at hand, so that following does not ask the engine.
const TAIL_COUNT_MAX: usize = 64;

/// The bytes that they may take, as [`Publication::bytes_max`] counts them.
const TAIL_BYTES_MAX: usize = 256 * 1024;

/// A channel's newest publications on this node, and the parked readers. An engine feeds it, in offset order.
#[derive(Debug)]
pub struct Live {
    newest: RwLock<Log>,
    /// Counts what was pushed, from 1 on, so that a reader that is caught up sees without a lock that it still is.
    pushes: AtomicU64,
    /// Counts how often the log's past came into doubt: whatever a reader knows of it must then be asked again.
    doubts: AtomicU64,
    parking: Parking,
    attached: AtomicUsize,
}

impl Live {
    /// The live end of a log whose top is `top`.
    pub fn at(top: Position) -> Self {
        Self {
            newest: RwLock::new(Log::at(top)),
            pushes: AtomicU64::new(1),
            doubts: AtomicU64::new(0),
            parking: Parking::new(),
            attached: AtomicUsize::new(0),
        }
    }

    /// Takes the next publication. Readers see it now, but sleep until [`Live::wake`].
    pub fn push(&self, publication: Arc<Publication>) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        self.push_to(&mut newest, publication);
    }

    /// Takes a publication if it follows the one that is now the newest, which must be the one at `after`, and says
    /// whether it did.
    pub fn push_after(&self, after: &Position, publication: Arc<Publication>) -> bool {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        let follows = newest.top() == *after && after.precedes(&publication.position);
        if follows {
            self.push_to(&mut newest, publication);
        }
        follows
    }

    fn push_to(&self, newest: &mut Log, publication: Arc<Publication>) {
        // The newest one stays, however large, so that a live reader never needs the log for it.
        let bytes_max = TAIL_BYTES_MAX.max(publication.bytes_max());
        newest.push(publication, TAIL_COUNT_MAX, bytes_max);
        self.pushes.fetch_add(1, Ordering::SeqCst);
    }

    /// The position of the newest publication here.
    pub fn top(&self) -> Position {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).top()
    }

    /// Whether a position stands in what is at hand here.
    pub fn holds(&self, position: &Position) -> bool {
        self.newest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .holds(position)
    }

    /// The positions of what is at hand here, and of what they follow, in order.
    pub fn positions(&self) -> Vec<Position> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.positions()
    }

    /// Goes on at another position, if the newest publication here is still the one at `from`: the log has another
    /// past than was thought. Readers are woken to read it anew by the next [`Live::wake`].
    pub fn restart(&self, from: &Position, at: Position) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if newest.top() == *from {
            *newest = Log::at(at);
            self.doubt();
        }
    }

    /// Every reader is behind until it has read the log again: some may know what the log no longer has.
    pub fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
        self.pushes.fetch_add(1, Ordering::SeqCst);
    }

    /// The readers that wait for what was pushed.
    pub fn wake(&self) -> Woken {
        self.parking.wake()
    }

    /// What follows `cursor`, and the count of pushes at which nothing follows that any more.
    ///
    /// A reader that has not heard of the last doubt is behind, once.
    fn next(&self, cursor: &Position, doubts: &mut u64) -> (Follow, Option<NonZeroU64>) {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let pushes = self.pushes.load(Ordering::SeqCst);
        let heard = std::mem::replace(doubts, self.doubts.load(Ordering::SeqCst));
        if heard != *doubts {
            return (Follow::Behind, None);
        }
        let next = newest.next(cursor);
        let is_last = match &next {
            Follow::Next(publication) => publication.position == newest.top(),
            Follow::CaughtUp => true,
            Follow::Behind => false,
        };
        (next, NonZeroU64::new(pushes).filter(|_| is_last))
    }

    fn is_at(&self, pushes: Option<NonZeroU64>) -> bool {
        pushes.map_or(0, NonZeroU64::get) == self.pushes.load(Ordering::SeqCst)
    }
}

/// A reader's hold on a [`Live`]; the last one that is dropped detaches.
#[derive(Debug)]
pub struct Tail {
    live: Arc<Live>,
    parked: Parked,
    /// The count of pushes at which this reader was caught up.
    seen: Option<NonZeroU64>,
    /// The doubts that this reader has heard of.
    doubts: u64,
}

impl Tail {
    /// Attaches to a live end.
    pub fn new(live: Arc<Live>) -> Self {
        let parked = Parked::new(live.attached.fetch_add(1, Ordering::Relaxed));
        Self {
            doubts: live.doubts.load(Ordering::SeqCst),
            live,
            parked,
            seen: None,
        }
    }

    /// The publication after `cursor`, or [`Behind`] if the log must be asked. Pending: the waker is parked.
    pub(super) fn poll_next(
        &mut self,
        cursor: &Position,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Publication>, Behind>> {
        loop {
            if !self.live.is_at(self.seen) {
                let (next, seen) = self.live.next(cursor, &mut self.doubts);
                self.seen = seen;
                match next {
                    Follow::Next(publication) => return Poll::Ready(Ok(publication)),
                    Follow::Behind => return Poll::Ready(Err(Behind)),
                    Follow::CaughtUp => {}
                }
            }
            if self
                .live
                .parking
                .park(&mut self.parked, cx.waker(), || self.live.is_at(self.seen))
            {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.live.parking.leave(&mut self.parked);
    }
}

/// The tail does not reach back to the cursor.
#[derive(Debug)]
pub(super) struct Behind;
