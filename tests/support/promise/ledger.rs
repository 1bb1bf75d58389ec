//! What was published to one channel, and where it landed: the truth that readers are judged by.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Violation;
use super::channels::{Channel, Load};
use crate::support::deadline::in_time;
use crate::support::place::Place;
use crate::support::push::Push;

/// More than this is never published to one channel.
const OFFSET_MAX: u64 = 20_000;

/// Wakes the publishers of all channels.
pub(crate) type Bell = watch::Sender<()>;

/// One channel's truth. Shared by its publishers and readers.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) channel: Channel,
    /// The most publications that the log keeps.
    pub(crate) window: u64,
    /// Publications that were sent, or are about to be; the log's top is never above.
    started: AtomicU64,
    /// The newest offset that a publisher was answered; the log's top is never below.
    acked: watch::Sender<u64>,
    /// How many publications somebody waits for.
    wanted: AtomicU64,
    /// Rung when somebody wants more.
    bell: Bell,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    epoch: Option<String>,
    /// By offset: what the publisher that was given it had sent.
    published: HashMap<u64, Sent>,
    /// By offset: the push as the first reader saw it.
    seen: HashMap<u64, String>,
}

/// What a publisher sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// JSON without white space between its tokens.
    pub(crate) data: String,
    pub(crate) event: Option<String>,
}

impl Ledger {
    pub(crate) fn new(channel: Channel, window: u64, bell: Bell) -> Self {
        Self {
            channel,
            window,
            started: AtomicU64::new(0),
            acked: watch::Sender::new(0),
            wanted: AtomicU64::new(0),
            bell,
            entries: Mutex::default(),
        }
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    pub(crate) fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::SeqCst)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.channel.load == Load::Idle
    }

    /// Asks the publishers for so many in all, and says how many there will be.
    pub(crate) fn want(&self, count: u64) -> u64 {
        let count = count.min(OFFSET_MAX);
        if self.wanted.fetch_max(count, Ordering::SeqCst) < count {
            self.bell.send_replace(());
        }
        count
    }

    /// Waits until so many were asked for, published and answered.
    pub(crate) async fn reach(&self, count: u64) -> Result<(), Violation> {
        let count = self.want(count);
        let mut acked = self.acked.subscribe();
        in_time("what publishers were asked for", async {
            acked
                .wait_for(|acked| *acked >= count)
                .await
                .map_err(std::io::Error::other)?;
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// A publisher's right to send one more, if one is wanted. To be asked before it is sent.
    pub(crate) fn claim(&self) -> bool {
        let wanted = self.wanted();
        let more = |started| (started < wanted).then_some(started + 1);
        self.started
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .is_ok()
    }

    /// What a publisher was answered.
    pub(crate) fn record(&self, place: &Place, sent: Sent) -> Result<(), Violation> {
        let mut entries = self.entries.lock().expect("nobody panics here");
        entries.same_epoch(place)?;
        must!(
            (1..=self.started()).contains(&place.offset),
            "{place} was given out, but only {} were published",
            self.started()
        );
        let before = entries.published.insert(place.offset, sent);
        must!(before.is_none(), "{place} was given out twice");
        drop(entries);
        self.acked.send_if_modified(|acked| {
            let is_more = place.offset > *acked;
            *acked = place.offset.max(*acked);
            is_more
        });
        Ok(())
    }

    /// A reader received this publication. Every reader, over every transport, must be given the same bytes.
    pub(crate) fn see(&self, place: &Place, push: &Push) -> Result<(), Violation> {
        let mut entries = self.entries.lock().expect("nobody panics here");
        entries.same_epoch(place)?;
        must!(
            place.offset <= self.started(),
            "{place} was never published: {}",
            push.shown()
        );
        let first = entries.seen.entry(place.offset).or_insert_with(|| push.text.clone());
        must!(
            *first == push.text,
            "{place} is told differently: once {first}, and once {}",
            push.text
        );
        Ok(())
    }

    /// A position was named without a publication.
    pub(crate) fn see_place(&self, place: &Place) -> Result<(), Violation> {
        let mut entries = self.entries.lock().expect("nobody panics here");
        entries.same_epoch(place)
    }

    /// When all is over: offsets have no holes, and what was seen is what was sent.
    pub(crate) fn settle(&self) -> Result<(), Violation> {
        let entries = self.entries.lock().expect("nobody panics here");
        let count = self.started();
        must!(
            entries.published.len() as u64 == count,
            "of {count} publications, {} were answered",
            entries.published.len()
        );
        for (offset, text) in &entries.seen {
            let push = Push::parse(text.clone())?;
            let sent = &entries.published[offset];
            let is_same =
                push.data.as_ref() == Some(&sent.data) && push.value["event"].as_str() == sent.event.as_deref();
            must!(is_same, "at {offset} {sent:?} was published, but {text} came");
        }
        Ok(())
    }
}

impl Entries {
    /// A channel of these worlds lives once.
    fn same_epoch(&mut self, place: &Place) -> Result<(), Violation> {
        let epoch = self.epoch.get_or_insert_with(|| place.epoch.clone());
        must!(*epoch == place.epoch, "{place} is not of the epoch {epoch}");
        Ok(())
    }
}
