//! What most sessions have none of at most times, and then keep no room for: replies that wait to be sent, presence, and
//! channels that cannot be had yet.

use std::collections::VecDeque;

use super::latecomers::Latecomers;
use super::presence::Attendance;
use crate::protocol::Push;

/// Replies in their order, the channels on which the session is present, and those that it waits for. Takes eight bytes
/// while there is none of it.
#[derive(Default)]
pub(super) struct Aside(Option<Box<Kept>>);

#[derive(Default)]
struct Kept {
    #[expect(
        clippy::box_collection,
        reason = "whoever is present has no reply waiting at most times"
    )]
    replies: Option<Box<VecDeque<Push>>>,
    attendance: Option<Attendance>,
    late: Option<Box<Latecomers>>,
}

impl Aside {
    pub(super) fn count(&self) -> usize {
        self.replies().map_or(0, VecDeque::len)
    }

    pub(super) fn newest(&self) -> Option<&Push> {
        self.replies()?.back()
    }

    fn replies(&self) -> Option<&VecDeque<Push>> {
        self.0.as_ref()?.replies.as_deref()
    }

    pub(super) fn push(&mut self, push: Push) {
        let kept = self.0.get_or_insert_default();
        kept.replies.get_or_insert_default().push_back(push);
    }

    pub(super) fn pop(&mut self) -> Option<Push> {
        let first = self.0.as_mut()?.replies.as_mut()?.pop_front();
        self.free();
        first
    }

    /// All replies that there are.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Push> + use<> {
        let replies = self.0.as_mut().and_then(|kept| kept.replies.take());
        self.free();
        replies.into_iter().flat_map(|replies| *replies)
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

    /// How many channels are tried again.
    pub(super) fn late_count(&self) -> usize {
        let late = self.0.as_ref().and_then(|kept| kept.late.as_ref());
        late.map_or(0, |late| late.count())
    }

    /// The channels that are tried again, if there are any.
    pub(super) fn late_mut(&mut self) -> Option<&mut Latecomers> {
        self.0.as_mut()?.late.as_deref_mut()
    }

    pub(super) fn late_or_new(&mut self) -> &mut Latecomers {
        self.0.get_or_insert_default().late.get_or_insert_default()
    }

    /// Keeps no room for what is not there any more.
    pub(super) fn free(&mut self) {
        if let Some(kept) = &mut self.0 {
            if kept.replies.as_ref().is_some_and(|replies| replies.is_empty()) {
                kept.replies = None;
            }
            if kept.late.as_ref().is_some_and(|late| late.is_empty()) {
                kept.late = None;
            }
            if kept.replies.is_none() && kept.attendance.is_none() && kept.late.is_none() {
                self.0 = None;
            }
        }
    }
}
