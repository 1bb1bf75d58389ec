//! What a session may no longer have: by a new token, by new policies, or because its key was withdrawn.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use super::beginnings::Asked;
use super::identity::{Action, Authority, Identity, KeysWithdrawn};
use super::policy::Policies;
use super::registry::{Registry, Urgency};
use super::{Node, Session};
use crate::delivery::{ChannelName, Since};
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

    /// Ends subscriptions for a reason of the server's, each unless it has ended meanwhile. If the reason may pass, it is
    /// tried again from where the subscription was.
    pub(super) fn withdraw(&mut self, refused: Vec<(ChannelName, Problem)>) {
        for (channel, problem) in refused {
            if let Some(key) = self.subscriptions.key_of(&channel) {
                let presence = self.is_told_of(&channel);
                if let Some(cursor) = self.subscriptions.remove(key) {
                    let asked = Asked {
                        channel: channel.clone(),
                        since: Since::After(cursor),
                        presence,
                    };
                    self.try_later(None, asked, &problem);
                }
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

/// Who lets in, and who was let in.
#[derive(Debug)]
pub(super) struct Vouching {
    /// Without one, everything is open.
    pub(super) authority: ArcSwapOption<Authority>,
    registry: Arc<Registry>,
}

impl Vouching {
    pub(super) fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            authority: ArcSwapOption::empty(),
            registry,
        })
    }

    /// Puts an authority in the place of the one that held; what that one knew of published keys, it knows.
    pub(super) fn set(self: &Arc<Self>, authority: Option<Authority>) {
        let authority = match (authority, self.authority.load_full()) {
            (Some(new), Some(before)) => Some(new.after(&before)),
            (new, _) => new,
        };
        if let Some(authority) = &authority {
            let own: Weak<dyn KeysWithdrawn> = Arc::downgrade(self) as Weak<dyn KeysWithdrawn>;
            authority.tell(&own);
        }
        self.authority.store(authority.map(Arc::new));
    }
}

/// The sessions look for themselves, as after a change of policies; so does one that was let in and is not there yet.
impl KeysWithdrawn for Vouching {
    fn keys_are_withdrawn(&self) -> usize {
        let Some(authority) = self.authority.load_full() else {
            return 0;
        };
        let count = self.registry.find(|_, identity| !authority.vouches_for(identity)).len();
        self.registry.tell_new_policies();
        count
    }
}

impl Node {
    /// Puts another authority and other policies in the place of those that hold. Sessions end that this authority would
    /// not let in by the key that has let them in; says how many these are. Of keys that are published elsewhere it knows
    /// what the one before it knew.
    pub fn set_terms(&self, authority: Option<Authority>, policies: Policies) -> usize {
        self.vouching.set(authority);
        self.set_policies(policies);
        let count = self
            .registry()
            .find(|_, identity| self.withdrawn(identity).is_some())
            .len();
        // Also where the policies are the same: a key may be gone.
        self.registry().tell_new_policies();
        count
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
            let detail = "the key that these credentials were checked with, or their audience, is no longer accepted";
            Problem::new(Code::TokenInvalid, detail)
        })
    }
}
