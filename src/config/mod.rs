//! Configuration: defaults, file, environment and flags, in rising precedence, checked once.
//!
//! The structs of `sections` are the one table of keys: their fields are the keys, their doc comments the meaning,
//! their `Default` the defaults. From them come parsing, the errors' words, `config show`, the file that `init`
//! writes, and the reference in `docs/configuration.md`. A new key is a new field.

mod auth;
mod environment;
mod error;
mod file;
mod keys;
mod kind;
mod listen;
mod load;
mod nearest;
mod publishing;
mod rates;
mod reference;
mod secret;
mod sections;
mod setting;
mod source;

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::LogPolicy;
use crate::engine::RedisSettings;
use crate::engine::redis::Prefix;
use crate::protocol::Limits;
use crate::session::limits::RateSettings;
use crate::transport::Timings;

pub use auth::{ApiKeyTable, Auth, IssuerTable, OneOrMany};
pub use error::{ConfigError, Fault};
pub use file::{PLACES, find};
pub use listen::{Address, Listen, Openness};
pub use load::{Loaded, Sources, load};
pub use publishing::{AckKind, Publishing};
pub use rates::Rates;
pub use reference::{table, template};
pub use secret::Secret;
pub use sections::{
    Connections, Drain, EngineConfig, EngineKind, InputLimits, Log, LogFormat, LogLevel, ProxyProtocol, RedisConfig,
    TlsFiles, Window,
};
pub use setting::Shown;
pub use source::Source;

/// What the server runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen, as `ADDR:PORT` or `unix:/path`, or a list of such; port 0 takes any that is free.
    pub listen: Listen,
    /// How much of each channel's log is kept.
    pub window: Window,
    /// When publishers are answered.
    pub publishing: Publishing,
    /// What clients may send.
    pub limits: InputLimits,
    /// How connections are kept.
    pub connections: Connections,
    /// The certificate.
    pub tls: TlsFiles,
    /// How the server stops.
    pub drain: Drain,
    /// How much each client may do; a rate of 0 per second, or a number of 0, is no limit.
    pub rates: Rates,
    /// Networks of proxies whose word on their clients' addresses counts, in CIDR notation.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// Who may come in; while it names neither issuers nor API keys, everything is open.
    pub auth: Auth,
    /// What keeps the logs.
    pub engine: EngineConfig,
    /// What is logged, and how.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".into(),
            window: Window::default(),
            publishing: Publishing::default(),
            limits: InputLimits::default(),
            connections: Connections::default(),
            tls: TlsFiles::default(),
            drain: Drain::default(),
            rates: Rates::default(),
            trusted_proxies: Vec::new(),
            auth: Auth::default(),
            engine: EngineConfig::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// What neither a type nor a range of one key can say: each thing that is wrong, but for the addresses to listen on.
    pub fn faults(&self) -> Vec<Fault> {
        let connections = &self.connections;
        let mut faults = Vec::new();
        let mut unless = |is_well: bool, key: &str, why: String| {
            if !is_well {
                faults.push(Fault::of_key(key, why));
            }
        };
        unless(
            connections.speaks_proxy_protocol() != connections.proxy_protocol_from.is_empty(),
            "connections.proxy_protocol",
            "connections.proxy_protocol = \"v2\" and connections.proxy_protocol_from = [\"10.0.0.0/8\"], the networks of \
             the proxies, need each other"
                .to_owned(),
        );
        unless(
            self.tls.cert_file.is_some() == self.tls.key_file.is_some(),
            "tls.cert_file",
            "tls.cert_file and tls.key_file need each other".to_owned(),
        );
        unless(
            connections.unix_mode().is_some(),
            "connections.unix_mode",
            format!(
                "connections.unix_mode = {:?}: must be a file mode in octal, like \"660\"",
                connections.unix_mode
            ),
        );
        unless(
            self.engine.kind == EngineKind::Memory || self.engine.snapshot.is_none(),
            "engine.snapshot",
            "engine.snapshot is of the memory engine; with engine.kind = \"redis\" leave it out".to_owned(),
        );
        faults.extend(self.ack_fault());
        faults.extend(self.redis().err());
        faults.extend(self.auth.check().err());
        faults
    }

    /// Where the logs are kept, if that is not in this process.
    ///
    /// # Errors
    /// If the prefix is none.
    pub fn redis(&self) -> Result<Option<RedisSettings>, Fault> {
        const URL: &str = "redis://127.0.0.1:6379/0";
        if self.engine.kind == EngineKind::Memory {
            return Ok(None);
        }
        let redis = &self.engine.redis;
        let prefix = Prefix::parse(&redis.prefix).map_err(|error| {
            let why = format!("engine.redis.prefix = {:?}: {error}", redis.prefix);
            Fault::of_key("engine.redis.prefix", why)
        })?;
        let url = redis.url.as_ref().map_or(URL, Secret::reveal).to_owned();
        Ok(Some(RedisSettings { url, prefix }))
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

    /// How much each client may do.
    pub fn rates(&self) -> RateSettings {
        self.rates.settings(&self.trusted_proxies)
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
