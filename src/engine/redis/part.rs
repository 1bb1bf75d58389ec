//! A part of a log as it was read, and the pages that it makes: one reading serves many readers.

use std::sync::Arc;

use redis::Value;

use super::entry::{Entry, Top, bytes_of};
use crate::delivery::{ChannelName, Gap, Offset, Page, Position, Publication, Since};

/// Publications without holes, and where they stand in their log.
#[derive(Debug)]
pub(super) struct Part {
    /// The position right before the oldest publication that is left; the top if none is.
    start: Position,
    top: Top,
    /// The position right before the first of `publications`.
    before: Position,
    publications: Vec<Arc<Publication>>,
}

impl Part {
    /// Reads the answer of `read.lua`.
    pub(super) fn read(channel: &ChannelName, answer: Value) -> Option<Self> {
        let Value::Array(answer) = answer else { return None };
        let mut parts = answer.into_iter().map(bytes_of);
        let top = Top::read(&parts.next()??)?;
        let oldest = parts.next()??;
        let start = match &oldest[..] {
            [] => top.position,
            line => Entry::read_after(line)?,
        };
        let from: Offset = str::from_utf8(&parts.next()??).ok()?.parse().ok()?;
        let is_to_the_end = !parts.next()??.is_empty();
        let mut part = Self {
            start,
            top,
            before: top.position,
            publications: Vec::new(),
        };
        for bytes in parts {
            part.take(Entry::read(channel, bytes?)?);
        }
        part.note_hole(from);
        if is_to_the_end && part.end() != top.position {
            // Whoever wrote the rest, or lost it: it does not lead to the top.
            part.begin_at_top();
        }
        Some(part)
    }

    /// What stands before the first entry is gone if that is not the one that was asked for, nor the log's first.
    fn note_hole(&mut self, from: Offset) {
        let first = from.max(self.start.offset + 1);
        if self.publications.is_empty() {
            if first <= self.top.position.offset && from != Offset::MAX {
                self.begin_at_top();
            }
        } else if self.before.offset >= first {
            self.start = self.before;
        }
    }

    fn begin_at_top(&mut self) {
        self.start = self.top.position;
        self.before = self.top.position;
        self.publications.clear();
    }

    /// Takes the next entry. A log has no holes: what stands before one is gone.
    fn take(&mut self, entry: Entry) {
        if self.publications.is_empty() {
            self.before = entry.after;
        } else if self.end() != entry.after {
            self.publications.clear();
            self.before = entry.after;
            self.start = entry.after;
        }
        self.publications.push(Arc::new(entry.publication));
    }

    fn end(&self) -> Position {
        self.publications.last().map_or(self.before, |last| last.position)
    }

    pub(super) fn top(&self) -> Top {
        self.top
    }

    /// What it says to a reader; `None` if another part has to be read for that.
    pub(super) fn page(&self, since: Since, limit: usize) -> Option<Page> {
        let top = self.top.position;
        match since {
            Since::Now => self.page_after(top, limit),
            Since::Start => self.page_after(self.start, limit),
            Since::Last(count) => {
                let offset = top.offset.saturating_sub(count).max(self.start.offset);
                self.page_after(self.position_at(offset)?, limit)
            }
            Since::After(given) if self.is_outside(&given) => self.page_after_gap(given, limit),
            Since::After(given) if self.position_at(given.offset)? == given => self.page_after(given, limit),
            Since::After(given) => self.page_after_gap(given, limit),
        }
    }

    fn is_outside(&self, given: &Position) -> bool {
        let top = self.top.position;
        given.epoch != top.epoch || given.offset < self.start.offset || given.offset > top.offset
    }

    /// What it says to a reader whose place in the log is another publication's.
    pub(super) fn page_after_gap(&self, from: Position, limit: usize) -> Option<Page> {
        let page = self.page_after(self.start, limit)?;
        let gap = Some(Gap { from, to: self.start });
        Some(Page { gap, ..page })
    }

    /// What it says to a reader whose place is another publication's by now, and whose past is the log's up to `fork`.
    pub(super) fn page_after_fork(&self, from: Position, fork: Position, limit: usize) -> Option<Page> {
        let page = self.page(Since::After(fork), limit)?;
        let gap = Some(Gap { from, to: page.after });
        Some(Page { gap, ..page })
    }

    fn page_after(&self, after: Position, limit: usize) -> Option<Page> {
        let top = self.top.position;
        let publications = if after == top || limit == 0 {
            Vec::new()
        } else {
            let from = after.offset.checked_sub(self.before.offset)?;
            let rest = self.publications.get(usize::try_from(from).ok()?..)?;
            if rest.is_empty() {
                return None;
            }
            rest.iter().take(limit).cloned().collect()
        };
        Some(Page {
            after,
            gap: None,
            publications,
            start: self.start,
            top,
        })
    }

    /// Whether another publication is known to stand where this position says.
    pub(super) fn contradicts(&self, given: &Position) -> bool {
        self.is_outside(given) || self.position_at(given.offset).is_some_and(|known| known != *given)
    }

