//! What is said of one user by all of their sessions: mostly the same, and then it is kept once.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;

use siphasher::sip::SipHasher13;

use crate::delivery::Who;

/// What is said of a user, and by how many sessions.
#[derive(Debug)]
pub(super) struct Infos {
    /// What the newest session says. It stays when the last one goes.
    newest: Who,
    /// Few users have others.
    others: Option<Box<Others>>,
    count: u32,
}

/// What other sessions say, the newest last.
#[derive(Debug, Default)]
struct Others(Vec<(Who, u32)>);

impl Infos {
    /// Of a user of whom no session says anything yet.
    pub(super) fn new(who: &Who) -> Self {
        Self {
            newest: who.clone(),
            others: None,
            count: 0,
        }
    }

    /// How many sessions say something of the user.
    pub(super) fn count(&self) -> u32 {
        let others = self.others.iter().flat_map(|others| &others.0);
        others.fold(self.count, |all, (_, count)| all + count)
    }

    /// The user as others are shown them: of several sessions the newest says it.
    pub(super) fn newest(&self) -> &Who {
        &self.newest
    }

    /// A session says this.
    pub(super) fn add(&mut self, who: &Who) {
        if self.count > 0 && self.newest == *who {
            self.count += 1;
            return;
        }
        let before = std::mem::replace(&mut self.newest, who.clone());
        let count = std::mem::replace(&mut self.count, 1);
        if count == 0 {
            return;
        }
        let others = &mut self.others.get_or_insert_default().0;
        if let Some(at) = others.iter().position(|(other, _)| other == who) {
            self.count += others.remove(at).1;
        }
        others.push((before, count));
    }

    /// A session that said this says it no more.
    pub(super) fn remove(&mut self, who: &Who) {
        let mut others = self.others.as_mut().map(|others| &mut others.0);
        if self.newest == *who {
            self.count = self.count.saturating_sub(1);
            if self.count == 0
                && let Some(next) = others.and_then(Vec::pop)
            {
                (self.newest, self.count) = next;
            }
        } else if let Some(others) = &mut others
            && let Some(at) = others.iter().position(|(other, _)| other == who)
        {
            others[at].1 = others[at].1.saturating_sub(1);
            others.retain(|(_, count)| *count > 0);
        }
        if self.others.as_ref().is_some_and(|others| others.0.is_empty()) {
            self.others = None;
        }
    }

    /// Stands for the user and all that is said of them, whoever said it first: the same on every node.
    pub(super) fn mark(&self) -> NonZeroU64 {
        let others = self.others.iter().flat_map(|others| &others.0);
        let all = others.fold(mark(&self.newest), |all, (who, _)| all ^ mark(who));
        NonZeroU64::new(all).unwrap_or(NonZeroU64::MIN)
    }
}

/// The same in every process, as long as this function is.
fn mark(who: &Who) -> u64 {
    let mut hasher = SipHasher13::new();
    who.user().hash(&mut hasher);
    if let Some(info) = who.info() {
        info.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada(info: &str) -> Who {
        Who::new("ada", (!info.is_empty()).then_some(info))
    }

    #[test]
    fn the_newest_is_shown_and_when_it_goes_the_one_before() {
        let mut infos = Infos::new(&ada(""));
        for (does, text, shown) in [
            ("add", "a", "a"),
            ("add", "b", "b"),
            ("add", "a", "a"),
            ("remove", "b", "a"),
            ("add", "", ""),
            ("remove", "", "a"),
            ("remove", "a", "a"),
            ("remove", "a", "a"),
            ("add", "c", "c"),
        ] {
            match does {
                "add" => infos.add(&ada(text)),
                _ => infos.remove(&ada(text)),
            }
            assert_eq!(*infos.newest(), ada(shown), "{does} {text}");
        }
        assert!(infos.others.is_none());
    }

    #[test]
    fn the_mark_is_of_what_is_said_and_not_of_how_often_or_in_which_order() {
        let of = |texts: &[&str]| {
            let mut infos = Infos::new(&ada(""));
            for text in texts {
                infos.add(&ada(text));
            }
            infos.mark()
        };
        assert_eq!(of(&["a", "b", ""]), of(&["", "b", "a", "b"]));
        assert_ne!(of(&["a"]), of(&["b"]));
        assert_ne!(of(&["a"]), of(&["a", "b"]));
        assert_ne!(of(&["a"]), of(&[""]));
    }
}
