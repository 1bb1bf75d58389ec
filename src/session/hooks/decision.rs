//! What the app decided, understood: from an answer's fields to what the node does with them.

use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::{Allowed, Problem};
use crate::session::identity::{Grants, Refusal, is_user};

/// Before this, in March 1973, no time is meant in milliseconds, and until the year 5138 none after it in seconds.
const MS_MIN: u64 = 100_000_000_000;

/// What was decided, and whether by the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) decided: Result<Granted, Problem>,
    /// Whether there was no answer; then nobody is let in, and it is asked again soon.
    pub(super) is_failure: bool,
}

/// What comes with a yes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) user: Option<Box<str>>,
    pub(super) grants: Option<Arc<Grants>>,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) data: Option<Bytes>,
    pub(super) event: Option<Box<str>>,
}

impl Granted {
    /// Whether it says nothing of who this is.
    pub(super) fn adds_nothing(&self) -> bool {
        self.user.is_none() && self.grants.is_none() && self.expires_at_ms.is_none()
    }

    /// Understands a yes to somebody who is this user already, or nobody yet.
    ///
    /// # Errors
    /// What is wrong with it, for whoever maintains the app.
    pub(super) fn read(allowed: Allowed, known: Option<&str>) -> Result<Self, String> {
        if let Some(user) = &allowed.user {
            if !is_user(user) {
                return Err("`user` must be 1 to 255 bytes without control characters".to_owned());
            }
            if known.is_some_and(|known| known != &**user) {
                return Err("`user` is another than the token's, which is in the question".to_owned());
            }
        }
        if allowed
            .expires_at_ms
            .is_some_and(|expires_at_ms| expires_at_ms < MS_MIN)
        {
            return Err("`expires_at` must be in milliseconds since 1970; these are seconds, or long ago".to_owned());
        }
        let grants = allowed.grants.as_ref().map(Grants::read).transpose();
        Ok(Self {
            user: allowed.user,
            grants: grants.map_err(|refusal| in_grants(&refusal))?.map(Arc::new),
            expires_at_ms: allowed.expires_at_ms,
            data: allowed.data,
            event: allowed.event,
        })
    }
}

/// The words of a token's claim, for the same thing elsewhere.
fn in_grants(refusal: &Refusal) -> String {
    if let Refusal::Claim(name, right) = refusal {
        return format!("`{}` must be {right}", name.replace("throughline", "grants"));
    }
    refusal.to_string()
}