    /// The position that has `offset`, if that was read.
    fn position_at(&self, offset: Offset) -> Option<Position> {
        let ends = [self.start, self.top.position, self.before];
        if let Some(end) = ends.into_iter().find(|end| end.offset == offset) {
            return Some(end);
        }
        let index = usize::try_from(offset.checked_sub(self.before.offset)?.checked_sub(1)?).ok()?;
        self.publications.get(index).map(|publication| publication.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: impl Into<String>) -> Value {
        Value::BulkString(text.into().into_bytes())
    }

    fn entry(offset: u64) -> String {
        let tag = |offset: u64| {
            if offset == 0 {
                "-".to_owned()
            } else {
                format!("t{offset}")
            }
        };
        format!("e-{offset}-t{offset} {} 1 0 - -\n{offset}", tag(offset - 1))
    }

    fn read(from: u64, mut answer: Vec<Value>) -> Part {
        let is_to_the_end = answer.last() == Some(&bulk(entry(10)));
        let end = if is_to_the_end { "end" } else { "" };
        answer.splice(2..2, [bulk(from.to_string()), bulk(end)]);
        Part::read(&ChannelName::parse("c").unwrap(), Value::Array(answer)).unwrap()
    }

    /// Of a log of 10 that holds 4 to 10: what was read are the entries `from..=to`.
    fn part(from: u64, to: u64) -> Part {
        let mut answer = vec![bulk("e-10-t10 1 0 0 1 1 1"), bulk(entry(4).split('\n').next().unwrap())];
        answer.extend((from..=to).map(|offset| bulk(entry(offset))));
        read(from, answer)
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.publications
            .iter()
            .map(|publication| publication.position.offset)
            .collect()
    }

    #[test]
    fn a_part_serves_readers_whose_place_it_has() {
        let part = part(5, 8);
        for (since, expected) in [
            ("e-4-t4", Some(vec![5, 6])),
            ("e-6-t6", Some(vec![7, 8])),
            ("e-7-t7", Some(vec![8])),
            ("e-10-t10", Some(vec![])),
            ("now", Some(vec![])),
            ("last:4", Some(vec![7, 8])),
            ("e-8-t8", None),
            ("e-9-t9", None),
            ("start", None),
            ("e-3-t3", None),
            ("e-2-t2", None),
            ("last:2", None),
        ] {
            let page = part.page(since.parse().unwrap(), 2);
            assert_eq!(page.as_ref().map(offsets), expected, "{since}");
            assert!(page.is_none_or(|page| page.gap.is_none()), "{since}");
        }
    }

    #[test]
    fn what_does_not_fit_the_log_is_a_gap_from_its_start() {
        let part = part(4, 10);
        for from in ["e-2-t2", "e-6-x", "e-11-t", "f-6-t6", "e-3-x", "e-6", "e-0", "e-10-x"] {
            let page = part.page(Since::After(from.parse().unwrap()), 2).unwrap();
            assert_eq!(
                page.gap.map(|gap| gap.to.to_string()).as_deref(),
                Some("e-3-t3"),
                "{from}"
            );
            assert_eq!(offsets(&page), [4, 5]);
        }
    }

    #[test]
    fn whoever_saw_what_was_lost_goes_on_where_the_pasts_part() {
        let part = part(4, 10);
        for (fork, to, expected) in [
            ("e-7-t7", "e-7-t7", [8, 9]),
            ("e-2-t2", "e-3-t3", [4, 5]),
            ("e-7-x", "e-3-t3", [4, 5]),
        ] {
            let from = "e-9-x".parse().unwrap();
            let page = part.page_after_fork(from, fork.parse().unwrap(), 2).unwrap();
            let gap = page.gap.unwrap();
            assert_eq!((gap.from, gap.to.to_string()), (from, to.to_owned()));
            assert_eq!(offsets(&page), expected);
        }
    }

    #[test]
    fn a_log_with_a_hole_begins_after_it_and_one_that_ends_too_early_is_empty() {
        let of = |head: &[&str], entries: &[u64]| -> Vec<Value> {
            let line = entry(4).split('\n').next().unwrap().to_owned();
            let all = ["e-10-t10 1 0 0 1 1 1", &line].into_iter().chain(head.iter().copied());
            all.map(bulk)
                .chain(entries.iter().map(|offset| bulk(entry(*offset))))
                .collect()
        };
        let part = read(8, of(&[], &[8, 10]));
        assert_eq!(
            (part.start.offset, offsets(&part.page(Since::Start, 9).unwrap())),
            (9, vec![10])
        );
        // What was asked for is not there, though the log reaches on both sides of it.
        for (entries, start, follows) in [(&[8, 9, 10][..], 7, &[8, 9, 10][..]), (&[], 10, &[])] {
            let part = read(5, of(&[], entries));
            let page = part.page(Since::After("e-5-t5".parse().unwrap()), 9).unwrap();
            assert_eq!((page.gap.unwrap().to.offset, offsets(&page)), (start, follows.to_vec()));
        }
        let channel = ChannelName::parse("c").unwrap();
        let part = Part::read(&channel, Value::Array(of(&["4", "end"], &[4]))).unwrap();
        let page = part.page(Since::After("e-4-t4".parse().unwrap()), 9).unwrap();
        assert_eq!((page.gap.unwrap().to.offset, offsets(&page)), (10, vec![]));
    }
}
