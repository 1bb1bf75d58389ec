//! The users on one channel, by name: what their sessions say of them, and what was told of them. There are many, so one
//! takes little.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::changes::{Change, Changes};
use super::infos::Infos;
use crate::delivery::{Member, SessionKey, Who};

/// The users on a channel.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_name: BTreeMap<ByName, User>,
    /// Those whose coming or going is yet to be told.
    untold: Vec<Who>,
    /// Those who have more sessions than at the last telling, or less.
    recounted: Vec<Who>,
}

/// Somebody who is found by name.
#[derive(Debug)]
struct ByName(Who);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.user()
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.user().cmp(other.0.user())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByName {}

/// One user.
#[derive(Debug)]
pub(super) struct User {
    infos: Infos,
    /// How many sessions of theirs there were at the last telling.
    told_sessions: u32,
    /// Here, but for the one that is kept.
    pub(super) here: u32,
    /// The last one here, which is kept for the debounce. Boxed, for few have it.
    pub(super) kept: Option<Box<SessionKey>>,
    /// Stands for what was told of them, if they were told of.
    told: Option<NonZeroU64>,
}

impl Users {
    pub(super) fn get_mut(&mut self, user: &str) -> Option<&mut User> {
        self.by_name.get_mut(user)
    }

    /// One more session of a user is there.
    pub(super) fn admit(&mut self, who: &Who) {
        let user = self
            .by_name
            .entry(ByName(who.clone()))
            .or_insert_with(|| User::new(who));
        user.infos.add(who);
        self.recounted.push(who.clone());
        if user.infos.count() == 1 || user.told != Some(user.infos.mark()) {
            self.untold.push(who.clone());
        }
    }

    /// One session of a user is nowhere any more.
    pub(super) fn dismiss(&mut self, who: Who) {
        let Some(user) = self.by_name.get_mut(who.user()) else {
            return;
        };
        user.infos.remove(&who);
        self.recounted.push(who.clone());
        if !user.is_there() || user.told != Some(user.infos.mark()) {
            self.untold.push(who);
        }
    }

    /// A session says something else of its user than it said before.
    pub(super) fn say(&mut self, before: &Who, now: &Who) {
        if let Some(user) = self.by_name.get_mut(now.user()) {
            // Before the other goes: the user is there all the time.
            user.infos.add(now);
            user.infos.remove(before);
            self.untold.push(now.clone());
        }
    }

    /// Adds what changed until now.
    pub(super) fn take_changes(&mut self, changes: &mut Changes) {
        for who in std::mem::take(&mut self.untold) {
            let Some(user) = self.by_name.get_mut(who.user()) else {
                continue;
            };
            let now = user.is_there().then(|| user.infos.mark());
            let before = std::mem::replace(&mut user.told, now);
            let member = user.member();
            let change = Change {
                sessions: u64::from(if now.is_some() {
                    member.sessions
                } else {
                    user.told_sessions
                }),
                member,
                mark: before.map_or(0, NonZeroU64::get) ^ now.map_or(0, NonZeroU64::get),
            };
            match (before, now) {
                (None, Some(_)) => changes.joined.push(change),
                (Some(_), None) => changes.left.push(change),
                (Some(before), Some(now)) if before != now => changes.renewed.push(change),
                _ => {}
            }
            if now.is_none() {
                self.by_name.remove(who.user());
            }
        }
        for who in std::mem::take(&mut self.recounted) {
            if let Some(user) = self.by_name.get_mut(who.user()) {
                user.told_sessions = user.infos.count();
            }
        }
    }

    /// Whether everything was told.
    pub(super) fn is_told(&self) -> bool {
        self.untold.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are, and were until that is told.
    pub(super) fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Those who were told of, by name.
    pub(super) fn told(&self) -> impl Iterator<Item = Member> {
        let told = self.by_name.values().filter(|user| user.told.is_some());
        told.map(User::member)
    }

    /// Those who are there, by name.
    pub(super) fn there(&self) -> impl Iterator<Item = Member> {
        let there = self.by_name.values().filter(|user| user.is_there());
        there.map(User::member)
    }

    /// How many are there.
    pub(super) fn count_there(&self) -> usize {
        self.by_name.values().filter(|user| user.is_there()).count()
    }
}

impl User {
    fn new(who: &Who) -> Self {
        Self {
            infos: Infos::new(who),
            told_sessions: 0,
            here: 0,
            kept: None,
            told: None,
        }
    }

    fn is_there(&self) -> bool {
        self.infos.count() > 0
    }

    fn member(&self) -> Member {
        Member {
            who: self.infos.newest().clone(),
            sessions: self.infos.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_costs_stays_small() {
        assert!(size_of::<(ByName, User)>() <= 56, "{}", size_of::<User>());
    }
}
