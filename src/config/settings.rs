//! What the other floors are given of a configuration.

use std::sync::Arc;
use std::time::Duration;

use super::{Address, Config, EngineKind, Fault, NamespaceTable};
use crate::delivery::LogPolicy;
use crate::edge::Terms;
use crate::engine::RedisSettings;
use crate::engine::redis::Prefix;
use crate::http::{OriginPattern, Origins, Rules};
use crate::protocol::Limits;
use crate::session::hooks::HookSettings;
use crate::session::identity::FetchKeys;
use crate::session::limits::RateSettings;
use crate::session::presence::PresenceSettings;
use crate::transport::Timings;

impl Config {
    /// Where the logs are kept, if that is not in this process.
    ///
    /// # Errors
    /// If the URL or the prefix is none.
    pub fn redis(&self) -> Result<Option<RedisSettings>, Fault> {
        if self.engine.kind == EngineKind::Memory {
            return Ok(None);
        }
        let redis = &self.engine.redis;
        let prefix = Prefix::parse(&redis.prefix).map_err(|error| {
            let why = format!("engine.redis.prefix = {:?}: {error}", redis.prefix);
            Fault::of_key("engine.redis.prefix", why)
        })?;
        let url = redis.url.reveal().to_owned();
        let settings = RedisSettings { url, prefix };
        let wrong = |error| Fault::of_key("engine.redis.url", format!("engine.redis.url is {error}"));
        settings.check().map_err(wrong)?;
        Ok(Some(settings))
    }

    /// How much of a channel's log is kept.
    pub fn log_policy(&self) -> LogPolicy {
        LogPolicy {
            count_max: self.window.count,
            bytes_max: self.window.bytes,
            age_ms_max: self.window.age_s.saturating_mul(1000),
            position_ttl_ms: self.window.position_ttl_s.saturating_mul(1000),
        }
    }

    /// What clients may send.
    pub fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.limits.message_bytes_max,
            message_fragments_max: self.limits.message_fragments_max,
            message_time_ms_max: self.limits.message_time_ms_max,
            body_bytes_max: self.limits.body_bytes_max,
            publication_bytes_max: self.limits.publication_bytes_max,
            publish_items_max: self.limits.publish_items_max,
            publish_bytes_max: self.limits.publish_bytes_max,
            channels_max: self.limits.channels_max,
            history_count_max: self.limits.history_count_max,
            answer_bytes_max: self.limits.poll_bytes_max,
        }
    }

    /// How presence is kept, where it is on.
    pub fn presence(&self) -> PresenceSettings {
        let presence = &self.presence;
        PresenceSettings {
            lease: Duration::from_secs(presence.lease_s),
            debounce: Duration::from_millis(presence.debounce_ms),
            members_max: presence.members_max,
        }
    }

    /// The origins whose pages may ask.
    ///
    /// # Errors
    /// Each entry that is none, with what would be right.
    pub fn origins(&self) -> Result<Origins, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut patterns = Vec::new();
        for text in &self.origins {
            match text.parse::<OriginPattern>() {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => faults.push(Fault::of_key("origins", format!("origins: {text:?}: {error}"))),
            }
        }
        if faults.is_empty() {
            Ok(patterns.into_iter().collect())
        } else {
            Err(faults)
        }
    }

    /// How much each client may do.
    pub fn rates(&self) -> RateSettings {
        let of_all = self.rates.settings(&self.trusted_proxies);
        let is_any_limited = self.namespaces.iter().any(NamespaceTable::has_rates);
        RateSettings {
            namespaces: self.namespace_rates(),
            // Nobody is free by default where somebody has configured how much each may do.
            allow: if is_any_limited {
                self.rates.allow.clone().unwrap_or_default()
            } else {
                of_all.allow
            },
            ..of_all
        }
    }

    /// All of what may change while the server runs that listens there. Keys are read from their files; nothing is
    /// fetched.
    ///
    /// # Errors
    /// The first thing that is wrong; [`Config::faults`] has them all.
    pub fn terms(&self, fetch: &Arc<dyn FetchKeys>, addresses: &[Address]) -> Result<Terms, Fault> {
        let first = |mut faults: Vec<Fault>| faults.remove(0);
        Ok(Terms {
            authority: self.auth.authority(fetch)?,
            policies: self.policies(),
            limits: self.limits(),
            rates: self.rates(),
            rules: Rules {
                trusted_proxies: self.trusted_proxies.clone(),
                origins: self.origins().map_err(first)?,
                hosts: self.hosts(addresses),
            },
        })
    }

    /// What the app is asked.
    pub fn hooks(&self) -> Option<HookSettings> {
        self.hooks.settings(self.limits.publication_bytes_max)
    }

    /// How long the transports wait.
    pub fn timings(&self) -> Timings {
        Timings {
            heartbeat_ms: self.connections.heartbeat_ms,
            write_timeout_ms: self.connections.write_timeout_ms,
        }
    }

    /// Over how long sessions are sent away.
    pub fn drain_window(&self) -> Duration {
        Duration::from_millis(self.drain.window_ms)
    }
}
