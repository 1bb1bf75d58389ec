//! `[operations]`: where operators look, if that is elsewhere than where clients come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Address, Config, Fault, Openness};

const LISTEN: &str = "operations.listen";

/// `[operations]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Operations {
    /// Where `/livez`, `/readyz` and `/metrics` are, as `ADDR:PORT` or `unix:/path`, and then nowhere else; without it,
    /// where everything is. On loopback and on a Unix socket `/metrics` needs no API key.
    pub listen: Option<String>,
}

impl Config {
    /// Where operators look, if that is a place of its own.
    ///
    /// # Errors
    /// If it is none, or if it can be reached from elsewhere while everything is open and `openness` does not allow that.
    pub fn operations_address(&self, openness: Openness) -> Result<Option<Address>, Fault> {
        let Some(text) = &self.operations.listen else {
            return Ok(None);
        };
        let of_this_key = |fault: Fault| Fault::of_key(LISTEN, format!("operations.{}", fault.why));
        let address = Address::parse(text).map_err(of_this_key)?;
        let checked = address.check(self.openness(openness)).map_err(of_this_key);
        checked.map(|()| Some(address))
    }

    /// Whether clients come where operators look, which no two listeners can share. For a server that binds both: what
    /// is handed over is elsewhere.
    pub fn operations_clash(&self) -> Option<Fault> {
        let own = Address::parse(self.operations.listen.as_ref()?).ok()?;
        let mut others = self.listen.texts().iter().filter_map(|text| Address::parse(text).ok());
        let why = format!("operations.listen = \"{own}\": `listen` has the same place; name another, or leave it out");
        others
            .any(|other| own.takes(&other))
            .then(|| Fault::of_key(LISTEN, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(listen: &str) -> Result<Option<Address>, String> {
        let config = Config {
            operations: Operations {
                listen: Some(listen.to_owned()),
            },
            ..Config::default()
        };
        let address = config.operations_address(Openness::LoopbackOnly);
        address.map_err(|fault| fault.to_string())
    }

    #[test]
    fn operators_do_not_look_where_clients_come() {
        let clashes = |listen: &str, operations: &str| {
            let config = Config {
                listen: listen.into(),
                operations: Operations {
                    listen: Some(operations.to_owned()),
                },
                ..Config::default()
            };
            config.operations_clash().is_some()
        };
        assert!(clashes("127.0.0.1:8000", "127.0.0.1:8000"));
        assert!(clashes("0.0.0.0:8000", "127.0.0.1:8000"));
        assert!(clashes("unix:/a", "unix:/a"));
        assert!(!clashes("127.0.0.1:8000", "127.0.0.1:9000"));
        assert!(!clashes("127.0.0.1:8000", "127.0.0.2:8000"));
        assert!(!clashes("127.0.0.1:0", "127.0.0.1:0"), "any port that is free");
        assert!(!clashes("[::1]:8000", "127.0.0.1:8000"));
    }

    #[test]
    fn where_operators_look_is_checked_like_where_clients_come() {
        assert_eq!(Config::default().operations_address(Openness::LoopbackOnly), Ok(None));
        assert_eq!(at("127.0.0.1:9000").unwrap().unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(at("unix:/run/o.sock").unwrap().unwrap().to_string(), "unix:/run/o.sock");
        assert!(
            at("nonsense")
                .unwrap_err()
                .starts_with("operations.listen = \"nonsense\": not an `ADDR:PORT`")
        );
        assert!(at("0.0.0.0:9000").unwrap_err().contains("--insecure"));
    }
}
