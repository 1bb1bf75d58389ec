//! Configuration: file, environment and flags, in rising precedence, checked once.

mod auth;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use crate::delivery::LogPolicy;
use crate::edge::DEFAULT_WINDOW;
use crate::protocol::Limits;
use crate::transport::Timings;

pub use auth::{ApiKeyTable, Auth, IssuerTable, OneOrMany, SecretText};

/// What the server runs with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen, as `ADDR:PORT`; port 0 takes any that is free.
    pub listen: String,
    /// How much of each channel's log is kept.
    pub window: Window,
    /// What clients may send.
    pub limits: InputLimits,
    /// How connections are kept.
    pub connections: Connections,
    /// How the server stops.
    pub drain: Drain,
    /// Who may come in.
    pub auth: Auth,
}

/// `[window]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputLimits {
    /// The longest WebSocket message.
    pub message_bytes_max: usize,
    /// The most fragments of one.
    pub message_fragments_max: u32,
    /// The largest body of a request.
    pub body_bytes_max: usize,
    /// The largest `data`.
    pub publication_bytes_max: usize,
    /// The most publications in a request.
    pub publish_items_max: usize,
    /// The most channels of a session.
    pub channels_max: usize,
    /// The most publications in an answer of `history`.
    pub history_count_max: usize,
    /// The most bytes in an answer of long-poll or `history`.
    pub poll_bytes_max: usize,
}

/// `[connections]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// How long a connection may be silent before a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long a reader may take nothing before it is closed, in milliseconds.
    pub write_timeout_ms: u64,
    /// The kernel's send buffer for each connection; 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
}

/// `[drain]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Over how long sessions are sent away, in milliseconds.
    pub window_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".to_owned(),
            window: Window::default(),
            limits: InputLimits::default(),
            connections: Connections::default(),
            drain: Drain::default(),
            auth: Auth::default(),
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
            body_bytes_max: limits.body_bytes_max,
            publication_bytes_max: limits.publication_bytes_max,
            publish_items_max: limits.publish_items_max,
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
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { window_ms: 5_000 }
    }
}

impl Config {
    /// From a file's text, if there is a file, and from environment variables.
    ///
    /// # Errors
    /// [`ConfigError`] says which key of which source is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = file {
            let wrong = |why: &dyn fmt::Display| ConfigError(format!("{}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
            // Read for its own sake first: the error then tells line and column.
            toml::from_str::<Self>(&text).map_err(|error| wrong(&placed(&error, &text)))?;
            table = toml::from_str(&text).map_err(|error| wrong(&placed(&error, &text)))?;
        }
        for (name, value) in environment {
            let Some(path) = key_path(&name) else { continue };
            set(&mut table, &path, &value);
            let check = Value::Table(table.clone()).try_into::<Self>();
            check.map_err(|error| ConfigError(said(&name, &value, &error)))?;
        }
        let config = Value::Table(table).try_into::<Self>();
        config.map_err(|error| ConfigError(error.to_string()))
    }

    /// The address to listen on.
    ///
    /// # Errors
    /// If it is none, or if it can be reached from elsewhere while everything is open and `openness` does not allow
    /// that.
    pub fn address(&self, openness: Openness) -> Result<SocketAddr, ConfigError> {
        let resolved = self
            .listen
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next());
        let address = resolved.ok_or_else(|| {
            ConfigError(format!(
                "listen = {:?}: not an `ADDR:PORT`, like 127.0.0.1:8000",
                self.listen
            ))
        })?;
        if address.ip().is_loopback() || openness == Openness::Insecure || self.auth.is_configured() {
            return Ok(address);
        }
        Err(ConfigError(format!(
            "listen = {:?}: this address can be reached from other machines, while everybody may publish and subscribe; \
             say in [auth] who may, listen on 127.0.0.1, or say --insecure if that is what you want",
            self.listen
        )))
    }

    /// Checks what no type can say.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, and what would be right.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value >= least {
                return Ok(());
            }
            Err(ConfigError(format!("{key} = {value}: must be at least {least}")))
        };
        at_least("connections.heartbeat_ms", self.connections.heartbeat_ms, 32)?;
        at_least("connections.write_timeout_ms", self.connections.write_timeout_ms, 1)?;
        at_least("limits.channels_max", self.limits.channels_max as u64, 1)?;
        at_least("limits.message_bytes_max", self.limits.message_bytes_max as u64, 1024)?;
        at_least("limits.body_bytes_max", self.limits.body_bytes_max as u64, 1024)
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
            body_bytes_max: self.limits.body_bytes_max,
            publication_bytes_max: self.limits.publication_bytes_max,
            publish_items_max: self.limits.publish_items_max,
            channels_max: self.limits.channels_max,
            history_count_max: self.limits.history_count_max,
            answer_bytes_max: self.limits.poll_bytes_max,
        }
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

