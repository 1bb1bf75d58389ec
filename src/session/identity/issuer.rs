//! Somebody whose tokens are accepted: a name, keys, and for whom the tokens must be meant.

use std::sync::Arc;

use super::compact::Compact;
use super::voucher::Voucher;
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
    /// Whether it has signed this token, and who vouches for that.
    pub(super) async fn check_signature(&self, token: &Compact<'_>, now_ms: u64) -> Result<Voucher, Refusal> {
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
        let key = fitting.find(|key| key.has_signed(token.message, &token.signature));
        key.map(|key| self.voucher(key)).ok_or(Refusal::Signature)
    }

    fn voucher(&self, key: &Key) -> Voucher {
        match &self.keys {
            IssuerKeys::Fixed(_) => key.voucher(self.name_bytes()),
            IssuerKeys::Remote(remote) => self.voucher_of_place(remote),
        }
    }

    /// Published keys come and go by themselves: it is their place that is trusted, and each token has an end.
    fn voucher_of_place(&self, remote: &RemoteKeys) -> Voucher {
        Voucher::of(&[self.name_bytes(), b"url", remote.url().as_bytes()])
    }

    fn name_bytes(&self) -> &[u8] {
        self.name.as_deref().unwrap_or_default().as_bytes()
    }

    /// Whether it vouches for those whom this voucher has let in.
    pub(super) fn has(&self, voucher: Voucher) -> bool {
        match &self.keys {
            IssuerKeys::Fixed(keys) => keys.iter().any(|key| key.voucher(self.name_bytes()) == voucher),
            IssuerKeys::Remote(remote) => self.voucher_of_place(remote) == voucher,
        }
    }

    /// Goes on with the published keys that are known, if they are published at the same place. They are asked for again
    /// when the next token comes.
    pub(super) fn inherit(&mut self, old: &Self) {
        if let (IssuerKeys::Remote(own), IssuerKeys::Remote(known)) = (&mut self.keys, &old.keys)
            && own.url() == known.url()
        {
            known.forget_age();
            *own = Arc::clone(known);
        }
    }
}
