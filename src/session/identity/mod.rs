//! Who is asking: a token or an API key becomes an [`Identity`], or is refused. Nobody is let in by half.

mod api_key;
mod authority;
mod claims;
mod compact;
mod explain;
mod grants;
mod issuer;
mod key;
mod key_set;
mod mark;
mod mint;
mod pattern;
mod refusal;
mod voucher;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

pub use api_key::{ApiKey, NewApiKey, Scope};
pub use authority::{Authority, Credential};
pub(super) use claims::is_user;
pub use explain::explain;
pub use grants::Grants;
pub use issuer::{Issuer, IssuerKeys};
pub use key::{Algorithm, BadKey, Key};
pub(super) use key_set::KeysWithdrawn;
pub use key_set::{FetchKeys, JWKS_BYTES_MAX, RemoteKeys};
pub use mark::TokenMark;
pub use mint::{Claims as MintedClaims, GrantClaims, SigningKey, mint};
pub use pattern::{BadPattern, ChannelPattern};
pub use refusal::Refusal;

use voucher::Voucher;

use super::hooks::Carried;
use super::limits::Caller;
use super::recent::Recent;
use crate::delivery::{ChannelName, Who};
use crate::protocol::{Code, Problem};

/// How long before the end of its token a session is told so, in milliseconds; at most half of what is left of it.
pub(super) const EXPIRING_MS_MAX: u64 = 60_000;

/// What a request asks to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Follow it.
    Subscribe,
    /// Publish to it.
    Publish,
    /// Read its window.
    History,
    /// See who is on it.
    Presence,
}

impl Action {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::History, Self::Presence];

    /// Its word in the protocol and in the configuration.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe to",
            Self::Publish => "publish to",
            Self::History => "read the history of",
            Self::Presence => "see who is on",
        }
    }
}

/// For how long an identity holds. Small, for there are many: two short times beside the one that is far away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit stands last in every name")]
pub(crate) struct Lifetime {
    ends_at_ms: NonZeroU64,
    leeway_ms: u32,
    ahead_ms: u32,
}

impl Lifetime {
    fn new(expires_at_ms: u64, leeway_ms: u64, now_ms: u64) -> Self {
        let leeway_ms = u32::try_from(leeway_ms).unwrap_or(u32::MAX);
        let ends_at_ms = expires_at_ms.saturating_add(leeway_ms.into());
        let ahead = (ends_at_ms.saturating_sub(now_ms) / 2).min(EXPIRING_MS_MAX);
        Self {
            ends_at_ms: NonZeroU64::new(ends_at_ms).unwrap_or(NonZeroU64::MIN),
            leeway_ms,
            ahead_ms: u32::try_from(ahead).unwrap_or(u32::MAX),
        }
    }

    /// What the token says, in Unix milliseconds.
    pub(crate) fn expires_at_ms(self) -> u64 {
        self.ends_at_ms() - u64::from(self.leeway_ms)
    }

    /// When its session is told that it ends.
    pub(crate) fn expiring_at_ms(self) -> u64 {
        self.ends_at_ms() - u64::from(self.ahead_ms)
    }

    /// When its session ends: the leeway is on the client's side, as it is when a token is checked.
    pub(crate) fn ends_at_ms(self) -> u64 {
        self.ends_at_ms.get()
    }
}

/// What kind of somebody it is, and what it is called.
#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// Whoever comes, where everything is open.
    Anybody,
    /// Who came without credentials, where some need none.
    Anonymous,
    /// A user, by a token.
    User(Who),
    /// A back end, by the API key of this name. Boxed, so that users, of whom there are many, take less.
    BackEnd(Box<Arc<str>>),
    /// The same, which may look at the whole node.
    Operator(Box<Arc<str>>),
    /// This process.
    Itself,
}

