//! The bounded log of one channel: append, read after a position, trim. Pure and synchronous.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Draft, Epoch, Gap, Offset, Position, Publication, Since};

/// How much of a log is kept: whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// The most publications in the window.
    pub count_max: usize,
    /// The most bytes in the window, as [`Publication::bytes_max`] counts them.
    pub bytes_max: usize,
    /// The oldest that a publication in the window may be, in milliseconds.
    pub age_ms_max: u64,
    /// For how long epoch and top outlive the window, in milliseconds.
    pub position_ttl_ms: u64,
}

/// One life of a channel's log: what is left of it, and where it begins and ends.
#[derive(Debug)]
pub struct Log {
    /// The position right before the oldest publication that is left; the top if none is.
    start: Position,
    window: VecDeque<Arc<Publication>>,
    bytes: usize,
    time_ms: u64,
}

impl Log {
    /// A log that stands at `top` and holds nothing.
    pub fn at(top: Position) -> Self {
        Self {
            start: top,
            window: VecDeque::new(),
            bytes: 0,
            time_ms: 0,
        }
    }

    /// A log at the beginning of a new life.
    pub fn born(epoch: Epoch) -> Self {
        Self::at(Position::origin(epoch))
    }

    /// A log that goes on after `start`, and whose publications are never older than `time_ms`, whatever the clock says.
    pub fn resumed(start: Position, time_ms: u64) -> Self {
        Self {
            time_ms,
            ..Self::at(start)
        }
    }

    /// The time of the newest publication that this log ever had.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The position of the newest publication.
    pub fn top(&self) -> Position {
        self.window.back().map_or(self.start, |newest| newest.position)
    }

    /// All positions from its start to its top.
    pub fn positions(&self) -> Vec<Position> {
        let window = self.window.iter().map(|publication| publication.position);
        std::iter::once(self.start).chain(window).collect()
    }

    /// Whether nothing is left in the window.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// When the oldest publication that is left was stored.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.window.front().map(|oldest| oldest.time_ms)
    }

    /// Gives `draft` the next position and keeps it as its policy says.
    pub fn append(&mut self, draft: &Draft, now_ms: u64) -> Arc<Publication> {
        let top = self.top();
        self.time_ms = self.time_ms.max(now_ms);
        let position = Position {
            offset: top.offset + 1,
            ..top
        };
        let publication = Arc::new(Publication::new(draft, position, self.time_ms));
        let policy = &draft.policy;
        self.push(Arc::clone(&publication), policy.count_max, policy.bytes_max);
        self.trim(now_ms.saturating_sub(policy.age_ms_max));
        publication
    }

    /// Takes what has its position already; keeps so many, of so many bytes. What does not follow the top begins anew:
    /// there are no holes in a log, so whoever stands before it is behind.
    pub fn push(&mut self, publication: Arc<Publication>, count_max: usize, bytes_max: usize) {
        let position = publication.position;
        if !self.top().precedes(&position) {
            *self = Self::at(Position {
                offset: position.offset.saturating_sub(1),
                tag: None,
                ..position
            });
        }
        self.bytes += publication.bytes_max();
        self.window.push_back(publication);
        while self.window.len() > count_max || (self.bytes > bytes_max && !self.window.is_empty()) {
            self.drop_oldest();
        }
    }

    /// Lets go of what was stored before `oldest_ms`.
    pub fn trim(&mut self, oldest_ms: u64) {
        while self
            .window
            .front()
            .is_some_and(|publication| publication.time_ms < oldest_ms)
        {
            self.drop_oldest();
        }
        if self.window.is_empty() {
            self.window = VecDeque::new();
        }
    }

    /// Lets go of what stands at `last` and before it.
    pub fn forget(&mut self, last: Offset) {
        while self.window.front().is_some_and(|oldest| oldest.position.offset <= last) {
            self.drop_oldest();
        }
        if self.window.is_empty() {
            self.window = VecDeque::new();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.window.pop_front() {
            self.bytes -= oldest.bytes_max();
            self.start = oldest.position;
        }
    }

    /// At most `limit` publications after `since`, oldest first, and whether anything between is missing.
    pub fn read(&self, since: Since, limit: usize) -> Page {
        let top = self.top();
        let (after, gap) = match since {
            Since::Now => (top, None),
            Since::Start => (self.start, None),
            Since::Last(count) => {
                let offset = top.offset.saturating_sub(count).max(self.start.offset);
                (self.position_at(offset).unwrap_or(self.start), None)
            }
            Since::After(given) if self.holds(&given) => (given, None),
            Since::After(given) => (
                self.start,
                Some(Gap {
                    from: given,
                    to: self.start,
                }),
            ),
        };
        let skip = usize::try_from(after.offset - self.start.offset).unwrap_or(usize::MAX);
        let publications = self.window.iter().skip(skip).take(limit).cloned().collect();
        Page {
            after,
            gap,
            publications,
            start: self.start,
            top,
        }
    }

    /// The publication right after `cursor`.
    pub fn next(&self, cursor: &Position) -> Follow {
        let top = self.top();
        // Above the top is a reader of the log whose tail lags behind it; a forged position became a gap when it was read.
        if *cursor == top || (cursor.epoch == top.epoch && cursor.offset > top.offset) {
            return Follow::CaughtUp;
        }
        if !self.holds(cursor) {
            return Follow::Behind;
        }
        let index = usize::try_from(cursor.offset - self.start.offset).unwrap_or(usize::MAX);
        self.window
            .get(index)
            .map_or(Follow::Behind, |next| Follow::Next(Arc::clone(next)))
    }

    /// Whether `position` stands in this log, as its start or within its window.
    pub fn holds(&self, position: &Position) -> bool {
        self.position_at(position.offset) == Some(*position)
    }

    /// The position that has `offset`, if what follows it is still here.
    fn position_at(&self, offset: Offset) -> Option<Position> {
        let index = offset.checked_sub(self.start.offset)?;
        match usize::try_from(index).ok()? {
            0 => Some(self.start),
            index => self.window.get(index - 1).map(|publication| publication.position),
        }
    }
}

