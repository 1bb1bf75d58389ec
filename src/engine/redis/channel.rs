//! One channel on this node: its live end, and what keeps that true to the log.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::entry::{Entry, Top};
use super::fork::Fork;
use super::keys::Keys;
use super::reads::{Reads, read};
use crate::delivery::{ChannelName, Live, Page, Position, Since};

/// Publications that are filled in at a time.
const FILL_COUNT_MAX: usize = 128;

/// Nothing is being filled in; it is; it is, and has to be once more.
const IDLE: u8 = 0;
const FILLING: u8 = 1;
const AGAIN: u8 = 2;

/// Whether Redis tells this node of a channel.
#[derive(Debug)]
pub(super) enum Heard {
    Not,
    /// It does; and where the log ended when that began, if somebody waited for it and it was known.
    From(Option<Box<Top>>),
}

/// What this node knows of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) keys: Keys,
    pub(super) reads: Reads,
    /// Its live end, once somebody has attached.
    pub(super) live: OnceCell<Arc<Live>>,
    /// Whether this node wants to be told of publications.
    pub(super) is_wanted: AtomicBool,
    /// Whether Redis has said that it is.
    pub(super) heard: watch::Sender<Heard>,
    /// Something was heard before there was a live end.
    is_early: AtomicBool,
    filling: AtomicU8,
    /// Its readers are about to be woken.
    pub(super) is_woken: AtomicBool,
    /// The highest offset that a reader was given, or told of, from the log.
    handed: AtomicU64,
    ttl_ms: AtomicU64,
    renewed_at: Mutex<Option<Instant>>,
    idle_since: Mutex<Option<Instant>>,
    /// Where its pasts part, after its end was lost.
    fork: Mutex<Option<Box<Fork>>>,
}

impl Channel {
    pub(super) fn new(name: ChannelName, keys: Keys) -> Self {
        Self {
            name,
            keys,
            reads: Reads::default(),
            live: OnceCell::new(),
            is_wanted: AtomicBool::new(false),
            heard: watch::Sender::new(Heard::Not),
            is_early: AtomicBool::new(false),
            filling: AtomicU8::new(IDLE),
            is_woken: AtomicBool::new(false),
            handed: AtomicU64::new(0),
            ttl_ms: AtomicU64::new(u64::MAX),
            renewed_at: Mutex::new(None),
            idle_since: Mutex::new(None),
            fork: Mutex::new(None),
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::SeqCst)
    }

    /// Redis does not tell of it, or it is not known whether it does.
    pub(super) fn is_unheard(&self) {
        self.heard.send_replace(Heard::Not);
    }

    /// Waits until Redis tells of it, and takes where the log ended then, if that is known.
    pub(super) async fn is_heard(&self) -> Option<Top> {
        let mut heard = self.heard.subscribe();
        // It lasts as long as the channel does.
        let _ = heard.wait_for(|heard| matches!(heard, Heard::From(_))).await;
        drop(heard);
        let mut top = None;
        self.heard.send_if_modified(|heard| {
            if let Heard::From(known) = heard {
                top = known.take();
            }
            false
        });
        top.map(|top| *top)
    }

    /// Whether something was heard that the live end came too late for.
    pub(super) fn take_early(&self) -> bool {
        self.is_early.swap(false, Ordering::SeqCst)
    }

    /// Where one goes on who stands at a position that was lost with the end of the log, if that is known.
    pub(super) fn fork_of(&self, position: &Position) -> Option<Position> {
        let fork = self.fork.lock().unwrap_or_else(PoisonError::into_inner);
        fork.as_ref()?.of(position)
    }

    /// A reader was told of the log up to here.
    pub(super) fn note_handed(&self, top: Top) {
        self.handed.fetch_max(top.position.offset, Ordering::SeqCst);
        self.note_ttl(&top);
    }

