//! What a credential names: one channel, or all that begin alike.

use std::fmt;

use crate::delivery::ChannelName;

/// A channel's name, or with a trailing `*` what names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelPattern {
    /// This channel.
    Exact(ChannelName),
    /// Every channel whose name begins so.
    Prefix(Box<str>),
}

/// What is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(String);

impl ChannelPattern {
    /// Every channel.
    pub fn all() -> Self {
        Self::Prefix(Box::default())
    }

    /// Reads a pattern: a `*` may only stand at its end, and what stands before it must be the beginning of a name.
    ///
    /// # Errors
    /// [`BadPattern`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = |error: &dyn fmt::Display| BadPattern(error.to_string());
        match text.strip_suffix('*') {
            Some("") => Ok(Self::all()),
            Some(prefix) => ChannelName::parse(prefix)
                .map(|name| Self::Prefix(name.as_str().into()))
                .map_err(|error| bad(&error)),
            None => ChannelName::parse(text).map(Self::Exact).map_err(|error| bad(&error)),
        }
    }

    /// Whether a channel is meant. Names are compared byte by byte: what looks alike is not alike.
    pub fn matches(&self, channel: &ChannelName) -> bool {
        match self {
            Self::Exact(name) => name == channel,
            Self::Prefix(prefix) => channel.as_str().starts_with(&**prefix),
        }
    }
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; only the last character may be a `*`", self.0)
    }
}

impl std::error::Error for BadPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_is_a_prefix_and_nowhere_else_anything() {
        let matches = |pattern: &str, channel: &str| {
            let pattern = ChannelPattern::parse(pattern).unwrap();
            pattern.matches(&ChannelName::parse(channel).unwrap())
        };
        assert!(matches("*", "anything"));
        assert!(matches("chat:*", "chat:42") && matches("chat:*", "chat:"));
        assert!(matches("chat:42", "chat:42") && !matches("chat:42", "chat:421"));
        assert!(!matches("chat:*", "chat") && !matches("chat:*", "Chat:42"));
        assert!(!matches("chat:*", "ch\u{430}t:42"), "a Cyrillic a is no a");
        for bad in ["", "**", "a*b", "*a", "$control", "$*", "a b*", "a,b"] {
            assert!(ChannelPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