/// Who asks, and what they may do. It cannot be had but from a credential that was checked, or where none is needed.
///
/// There is one for each session, so it is kept small.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    kind: Kind,
    /// Many have the same.
    grants: Arc<Grants>,
    lifetime: Option<Lifetime>,
    /// Which key has let it in, if one has.
    voucher: Option<Voucher>,
    mark: Option<TokenMark>,
    /// What the app is shown of the client, where it is asked.
    carried: Option<Arc<Carried>>,
}

impl Identity {
    /// Whoever comes, where no authority is configured: everything is open.
    pub fn anybody() -> Self {
        Self::of_nobody(Kind::Anybody, Grants::all())
    }

    /// Who comes without credentials: somebody to whom nothing was granted.
    pub fn anonymous() -> Self {
        Self::of_nobody(Kind::Anonymous, Grants::default())
    }

    /// This process, which is asked for nothing.
    pub fn itself() -> Self {
        Self::of_nobody(Kind::Itself, Grants::all())
    }

    fn of_nobody(kind: Kind, grants: Grants) -> Self {
        Self {
            kind,
            grants: Arc::new(grants),
            lifetime: None,
            voucher: None,
            mark: None,
            carried: None,
        }
    }

    /// The same, whose grants are kept once with all that are equal.
    pub(super) fn sharing(self, recent: &Recent<Grants>) -> Self {
        Self {
            grants: recent.share(self.grants),
            ..self
        }
    }

    /// The same, let in by this key.
    fn vouched(self, voucher: Voucher) -> Self {
        Self {
            voucher: Some(voucher),
            ..self
        }
    }

    fn of_user(who: Who, grants: Grants, lifetime: Lifetime) -> Self {
        Self {
            lifetime: Some(lifetime),
            ..Self::of_nobody(Kind::User(who), grants)
        }
    }

    fn of_key(name: &str, grants: Grants, scopes: &[Scope]) -> Self {
        let name = Box::new(Arc::from(name));
        let kind = if scopes.contains(&Scope::Operator) {
            Kind::Operator(name)
        } else {
            Kind::BackEnd(name)
        };
        Self::of_nobody(kind, grants)
    }

    /// The same one, as whom the app says it is: this user, if there was none; with these grants instead of its own;
    /// and no longer than until then.
    pub(super) fn admitted(
        &self,
        user: Option<&str>,
        grants: Option<&Arc<Grants>>,
        expires_at_ms: Option<u64>,
        now_ms: u64,
    ) -> Self {
        let own_ms = self.lifetime.map_or(u64::MAX, Lifetime::ends_at_ms);
        let until = expires_at_ms.filter(|expires_at_ms| *expires_at_ms < own_ms);
        Self {
            kind: match (user, &self.kind) {
                (Some(user), Kind::Anonymous) => Kind::User(Who::new(user, None)),
                (_, kind) => kind.clone(),
            },
            grants: grants.unwrap_or(&self.grants).clone(),
            lifetime: match until {
                Some(expires_at_ms) => Some(Lifetime::new(expires_at_ms, 0, now_ms)),
                None => self.lifetime,
            },
            voucher: self.voucher,
            mark: self.mark,
            carried: self.carried.clone(),
        }
    }

    /// The same, by the token that has just been checked.
    fn shown_by(self, token: &str) -> Self {
        Self {
            mark: Some(TokenMark::of(token)),
            ..self
        }
    }

    /// The mark of the token that it was shown by, if it was.
    pub(crate) fn mark(&self) -> Option<TokenMark> {
        self.mark
    }

    /// The same one, with what the app is shown of it.
    pub(super) fn carrying(self, carried: Option<Arc<Carried>>) -> Self {
        Self { carried, ..self }
    }

    /// What the app is shown of it.
    pub(super) fn carried(&self) -> Option<&Arc<Carried>> {
        self.carried.as_ref()
    }

    /// The user, if it is one.
    pub fn user(&self) -> Option<&str> {
        self.who().map(Who::user)
    }

