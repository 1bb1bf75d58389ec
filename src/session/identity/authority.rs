//! Who may come in, as configured: issuers of tokens, and API keys.

use std::fmt;
use std::sync::Weak;

use super::api_key::PREFIX;
use super::claims::Claims;
use super::compact::Compact;
use super::key_set::KeysWithdrawn;
use super::{ApiKey, Identity, Issuer, Kind, Refusal};
use crate::protocol::{Code, Problem};

/// What a request shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token, or what may be one.
    Token(String),
    /// An API key, or what may be one.
    ApiKey(String),
}

impl Credential {
    /// What stands behind `Bearer`: a token, or an API key by its prefix.
    pub fn bearer(text: &str) -> Self {
        if text.starts_with(PREFIX) {
            Self::ApiKey(text.to_owned())
        } else {
            Self::Token(text.to_owned())
        }
    }
}

/// Which kind it is, and nothing of what it says.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::ApiKey(_) => "ApiKey(…)",
        })
    }
}

/// Who may come in.
#[derive(Debug, Default)]
pub struct Authority {
    /// Whose tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// The back ends' keys.
    pub api_keys: Vec<ApiKey>,
    /// How far clocks may be apart, in seconds.
    pub leeway_s: u64,
    /// The cookie in which browsers bring their token; without a name no cookie counts.
    pub cookie: Option<String>,
}

impl Authority {
    /// Who shows this, at this time.
    ///
    /// # Errors
    /// `unauthenticated`, `token_invalid`, `token_expired`; or a 503 if an issuer's keys could never be had.
    pub async fn identify(&self, credential: Option<&Credential>, now_ms: u64) -> Result<Identity, Problem> {
        match credential {
            Some(Credential::Token(token)) => Ok(self.verify(token, now_ms).await?),
            Some(Credential::ApiKey(key)) => ApiKey::find(&self.api_keys, key)
                .ok_or_else(|| Problem::new(Code::TokenInvalid, "there is no such API key here")),
            None => Err(Problem::new(
                Code::Unauthenticated,
                "credentials are needed: send a token as `Authorization: Bearer …`, or as docs/protocol.md §9 says",
            )),
        }
    }

    /// Who the token says it is, if all of it is right. Nothing is believed before the signature is checked, but who
    /// claims to have issued it: that chooses among those who are configured.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, Refusal> {
        let compact = Compact::read(token)?;
        let claims = Claims::read(&compact.payload)?;
        let said = claims.issuer();
        let is_it = |issuer: &&Issuer| issuer.name.is_none() || issuer.name.as_deref() == said;
        let issuer = self.issuers.iter().find(is_it).ok_or(Refusal::Issuer)?;
        let voucher = issuer.check_signature(&compact).await?;
        let voucher = voucher.meant_for(claims.audience(&issuer.audience)?);
        Ok(claims.identity(self.leeway_s, now_ms)?.vouched(voucher).shown_by(token))
    }

    /// The same, which knows of published keys what the one before it knew.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        for issuer in &mut self.issuers {
            for old in &before.issuers {
                issuer.inherit(old);
            }
        }
        self
    }

    /// Which of its issuers have other keys than they had in the one before it, by their places: keys of files, which
    /// nobody sees change.
    pub fn other_keys_than(&self, before: &Self) -> Vec<usize> {
        let is_other = |issuer: &Issuer| {
            let same = before.issuers.iter().find(|old| old.name == issuer.name);
            same.is_some_and(|old| issuer.has_other_keys_than(old))
        };
        let issuers = self.issuers.iter().enumerate();
        let others = issuers.filter(|(_, issuer)| is_other(issuer));
        others.map(|(at, _)| at).collect()
    }

    /// Whoever is told when one of the issuers withdraws keys that it publishes.
    pub(in crate::session) fn tell(&self, who: &Weak<dyn KeysWithdrawn>) {
        self.issuers.iter().for_each(|issuer| issuer.tell(who));
    }

    /// Whether somebody whom this one, or one before it, has let in would still be let in by the same key, and for the same audience.
    pub(in crate::session) fn vouches_for(&self, identity: &Identity) -> bool {
        match identity.voucher {
            None => !matches!(identity.kind, Kind::Anybody),
            Some(voucher) => {
                let is_key = self.api_keys.iter().any(|key| key.vouches_for(identity));
                is_key || self.issuers.iter().any(|issuer| issuer.has(voucher))
            }
        }
    }
}
