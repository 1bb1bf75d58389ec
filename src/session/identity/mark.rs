//! A token's mark: what it is known by where it must not stand itself.

use std::fmt;
use std::num::NonZeroU64;

use ring::digest::{SHA256, digest};

/// 64 bits of a token's hash. Enough to tell tokens apart, and nothing that would let anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenMark(NonZeroU64);

impl TokenMark {
    /// The mark of a token: of what is signed, for one and the same may be signed in more than one way.
    pub(super) fn of(token: &str) -> Self {
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        let hash = digest(&SHA256, signed.as_bytes());
        let bits = hash
            .as_ref()
            .iter()
            .take(8)
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MAX))
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().and_then(NonZeroU64::new).map(Self)
    }
}

impl fmt::Display for TokenMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written_and_tells_tokens_apart() {
        let (one, other) = (TokenMark::of("a.b.c"), TokenMark::of("a.d.c"));
        assert_ne!(one, other);
        assert_eq!(one, TokenMark::of("a.b.d"), "what is signed is the same");
        assert_eq!(TokenMark::parse(&one.to_string()), Some(one));
        assert_eq!(TokenMark::parse("0"), None);
        assert_eq!(TokenMark::parse("x"), None);
    }
}
