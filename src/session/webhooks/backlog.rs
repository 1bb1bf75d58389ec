//! The events that were not delivered yet: a bounded log, and a cursor over it for each receiver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::delivery::{Ack, ChannelName, Draft, Epoch, Log, LogPolicy, Offset, Position, Publication, Since};

/// How much is kept for receivers that are behind.
#[derive(Debug)]
pub(super) struct Backlog {
    log: Mutex<Log>,
    policy: LogPolicy,
    channel: ChannelName,
    /// For each receiver: something has come.
    added: Vec<Notify>,
}

/// What a receiver is told next.
#[derive(Debug)]
pub(super) struct Batch {
    /// Oldest first; at least one.
    pub(super) events: Vec<Arc<Publication>>,
    /// How many between the last batch and this one are lost.
    pub(super) lost: u64,
}

impl Batch {
    /// The position of its last event.
    pub(super) fn end(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }
}

impl Backlog {
    pub(super) fn new(epoch: Epoch, policy: LogPolicy, receivers: usize) -> Self {
        Self {
            log: Mutex::new(Log::born(epoch)),
            policy,
            channel: ChannelName::control(),
            added: (0..receivers).map(|_| Notify::new()).collect(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a receiver begins.
    pub(super) fn top(&self) -> Position {
        self.log().top()
    }

    /// Takes an event: its kind, and its fields as JSON.
    pub(super) fn add(&self, kind: &'static str, json: String, now_ms: u64) {
        let draft = Draft {
            channel: self.channel.clone(),
            data: json.into(),
            event: Some(kind.into()),
            sender: None,
            key: None,
            policy: self.policy,
            ack: Ack::Stored,
        };
        self.log().append(&draft, now_ms);
        for added in &self.added {
            added.notify_one();
        }
    }

    /// Waits until something was added for a receiver since it last waited. Cancel safe.
    pub(super) async fn added(&self, receiver: usize) {
        match self.added.get(receiver) {
            Some(added) => added.notified().await,
            None => std::future::pending().await,
        }
    }

    /// What follows a position, of at most so many events. `None`: nothing does.
    pub(super) fn next(&self, after: &Position, count_max: usize, now_ms: u64) -> Option<Batch> {
        let mut log = self.log();
        log.trim(now_ms.saturating_sub(self.policy.age_ms_max));
        let page = log.read(Since::After(*after), count_max);
        let lost = page.gap.map_or(0, |gap| gap.to.offset - gap.from.offset);
        (!page.publications.is_empty()).then_some(Batch {
            events: page.publications,
            lost,
        })
    }

    /// Whether a batch has not fallen out since it was taken.
    pub(super) fn holds(&self, batch: &Batch, now_ms: u64) -> bool {
        let start = self.start(now_ms);
        batch
            .events
            .first()
            .is_some_and(|first| first.position.offset > start.offset)
    }

    /// Keeps no more what all receivers have taken.
    pub(super) fn forget(&self, taken: Offset) {
        self.log().forget(taken);
    }

    /// The position after which nothing has fallen out yet.
    pub(super) fn start(&self, now_ms: u64) -> Position {
        let mut log = self.log();
        log.trim(now_ms.saturating_sub(self.policy.age_ms_max));
        log.read(Since::Now, 0).start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(count_max: usize) -> (Backlog, Position) {
        let policy = LogPolicy {
            count_max,
            bytes_max: 1 << 20,
            age_ms_max: 1_000,
            position_ttl_ms: 0,
        };
        let backlog = Backlog::new(Epoch::from_bits(7), policy, 1);
        let top = backlog.top();
        (backlog, top)
    }

    #[test]
    fn what_a_receiver_is_too_slow_for_is_named() {
        let (backlog, begin) = backlog(3);
        assert!(backlog.next(&begin, 10, 0).is_none());
        for _ in 0..2 {
            backlog.add("channel_occupied", "{}".to_owned(), 0);
        }
        let batch = backlog.next(&begin, 10, 0).unwrap();
        assert_eq!((batch.events.len(), batch.lost), (2, 0));
        assert!(backlog.holds(&batch, 0));
        for _ in 0..4 {
            backlog.add("channel_vacated", "{}".to_owned(), 0);
        }
        assert!(!backlog.holds(&batch, 0));
        let batch = backlog.next(&begin, 2, 0).unwrap();
        let offsets: Vec<_> = batch.events.iter().map(|event| event.position.offset).collect();
        assert_eq!((offsets, batch.lost), (vec![4, 5], 3));
        let rest = backlog.next(&batch.end().unwrap(), 2, 0).unwrap();
        assert_eq!((rest.events.len(), rest.lost), (1, 0));
    }

    #[test]
    fn what_was_taken_is_not_kept_and_not_called_lost() {
        let (backlog, begin) = backlog(10);
        for _ in 0..3 {
            backlog.add("member_joined", "{}".to_owned(), 0);
        }
        let batch = backlog.next(&begin, 2, 0).unwrap();
        backlog.forget(batch.end().unwrap().offset);
        assert_eq!(backlog.start(0), batch.end().unwrap());
        let rest = backlog.next(&batch.end().unwrap(), 2, 0).unwrap();
        assert_eq!((rest.events.len(), rest.lost), (1, 0));
        backlog.forget(rest.end().unwrap().offset);
        assert!(backlog.log().is_empty());
        assert_eq!(backlog.top(), rest.end().unwrap());
    }

    #[test]
    fn what_is_too_old_falls_out_though_nothing_comes() {
        let (backlog, begin) = backlog(10);
        backlog.add("member_joined", "{}".to_owned(), 0);
        let batch = backlog.next(&begin, 10, 1_000).unwrap();
        assert!(!backlog.holds(&batch, 1_001));
        assert!(backlog.next(&begin, 10, 1_001).is_none());
        assert_eq!(backlog.start(1_001).offset, 1);
        backlog.add("member_left", "{}".to_owned(), 1_001);
        assert_eq!(backlog.next(&begin, 10, 1_001).unwrap().lost, 1);
    }
}
