//! What may change while an edge runs.

use super::Edge;
use crate::http::Rules;
use crate::protocol::Limits;
use crate::session::identity::Authority;
use crate::session::limits::RateSettings;
use crate::session::policy::Policies;

/// What clients are let in by, and what they may do: all of it may change while an edge runs.
#[derive(Debug)]
pub struct Terms {
    /// Who may come in; without one, everybody.
    pub authority: Option<Authority>,
    /// What each namespace allows.
    pub policies: Policies,
    /// What clients may send.
    pub limits: Limits,
    /// How much each client may do; it counts where the edge was built with limits.
    pub rates: RateSettings,
    /// Which proxies are believed, and whose pages may ask.
    pub rules: Rules,
}

impl Edge {
    /// From now on these terms hold, for sessions that are there too.
    ///
    /// Connections stay. A session ends whose key is no longer accepted, and a subscription that is no longer allowed.
    /// Nobody is forgiven what was drawn from a limit. Says how many sessions end.
    pub fn apply(&self, terms: Terms) -> usize {
        self.door.set_rules(terms.rules);
        if let Some(limits) = self.door.limits() {
            limits.set(terms.rates);
        }
        self.node.set_limits(terms.limits);
        self.node.set_terms(terms.authority, terms.policies)
    }
}
