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
        // Each says how many there are after it, and the last one how many there are. So the first one has what became
        // of the sessions of whom nothing is told.
        let of = |changes: &[Change]| changes.iter().map(|change| change.sessions).sum::<u64>();
        let mut at = Counts {
            count: (self.counts.count + changes.left.len() as u64).saturating_sub(changes.joined.len() as u64),
            sessions: (self.counts.sessions + of(&changes.left)).saturating_sub(of(&changes.joined)),
        };
        self.bytes = 0;
        for change in &changes.joined {
            at.count += 1;
            at.sessions += change.sessions;
            self.add_one(channel, change, at, PresencePush::Joined);
        }
        // To whoever keeps a set by the user's name, that is the same: it takes the place of what was there.
        for change in &changes.renewed {
            self.add_one(channel, change, at, PresencePush::Joined);
        }
        for change in &changes.left {
            at.count = at.count.saturating_sub(1);
            at.sessions = at.sessions.saturating_sub(change.sessions);
            self.add_one(channel, change, at, PresencePush::Left);
        }
    }

    fn add_one<'a>(
        &mut self,
        channel: &ChannelName,
        Change { member, mark, .. }: &'a Change,
        counts: Counts,
        push: impl Fn(&'a Member, Counts) -> PresencePush<'a>,
    ) {
        self.users_mark ^= mark;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::roster::{Reach, Stay};
    use super::*;
    use crate::delivery::{SessionKey, Who};

    #[test]
    fn of_changes_at_once_each_holds_after_the_one_before_and_the_last_is_the_truth() {
        let (channel, now) = (ChannelName::parse("c").unwrap(), Instant::now());
        let mut roster = Roster::new(Duration::ZERO, Reach::ThisNode);
        let mut notices = Notices::default();
        let mut told = |roster: &mut Roster| {
            notices.changes.clear();
            let changes = roster.take_changes(now);
            notices.add(&channel, &changes, roster, 100);
            let shown = notices.changes.iter().map(|notice| {
                let push: serde_json::Value = serde_json::from_str(notice.frame.json()).unwrap();
                let (kind, user) = (push["type"].as_str().unwrap(), push["member"]["user"].as_str().unwrap());
                format!("{kind} {user} {} {}", push["count"], push["sessions"])
            });
            shown.collect::<Vec<_>>()
        };
        let key = |user: u128, nth: u128| SessionKey(user << 8 | nth);
        let who = |user: u128| Who::new(&format!("u{user}"), None);
        for user in 1..=3 {
            for nth in 0..=user {
                roster.enter(key(user, nth), Some(&who(user)));
            }
        }
        assert_eq!(told(&mut roster), ["joined u1 1 2", "joined u2 2 5", "joined u3 3 9"]);
        // Of whom nothing is told, the first one that is told has the sessions.
        roster.leave(key(3, 0), Stay::No, now);
        assert!(told(&mut roster).is_empty());
        roster.enter(key(2, 9), Some(&who(2)));
        roster.enter(key(4, 0), Some(&who(4)));
        roster.leave(key(3, 1), Stay::No, now);
        roster.leave(key(1, 0), Stay::No, now);
        roster.leave(key(1, 1), Stay::No, now);
        assert_eq!(told(&mut roster), ["joined u4 4 9", "left u1 3 7"]);
        for key in [key(3, 2), key(2, 0), key(2, 1), key(2, 2), key(3, 3), key(2, 9)] {
            roster.leave(key, Stay::No, now);
        }
        assert_eq!(told(&mut roster), ["left u3 2 5", "left u2 1 1"]);
    }
}
