//! A back end's key: known by its hash, with scopes and channels.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

use super::voucher::Voucher;
use super::{Action, BadKey, ChannelPattern, Grants, Identity};

/// What every API key begins with: it tells them from tokens, and scanners for leaked secrets look for it.
pub(super) const PREFIX: &str = "tlk_";

/// The longest that is hashed, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Publishing.
    Publish,
    /// Reading windows.
    History,
    /// Seeing who is there.
    Presence,
    /// Ending other people's connections, and looking at everything.
    Operator,
}

impl Scope {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Publish, "publish"),
        (Self::History, "history"),
        (Self::Presence, "presence"),
        (Self::Operator, "operator"),
    ];

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, known)| *known == word)
            .map(|(scope, _)| scope)
    }
}

/// An API key, of which only the hash is known.
#[derive(Debug, Clone)]
pub struct ApiKey {
    hash: [u8; 32],
    identity: Identity,
}

impl ApiKey {
    /// A key by its SHA-256 in hexadecimal digits.
    ///
    /// # Errors
    /// [`BadKey`], if that is none.
    pub fn new(name: &str, hash: &str, scopes: &[Scope], channels: &[ChannelPattern]) -> Result<Self, BadKey> {
        let hash =
            from_hex(hash).ok_or_else(|| BadKey::new("`hash` must be the 64 hexadecimal digits of a SHA-256"))?;
        let actions = [
            (Scope::Publish, Action::Publish),
            (Scope::History, Action::History),
            (Scope::Presence, Action::Presence),
        ];
        let granted = actions.into_iter().filter(|(scope, _)| scopes.contains(scope));
        let grants = Grants::new(granted.map(|(_, action)| (action, channels.to_vec())), Vec::new());
        Ok(Self {
            hash,
            identity: Identity::of_key(name, grants, scopes).vouched(Voucher::of(&[b"key", &hash])),
        })
    }

    /// Whether it is this key's, with the scopes and channels that the key has.
    pub(super) fn vouches_for(&self, identity: &Identity) -> bool {
        let own = &self.identity;
        let is_operator = |identity: &Identity| identity.may_operate().is_ok();
        own.voucher == identity.voucher && is_operator(own) == is_operator(identity) && own.grants == identity.grants
    }

    /// The one of `keys` that was given. All of them are compared, each in constant time.
    pub(super) fn find(keys: &[Self], given: &str) -> Option<Identity> {
        if given.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = digest(&SHA256, given.as_bytes());
        let mut found = None;
        for key in keys {
            let is_it: Choice = key.hash.as_slice().ct_eq(hash.as_ref());
            if bool::from(is_it) {
                found = Some(key.identity.clone());
            }
        }
        found
    }
}

/// A key that nobody has seen before, and the hash that goes into the configuration.
pub struct NewApiKey {
    /// To be given to the back end, and kept nowhere else.
    pub key: String,
    /// Its SHA-256 in hexadecimal digits.
    pub hash: String,
}

impl NewApiKey {
    /// A key from 32 random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = digest(&SHA256, key.as_bytes());
        Self {
            hash: to_hex(hash.as_ref()),
            key,
        }
    }
}

/// Not the key.
impl std::fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApiKey")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let made = NewApiKey::from_random(&[7; 32]);
        let key = ApiKey::new("app", &made.hash, &[Scope::Publish], &[ChannelPattern::all()]).unwrap();
        let other = NewApiKey::from_random(&[8; 32]);
        let keys = [key.clone(), key];
        assert!(ApiKey::find(&keys, &made.key).is_some());
        for wrong in [other.key.as_str(), &made.hash, "", "tlk_", &"x".repeat(300)] {
            assert!(ApiKey::find(&keys, wrong).is_none(), "{wrong}");
        }
        assert!(ApiKey::new("app", "abc", &[], &[]).is_err());
    }
}
