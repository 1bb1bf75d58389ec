//! The replies that wait to be sent: none at most times, and then a session keeps no room for them.

use std::collections::VecDeque;

use crate::protocol::Push;

/// Replies in their order. Takes eight bytes while there are none.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "an empty one takes 32 bytes of every session that has none"
)]
pub(super) struct Replies(Option<Box<VecDeque<Push>>>);

impl Replies {
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |replies| replies.len())
    }

    pub(super) fn newest(&self) -> Option<&Push> {
        self.0.as_ref()?.back()
    }

    pub(super) fn push(&mut self, push: Push) {
        self.0.get_or_insert_default().push_back(push);
    }

    pub(super) fn pop(&mut self) -> Option<Push> {
        let first = self.0.as_mut()?.pop_front();
        if self.count() == 0 {
            self.0 = None;
        }
        first
    }

    /// All that there are.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Push> + use<> {
        self.0.take().into_iter().flat_map(|replies| *replies)
    }
}
