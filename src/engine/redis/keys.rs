//! The names of a channel's keys: all under one hash tag, whatever characters the channel's name has.

use std::fmt::{self, Write as _};

use crate::delivery::{ChannelName, IdempotencyKey};

/// What every key of ours begins with, so that a Redis can be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// The longest prefix.
    pub const BYTES_MAX: usize = 64;

    /// Reads a prefix: letters, digits and `:._-`. Braces would decide in which slot of a cluster a key lies.
    ///
    /// # Errors
    /// [`BadPrefix`], for everything else.
    pub fn parse(text: &str) -> Result<Self, BadPrefix> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
        if text.len() <= Self::BYTES_MAX && text.bytes().all(is_good) {
            Ok(Self(text.into()))
        } else {
            Err(BadPrefix)
        }
    }
}

impl Prefix {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("throughline:".into())
    }
}

/// A text that is no [`Prefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPrefix;

impl fmt::Display for BadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a prefix of keys has at most {} letters, digits and `:._-`",
            Prefix::BYTES_MAX
        )
    }
}

impl std::error::Error for BadPrefix {}

/// The keys of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// Where its log ends.
    pub(super) top: String,
    /// Its publications.
    pub(super) log: String,
    /// Where nodes are told of publications. Not a key: a Pub/Sub channel, which databases share.
    pub(super) hints: String,
    /// The nodes on which it has sessions.
    pub(super) nodes: String,
    /// The sessions on it.
    pub(super) sessions: String,
    base_len: usize,
}

impl Keys {
    pub(super) fn new(prefix: &Prefix, database: i64, channel: &ChannelName) -> Self {
        Self::of_name(prefix, database, channel.as_str())
    }

    /// The keys under a name that need not be a channel's.
    pub(super) fn of_name(prefix: &Prefix, database: i64, name: &str) -> Self {
        let mut base = String::with_capacity(prefix.0.len() + name.len() + 2);
        base.push_str(&prefix.0);
        base.push('{');
        base.extend(escaped(name));
        base.push('}');
        Self {
            top: format!("{base}:top"),
            log: format!("{base}:log"),
            hints: format!("{base}:hints:{database}"),
            nodes: format!("{base}:nodes"),
            sessions: format!("{base}:sessions"),
            base_len: base.len(),
        }
    }

    /// The channels on which a node has sessions, where these are the keys of all nodes together.
    pub(super) fn channels(&self, node: &str) -> String {
        format!("{}:channels:{node}", &self.top[..self.base_len])
    }

    /// Where it is kept what was published under an idempotency key.
    pub(super) fn idempotency(&self, key: &IdempotencyKey) -> String {
        let mut name = self.top[..self.base_len].to_owned();
        // With the length of one part written down, no two keys have one name.
        let _ = write!(
            name,
            ":key:{}:{}:{}:{}",
            key.nth,
            key.publisher.len(),
            key.publisher,
            key.key
        );
        name
    }
}

/// A name as it stands in its hash tag: a brace would end that, or make it empty.
pub(super) fn escaped(name: &str) -> impl Iterator<Item = &str> {
    name.split_inclusive(['{', '}', '%']).flat_map(|part| {
        let (plain, code) = match part.as_bytes().last() {
            Some(b'{') => (&part[..part.len() - 1], "%7B"),
            Some(b'}') => (&part[..part.len() - 1], "%7D"),
            Some(b'%') => (&part[..part.len() - 1], "%25"),
            _ => (part, ""),
        };
        [plain, code]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Redis hashes of a key (cluster specification, "hash tags").
    fn hash_tag(key: &str) -> &str {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(tag, _)| tag);
        tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
    }

    #[test]
    fn all_keys_of_a_channel_have_one_hash_tag_whatever_its_name() {
        let mut seen = std::collections::HashSet::new();
        for name in ["a", "}", "{}", "{", "a}b", "{a}", "}{", "%7D", "a%b", "grüße:{日本}"] {
            let channel = ChannelName::parse(name).unwrap();
            let keys = Keys::new(&Prefix::default(), 0, &channel);
            let key = IdempotencyKey {
                publisher: "}".into(),
                key: "{}".into(),
                nth: 1,
            };
            let all = [
                keys.idempotency(&key),
                keys.top,
                keys.log,
                keys.hints,
                keys.nodes,
                keys.sessions,
            ];
            let tags: Vec<_> = all.iter().map(|key| hash_tag(key)).collect();
            assert!(tags.iter().all(|tag| *tag == tags[0] && !tag.contains(':')) || name.contains(':'));
            assert!(tags.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {tags:?}");
            assert!(all.into_iter().all(|key| seen.insert(key)), "{name}: not its own keys");
        }
    }

    #[test]
    fn no_two_idempotency_keys_have_one_name() {
        let keys = Keys::new(&Prefix::default(), 0, &ChannelName::parse("c").unwrap());
        let name = |publisher: &str, key: &str| {
            keys.idempotency(&IdempotencyKey {
                publisher: publisher.into(),
                key: key.into(),
                nth: 0,
            })
        };
        assert_ne!(name("a:b", "c"), name("a", "b:c"));
        assert_ne!(name("", "1:a:b"), name("a", "b"));
    }

    #[test]
    fn a_prefix_has_no_braces() {
        for bad in ["{", "a}", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(Prefix::parse(bad), Err(BadPrefix), "{bad}");
        }
        assert!(Prefix::parse("").is_ok() && Prefix::parse("my.app:").is_ok());
    }
}
