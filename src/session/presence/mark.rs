//! What a poll hands to the next one, so that the server need not remember: who it was on the channels, and what it
//! knows of them.
//!
//! `<session>[.<mark>]…`: 32 hexadecimal digits, of which the second half says whose session it is, and one mark of 16
//! for each channel of the request, or `-`. Nobody is harmed by one that is made up: it is a session of whoever made it.

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::delivery::SessionKey;
use crate::session::identity::Identity;

/// The longest text that is read: marks of more channels than a request can name.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A poll's session, and for each of its channels what its client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollMark {
    pub(super) key: SessionKey,
    pub(super) known: Vec<Option<u64>>,
    /// Whether the client has shown that it hands back what it is given.
    pub(super) is_handed_back: bool,
}

impl PollMark {
    pub(crate) fn key(&self) -> SessionKey {
        self.key
    }

    /// What a client handed back; what is not this identity's, or no mark at all, begins a new session with `random`.
    pub(crate) fn read(text: Option<&str>, identity: &Identity, random: u64) -> Self {
        let handed_back = text
            .filter(|text| text.len() <= TEXT_BYTES_MAX)
            .and_then(|text| Self::parse(text, identity));
        handed_back.unwrap_or_else(|| Self {
            key: key(random, identity),
            known: Vec::new(),
            is_handed_back: false,
        })
    }

    fn parse(text: &str, identity: &Identity) -> Option<Self> {
        let mut parts = text.split('.');
        let session = hex(parts.next()?, 32)?;
        let random = u64::try_from(session >> 64).ok()?;
        if key(random, identity) != SessionKey(session) {
            return None;
        }
        let known = parts.map(|mark| hex(mark, 16).and_then(|mark| u64::try_from(mark).ok()));
        Some(Self {
            key: SessionKey(session),
            known: known.collect(),
            is_handed_back: true,
        })
    }
}

/// The session of this identity: nobody else's has the same second half.
fn key(random: u64, identity: &Identity) -> SessionKey {
    let mut bytes = b"throughline poll session\0".to_vec();
    bytes.extend(random.to_be_bytes());
    bytes.extend(identity.publisher().as_bytes());
    let mut owner = [0; 8];
    owner.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..8]);
    SessionKey(u128::from(random) << 64 | u128::from(u64::from_be_bytes(owner)))
}

fn hex(text: &str, len: usize) -> Option<u128> {
    let is_hex = text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for PollMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", { self.key.0 })?;
        for mark in &self.known {
            match mark {
                Some(mark) => write!(f, ".{mark:016x}")?,
                None => f.write_str(".-")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_back_is_what_was_given_and_all_else_is_new() {
        let anybody = Identity::anybody();
        let mut given = PollMark::read(None, &anybody, 7);
        assert!(!given.is_handed_back);
        given.known = vec![Some(1), None, Some(u64::MAX)];
        let text = given.to_string();
        let back = PollMark::read(Some(&text), &anybody, 8);
        assert_eq!((back.key, &back.known), (given.key, &given.known));
        assert!(back.is_handed_back);
        let (head, tail) = text.split_at(31);
        for bad in [
            String::new(),
            "x".to_owned(),
            format!("+{}", &text[1..]),
            format!("{head}{}{}", if tail.starts_with('0') { '1' } else { '0' }, &tail[1..]),
            text.to_uppercase(),
            format!("{text}{}", ".-".repeat(TEXT_BYTES_MAX)),
            "ä".repeat(16),
        ] {
            let read = PollMark::read(Some(&bad), &anybody, 8);
            let is_same_text = bad == text;
            assert!(!read.is_handed_back || is_same_text, "{bad}");
        }
    }
}
