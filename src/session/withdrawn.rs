//! What a session may no longer have: by a new token, by new policies, or because its key was withdrawn.

use super::identity::{Action, Authority, Identity};
use super::policy::Policies;
use super::registry::Urgency;
use super::{Node, Session};
use crate::delivery::ChannelName;
use crate::protocol::{Code, Problem, Push};

impl Session {
    /// Ends the subscriptions that the policies of now do not allow. The app, where it decides, is asked at the next
    /// resume.
    pub(super) fn obey_policies(&mut self) {
        if let Some(problem) = self.node().withdrawn(&self.identity) {
            let registry = self.node().registry();
            return registry.end_one(self.registered.shared(), problem.into(), Urgency::Now);
        }
        let refused = |channel: &ChannelName| {
            let allowed = self.node().still_allows(&self.identity, Action::Subscribe, channel);
            let allowed = allowed.and_then(|()| self.check_told(channel));
            Some((channel.clone(), allowed.err()?))
        };
        let refused: Vec<_> = self.subscriptions.channels().filter_map(refused).collect();
        self.withdraw(refused);
    }

    /// Ends subscriptions for a reason of the server's, each unless it has ended meanwhile.
    pub(super) fn withdraw(&mut self, refused: Vec<(ChannelName, Problem)>) {
        for (channel, problem) in refused {
            if let Some(key) = self.subscriptions.key_of(&channel) {
                self.subscriptions.remove(key);
                self.leave(&channel);
            } else if !self.give_up(&channel) {
                continue;
            }
            self.reply(Push::Unsubscribed {
                channel,
                problem: Some(problem),
                id: None,
            });
        }
    }
}

impl Node {
    /// Puts another authority and other policies in the place of those that hold. Sessions end that this authority would
    /// not let in by the key that has let them in; of keys that are published elsewhere it knows what the one before it
    /// knew.
    pub fn set_terms(&self, authority: Option<Authority>, policies: Policies) {
        self.set_authority(authority);
        self.set_policies(policies);
        // Also where the policies are the same: a key may be gone.
        self.registry().tell_new_policies();
    }

    /// Why a session may not stay: the key that has let it in was withdrawn.
    pub(super) fn withdrawn(&self, identity: &Identity) -> Option<Problem> {
        let authority = self.authority()?;
        if authority.vouches_for(identity) {
            return None;
        }
        Some(if identity == &**self.anybody() {
            Problem::new(Code::Unauthenticated, "credentials are needed here from now on")
        } else {
            let detail = "the key that these credentials were checked with is no longer accepted";
            Problem::new(Code::TokenInvalid, detail)
        })
    }
}
