//! Every namespace's policy, found by a channel's name.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Audience, Personal, Policy};
use crate::delivery::{ChannelName, LogPolicy};
use crate::session::identity::{Action, Identity};

/// The policies of a node. Immutable: other policies are another value.
///
/// ```
/// use throughline::Edge;
/// use throughline::delivery::LogPolicy;
/// use throughline::session::policy::{Audience, Policies, Policy};
///
/// let granted = Policy::granted(LogPolicy {
///     count_max: 1_000,
///     bytes_max: 1 << 20,
///     age_ms_max: 300_000,
///     position_ttl_ms: 86_400_000,
/// });
/// let news = Policy {
///     subscribe: Audience::Anyone,
///     publish: Audience::Nobody,
///     ..granted
/// };
/// let builder = Edge::builder().policies(Policies::new(granted, [("news".into(), news)]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    named: HashMap<Box<str>, Arc<Policy>>,
    rest: Arc<Policy>,
    /// The namespaces, sorted, in which the server subscribes each user to a channel of its own.
    at_connect: Box<[Box<str>]>,
    admit_anonymous: bool,
}

impl Policies {
    /// The same policy for every channel.
    pub fn uniform(policy: Policy) -> Self {
        Self::new(policy, [])
    }

    /// Every channel for those to whom it was granted, over this window.
    pub fn of_window(window: LogPolicy) -> Self {
        Self::uniform(Policy::granted(window))
    }

    /// Policies by the names of their namespaces, and one for all that have none; of one name the last counts.
    pub fn new(rest: Policy, named: impl IntoIterator<Item = (Box<str>, Policy)>) -> Self {
        let named: HashMap<Box<str>, Arc<Policy>> = named
            .into_iter()
            .map(|(name, policy)| (name, Arc::new(policy)))
            .collect();
        let is_at_connect = |policy: &Policy| policy.personal == Personal::SubscribedAtConnect;
        let mut at_connect: Vec<Box<str>> = named
            .iter()
            .filter(|(_, policy)| is_at_connect(policy))
            .map(|(name, _)| name.clone())
            .collect();
        at_connect.sort();
        let is_open = |policy: &Policy| {
            let asked = [Action::Subscribe, Action::Publish, Action::History, Action::Presence];
            let is_open = |action: &Action| policy.audience(*action) == Audience::Anyone;
            policy.personal == Personal::No && asked.iter().any(is_open)
        };
        let admit_anonymous = is_open(&rest) || named.values().any(|policy| is_open(policy));
        Self {
            named,
            rest: Arc::new(rest),
            at_connect: at_connect.into(),
            admit_anonymous,
        }
    }

    /// The policy of a channel.
    pub fn of(&self, channel: &ChannelName) -> &Arc<Policy> {
        self.named.get(channel.namespace()).unwrap_or(&self.rest)
    }

    /// Whether there is anything that may be done without a token.
    pub fn admit_anonymous(&self) -> bool {
        self.admit_anonymous
    }

    /// The channels that the server subscribes for somebody: those of the token, sorted, and then those that are the
    /// user's own, sorted; so what a configuration adds moves no element of a cursor.
    pub(in crate::session) fn channels_at_connect(&self, identity: &Identity, user: &str) -> Vec<ChannelName> {
        let mut channels = identity.channels().to_vec();
        for namespace in &self.at_connect {
            // A `sub` that cannot stand in a channel's name has no channel of its own.
            let Ok(own) = ChannelName::parse(&format!("{namespace}:{user}")) else {
                continue;
            };
            if !channels.contains(&own) {
                channels.push(own);
            }
        }
        channels
    }

    /// Whether the server subscribes users to channels of their own, and this one cannot have any.
    pub(in crate::session) fn lacks_personal_channel(&self, identity: &Identity) -> bool {
        let cannot_have = |user: &str| {
            let mut names = self.at_connect.iter().map(|namespace| format!("{namespace}:{user}"));
            names.any(|name| ChannelName::parse(&name).is_err())
        };
        identity.user().is_some_and(cannot_have)
    }
}
