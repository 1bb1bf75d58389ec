//! The sessions on one channel, and through them its users. Pure: the time comes in from outside.
//!
//! A user whose last session on this node went is kept for the debounce, so that a reconnect changes nothing. That is
//! done here, where the session was, and so every other node sees what is debounced already.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::changes::{Changes, Turned};
use super::kept::Kept;
use super::users::Users;
use crate::delivery::{Member, Present, SessionKey, Who};
use crate::protocol::Counts;

/// For how long a session stays on a channel after its last hold is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Not at all; but its user is kept for the debounce.
    No,
    /// It comes back: a poll between two of its requests.
    For(Duration),
    /// Not at all, nor does its user: presence was switched off.
    Forgotten,
}

/// Who has to know of the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This node, which is alone.
    ThisNode,
    /// Other nodes, too.
    AllNodes,
}

/// Who is on a channel.
#[derive(Debug)]
pub(super) struct Roster {
    debounce: Duration,
    sessions: HashMap<SessionKey, Entry>,
    users: Users,
    /// Sessions without a user.
    nameless: u64,
    /// Counts the sessions that came and went.
    turn: u64,
    kept: Kept,
    /// How many sessions without a user were told of.
    nameless_told: u64,
    /// Whether it was said that anybody is there, and when the last connection went.
    is_occupied: bool,
    left_at: Option<Instant>,
    /// Whether a session came or went here since that was last asked.
    is_changed: bool,
    /// Sessions whose coming or going other nodes are yet to be told.
    unreported: Option<HashSet<SessionKey>>,
}

/// A session. There are many, so it is kept small.
#[derive(Debug)]
struct Entry {
    who: Option<Who>,
    /// Connections of this node that hold it.
    holds: u32,
    /// Whether it is still here, though nobody here holds it.
    is_kept: bool,
    /// Whether another node has it.
    is_elsewhere: bool,
}

/// On which node a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Here,
    Elsewhere,
}

impl Entry {
    fn is_here(&self) -> bool {
        self.holds > 0 || self.is_kept
    }
}

impl Roster {
    /// Nobody.
    pub(super) fn new(debounce: Duration, reach: Reach) -> Self {
        Self {
            debounce,
            sessions: HashMap::new(),
            users: Users::default(),
            nameless: 0,
            turn: 0,
            kept: Kept::default(),
            nameless_told: 0,
            is_occupied: false,
            left_at: None,
            is_changed: false,
            unreported: (reach == Reach::AllNodes).then(HashSet::new),
        }
    }

    /// A connection of this node holds the session from now on.
    pub(super) fn enter(&mut self, key: SessionKey, who: Option<&Who>) {
        if self.sessions.contains_key(&key) {
            self.renew(key, who);
        } else {
            self.admit(key, who, Where::Here);
        }
        let Some(entry) = self.sessions.get_mut(&key) else {
            return;
        };
        let (was_here, was_held) = (entry.is_here(), entry.holds > 0);
        entry.holds += 1;
        if std::mem::take(&mut entry.is_kept) {
            self.kept.remove(key);
        }
        let who = entry.who.clone();
        self.is_changed |= !was_here;
        if !was_held {
            // A poll that comes back here may have been at another node meanwhile, which will say that it left there.
            self.note_unreported(key);
        }
        let Some(user) = who.and_then(|who| self.users.get_mut(who.user())) else {
            return;
        };
        let kept = user.kept.take().map(|kept| *kept);
        if !was_here || kept == Some(key) {
            user.here += 1;
        }
        // Whoever comes back takes the place that was kept for them.
        if let Some(kept) = kept.filter(|kept| *kept != key) {
            self.go(kept);
        }
    }

    /// Something else is said of the session's user, by a new token.
    pub(super) fn renew(&mut self, key: SessionKey, who: Option<&Who>) {
        if self.say(key, who) {
            self.is_changed = true;
            self.note_unreported(key);
        }
    }

    /// Takes what is said of the user of a session that is there; whether it is something else.
    fn say(&mut self, key: SessionKey, who: Option<&Who>) -> bool {
        let Some(entry) = self.sessions.get_mut(&key) else {
            return false;
        };
        let (Some(known), Some(who)) = (&mut entry.who, who) else {
            return false;
        };
        if known.user() != who.user() || known == who {
            return false;
        }
        let before = std::mem::replace(known, who.clone());
        self.users.say(&before, who);
        self.turn += 1;
        true
    }

