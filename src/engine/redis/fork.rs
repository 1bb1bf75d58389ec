//! Where a log's two pasts part, after its end was lost: whoever saw the lost one goes on from there.
//!
//! A tag belongs to one publication of one past. So whoever stands at a position that was lost has, or was told that it
//! has not, all that comes before it in that past; and what both pasts begin with is still true.

use crate::delivery::{Page, Position};

/// The end that was lost, and the last position before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fork {
    at: Position,
    lost: Vec<Position>,
}

impl Fork {
    /// Compares a past as this node knows it, in order, with the log's own from the first of those positions on. `None`
    /// if they have nothing in common there, or if nothing is lost.
    pub(super) fn find(known: &[Position], log: &Page) -> Option<Self> {
        let common = |position: &Position| {
            let stands = log
                .publications
                .iter()
                .any(|publication| publication.position == *position);
            stands || (log.gap.is_none() && *position == log.after)
        };
        let end = log.publications.last().map_or(log.after, |last| last.position).offset;
        // It was read to the end of what is known, or to its own.
        if end < log.top.offset.min(known.last()?.offset) {
            return None;
        }
        let (common, lost) = known.split_at(known.iter().take_while(|position| common(position)).count());
        let at = *common.last()?;
        (!lost.is_empty()).then(|| Self {
            at,
            lost: lost.to_vec(),
        })
    }

    /// Where it is.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Where one goes on who stands at a position that was lost.
    pub(super) fn of(&self, position: &Position) -> Option<Position> {
        self.lost.contains(position).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::{ChannelName, Publication};

    fn position(text: &str) -> Position {
        text.parse().unwrap()
    }

    fn page(after: &str, positions: &[&str]) -> Page {
        let publication = |text: &&str| {
            let channel = ChannelName::parse("c").unwrap();
            Arc::new(Publication::kept(channel, position(text), 1, None, "1".into()))
        };
        let publications: Vec<_> = positions.iter().map(publication).collect();
        Page {
            after: position(after),
            gap: None,
            top: publications.last().map_or(position(after), |last| last.position),
            publications,
            start: position("e-0"),
        }
    }

    #[test]
    fn pasts_part_after_the_last_position_that_both_have() {
        let known = ["e-3-a", "e-4-b", "e-5-c", "e-6-d"].map(position);
        for (after, log, at) in [
            ("e-3-a", &["e-4-b", "e-5-x"][..], Some("e-4-b")),
            ("e-3-a", &["e-4-b"], Some("e-4-b")),
            ("e-3-a", &["e-4-x", "e-5-c"], Some("e-3-a")),
            ("e-3-a", &[], Some("e-3-a")),
            ("e-3-x", &["e-4-x"], None),
            ("e-3-a", &["e-4-b", "e-5-c", "e-6-d", "e-7-e"], None),
        ] {
            let fork = Fork::find(&known, &page(after, log));
            assert_eq!(fork.as_ref().map(Fork::at), at.map(position), "{after} {log:?}");
            if let Some(fork) = fork {
                assert_eq!(fork.of(&known[3]), Some(fork.at()));
                assert_eq!((fork.of(&fork.at()), fork.of(&position("e-6-x"))), (None, None));
            }
        }
    }
}
