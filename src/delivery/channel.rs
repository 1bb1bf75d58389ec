//! Names of channels: parsed once at the door, cheap to clone, never invalid.

use std::fmt;
use std::sync::Arc;

/// The name of a channel: 1 to 255 bytes of UTF-8 without control characters, white space, `,`, `*`, `"` or `\`,
/// not beginning with `$`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The longest name, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 255;

    /// Reads a name as a client wrote it.
    ///
    /// # Errors
    /// [`BadChannelName`] says which rule was broken, and where.
    pub fn parse(name: &str) -> Result<Self, BadChannelName> {
        if name.is_empty() {
            return Err(BadChannelName::Empty);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(BadChannelName::TooLong { bytes: name.len() });
        }
        if name.starts_with('$') {
            return Err(BadChannelName::Reserved);
        }
        match name.char_indices().find(|(_, c)| is_forbidden(*c)) {
            Some((at, found)) => Err(BadChannelName::Forbidden { found, at }),
            None => Ok(Self(name.into())),
        }
    }

    /// The channel over which the nodes tell each other where sessions came and went.
    pub fn presence() -> Self {
        Self("$presence".into())
    }

    /// Reads a name that the server wrote itself: any that a client may use, or one that is reserved.
    ///
    /// # Errors
    /// As [`ChannelName::parse`] says, but for the reserved ones.
    pub fn parse_own(name: &str) -> Result<Self, BadChannelName> {
        match name.strip_prefix('$') {
            Some(rest) if name.len() <= Self::BYTES_MAX => Self::parse(rest).map(|_| Self(name.into())),
            _ => Self::parse(name),
        }
    }

    /// The channel over which the nodes tell each other what operators decided.
    pub fn control() -> Self {
        Self("$control".into())
    }

    /// Whether it is the server's own, out of the clients' reach.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `:`, which selects a policy; `default` where there is none.
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or("default", |(namespace, _)| namespace)
    }
}

fn is_forbidden(c: char) -> bool {
    c.is_control() || c.is_whitespace() || matches!(c, ',' | '*' | '"' | '\\')
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Why a text is not the name of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadChannelName {
    /// Nothing was given.
    Empty,
    /// More than [`ChannelName::BYTES_MAX`] bytes.
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Names that begin with `$` are the server's own.
    Reserved,
    /// A character that no name may have.
    Forbidden {
        /// The character.
        found: char,
        /// The byte at which it stands.
        at: usize,
    },
}

impl fmt::Display for BadChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a channel's name must not be empty"),
            Self::TooLong { bytes } => write!(
                f,
                "the channel's name has {bytes} bytes; at most {} are allowed",
                ChannelName::BYTES_MAX
            ),
            Self::Reserved => {
                f.write_str("channel names that begin with `$` are reserved; choose another first character")
            }
            Self::Forbidden { found, at } => write!(
                f,
                "the channel's name has {found:?} at byte {at}; control characters, white space, `,`, `*`, `\"` and `\\` \
                 are not allowed"
            ),
        }
    }
}

impl std::error::Error for BadChannelName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_any_letters_and_a_namespace() {
        for good in [
            "a",
            "chat:42",
            "grüße:日本",
            "a.b/c-d_e",
            "a:b:c",
            "x$",
            &"é".repeat(127),
        ] {
            assert_eq!(ChannelName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(ChannelName::parse("chat:42:x").unwrap().namespace(), "chat");
        assert_eq!(ChannelName::parse("news").unwrap().namespace(), "default");
    }

    #[test]
    fn a_bad_name_says_what_and_where() {
        assert_eq!(ChannelName::parse(""), Err(BadChannelName::Empty));
        assert_eq!(ChannelName::parse("$control"), Err(BadChannelName::Reserved));
        assert_eq!(
            ChannelName::parse(&"x".repeat(256)),
            Err(BadChannelName::TooLong { bytes: 256 })
        );
        assert_eq!(ChannelName::parse_own("$control"), Ok(ChannelName::control()));
        assert!(ChannelName::control().is_reserved());
        assert!(!ChannelName::parse_own("chat:42").unwrap().is_reserved());
        for bad in ["$", "$a b", "$$", &format!("${}", "x".repeat(255))] {
            assert!(ChannelName::parse_own(bad).is_err(), "{bad}");
        }
        for bad in [' ', '\n', '\0', '\u{85}', '\u{2028}', ',', '*', '"', '\\'] {
            let name = format!("a{bad}b");
            assert_eq!(
                ChannelName::parse(&name),
                Err(BadChannelName::Forbidden { found: bad, at: 1 })
            );
        }
    }
}