    /// The user as others see it, if it is one.
    pub(crate) fn who(&self) -> Option<&Who> {
        match &self.kind {
            Kind::User(who) => Some(who),
            Kind::Anybody | Kind::Anonymous | Kind::BackEnd(_) | Kind::Operator(_) | Kind::Itself => None,
        }
    }

    /// The name of the API key, if it is one.
    pub(crate) fn api_key(&self) -> Option<&str> {
        match &self.kind {
            Kind::BackEnd(name) | Kind::Operator(name) => Some(name),
            Kind::Anybody | Kind::Anonymous | Kind::User(_) | Kind::Itself => None,
        }
    }

    /// From whose buckets it draws, where limits tell users and API keys apart.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            user: self.user(),
            api_key: self.api_key(),
        }
    }

    /// Whose idempotency keys and polls are whose: a user, an API key, or nobody in particular.
    pub(crate) fn publisher(&self) -> Arc<str> {
        match (self.user(), self.api_key()) {
            (Some(user), _) => format!("user {user}").into(),
            (None, Some(name)) => format!("key {name}").into(),
            (None, None) => Arc::default(),
        }
    }

    /// Whether it came without credentials, where some need none.
    pub fn is_anonymous(&self) -> bool {
        self.kind == Kind::Anonymous
    }

    /// Whether it is the app's own side: an API key, or this process. No policy is about those.
    pub fn is_back_end(&self) -> bool {
        matches!(self.kind, Kind::BackEnd(_) | Kind::Operator(_) | Kind::Itself)
    }

    /// Whether it may look at the whole node.
    ///
    /// # Errors
    /// `forbidden`; `unauthenticated`, if it came without credentials.
    pub fn may_operate(&self) -> Result<(), Problem> {
        let code = match self.kind {
            Kind::Anybody | Kind::Operator(_) | Kind::Itself => return Ok(()),
            Kind::Anonymous => Code::Unauthenticated,
            Kind::User(_) | Kind::BackEnd(_) => Code::Forbidden,
        };
        Err(Problem::new(code, "this needs an API key with the scope `operator`"))
    }

    /// Channels that its token has subscribed at once.
    pub fn channels(&self) -> &[ChannelName] {
        self.grants.channels()
    }

    /// When its token expires, in Unix milliseconds.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.lifetime.map(Lifetime::expires_at_ms)
    }

    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// Why a session ends when its time has come: that of a token, or of what the app agreed to without one.
    pub(crate) fn time_is_over(&self) -> Problem {
        let detail = match self.mark {
            Some(_) => "the token has expired; come back with a new one, from your position",
            None => {
                "the time for which the app has let this client in is over; come back to be let in anew, from your position"
            }
        };
        Problem::new(Code::TokenExpired, detail)
    }

    /// Whether its credentials grant this. What it may do is said by the channel's
    /// [policy](crate::session::policy::Policy::check), too.
    pub fn is_granted(&self, action: Action, channel: &ChannelName) -> bool {
        self.grants.allow(action, channel)
    }
}

/// Neither the user nor what it may do: logs are read by many.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("expires_at_ms", &self.expires_at_ms())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_identity_costs_stays_small() {
        assert!(size_of::<Identity>() <= 64, "{}", size_of::<Identity>());
    }

    #[test]
    fn a_lifetime_ends_after_the_leeway_and_is_told_of_before() {
        let lifetime = Lifetime::new(1_000_000, 5_000, 0);
        assert_eq!(lifetime.expires_at_ms(), 1_000_000);
        assert_eq!(lifetime.ends_at_ms(), 1_005_000);
        assert_eq!(lifetime.expiring_at_ms(), 1_005_000 - EXPIRING_MS_MAX);
        let short = Lifetime::new(1_000, 0, 900);
        assert_eq!(short.expiring_at_ms(), 950);
        assert_eq!(Lifetime::new(0, 0, 7).expires_at_ms(), 1, "long over");
        assert_eq!(Lifetime::new(u64::MAX, 5_000, 0).ends_at_ms(), u64::MAX);
    }
}
