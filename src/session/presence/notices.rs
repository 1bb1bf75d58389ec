//! What the watchers of one channel are told: the newest changes, each encoded once, and the whole for everybody else.
//!
//! It is a log with a cursor, as publications are; but who is on a channel is a state, so nothing is lost to whoever is
//! behind: a list of the members puts it right.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::changes::{Change, Changes};
use super::roster::Roster;
use crate::delivery::{ChannelName, Member};
use crate::protocol::{Counts, PresenceFrame, PresencePush};

/// Changes that are told one by one; of more at a time, and to whoever is behind by more, the whole is told.
const CHANGES_MAX: usize = 32;

/// Bytes of a list's members, names and what is said of them, beyond which it is cut.
const LIST_BYTES_MAX: usize = 256 * 1024;

/// One thing to be told, and the mark of all that its reader then knows.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) frame: PresenceFrame,
    pub(super) mark: u64,
}

/// The newest notices of a channel.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// How many there ever were.
    version: u64,
    /// The last ones, the newest of which is that of `version`.
    changes: VecDeque<Arc<Notice>>,
    /// The whole, as of `version` and the roster's turn, once somebody has asked for it.
    members: Option<(u64, Arc<Notice>)>,
    /// Stands for the users.
    users_mark: u64,
    /// Sessions without a user, as they were told last.
    nameless: u64,
    counts: Counts,
    /// The bytes of what was told last to one watcher.
    bytes: usize,
}

impl Notices {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Stands for all that is known as of the newest version: who knows the same has the same mark, on every node.
    pub(super) fn mark(&self) -> u64 {
        let nameless = hash(&("nameless", self.nameless));
        self.users_mark ^ if self.nameless == 0 { 0 } else { nameless }
    }

    /// About how many bytes one watcher is told.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.as_ref().map_or(0, |(_, notice)| notice.frame.json().len());
        self.bytes.max(members)
    }

    /// Takes what changed; a list has at most `members_max`.
    pub(super) fn add(&mut self, channel: &ChannelName, changes: &Changes, roster: &Roster, members_max: usize) {
        if changes.is_empty() {
            return;
        }
        let before = self.counts;
        self.members = None;
        self.nameless = roster.nameless();
        self.counts = roster.counts();
        let count = changes.joined.len() + changes.renewed.len() + changes.left.len();
        let fits = count <= CHANGES_MAX && roster.user_count() <= members_max && !changes.is_nameless_new;
        if !fits {
            for change in changes.joined.iter().chain(&changes.renewed).chain(&changes.left) {
                self.users_mark ^= change.mark;
            }
            self.changes.clear();
            self.version += 1;
            self.bytes = 0;
            return;
        }
        // Each says how many there are after it.
        let mut at = before.count;
        self.bytes = 0;
        for change in &changes.joined {
            at += 1;
            self.add_one(channel, change, at, PresencePush::Joined);
        }
        // To whoever keeps a set by the user's name, that is the same: it takes the place of what was there.
        for change in &changes.renewed {
            self.add_one(channel, change, at, PresencePush::Joined);
        }
        for change in &changes.left {
            at = at.saturating_sub(1);
            self.add_one(channel, change, at, PresencePush::Left);
        }
    }

    fn add_one<'a>(
        &mut self,
        channel: &ChannelName,
        Change { member, mark }: &'a Change,
        count: u64,
        push: impl Fn(&'a Member, Counts) -> PresencePush<'a>,
    ) {
        self.users_mark ^= mark;
        let counts = Counts { count, ..self.counts };
        let frame = push(member, counts).encode(channel);
        self.bytes += frame.json().len();
        let mark = self.mark();
        self.version += 1;
        self.changes.push_back(Arc::new(Notice { frame, mark }));
        while self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }

    /// What comes after the version `seen`, and the version that is seen then. To whoever has seen nothing yet, or too
    /// little, that is the whole.
    pub(super) fn next(
        &mut self,
        channel: &ChannelName,
        seen: Option<u64>,
        roster: &Roster,
        members_max: usize,
    ) -> (Arc<Notice>, u64) {
        let oldest = self.version - self.changes.len() as u64;
        let index = seen.and_then(|seen| seen.checked_sub(oldest));
        let change = index.and_then(|index| self.changes.get(usize::try_from(index).ok()?));
        if let (Some(seen), Some(change)) = (seen, change) {
            return (Arc::clone(change), seen + 1);
        }
        let turn = roster.turn();
        if let Some((known, members)) = &self.members
            && *known == turn
        {
            return (Arc::clone(members), self.version);
        }
        let counts = Counts {
            sessions: roster.counts().sessions,
            ..self.counts
        };
        let frame = PresencePush::Members(&listed(roster.told(), members_max), counts).encode(channel);
        let mark = self.mark();
        let members = Arc::new(Notice { frame, mark });
        self.members = Some((turn, Arc::clone(&members)));
        (members, self.version)
    }
}

/// As many members as a list may have.
pub(super) fn listed(members: impl Iterator<Item = Member>, members_max: usize) -> Vec<Member> {
    let mut bytes = 0;
    let fits = members.take(members_max).take_while(|member| {
        bytes += member.who.user().len() + member.who.info().map_or(0, str::len);
        bytes <= LIST_BYTES_MAX
    });
    fits.collect()
}

/// The same on every node and in every process, as long as this function is.
fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    hasher.finish()
}
