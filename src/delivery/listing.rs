//! Which channels somebody follows on this node, for an operator to see.

use std::collections::BTreeMap;
use std::fmt;

use super::{ChannelName, Position};

/// Which channels are followed on this node. A port of its own: an engine need not know.
pub trait Listing: fmt::Debug + Send + Sync + 'static {
    /// The channels that somebody follows, by name, of those whose names begin with `prefix` and come after `after`: at
    /// most `limit`. Looks at all channels, so it may take a while: not for a thread that others wait for.
    fn followed(&self, prefix: &str, after: &str, limit: usize) -> Vec<Followed>;
}

/// A channel that somebody follows on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The channel.
    pub channel: ChannelName,
    /// How many subscriptions there are on this node.
    pub subscriptions: usize,
    /// The position of the newest publication, as far as this node knows.
    pub top: Position,
}

/// The first channels by name, of as many as are shown to it.
#[derive(Debug)]
pub struct FirstByName<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: BTreeMap<ChannelName, (usize, Position)>,
}

impl<'a> FirstByName<'a> {
    /// Takes what [`Listing::followed`] is asked for.
    pub fn new(prefix: &'a str, after: &'a str, limit: usize) -> Self {
        Self {
            prefix,
            after,
            limit,
            found: BTreeMap::new(),
        }
    }

    /// Looks at one channel; what it is like is asked only if it may be among the first.
    pub fn look_at(&mut self, channel: &ChannelName, like: impl FnOnce() -> Option<(usize, Position)>) {
        let name = channel.as_str();
        let is_asked_for = name.starts_with(self.prefix) && name > self.after && !channel.is_reserved();
        let is_beyond =
            self.found.len() >= self.limit && self.found.last_key_value().is_some_and(|(last, _)| channel > last);
        if !is_asked_for || is_beyond {
            return;
        }
        if let Some(like) = like() {
            self.found.insert(channel.clone(), like);
            if self.found.len() > self.limit {
                self.found.pop_last();
            }
        }
    }

    /// The first ones.
    pub fn finish(self) -> Vec<Followed> {
        let followed = |(channel, (subscriptions, top))| Followed {
            channel,
            subscriptions,
            top,
        };
        self.found.into_iter().map(followed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Epoch;

    #[test]
    fn the_first_by_name_are_found_whatever_the_order_and_none_that_is_reserved() {
        let names = ["b:2", "a", "b:10", "b:1", "c", "b:", "b"].map(|name| ChannelName::parse(name).unwrap());
        let followed = |prefix, after, limit| {
            let mut first = FirstByName::new(prefix, after, limit);
            first.look_at(&ChannelName::control(), || unreachable!("nobody is told of it"));
            for name in &names {
                first.look_at(name, || Some((1, Position::origin(Epoch::from_bits(7)))));
            }
            let channels = first.finish().into_iter().map(|followed| followed.channel.to_string());
            channels.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(followed("", "", 10), "a b b: b:1 b:10 b:2 c");
        assert_eq!(followed("b:", "", 2), "b: b:1");
        assert_eq!(followed("b:", "b:1", 2), "b:10 b:2");
        assert_eq!(followed("b:", "b:2", 2), "");
        assert_eq!(followed("", "", 0), "");
    }
}