/// Whether a server on which everything is open may be reached from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openness {
    /// It may not.
    LoopbackOnly,
    /// Somebody said that it may.
    Insecure,
}

/// `THROUGHLINE_LISTEN` and `THROUGHLINE_SECTION__KEY` are configuration; other variables are not ours to read.
fn key_path(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix("THROUGHLINE_")?.to_ascii_lowercase();
    let is_key = path == "listen" || path.contains("__");
    is_key.then(|| path.split("__").map(str::to_owned).collect())
}

/// Puts a value where its path says; a number is a number, everything else is text.
fn set(table: &mut Table, path: &[String], value: &str) {
    match path {
        [] => {}
        [key] => {
            let value = value
                .parse()
                .map_or_else(|_| Value::String(value.to_owned()), Value::Integer);
            table.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let section = table
                .entry(section.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                set(section, rest, value);
            }
        }
    }
}

/// What is wrong with a file, and in which line; without the line itself, which may hold a secret.
fn placed(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message())
}

/// What is wrong with a variable; one of `[auth]` may hold a secret, so its value is not repeated, and neither is the
/// error that may quote it.
fn said(name: &str, value: &str, error: &toml::de::Error) -> String {
    if name.starts_with("THROUGHLINE_AUTH") {
        format!("{name}: this cannot be read; issuers and keys go into the configuration file")
    } else {
        format!("{name}={value}: {error}")
    }
}

/// What is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::load(None, variables.iter().map(owned))
    }

    #[test]
    fn without_anything_it_listens_on_loopback() {
        let config = from_environment(&[("PATH", "/bin"), ("THROUGHLINE_TEST_PYTHON", "x")]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            config.address(Openness::LoopbackOnly).unwrap().to_string(),
            "127.0.0.1:8000"
        );
    }

    #[test]
    fn the_environment_sets_keys_and_names_those_that_there_are_not() {
        let config =
            from_environment(&[("THROUGHLINE_LISTEN", "[::1]:0"), ("THROUGHLINE_WINDOW__COUNT", "7")]).unwrap();
        assert_eq!((config.listen.as_str(), config.window.count), ("[::1]:0", 7));
        for (name, value) in [
            ("THROUGHLINE_WINDOW__COUNTS", "7"),
            ("THROUGHLINE_WINDOW__COUNT", "many"),
        ] {
            let error = from_environment(&[(name, value)]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn an_open_server_is_not_shown_to_the_world_by_accident() {
        let config = Config {
            listen: "0.0.0.0:8000".to_owned(),
            ..Config::default()
        };
        let refusal = config.address(Openness::LoopbackOnly).unwrap_err().to_string();
        assert!(refusal.contains("--insecure"), "{refusal}");
        assert!(config.address(Openness::Insecure).is_ok());
    }

    #[test]
    fn a_file_tells_the_line_of_what_it_has_wrong() {
        let path = std::env::temp_dir().join(format!("throughline-config-{}.toml", std::process::id()));
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\n[window]\ncuont = 3\n").unwrap();
        let error = Config::load(Some(&path), []).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("line 3") && error.contains("cuont"), "{error}");
    }
}