    /// For how long its top is kept is what Redis says now. If that is longer than was known, it is said again at once:
    /// it may have been cut short meanwhile.
    pub(super) fn note_ttl(&self, top: &Top) {
        if self.ttl_ms.swap(top.ttl_ms, Ordering::Relaxed) < top.ttl_ms {
            *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// For how long its top is to be kept on, if that has to be said (again): readers here keep it alive. At first as
    /// soon as it is known: nobody may have renewed it for a long time.
    pub(super) fn renewal_ms(&self, now: Instant) -> Option<u64> {
        let ttl_ms = self.ttl_ms.load(Ordering::Relaxed);
        if ttl_ms == u64::MAX {
            return None;
        }
        let mut renewed_at = self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = renewed_at.is_none_or(|at| now.duration_since(at).as_millis() >= u128::from(ttl_ms / 4));
        is_due.then(|| {
            *renewed_at = Some(now);
            ttl_ms
        })
    }

    /// Since when nobody has been reading here, as far as is known.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let is_read = self.live.get().is_some_and(|live| Arc::strong_count(live) > 1);
        let mut idle_since = self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        *idle_since = (!is_read).then(|| idle_since.unwrap_or(now));
        *idle_since
    }

    /// Where its live end is, if it has one.
    pub(super) fn live_top(&self) -> Option<Position> {
        self.live.get().map(|live| live.top())
    }

    /// Takes what Redis tells of a publication: the live end goes on with it, or is filled in from the log.
    pub(super) fn hear(self: &Arc<Self>, shared: &Arc<Shared>, bytes: Vec<u8>) {
        let Some(live) = self.live.get() else {
            self.is_early.store(true, Ordering::SeqCst);
            // It may have begun in between, and not have seen this.
            if self.live.get().is_some() && self.take_early() {
                self.fill(shared);
            }
            return;
        };
        let Some(entry) = Entry::read(&self.name, bytes) else {
            tracing::error!(channel = %self.name, "what Redis tells cannot be read; does anybody else publish there?");
            return;
        };
        let told = entry.publication.position;
        if live.push_after(&entry.after, Arc::new(entry.publication)) {
            shared.wakes.add(self);
            return;
        }
        let top = live.top();
        // What was filled in is told afterwards, too. Another past would show when the tops are compared.
        if told.epoch != top.epoch || told.offset > top.offset {
            self.fill(shared);
        }
    }

    /// Sees to it that the live end is brought up to the log's top, from the log.
    pub(super) fn fill(self: &Arc<Self>, shared: &Arc<Shared>) {
        // By a task: it goes on, whoever asked for it.
        drop(self.begin_fill(shared));
    }

    /// The same; waits for its end, if it has begun here, and says whether Redis answered.
    pub(super) async fn filled(self: &Arc<Self>, shared: &Arc<Shared>) -> bool {
        match self.begin_fill(shared) {
            Some(filling) => filling.await.unwrap_or(false),
            None => true,
        }
    }

    fn begin_fill(self: &Arc<Self>, shared: &Arc<Shared>) -> Option<JoinHandle<bool>> {
        let next = |state| (state != AGAIN).then_some(state + 1);
        let before = self.filling.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        (before == Ok(IDLE)).then(|| tokio::spawn(fill(Arc::clone(shared), Arc::clone(self))))
    }

    /// Whether what Redis says of the top is what is known here; where it is not, it is only in doubt: either may be
    /// ahead of the other by what is on its way.
    pub(super) fn is_at(&self, top: Option<&Top>) -> bool {
        match (self.live.get(), top) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(live), Some(top)) => live.holds(&top.position),
        }
    }

    /// Whether Redis has lost what stood here before it was asked: what is told was stored, so its top cannot be lower.
    pub(super) fn has_lost(before: Option<Position>, top: Option<&Top>) -> bool {
        let (Some(before), Some(top)) = (before, top) else {
            return false;
        };
        before.epoch == top.position.epoch && before.offset > top.position.offset
    }

    /// Readers that were told of more than there is have to read anew.
    pub(super) fn doubt_above(self: &Arc<Self>, shared: &Shared, top: &Top) {
        let Some(live) = self.live.get() else { return };
        let offset = top.position.offset;
        if live.top() == top.position && self.handed.swap(offset, Ordering::SeqCst) > offset {
            live.doubt();
            shared.wakes.add(self);
        }
    }
}

/// Whether Redis answered.
async fn fill(shared: Arc<Shared>, channel: Arc<Channel>) -> bool {
    while let Some(live) = channel.live.get() {
        match fill_part(&shared, &channel, live).await {
            // Redis does not answer. When it does again, the tops are compared.
            None => break,
            Some(Filled::Partly) => {}
            Some(Filled::ToTheTop) => {
                let done = channel
                    .filling
                    .compare_exchange(FILLING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
                if done.is_ok() {
                    return true;
                }
                channel.filling.store(FILLING, Ordering::SeqCst);
            }
        }
    }
    channel.filling.store(IDLE, Ordering::SeqCst);
    false
}

/// How far a live end was brought.
enum Filled {
    Partly,
    ToTheTop,
}

/// Reads on from the live end's top.
async fn fill_part(shared: &Arc<Shared>, channel: &Arc<Channel>, live: &Arc<Live>) -> Option<Filled> {
    let from = live.top();
    let mut page = read(shared, channel, Since::After(from), FILL_COUNT_MAX).await.ok()?;
    if page.gap.is_some() {
        if from.epoch == page.top.epoch
            && let Some(forked) = find_fork(shared, channel, live).await?
        {
            page = forked;
        }
        live.restart(&from, page.after);
    }
    let mut at = page.after;
    for publication in page.publications {
        let position = publication.position;
        // Where it does not follow, what was told meanwhile has come first.
        live.push_after(&at, publication);
        at = position;
    }
    shared.wakes.add(channel);
    let top = live.top();
    let is_at_top = top.epoch == page.top.epoch && top.offset >= page.top.offset;
    Some(if is_at_top { Filled::ToTheTop } else { Filled::Partly })
}

/// The end of the log was lost: what follows where its pasts part, if what is at hand here reaches back to there.
async fn find_fork(shared: &Arc<Shared>, channel: &Arc<Channel>, live: &Live) -> Option<Option<Page>> {
    let known = live.positions();
    let Some(oldest) = known.first() else { return Some(None) };
    let mut page = read(shared, channel, Since::After(*oldest), FILL_COUNT_MAX)
        .await
        .ok()?;
    let Some(fork) = Fork::find(&known, &page) else {
        return Some(None);
    };
    page.after = fork.at();
    page.publications
        .retain(|publication| publication.position.offset > page.after.offset);
    *channel.fork.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(fork));
    Some(Some(page))
}
