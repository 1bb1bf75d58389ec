//! The sections of the configuration: each field a key, each doc comment its meaning.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, networks};
use crate::edge::DEFAULT_WINDOW;
use crate::protocol::Limits;
use crate::session::presence::PresenceSettings;
use crate::transport::Timings;

/// The longest that a connection may be silent or stuck: an hour, far below what the kernel takes for its own timers.
const CONNECTION_MS_MAX: u64 = 60 * 60 * 1000;

/// `[window]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    /// The most publications.
    pub count: usize,
    /// The most bytes, a publication's encoded form included.
    pub bytes: usize,
    /// The greatest age, in seconds.
    pub age_s: u64,
    /// For how long positions are remembered after the window is empty, in seconds.
    pub position_ttl_s: u64,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InputLimits {
    /// The longest WebSocket message.
    #[schemars(range(min = 1024))]
    pub message_bytes_max: usize,
    /// The most fragments of one.
    pub message_fragments_max: u32,
    /// How long one may take to arrive, in milliseconds.
    #[schemars(range(min = 1))]
    pub message_time_ms_max: u64,
    /// The largest body of a request.
    #[schemars(range(min = 1024))]
    pub body_bytes_max: usize,
    /// The largest `data`.
    pub publication_bytes_max: usize,
    /// The most publications in a request.
    pub publish_items_max: usize,
    /// The most bytes of `data` in a request, counted for each channel that it goes to.
    pub publish_bytes_max: usize,
    /// The most channels of a session.
    #[schemars(range(min = 1))]
    pub channels_max: usize,
    /// The most publications in an answer of `history`.
    pub history_count_max: usize,
    /// The most bytes in an answer of long-poll or `history`.
    pub poll_bytes_max: usize,
}

/// `[connections]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// How long a connection may be silent before a heartbeat, in milliseconds.
    #[schemars(range(min = 32, max = CONNECTION_MS_MAX))]
    pub heartbeat_ms: u64,
    /// How long a reader may take nothing before it is closed, in milliseconds.
    #[schemars(range(min = 1, max = CONNECTION_MS_MAX))]
    pub write_timeout_ms: u64,
    /// The kernel's send buffer for each connection; 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
    /// Whether several processes may listen on the same TCP address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// The mode of the files of Unix sockets, in octal.
    pub unix_mode: String,
    /// The most connections; 0: as many files as the process may open, less a few. Beyond it only `/livez` and
    /// `/readyz` answer.
    pub count_max: usize,
    /// The most requests that may be under way on one HTTP/2 connection, streams and polls among them.
    #[schemars(range(min = 1))]
    pub h2_streams_max: u32,
    /// Whether TCP connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// The networks of the proxies that may connect then.
    #[schemars(with = "Vec<String>")]
    #[serde(deserialize_with = "networks::several")]
    pub proxy_protocol_from: Vec<IpNet>,
}

/// Whether connections come through a proxy that says for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// They come from clients, or from proxies that speak HTTP only.
    Off,
    /// Each begins with a header of the PROXY protocol, version 2.
    V2,
}

impl Connections {
    /// Whether connections begin with a PROXY protocol header.
    pub fn speaks_proxy_protocol(&self) -> bool {
        self.proxy_protocol == ProxyProtocol::V2
    }

    /// The mode of the files of Unix sockets, if it is one.
    pub fn unix_mode(&self) -> Option<u32> {
        let mode = u32::from_str_radix(&self.unix_mode, 8).ok();
        mode.filter(|mode| *mode <= 0o777)
    }
}

/// `[tls]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and its chain, in PEM; with it and the key TCP listeners speak TLS.
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    pub key_file: Option<PathBuf>,
}

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Over how long sessions are sent away, in milliseconds.
    pub window_ms: u64,
}

/// `[presence]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// Whether it is on in every namespace that does not say otherwise.
    pub enabled: bool,
    /// For how long the sessions of a node that has crashed are still there, and those of a client between two polls, in
    /// seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub lease_s: u64,
    /// For how long a user who went may come back without anybody being told, in milliseconds.
    #[schemars(range(max = 600_000))]
    pub debounce_ms: u64,
    /// The most members in a list; of more than that only the number is told, and these first.
    #[schemars(range(max = 10_000))]
    pub members_max: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        let settings = PresenceSettings::default();
        Self {
            enabled: false,
            lease_s: settings.lease.as_secs(),
            debounce_ms: u64::try_from(settings.debounce.as_millis()).unwrap_or(u64::MAX),
            members_max: settings.members_max,
        }
    }
}

/// `[engine]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// What keeps the logs.
    pub kind: EngineKind,
    /// The file in which the logs outlive a restart: written at the end of the drain, loaded and removed at the start.
    pub snapshot: Option<PathBuf>,
    /// Of the engine `redis`.
    pub redis: RedisConfig,
}

/// What keeps the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// This process: one node, whose logs end with it unless there is a snapshot.
    #[default]
    Memory,
    /// A Redis, which several nodes share.
    Redis,
}

/// `[engine.redis]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Where it is: `redis://[user:password@]host[:port][/database]`, `redis+unix:///path`,
    /// `redis+sentinel://host,host/service` or `redis+cluster://host,host`, with `rediss` for TLS; or several of them, with
    /// white space between, among which the channels are spread.
    pub url: Secret,
    /// What every key begins with.
    pub prefix: String,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379/0"),
            prefix: "throughline:".to_owned(),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines look on standard error; `auto` is `pretty` on a terminal and `json` elsewhere.
    pub format: LogFormat,
    /// The least important lines that are logged; `THROUGHLINE_LOG` wins over it, and can tell modules apart.
    pub level: LogLevel,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, for programs elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For programs: a JSON object a line.
    Json,
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What happens to the whole server.
    #[default]
    Info,
    /// What happens to connections.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            count: DEFAULT_WINDOW.count_max,
            bytes: DEFAULT_WINDOW.bytes_max,
            age_s: DEFAULT_WINDOW.age_ms_max / 1000,
            position_ttl_s: DEFAULT_WINDOW.position_ttl_ms / 1000,
        }
    }
}

impl Default for InputLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            message_bytes_max: limits.message_bytes_max,
            message_fragments_max: limits.message_fragments_max,
            message_time_ms_max: limits.message_time_ms_max,
            body_bytes_max: limits.body_bytes_max,
            publication_bytes_max: limits.publication_bytes_max,
            publish_items_max: limits.publish_items_max,
            publish_bytes_max: limits.publish_bytes_max,
            channels_max: limits.channels_max,
            history_count_max: limits.history_count_max,
            poll_bytes_max: limits.answer_bytes_max,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        let timings = Timings::default();
        Self {
            heartbeat_ms: timings.heartbeat_ms,
            write_timeout_ms: timings.write_timeout_ms,
            send_buffer_bytes: 0,
            reuse_port: false,
            unix_mode: "660".to_owned(),
            count_max: 0,
            h2_streams_max: 128,
            proxy_protocol: ProxyProtocol::Off,
            proxy_protocol_from: Vec::new(),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { window_ms: 5_000 }
    }
}
