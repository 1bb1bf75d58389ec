//! What became of a channel's members between two looks at it.

use crate::delivery::Member;

/// What became of a channel's members since the last time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) joined: Vec<Change>,
    /// Who was there already, and of whom something else is said now.
    pub(super) renewed: Vec<Change>,
    pub(super) left: Vec<Change>,
    /// Whether the number of sessions without a user changed.
    pub(super) is_nameless_new: bool,
    /// Whether the first session came, or the last one went and did not come back.
    pub(super) turned: Option<Turned>,
}

/// What became of a member, and by what that changes the mark of all members.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) member: Member,
    pub(super) mark: u64,
    /// How many sessions came or went with the member.
    pub(super) sessions: u64,
}

/// A channel is in use, or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    Occupied,
    Vacant,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.renewed.is_empty() && self.left.is_empty() && !self.is_nameless_new
    }
}
