//! The door: whether somebody may do something with a channel, by all who have a say in it.

use std::sync::Arc;

use super::Node;
use super::hooks::Hooks;
use super::identity::{Action, Identity};
use crate::delivery::ChannelName;
use crate::protocol::Problem;

impl Node {
    /// The door: whether somebody may do this with a channel. It is asked by every route and every transport, anew at
    /// each request, command and resume. Cancel safe.
    ///
    /// # Errors
    /// `forbidden`; `unauthenticated` for whoever came without a token, for one may help; what the app says where it
    /// decides, and `overloaded` where it says nothing; `denied`, if an operator has sent them away.
    pub async fn allow(&self, identity: &Identity, action: Action, channel: &ChannelName) -> Result<(), Problem> {
        match self.deciding_of(identity, action, channel).await? {
            // What is to be published has to be shown, which `publish` does.
            Some(hooks) if action == Action::Subscribe => hooks.subscribe(identity, channel).await,
            _ => Ok(()),
        }
    }

    /// The app, if it has to decide about this yet; `None`: it is allowed.
    ///
    /// # Errors
    /// `forbidden`, `unauthenticated`, `denied`.
    pub(super) async fn deciding_of(
        &self,
        identity: &Identity,
        action: Action,
        channel: &ChannelName,
    ) -> Result<Option<Arc<Hooks>>, Problem> {
        self.check_denied(identity, Some(channel)).await?;
        // Looked up once: one that goes meanwhile leaves nothing undecided.
        let hooks = self.deciding(identity, action);
        self.check(identity, action, channel, hooks.as_deref())?;
        Ok(hooks)
    }

    /// What can be said of it at once, without asking the app: enough for what was allowed before and goes on.
    ///
    /// # Errors
    /// `forbidden`, `unauthenticated`.
    pub(super) fn still_allows(
        &self,
        identity: &Identity,
        action: Action,
        channel: &ChannelName,
    ) -> Result<(), Problem> {
        let hooks = self.deciding(identity, action);
        self.check(identity, action, channel, hooks.as_deref())
    }

    /// What the policy and, where no app decides, the grants say.
    fn check(
        &self,
        identity: &Identity,
        action: Action,
        channel: &ChannelName,
        hooks: Option<&Hooks>,
    ) -> Result<(), Problem> {
        let policy = **self.policies.load().of(channel);
        policy.check_final(identity, action, channel)?;
        match hooks {
            Some(_) => Ok(()),
            None => policy.check_granted(identity, action, channel),
        }
    }

    /// The app, if it decides about this instead of what was granted. It is asked about clients, never about back ends.
    fn deciding(&self, identity: &Identity, action: Action) -> Option<Arc<Hooks>> {
        self.hooks()
            .filter(|hooks| hooks.decides(action) && !identity.is_back_end())
    }
}
