//! Who is refused, and until when.

use std::collections::HashMap;
use std::sync::Arc;

use crate::delivery::{ChannelName, Offset};
use crate::session::SessionId;
use crate::session::identity::{Identity, TokenMark};
use crate::session::registry::Names;

/// Who is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    User(Arc<str>),
    Session(SessionId),
    Token(TokenMark),
}

impl Who {
    /// All that a client may be refused as.
    fn all(identity: &Identity, session: Option<Names>) -> impl Iterator<Item = Self> {
        let by_identity = [Self::user(identity), identity.mark().map(Self::Token)];
        let by_name = session.into_iter().flat_map(Names::all).map(Self::Session);
        by_identity.into_iter().flatten().chain(by_name)
    }

    /// As whom a session is refused whose name says nothing to other nodes.
    pub(super) fn behind(identity: &Identity) -> Option<Self> {
        let mark = identity.mark().map(Self::Token);
        mark.or_else(|| Self::user(identity))
    }

    fn user(identity: &Identity) -> Option<Self> {
        identity.user().map(|user| Self::User(user.into()))
    }

    /// Whether a session is meant.
    pub(super) fn is(&self, names: Names, identity: &Identity) -> bool {
        match self {
            Self::User(user) => identity.user() == Some(user),
            Self::Session(session) => names.all().any(|name| name == *session),
            Self::Token(mark) => identity.mark() == Some(*mark),
        }
    }
}

/// Until when somebody is refused, and which entry of the control channel's log says so.
#[derive(Debug, Clone, Copy)]
struct Until {
    ms: u64,
    offset: Offset,
}

/// Who is refused: everywhere, or on one channel. The newest word on the same counts.
#[derive(Debug, Default)]
pub(super) struct Denials(HashMap<(Who, Option<ChannelName>), Until>);

impl Denials {
    /// Takes what the log says at `offset`; a time that has come takes back what was said before.
    pub(super) fn note(
        &mut self,
        who: Who,
        channel: Option<ChannelName>,
        (until_ms, offset): (u64, Offset),
        now_ms: u64,
    ) {
        if until_ms > now_ms {
            self.0.insert((who, channel), Until { ms: until_ms, offset });
        } else {
            self.0.remove(&(who, channel));
        }
    }

    /// For how many milliseconds more somebody is refused, if at all: everywhere or, if one is named, on a channel.
    pub(super) fn left_ms(
        &self,
        identity: &Identity,
        session: Option<Names>,
        place: (Option<&ChannelName>, u64),
    ) -> Option<u64> {
        let (channel, now_ms) = place;
        let places = [None, channel.cloned()];
        let keys = Who::all(identity, session).flat_map(|who| places.clone().map(|place| (who.clone(), place)));
        let until_ms = keys.filter_map(|key| self.0.get(&key)).map(|until| until.ms).max()?;
        until_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
    }

    /// For how many milliseconds more a session's name is refused, if it is: everywhere or, if one is named, on a
    /// channel.
    pub(super) fn left_ms_of(&self, session: SessionId, channel: Option<&ChannelName>, now_ms: u64) -> Option<u64> {
        let until = self.0.get(&(Who::Session(session), channel.cloned()))?;
        until.ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        self.0.retain(|_, until| until.ms > now_ms);
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The oldest entry of the log that still counts, and when it no longer does.
    pub(super) fn oldest(&self) -> Option<(Offset, u64)> {
        let oldest = self.0.values().min_by_key(|until| until.offset)?;
        Some((oldest.offset, oldest.ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Who {
        Who::User(name.into())
    }

    #[test]
    fn the_newest_word_counts_until_its_time_has_come() {
        let (mut denials, nobody) = (Denials::default(), Identity::anybody());
        let session = SessionId::parse("0123456789abcdef0123456789abcdef");
        let (who, session) = (Who::Session(session.unwrap()), session.map(Names::of));
        let left = |denials: &Denials, now_ms| denials.left_ms(&nobody, session, (None, now_ms));
        denials.note(who.clone(), None, (5_000, 1), 1_000);
        assert_eq!((left(&denials, 1_000), left(&denials, 5_000)), (Some(4_000), None));
        assert_eq!(denials.left_ms(&nobody, None, (None, 1_000)), None);
        denials.note(who.clone(), None, (3_000, 2), 1_000);
        assert_eq!(left(&denials, 1_000), Some(2_000));
        denials.note(who, None, (1_000, 3), 1_000);
        assert_eq!((left(&denials, 1_000), denials.count()), (None, 0));
    }

    #[test]
    fn a_channels_refusal_is_of_that_channel_alone() {
        let (mut denials, nobody) = (Denials::default(), Identity::anybody());
        let session = SessionId::parse("0123456789abcdef0123456789abcdef");
        let [a, b] = ["a", "b"].map(|name| ChannelName::parse(name).unwrap());
        denials.note(Who::Session(session.unwrap()), Some(a.clone()), (9, 1), 1);
        let session = session.map(Names::of);
        assert_eq!(denials.left_ms(&nobody, session, (Some(&a), 1)), Some(8));
        assert_eq!(denials.left_ms(&nobody, session, (Some(&b), 1)), None);
        assert_eq!(denials.left_ms(&nobody, session, (None, 1)), None);
    }

    #[test]
    fn what_is_over_is_forgotten_and_the_oldest_is_known() {
        let mut denials = Denials::default();
        for offset in 1..=1000 {
            denials.note(user(&offset.to_string()), None, (offset * 10, offset), 0);
        }
        assert_eq!(denials.oldest(), Some((1, 10)));
        denials.sweep(9_000);
        assert_eq!((denials.count(), denials.oldest()), (100, Some((901, 9_010))));
        denials.sweep(10_000);
        assert_eq!((denials.count(), denials.oldest()), (0, None));
    }
}
