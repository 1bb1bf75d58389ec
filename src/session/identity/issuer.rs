//! Somebody whose tokens are accepted: a name, keys, and for whom the tokens must be meant.

use std::sync::{Arc, Weak};

use super::compact::Compact;
use super::key_set::KeysWithdrawn;
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
    pub(super) async fn check_signature(&self, token: &Compact<'_>) -> Result<Voucher, Refusal> {
        if self.algorithm.is_some_and(|algorithm| algorithm != token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let wanted = (token.algorithm, token.key_id.as_deref());
        let keys = match &self.keys {
            IssuerKeys::Fixed(keys) => Arc::clone(keys),
            IssuerKeys::Remote(remote) => remote.keys(wanted).await.ok_or(Refusal::KeysUnavailable)?,
        };
        if !keys.iter().any(|key| key.algorithm() == token.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let mut fitting = keys.iter().filter(|key| key.fits(wanted.0, wanted.1)).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let key = fitting.find(|key| key.has_signed(token.message, &token.signature));
        key.map(|key| key.voucher(self.name_bytes())).ok_or(Refusal::Signature)
    }

    fn name_bytes(&self) -> &[u8] {
        self.name.as_deref().unwrap_or_default().as_bytes()
    }

    /// The keys that are known now.
    fn known_keys(&self) -> Option<Arc<[Key]>> {
        match &self.keys {
            IssuerKeys::Fixed(keys) => Some(Arc::clone(keys)),
            IssuerKeys::Remote(remote) => remote.known_keys(),
        }
    }

    /// Whether one of its keys, as they are known now, and one of its audiences have let in those whom this voucher
    /// stands for.
    pub(super) fn has(&self, voucher: Voucher) -> bool {
        let keys = self.known_keys();
        let mut keys = keys.iter().flat_map(|keys| keys.iter());
        keys.any(|key| {
            let own = key.voucher(self.name_bytes());
            match &*self.audience {
                [] => own == voucher,
                accepted => accepted.iter().any(|audience| own.meant_for(Some(audience)) == voucher),
            }
        })
    }

    /// Whoever is told when published keys are withdrawn.
    pub(super) fn tell(&self, who: &Weak<dyn KeysWithdrawn>) {
        if let IssuerKeys::Remote(remote) = &self.keys {
            remote.tell(who);
        }
    }

    /// Goes on with the published keys that are known, if they are published at the same place. They are asked for
    /// again, for this is what somebody does who has changed them.
    pub(super) fn inherit(&mut self, old: &Self) {
        if let (IssuerKeys::Remote(own), IssuerKeys::Remote(known)) = (&mut self.keys, &old.keys)
            && own.url() == known.url()
        {
            *own = Arc::clone(known);
            own.look_again();
        }
    }

    /// Whether its keys are read from the configuration or from files, and are others than this one's.
    pub(super) fn has_other_keys_than(&self, old: &Self) -> bool {
        let (IssuerKeys::Fixed(own), IssuerKeys::Fixed(old)) = (&self.keys, &old.keys) else {
            return false;
        };
        own.len() != old.len() || own.iter().zip(old.iter()).any(|(own, old)| !own.is_same(old))
    }
}
