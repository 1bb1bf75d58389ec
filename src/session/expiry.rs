//! A session's end by its token's: told some time before, enforced by the wall clock, put off by a new token.

use std::sync::Arc;

use super::Session;
use super::identity::{EXPIRING_MS_MAX, Identity};
use super::registry::Urgency;
use crate::delivery::ChannelName;
use crate::protocol::{CommandId, Problem, Push};

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Nothing has been said.
    #[default]
    Ahead,
    /// The client was told that it comes.
    Told,
    /// The token has expired: nothing follows but the end.
    Over,
}

impl Expiry {
    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }
}

impl Session {
    /// In how many milliseconds the session has something to say about its token; `None`: never.
    ///
    /// It has to be driven then: whoever drives it calls [`Session::tell_time`] and polls.
    pub fn due_in_ms(&self) -> Option<u64> {
        let lifetime = self.identity.lifetime()?;
        let due_ms = match self.expiry {
            Expiry::Ahead => lifetime.expiring_at_ms(),
            Expiry::Told => lifetime.ends_at_ms(),
            Expiry::Over => return None,
        };
        Some(due_ms.saturating_sub(self.node().now_ms()))
    }

    /// Looks at the clock: what is due by the token comes from [`Session::poll_next`].
    pub fn tell_time(&mut self) {
        let Some(lifetime) = self.identity.lifetime() else {
            return;
        };
        let now_ms = self.node().now_ms();
        if self.expiry == Expiry::Ahead && now_ms >= lifetime.expiring_at_ms() {
            self.expiry = Expiry::Told;
            self.reply(Push::Expiring {
                expires_at: lifetime.expires_at_ms(),
            });
        }
        if now_ms >= lifetime.ends_at_ms() {
            self.expiry = Expiry::Over;
        }
    }

    /// The same for a session that has one answer only: it is told whenever the end is near, however short its token was
    /// from the beginning.
    pub fn tell_time_ahead(&mut self) {
        self.tell_time();
        let Some(lifetime) = self.identity.lifetime() else {
            return;
        };
        if self.expiry == Expiry::Ahead && lifetime.ends_at_ms().saturating_sub(self.node().now_ms()) <= EXPIRING_MS_MAX
        {
            self.expiry = Expiry::Told;
            self.reply(Push::Expiring {
                expires_at: lifetime.expires_at_ms(),
            });
        }
    }

    /// Goes on with a new token; what it is `refused` ends.
    pub(super) fn refreshed(
        &mut self,
        identity: Arc<Identity>,
        refused: Vec<(ChannelName, Problem)>,
        id: Option<CommandId>,
    ) {
        self.expiry = Expiry::Ahead;
        self.identity = self.node().one_of_many(identity);
        self.registered.renew(Arc::clone(&self.identity));
        if let Some(attendance) = self.aside.attendance() {
            attendance.renew(self.identity.who());
        }
        let expires_at = self.identity.expires_at_ms();
        self.reply(Push::Refreshed { expires_at, id });
        self.withdraw(refused);
        // An operator may have come meanwhile, who saw the old token.
        if let Err(problem) = self.check_denied(None) {
            let session = self.registered.shared();
            self.node().registry().end_one(session, problem.into(), Urgency::Now);
        }
    }
}
