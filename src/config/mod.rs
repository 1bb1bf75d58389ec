//! Configuration: defaults, file, environment and flags, in rising precedence, checked once.
//!
//! The structs of `sections` are the one table of keys: their fields are the keys, their doc comments the meaning,
//! their `Default` the defaults. From them come parsing, the errors' words, `config show`, the file that `init`
//! writes, and the reference in `docs/configuration.md`. A new key is a new field.

mod asked;
mod auth;
mod checks;
mod doubts;
mod environment;
mod error;
mod file;
mod hooks;
mod keys;
mod kind;
mod listen;
mod load;
mod namespaces;
mod nearest;
mod networks;
mod operations;
mod publishing;
mod rates;
mod reference;
mod reload;
mod secret;
mod sections;
mod setting;
mod settings;
mod source;
mod tables;
mod webhooks;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auth::{ApiKeyTable, Auth, IssuerTable, OneOrMany};
pub use error::{ConfigError, Fault};
pub use file::{PLACES, find};
pub use hooks::Hooks;
pub use listen::{Address, Listen, Openness};
pub use load::{Loaded, Sources, load};
pub use namespaces::{NamespaceTable, NamespaceWindow};
pub use operations::Operations;
pub use publishing::{AckKind, Publishing};
pub use rates::Rates;
pub use reference::{table, template};
pub use reload::is_taken_at_once;
pub use secret::Secret;
pub use sections::{
    Connections, Drain, EngineConfig, EngineKind, InputLimits, Log, LogFormat, LogLevel, PresenceConfig, ProxyProtocol,
    RedisConfig, TlsFiles, Window,
};
pub use setting::Shown;
pub use source::Source;
pub use webhooks::Webhooks;

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
    /// Networks of proxies whose word on their clients' addresses counts, in CIDR notation, or addresses.
    #[schemars(with = "Vec<String>")]
    #[serde(deserialize_with = "networks::several")]
    pub trusted_proxies: Vec<IpNet>,
    /// The origins whose pages may ask from browsers, like `https://app.example` or `https://*.app.example`; `*` is
    /// every origin, without cookies. Empty means the same origin. Their hosts are also the names under which a server
    /// may be asked that is open on loopback.
    pub origins: Vec<String>,
    /// Who may come in; while it names neither issuers nor API keys, everything is open.
    pub auth: Auth,
    /// Who is on a channel.
    pub presence: PresenceConfig,
    /// Where the app is asked, which then decides; while it names no URL, nobody is.
    pub hooks: Hooks,
    /// An app is told what happens to channels.
    pub webhooks: Webhooks,
    /// What each namespace allows: tables `[[namespaces]]`, each with a `name`, which is what stands before the first
    /// `:` of channels' names (`default` for names without one, `*` for all that have no table), and with `window`,
    /// `subscribe`, `publish`, `history`, `presence` and more, as `docs/operations.md` says; what a table leaves out is
    /// as it is for all.
    pub namespaces: Vec<NamespaceTable>,
    /// Where operators look.
    pub operations: Operations,
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
            origins: Vec::new(),
            auth: Auth::default(),
            presence: PresenceConfig::default(),
            hooks: Hooks::default(),
            webhooks: Webhooks::default(),
            namespaces: Vec::new(),
            operations: Operations::default(),
            engine: EngineConfig::default(),
            log: Log::default(),
        }
    }
}
