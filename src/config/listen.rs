//! Where to listen, and who may reach it while everything is open.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Fault};
use crate::http::Hosts;

/// What a Unix socket's address begins with.
const UNIX: &str = "unix:";

/// Whether a server on which everything is open may be reached from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openness {
    /// It may not.
    LoopbackOnly,
    /// Somebody said that it may.
    Insecure,
    /// It may: not everything is open on it.
    Guarded,
}

/// An address that a listener can be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// `listen`: one place, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Listen {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Config {
    /// The addresses to listen on; at least one.
    ///
    /// # Errors
    /// If there is none, if one is none, or if one can be reached from elsewhere while everything is open and
    /// `openness` does not allow that.
    pub fn addresses(&self, openness: Openness) -> Result<Vec<Address>, Fault> {
        let addresses = self.listen.texts().iter().map(|text| {
            let address = Address::parse(text)?;
            address.check(self.openness(openness)).map(|()| address)
        });
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(wrong("listen = []: name at least one `ADDR:PORT` or `unix:/path`"));
        }
        Ok(addresses)
    }
}

impl Config {
    /// Whether it may be reached from elsewhere, after what was said of it: where `[auth]` guards it, it may.
    pub fn openness(&self, said: Openness) -> Openness {
        if self.is_guarded() { Openness::Guarded } else { said }
    }

    /// Whether somebody says who may come in.
    pub fn is_guarded(&self) -> bool {
        self.auth.is_configured() || self.hooks.is_configured()
    }
}

impl Config {
    /// Under which names a server may be asked that listens there: where all is open because nobody else reaches it, a
    /// page must not do so under a name of its own. Browsers do not speak the PROXY protocol.
    pub fn hosts(&self, addresses: &[Address]) -> Hosts {
        let is_local = addresses.iter().all(Address::is_local) && !self.connections.speaks_proxy_protocol();
        if is_local && !self.is_guarded() {
            Hosts::OfThisMachine
        } else {
            Hosts::Any
        }
    }
}

impl Address {
    /// Reads `ADDR:PORT` or `unix:/path`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let not_an_address = || {
            wrong(format!(
                "listen = {text:?}: not an `ADDR:PORT`, like 127.0.0.1:8000, and not a `unix:/path`"
            ))
        };
        if let Some(path) = text.strip_prefix(UNIX) {
            let is_path = !path.is_empty() && !path.contains('\0');
            return is_path
                .then(|| Self::Unix(PathBuf::from(path)))
                .ok_or_else(not_an_address);
        }
        let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        resolved.map(Self::Tcp).ok_or_else(not_an_address)
    }

    /// Whether nobody else can listen there who is bound to this.
    pub(super) fn takes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(own), Self::Tcp(other)) => {
                let is_any = own.ip().is_unspecified() || other.ip().is_unspecified();
                let is_same_ip = own.ip() == other.ip() || (is_any && own.is_ipv4() == other.is_ipv4());
                own.port() != 0 && own.port() == other.port() && is_same_ip
            }
            (own, other) => own == other,
        }
    }

    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Refuses what other machines can reach, unless `openness` allows it.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn check(&self, openness: Openness) -> Result<(), Fault> {
        match self {
            Self::Tcp(_) if !self.is_local() && openness == Openness::LoopbackOnly => Err(wrong(format!(
                "listen = \"{self}\": this address can be reached from other machines, while everybody may publish \
                     and subscribe; say in [auth] who may, listen on 127.0.0.1, or say --insecure if that is what you \
                     want"
            ))),
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }
}

fn wrong(why: impl Into<String>) -> Fault {
    Fault::of_key("listen", why)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_server_is_not_shown_to_the_world_by_accident() {
        let config = Config {
            listen: Listen::Many(vec!["127.0.0.1:1".to_owned(), "0.0.0.0:8000".to_owned()]),
            ..Config::default()
        };
        let refusal = config.addresses(Openness::LoopbackOnly).unwrap_err().to_string();
        assert!(refusal.contains("--insecure"), "{refusal}");
        assert!(config.addresses(Openness::Insecure).is_ok());
        let default = Config::default().addresses(Openness::LoopbackOnly).unwrap();
        assert_eq!(default[0].to_string(), "127.0.0.1:8000");
    }

    #[test]
    fn there_is_somewhere_to_listen() {
        for listen in [Listen::Many(Vec::new()), "nonsense".into(), "unix:".into(), "".into()] {
            let config = Config {
                listen,
                ..Config::default()
            };
            assert!(config.addresses(Openness::Insecure).is_err());
        }
    }
}
