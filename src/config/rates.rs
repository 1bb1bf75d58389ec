//! `[rates]`: how much each client may do.

use std::collections::HashMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::networks;
use crate::session::limits::{Rate, RateSettings};

/// `[rates]`: limits per node; a rate of 0 per second, or a number of 0, is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// New connections (WebSocket and SSE) from one address, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub ip_connections_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub ip_connections_burst: u32,
    /// Long-polls from one address, per second; readings of `/v1/history` and `/v1/presence` count as polls.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub ip_polls_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub ip_polls_burst: u32,
    /// The most open connections and waiting polls of one address.
    pub ip_open_connections_max: u32,
    /// Publications from one address, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub ip_publications_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub ip_publications_burst: u32,
    /// How many times what one IPv6 /64 may do its /48 may do.
    #[schemars(range(min = 1))]
    pub site_factor: u32,
    /// Publications of one user, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub user_publications_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub user_publications_burst: u32,
    /// Publications under one API key, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub key_publications_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub key_publications_burst: u32,
    /// Publications to one channel, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub channel_publications_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub channel_publications_burst: u32,
    /// Commands of one WebSocket session, per second.
    #[schemars(range(max = Rate::PER_S_MAX))]
    pub session_commands_per_s: u32,
    /// The same, at once.
    #[schemars(range(min = 1))]
    pub session_commands_burst: u32,
    /// Whether what is over a limit is only counted, and passes.
    pub dry_run: bool,
    /// Networks whose clients are not limited, in CIDR notation; where neither rates nor `trusted_proxies` are
    /// configured, loopback.
    #[schemars(with = "Option<Vec<String>>")]
    #[serde(deserialize_with = "networks::several_if_any")]
    pub allow: Option<Vec<IpNet>>,
    /// Whether somebody has said any of this, be it what holds anyway.
    #[serde(skip)]
    pub is_configured: bool,
}

impl Default for Rates {
    fn default() -> Self {
        let settings = RateSettings::default();
        Self {
            ip_connections_per_s: settings.ip_connections.per_s,
            ip_connections_burst: settings.ip_connections.burst,
            ip_polls_per_s: settings.ip_polls.per_s,
            ip_polls_burst: settings.ip_polls.burst,
            ip_open_connections_max: settings.ip_open_connections_max,
            ip_publications_per_s: settings.ip_publications.per_s,
            ip_publications_burst: settings.ip_publications.burst,
            site_factor: settings.site_factor,
            user_publications_per_s: settings.user_publications.per_s,
            user_publications_burst: settings.user_publications.burst,
            key_publications_per_s: settings.key_publications.per_s,
            key_publications_burst: settings.key_publications.burst,
            channel_publications_per_s: settings.channel_publications.per_s,
            channel_publications_burst: settings.channel_publications.burst,
            session_commands_per_s: settings.session_commands.per_s,
            session_commands_burst: settings.session_commands.burst,
            dry_run: settings.dry_run,
            allow: None,
            is_configured: false,
        }
    }
}

impl Rates {
    /// The same as values of the limits.
    pub fn settings(&self, trusted_proxies: &[IpNet]) -> RateSettings {
        RateSettings {
            ip_connections: Rate::new(self.ip_connections_per_s, self.ip_connections_burst),
            ip_polls: Rate::new(self.ip_polls_per_s, self.ip_polls_burst),
            ip_open_connections_max: self.ip_open_connections_max,
            ip_publications: Rate::new(self.ip_publications_per_s, self.ip_publications_burst),
            site_factor: self.site_factor,
            user_publications: Rate::new(self.user_publications_per_s, self.user_publications_burst),
            key_publications: Rate::new(self.key_publications_per_s, self.key_publications_burst),
            channel_publications: Rate::new(self.channel_publications_per_s, self.channel_publications_burst),
            session_commands: Rate::new(self.session_commands_per_s, self.session_commands_burst),
            namespaces: HashMap::new(),
            dry_run: self.dry_run,
            allow: self.allowed(trusted_proxies),
        }
    }

    /// On a machine where nobody configured anything, whoever is on it may do what it likes. As soon as somebody did,
    /// nobody is on the list whom it does not name: behind a proxy on the same machine, everybody comes from loopback.
    fn allowed(&self, trusted_proxies: &[IpNet]) -> Vec<IpNet> {
        match &self.allow {
            Some(allow) => allow.clone(),
            None if trusted_proxies.is_empty() && *self == Self::default() => loopback(),
            None => Vec::new(),
        }
    }
}

fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"]
        .into_iter()
        .filter_map(|network| network.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_free_only_where_nothing_is_configured() {
        let default = Rates::default();
        assert_eq!(default.settings(&[]).allow, loopback());
        assert_eq!(loopback().len(), 2);
        assert_eq!(default.settings(&loopback()).allow, []);
        let strict = Rates {
            ip_publications_per_s: 1,
            ..Rates::default()
        };
        assert_eq!(strict.settings(&[]).allow, []);
        let listed: Rates = toml::from_str("allow = [\"192.0.2.0/24\"]").unwrap();
        assert_eq!(listed.settings(&[]).allow, ["192.0.2.0/24".parse().unwrap()]);
        let defaults = RateSettings {
            allow: loopback(),
            ..RateSettings::default()
        };
        assert_eq!(default.settings(&[]), defaults);
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        let listed: Rates = toml::from_str("allow = [\"192.0.2.1\", \"2001:db8::1\"]").unwrap();
        let shown: Vec<_> = listed.allow.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1/32", "2001:db8::1/128"]);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["allow = [\"192.0.2\"]", "allow = [\"192.0.2.0/33\"]", "dry_runn = true"] {
            assert!(toml::from_str::<Rates>(wrong).is_err(), "{wrong}");
        }
    }
}
