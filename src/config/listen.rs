//! Where to listen, and who may reach it while everything is open.

use std::net::{SocketAddr, ToSocketAddrs};

use super::{Config, Fault};

/// Whether a server on which everything is open may be reached from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openness {
    /// It may not.
    LoopbackOnly,
    /// Somebody said that it may.
    Insecure,
}

impl Config {
    /// The address to listen on.
    ///
    /// # Errors
    /// If it is none, or if it can be reached from elsewhere while everything is open and `openness` does not allow
    /// that.
    pub fn address(&self, openness: Openness) -> Result<SocketAddr, Fault> {
        let resolved = self.listen.to_socket_addrs();
        let address = resolved.ok().and_then(|mut addresses| addresses.next());
        let address = address.ok_or_else(|| {
            let why = format!("listen = {:?}: not an `ADDR:PORT`, like 127.0.0.1:8000", self.listen);
            Fault::of_key("listen", why)
        })?;
        if address.ip().is_loopback() || openness == Openness::Insecure {
            return Ok(address);
        }
        let why = format!(
            "listen = {:?}: this address can be reached from other machines, while everybody may publish and subscribe; \
             listen on 127.0.0.1, or say --insecure if that is what you want",
            self.listen
        );
        Err(Fault::of_key("listen", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_server_is_not_shown_to_the_world_by_accident() {
        let config = Config {
            listen: "0.0.0.0:8000".to_owned(),
            ..Config::default()
        };
        let refusal = config.address(Openness::LoopbackOnly).unwrap_err().to_string();
        assert!(refusal.contains("--insecure"), "{refusal}");
        assert!(config.address(Openness::Insecure).is_ok());
        let default = Config::default().address(Openness::LoopbackOnly).unwrap();
        assert_eq!(default.to_string(), "127.0.0.1:8000");
    }
}
