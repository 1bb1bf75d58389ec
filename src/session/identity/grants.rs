//! What an identity may do, by channel. There are many identities, so what one takes is kept small: each pattern stands
//! there once, with all that it is granted for.

use super::{Action, ChannelPattern};
use crate::delivery::ChannelName;

/// What an identity may do, by channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    granted: Box<[Granted]>,
    /// Sorted, each once.
    channels: Box<[ChannelName]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Granted {
    pattern: ChannelPattern,
    /// A bit for each action.
    actions: u8,
}

impl Grants {
    /// Each action with the channels for which it is granted, and the channels that the server subscribes at once.
    pub fn new(
        granted: impl IntoIterator<Item = (Action, Vec<ChannelPattern>)>,
        mut channels: Vec<ChannelName>,
    ) -> Self {
        let mut all: Vec<Granted> = Vec::new();
        for (action, patterns) in granted {
            for pattern in patterns {
                match all.iter_mut().find(|known| known.pattern == pattern) {
                    Some(known) => known.actions |= bit(action),
                    None => all.push(Granted {
                        pattern,
                        actions: bit(action),
                    }),
                }
            }
        }
        channels.sort();
        channels.dedup();
        Self {
            granted: all.into(),
            channels: channels.into(),
        }
    }

    /// All of every channel.
    pub(super) fn all() -> Self {
        let all = |action| (action, vec![ChannelPattern::all()]);
        Self::new(Action::ALL.map(all), Vec::new())
    }

    /// The channels that the server subscribes at once: sorted, each once.
    pub fn channels(&self) -> &[ChannelName] {
        &self.channels
    }

    /// Whether this is granted.
    pub fn allow(&self, action: Action, channel: &ChannelName) -> bool {
        let is_given = action == Action::Subscribe && self.channels.binary_search(channel).is_ok();
        let is_granted = |granted: &Granted| granted.actions & bit(action) != 0 && granted.pattern.matches(channel);
        is_given || self.granted.iter().any(is_granted)
    }
}

fn bit(action: Action) -> u8 {
    match action {
        Action::Subscribe => 1,
        Action::Publish => 2,
        Action::History => 4,
        Action::Presence => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_granted_where_it_was_named_and_nowhere_else() {
        let patterns = |texts: &[&str]| -> Vec<_> {
            let parse = |text: &&str| ChannelPattern::parse(text).unwrap();
            texts.iter().map(parse).collect()
        };
        let name = |text: &str| ChannelName::parse(text).unwrap();
        let granted = [
            (Action::Subscribe, patterns(&["chat:*", "news"])),
            (Action::Publish, patterns(&["chat:*", "chat:*"])),
            (Action::History, patterns(&["news"])),
        ];
        let grants = Grants::new(granted, vec![name("user:2"), name("user:1"), name("user:2")]);
        assert_eq!(grants.channels(), [name("user:1"), name("user:2")]);
        assert_eq!(grants.granted.len(), 2, "each pattern once");
        for (channel, allowed) in [
            ("chat:1", vec![Action::Subscribe, Action::Publish]),
            ("news", vec![Action::Subscribe, Action::History]),
            ("user:1", vec![Action::Subscribe]),
            ("user:3", vec![]),
        ] {
            let seen: Vec<_> = Action::ALL
                .into_iter()
                .filter(|action| grants.allow(*action, &name(channel)))
                .collect();
            assert_eq!(seen, allowed, "{channel}");
        }
    }
}