/// What a log holds after a position.
#[derive(Debug, Clone)]
pub struct Page {
    /// The position right before the first of `publications`.
    pub after: Position,
    /// What is lost between the position that was asked for and `after`.
    pub gap: Option<Gap>,
    /// Oldest first, without holes.
    pub publications: Vec<Arc<Publication>>,
    /// The position right before the oldest publication that the window holds.
    pub start: Position,
    /// The position of the newest publication.
    pub top: Position,
}

/// What a reader that begins gets before it follows: a [`Page`], but for where the window begins.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// The position right before the first of `publications`.
    pub after: Position,
    /// What is lost between the position that was asked for and `after`.
    pub gap: Option<Gap>,
    /// Oldest first, without holes.
    pub publications: Vec<Arc<Publication>>,
    /// The position of the newest publication.
    pub top: Position,
}

impl From<Page> for Backlog {
    fn from(page: Page) -> Self {
        Self {
            after: page.after,
            gap: page.gap,
            publications: page.publications,
            top: page.top,
        }
    }
}

/// What a live end has for a reader.
#[derive(Debug, Clone)]
pub enum Follow {
    /// The publication after its cursor.
    Next(Arc<Publication>),
    /// Nothing yet.
    CaughtUp,
    /// The live end does not reach back to the cursor, or has another history: the log must be read.
    Behind,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Ack, ChannelName};

    const POLICY: LogPolicy = LogPolicy {
        count_max: 3,
        bytes_max: 1 << 20,
        age_ms_max: 1_000,
        position_ttl_ms: 86_400_000,
    };

    fn draft(policy: LogPolicy) -> Draft {
        let channel = ChannelName::parse("c").unwrap();
        Draft {
            channel,
            data: "1".into(),
            event: None,
            sender: None,
            key: None,
            policy,
            ack: Ack::Stored,
        }
    }

    fn log_of(count: u64, policy: LogPolicy) -> Log {
        let mut log = Log::born(Epoch::from_bits(7));
        for now_ms in 1..=count {
            log.append(&draft(policy), now_ms);
        }
        log
    }

    fn offsets(page: &Page) -> Vec<Offset> {
        page.publications
            .iter()
            .map(|publication| publication.position.offset)
            .collect()
    }

    fn at(log: &Log, offset: Offset) -> Position {
        Position { offset, ..log.top() }
    }

    #[test]
    fn a_position_inside_the_window_reads_on_without_a_gap() {
        let log = log_of(5, POLICY);
        for (given, expected) in [(2, vec![3, 4, 5]), (3, vec![4, 5]), (5, vec![])] {
            let page = log.read(Since::After(at(&log, given)), 9);
            assert_eq!((offsets(&page), page.gap), (expected, None));
        }
        assert_eq!(offsets(&log.read(Since::After(at(&log, 2)), 2)), [3, 4]);
    }

    #[test]
    fn a_position_that_nobody_knows_is_a_gap_up_to_what_is_left() {
        let log = log_of(5, POLICY);
        let stranger = Position::origin(Epoch::from_bits(8));
        let tagged = Position {
            tag: crate::delivery::Tag::parse("x"),
            ..at(&log, 4)
        };
        for from in [
            at(&log, 1),
            at(&log, 0),
            at(&log, 6),
            at(&log, u64::MAX),
            stranger,
            tagged,
        ] {
            let page = log.read(Since::After(from), 9);
            assert_eq!(page.gap, Some(Gap { from, to: at(&log, 2) }));
            assert_eq!(offsets(&page), [3, 4, 5]);
        }
    }

    #[test]
    fn fresh_readers_begin_where_they_ask() {
        let log = log_of(5, POLICY);
        for (since, after) in [
            (Since::Now, 5),
            (Since::Start, 2),
            (Since::Last(2), 3),
            (Since::Last(0), 5),
            (Since::Last(u64::MAX), 2),
        ] {
            let page = log.read(since, 9);
            assert_eq!((page.after.offset, page.gap), (after, None));
            assert_eq!(offsets(&page), (after + 1..=5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn age_and_bytes_bound_the_window_and_the_top_stays() {
        let mut log = log_of(5, POLICY);
        log.trim(5);
        assert_eq!(offsets(&log.read(Since::Start, 9)), [5]);
        log.trim(6);
        assert!(log.is_empty());
        assert_eq!(log.top().offset, 5);
        assert_eq!(log.read(Since::After(log.top()), 9).gap, None);
        let one = log_of(1, POLICY).bytes;
        let log = log_of(
            5,
            LogPolicy {
                count_max: 99,
                bytes_max: 2 * one,
                ..POLICY
            },
        );
        assert_eq!(offsets(&log.read(Since::Start, 9)), [4, 5]);
        let log = log_of(5, LogPolicy { count_max: 0, ..POLICY });
        assert_eq!(
            (offsets(&log.read(Since::Start, 9)), log.top().offset, log.bytes),
            (vec![], 5, 0)
        );
    }

    #[test]
    fn a_hole_in_what_is_pushed_leaves_readers_behind_and_never_skips() {
        let source = log_of(5, LogPolicy { count_max: 9, ..POLICY });
        let mut tail = Log::at(at(&source, 1));
        for publication in source.read(Since::After(at(&source, 1)), 9).publications {
            if publication.position.offset != 3 {
                tail.push(publication, 9, usize::MAX);
            }
        }
        assert!(matches!(tail.next(&at(&source, 1)), Follow::Behind));
        assert!(matches!(tail.next(&at(&source, 2)), Follow::Behind));
        assert!(matches!(tail.next(&at(&source, 3)), Follow::Next(next) if next.position.offset == 4));
    }

    #[test]
    fn a_clock_that_steps_back_does_not_reorder_time() {
        let mut log = log_of(3, POLICY);
        assert_eq!(log.append(&draft(POLICY), 1).time_ms, 3);
    }
}