    /// A connection of this node holds the session no more.
    pub(super) fn leave(&mut self, key: SessionKey, stay: Stay, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&key) else {
            return;
        };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds > 0 {
            return;
        }
        self.left_at = Some(now);
        let user = entry.who.as_ref().and_then(|who| self.users.get_mut(who.user()));
        let stays = match (stay, user) {
            (Stay::For(stays), _) => Some(stays),
            (Stay::No | Stay::Forgotten, None) => None,
            (Stay::Forgotten, Some(user)) => {
                user.here = user.here.saturating_sub(1);
                None
            }
            (Stay::No, Some(user)) => {
                user.here = user.here.saturating_sub(1);
                // Whether there is another one elsewhere does not count: both may go at once, and come back.
                let is_last = user.here == 0 && !self.debounce.is_zero();
                user.kept = is_last.then(|| Box::new(key));
                is_last.then_some(self.debounce)
            }
        };
        match stays {
            Some(stays) => {
                entry.is_kept = true;
                self.kept.insert(key, now + stays);
            }
            None => self.go(key),
        }
    }

    /// Sessions that nobody holds go at once.
    pub(super) fn end_kept(&mut self) {
        while let Some(key) = self.kept.first() {
            self.expire(key);
        }
    }

    /// The sessions of other nodes, all of them.
    pub(super) fn set_others(&mut self, others: Vec<Present>) {
        let known: HashSet<_> = others.iter().map(|(key, _)| *key).collect();
        let is_gone =
            |(key, entry): (&SessionKey, &Entry)| (entry.is_elsewhere && !known.contains(key)).then_some(*key);
        let gone: Vec<_> = self.sessions.iter().filter_map(is_gone).collect();
        self.meet(others);
        for key in gone {
            let Some(entry) = self.sessions.get_mut(&key) else {
                continue;
            };
            entry.is_elsewhere = false;
            if !entry.is_here() {
                self.dismiss(key);
            }
        }
    }

    /// Sessions of other nodes; there may be more of them.
    pub(super) fn meet(&mut self, others: Vec<Present>) {
        for (key, who) in others {
            if let Some(entry) = self.sessions.get_mut(&key) {
                entry.is_elsewhere = true;
                // A connection here knows best; one that went on elsewhere is known there.
                if entry.holds == 0 {
                    self.say(key, who.as_ref());
                }
                continue;
            }
            self.admit(key, who.as_ref(), Where::Elsewhere);
            let user = who.and_then(|who| self.users.get_mut(who.user()));
            if let Some(kept) = user.and_then(|user| user.kept.take()) {
                self.go(*kept);
            }
        }
    }

    /// Whether any session is here.
    pub(super) fn has_here(&self) -> bool {
        self.sessions.values().any(Entry::is_here)
    }

    /// The sessions that are here.
    pub(super) fn here(&self) -> impl Iterator<Item = Present> {
        let here = self.sessions.iter().filter(|(_, entry)| entry.is_here());
        here.map(|(key, entry)| (*key, entry.who.clone()))
    }

    /// Whether a session came or went here since this was last asked.
    pub(super) fn take_is_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Whether other nodes have to be told of sessions.
    pub(super) fn has_unreported(&self) -> bool {
        self.unreported
            .as_ref()
            .is_some_and(|unreported| !unreported.is_empty())
    }

    /// All sessions that are here have to be reported, and none of those that went.
    pub(super) fn forget_reports(&mut self) {
        // The others may have taken those who are here for gone, and have to look again.
        self.is_changed = true;
        let here = self.here().map(|(key, _)| key).collect();
        if let Some(unreported) = &mut self.unreported {
            *unreported = here;
        }
    }

    /// At most so many sessions of which other nodes have to be told: those that came, and those that went.
    pub(super) fn take_unreported(&mut self, count_max: usize) -> (Vec<Present>, Vec<SessionKey>) {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        let Some(unreported) = &mut self.unreported else {
            return (came, went);
        };
        let keys: Vec<_> = unreported.iter().take(count_max).copied().collect();
        for key in keys {
            unreported.remove(&key);
            match self.sessions.get(&key).filter(|entry| entry.is_here()) {
                Some(entry) => came.push((key, entry.who.clone())),
                None => went.push(key),
            }
        }
        (came, went)
    }

    /// What changed until now.
    pub(super) fn take_changes(&mut self, now: Instant) -> Changes {
        while let Some(key) = self.kept.first_until(now) {
            self.expire(key);
        }
        let mut changes = Changes {
            is_nameless_new: std::mem::replace(&mut self.nameless_told, self.nameless) != self.nameless,
            ..Changes::default()
        };
        self.users.take_changes(&mut changes);
        changes.turned = self.turned(now);
        changes
    }

    fn turned(&mut self, now: Instant) -> Option<Turned> {
        let is_occupied = !self.sessions.is_empty();
        let may_come_back = self.left_at.is_some_and(|left_at| now < left_at + self.debounce);
        if is_occupied == self.is_occupied || (!is_occupied && may_come_back) {
            return None;
        }
        self.is_occupied = is_occupied;
        Some(if is_occupied { Turned::Occupied } else { Turned::Vacant })
    }

    /// Whether everything was told.
    pub(super) fn is_told(&self) -> bool {
        self.users.is_told() && self.nameless_told == self.nameless
    }

    /// Whether nothing is going to change by itself, and nothing has to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_told() && self.kept.is_empty() && self.is_occupied != self.sessions.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && !self.is_occupied
    }

    /// Another number whenever a session came or went.
    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) fn nameless(&self) -> u64 {
        self.nameless
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            count: self.nameless + self.users.count_there() as u64,
            sessions: self.sessions.len() as u64,
        }
    }

    /// Those who were told of, by name.
    pub(super) fn told(&self) -> impl Iterator<Item = Member> {
        self.users.told()
    }

    /// Those who are there, by name.
    pub(super) fn there(&self) -> impl Iterator<Item = Member> {
        self.users.there()
    }

    pub(super) fn user_count(&self) -> usize {
        self.users.count()
    }

    fn admit(&mut self, key: SessionKey, who: Option<&Who>, at: Where) {
        let entry = Entry {
            who: who.cloned(),
            holds: 0,
            is_kept: false,
            is_elsewhere: at == Where::Elsewhere,
        };
        self.sessions.insert(key, entry);
        self.turn += 1;
        match who {
            Some(who) => self.users.admit(who),
            None => self.nameless += 1,
        }
    }

    /// A kept session's time is over.
    fn expire(&mut self, key: SessionKey) {
        let who = self.sessions.get(&key).and_then(|entry| entry.who.as_ref());
        if let Some(user) = who.and_then(|who| self.users.get_mut(who.user())) {
            if user.kept.as_deref() == Some(&key) {
                user.kept = None;
            } else {
                user.here = user.here.saturating_sub(1);
            }
        }
        self.go(key);
    }

    /// The session is not here any more.
    fn go(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.get_mut(&key) else {
            return;
        };
        entry.holds = 0;
        let is_elsewhere = entry.is_elsewhere;
        if std::mem::take(&mut entry.is_kept) {
            self.kept.remove(key);
        }
        self.is_changed = true;
        self.note_unreported(key);
        if !is_elsewhere {
            self.dismiss(key);
        }
    }

    /// The session is nowhere any more.
    fn dismiss(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.remove(&key) else {
            return;
        };
        self.turn += 1;
        match entry.who {
            Some(who) => self.users.dismiss(who),
            None => self.nameless = self.nameless.saturating_sub(1),
        }
    }

    fn note_unreported(&mut self, key: SessionKey) {
        if let Some(unreported) = &mut self.unreported {
            unreported.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_secs(5);

    fn who(user: &str) -> Who {
        Who::new(user, None)
    }

    fn names(changes: &[super::super::changes::Change]) -> Vec<&str> {
        changes.iter().map(|change| change.member.who.user()).collect()
    }

    #[test]
    fn a_reconnect_within_the_debounce_changes_nothing_and_a_later_one_does() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::ThisNode), Instant::now());
        let ada = who("ada");
        roster.enter(SessionKey(1), Some(&ada));
        assert_eq!(names(&roster.take_changes(began).joined), ["ada"]);
        roster.leave(SessionKey(1), Stay::No, began);
        roster.enter(SessionKey(2), Some(&ada));
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
        assert!(roster.take_changes(began + DEBOUNCE * 2).is_empty());
        roster.leave(SessionKey(2), Stay::No, began);
        let before = began + DEBOUNCE - Duration::from_millis(1);
        assert!(roster.take_changes(before).is_empty());
        assert_eq!(names(&roster.take_changes(began + DEBOUNCE).left), ["ada"]);
        assert!(roster.is_empty() && roster.is_quiet());
    }

    #[test]
    fn only_the_last_session_of_a_user_is_kept() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::ThisNode), Instant::now());
        let ada = who("ada");
        for key in 1..=3 {
            roster.enter(SessionKey(key), Some(&ada));
        }
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 3 });
        for key in 1..=3 {
            roster.leave(SessionKey(key), Stay::No, began);
        }
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
        roster.take_changes(began + DEBOUNCE);
        assert!(roster.is_empty());
    }

    #[test]
    fn a_poll_stays_between_two_requests_and_no_longer_than_it_may() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::ThisNode), Instant::now());
        let stay = Stay::For(Duration::from_secs(30));
        for user in [Some(who("ada")), None] {
            let key = SessionKey(1);
            roster.enter(key, user.as_ref());
            roster.leave(key, stay, began);
            roster.take_changes(began + Duration::from_secs(29));
            assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
            roster.enter(key, user.as_ref());
            roster.take_changes(began + Duration::from_secs(60));
            assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
            roster.leave(key, stay, began + Duration::from_secs(60));
            roster.take_changes(began + Duration::from_secs(90));
            assert!(roster.is_empty());
        }
    }

    #[test]
    fn a_session_on_two_nodes_is_one_and_goes_when_both_say_so() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::AllNodes), Instant::now());
        let ada = who("ada");
        roster.set_others(vec![(SessionKey(1), Some(ada.clone())), (SessionKey(2), None)]);
        roster.enter(SessionKey(1), Some(&ada));
        assert_eq!(roster.counts(), Counts { count: 2, sessions: 2 });
        assert_eq!(names(&roster.take_changes(began).joined), ["ada"]);
        roster.set_others(Vec::new());
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
        roster.leave(SessionKey(1), Stay::No, began);
        assert_eq!(names(&roster.take_changes(began + DEBOUNCE).left), ["ada"]);
        assert!(roster.is_empty());
    }

    /// Of two tabs at two nodes, each was let go at once where it was, for there was the other one; and when both went, the
    /// user had left.
    #[test]
    fn the_last_session_here_is_kept_though_there_is_one_elsewhere() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::AllNodes), Instant::now());
        let ada = who("ada");
        roster.enter(SessionKey(1), Some(&ada));
        roster.set_others(vec![(SessionKey(2), Some(ada.clone()))]);
        assert_eq!(names(&roster.take_changes(began).joined), ["ada"]);
        roster.leave(SessionKey(1), Stay::No, began);
        roster.set_others(Vec::new());
        assert!(roster.take_changes(began).is_empty());
        roster.enter(SessionKey(3), Some(&ada));
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 1 });
        assert!(roster.take_changes(began + DEBOUNCE * 2).is_empty());
    }

    #[test]
    fn what_is_said_of_a_user_is_told_anew_and_nobody_joins_or_leaves_by_it() {
        let (mut roster, began) = (Roster::new(DEBOUNCE, Reach::AllNodes), Instant::now());
        let said = |info: &str| Who::new("ada", Some(info));
        let renewed = |roster: &mut Roster| {
            let changes = roster.take_changes(began);
            assert!(changes.left.is_empty());
            let told = changes.joined.iter().chain(&changes.renewed);
            let told: Vec<_> = told
                .map(|change| change.member.who.info().unwrap().to_owned())
                .collect();
            (changes.joined.len(), told)
        };
        roster.enter(SessionKey(1), Some(&said("a")));
        assert_eq!(renewed(&mut roster), (1, vec!["a".to_owned()]));
        roster.renew(SessionKey(1), Some(&said("a")));
        roster.enter(SessionKey(2), Some(&said("a")));
        assert_eq!(renewed(&mut roster), (0, vec![]));
        // By a session that goes on, by one that comes, by one that comes elsewhere, and when those go.
        roster.renew(SessionKey(1), Some(&said("b")));
        assert_eq!(renewed(&mut roster), (0, vec!["b".to_owned()]));
        assert!(roster.has_unreported() && roster.take_is_changed());
        roster.set_others(vec![(SessionKey(3), Some(said("c")))]);
        assert_eq!(renewed(&mut roster), (0, vec!["c".to_owned()]));
        roster.set_others(vec![(SessionKey(3), Some(said("d")))]);
        assert_eq!(renewed(&mut roster), (0, vec!["d".to_owned()]));
        roster.set_others(Vec::new());
        assert_eq!(renewed(&mut roster).1.len(), 1);
        assert_eq!(roster.counts(), Counts { count: 1, sessions: 2 });
    }

    #[test]
    fn who_comes_and_goes_between_two_looks_was_never_there() {
        let (mut roster, began) = (Roster::new(Duration::ZERO, Reach::ThisNode), Instant::now());
        roster.enter(SessionKey(1), Some(&who("ada")));
        roster.leave(SessionKey(1), Stay::No, began);
        assert!(roster.take_changes(began).is_empty() && roster.is_empty());
    }

    #[test]
    fn what_a_session_costs_stays_small() {
        assert!(size_of::<(SessionKey, Entry)>() <= 32, "{}", size_of::<Entry>());
    }
}
