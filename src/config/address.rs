//! Where to listen: one text or a list of them, each `ADDR:PORT` or `unix:/path`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Openness};

/// An address that a listener can be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// `listen`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Listen {
    /// One place.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a Unix socket's address begins with.
const UNIX: &str = "unix:";

impl Address {
    /// Reads `ADDR:PORT` or `unix:/path`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            if path.is_empty() || path.contains('\0') {
                return Err(not_an_address(text));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        resolved.map(Self::Tcp).ok_or_else(|| not_an_address(text))
    }

    /// Refuses what other machines can reach, unless `openness` allows it.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn check(&self, openness: Openness) -> Result<(), ConfigError> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() && openness == Openness::LoopbackOnly => {
                Err(ConfigError(format!(
                    "listen = \"{self}\": this address can be reached from other machines, while everybody may publish \
                     and subscribe; listen on 127.0.0.1, or say --insecure if that is what you want"
                )))
            }
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }
}

fn not_an_address(text: &str) -> ConfigError {
    ConfigError(format!(
        "listen = {text:?}: not an `ADDR:PORT`, like 127.0.0.1:8000, and not a `unix:/path`"
    ))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Listen {
    /// All the places, in their order.
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl From<&str> for Listen {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}
