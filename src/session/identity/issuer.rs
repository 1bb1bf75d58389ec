//! Somebody whose tokens are accepted: a name, keys, and for whom the tokens must be meant.

use std::sync::Arc;

use super::compact::Compact;
use super::{Algorithm, Key, Refusal, RemoteKeys};

/// Somebody whose tokens are accepted.
#[derive(Debug)]
pub struct Issuer {
    /// What `iss` must be. Without it `iss` does not count, which only the sole issuer may have.
    pub name: Option<String>,
    /// One of these must be in `aud`; if there are none, a token must not have it.
    pub audience: Vec<String>,
    /// The one algorithm of its tokens; without it, those of its keys.
    pub algorithm: Option<Algorithm>,
    /// What its tokens are signed with.
    pub keys: IssuerKeys,
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub enum IssuerKeys {
    /// They are known.
    Fixed(Arc<[Key]>),
    /// They are published.
    Remote(Arc<RemoteKeys>),
}

impl Issuer {
    /// Whether it has signed this token.
    pub(super) async fn check_signature(&self, token: &Compact<'_>, now_ms: u64) -> Result<(), Refusal> {
        if self.algorithm.is_some_and(|algorithm| algorithm != token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let wanted = (token.algorithm, token.key_id.as_deref());
        let keys = match &self.keys {
            IssuerKeys::Fixed(keys) => Arc::clone(keys),
            IssuerKeys::Remote(remote) => remote.keys(wanted, now_ms).await.ok_or(Refusal::KeysUnavailable)?,
        };
        if !keys.iter().any(|key| key.algorithm() == token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let mut fitting = keys.iter().filter(|key| key.fits(wanted.0, wanted.1)).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        if fitting.any(|key| key.has_signed(token.message, &token.signature)) {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }
}
