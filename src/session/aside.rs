//! What most sessions have none of at most times, and then keep no room for: replies that wait to be sent, and presence.

use std::collections::VecDeque;

use super::presence::Attendance;
use crate::protocol::Push;

/// Replies in their order, and the channels on which the session is present. Takes eight bytes while there is neither.
#[derive(Debug, Default)]
pub(super) struct Aside(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    replies: VecDeque<Push>,
    attendance: Option<Attendance>,
}

impl Aside {
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.replies.len())
    }

    pub(super) fn newest(&self) -> Option<&Push> {
        self.0.as_ref()?.replies.back()
    }

    pub(super) fn push(&mut self, push: Push) {
        self.0.get_or_insert_default().replies.push_back(push);
    }

    pub(super) fn pop(&mut self) -> Option<Push> {
        let first = self.0.as_mut()?.replies.pop_front();
        self.free();
        first
    }

    /// All replies that there are.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Push> + use<> {
        let replies = self.0.as_mut().map(|kept| std::mem::take(&mut kept.replies));
        self.free();
        replies.into_iter().flatten()
    }

    /// The channels on which others see the session, and of which it is told.
    pub(super) fn attendance(&self) -> Option<&Attendance> {
        self.0.as_ref()?.attendance.as_ref()
    }

    pub(super) fn attendance_mut(&mut self) -> Option<&mut Attendance> {
        self.0.as_mut()?.attendance.as_mut()
    }

    pub(super) fn attend(&mut self, begin: impl FnOnce() -> Attendance) -> &mut Attendance {
        let kept = self.0.get_or_insert_default();
        kept.attendance.get_or_insert_with(begin)
    }

    /// The session is on no channel any more.
    pub(super) fn retire(&mut self) {
        if let Some(kept) = &mut self.0 {
            kept.attendance = None;
        }
        self.free();
    }

    fn free(&mut self) {
        if let Some(kept) = &mut self.0 {
            if kept.replies.is_empty() {
                kept.replies = VecDeque::new();
            }
            if kept.replies.is_empty() && kept.attendance.is_none() {
                self.0 = None;
            }
        }
    }
}
