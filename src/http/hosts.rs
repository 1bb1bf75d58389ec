//! Under which names a server may be asked that only this machine reaches.
//!
//! Whoever owns a name can make it lead to 127.0.0.1 (DNS rebinding). To a browser, what answers there is then of the
//! same origin as their page, which reads and writes what it likes, and mostly without an `Origin`. The name stands in
//! `Host`, which no page can change.

use axum::http::header::HOST;
use axum::http::request;

use super::admission::Rules;
use super::header;
use super::origin::Origin;
use super::peer::Peer;
use crate::protocol::{Code, Problem};

/// How much of a host is repeated to whoever sent it.
const SHOWN_CHARS_MAX: usize = 200;

/// Under which names a server may be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hosts {
    /// Any: others than this machine reach it, or credentials are needed.
    #[default]
    Any,
    /// Addresses, those that can be nobody else's (`localhost`), and those of the listed origins.
    OfThisMachine,
}

/// Whether a request was sent to a name under which the server may be asked. No browser comes by a Unix socket, and a
/// proxy's word does not count here: a page can say it, too, to what it takes for its own server.
///
/// # Errors
/// `origin_refused`.
pub(super) fn check_host(head: &request::Parts, rules: &Rules) -> Result<(), Problem> {
    if rules.hosts == Hosts::Any || head.extensions.get::<Peer>() == Some(&Peer::LOCAL) {
        return Ok(());
    }
    // HTTP/2 has no `Host`, but an authority.
    let authority = head.uri.authority().map(axum::http::uri::Authority::as_str);
    let mut asked = [authority, header(&head.headers, HOST)].into_iter().flatten();
    match asked.find(|authority| !authority.is_empty() && !may_be_asked_as(authority, rules)) {
        None => Ok(()),
        Some(authority) => Err(refusal(authority)),
    }
}

fn may_be_asked_as(authority: &str, rules: &Rules) -> bool {
    let origin = Origin::at("http", authority);
    origin.is_some_and(|origin| origin.is_address() || origin.is_loopback() || rules.origins.name_host(&origin))
}

fn refusal(authority: &str) -> Problem {
    let shown: String = authority.chars().take(SHOWN_CHARS_MAX).collect();
    let detail = format!(
        "this server is open to whoever reaches it and listens on this machine alone, and it was asked as {shown:?}, a \
         name that anybody may have made lead here; ask it as localhost or by its address, or, if the name is yours, \
         list \"http://{shown}\" in `origins`, or say in [auth] who may come in"
    );
    Problem::new(Code::OriginRefused, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(host: &str, origins: &[&str]) -> bool {
        let rules = Rules {
            origins: origins
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<crate::http::Origins>(),
            hosts: Hosts::OfThisMachine,
            ..Rules::default()
        };
        let request = axum::http::Request::builder().uri("/v1/poll").header(HOST, host);
        let (head, ()) = request.body(()).unwrap().into_parts();
        check_host(&head, &rules).is_err()
    }

    #[test]
    fn a_name_that_anybody_may_have_made_lead_here_is_refused() {
        for host in [
            "evil.example:8000",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a b",
        ] {
            assert!(is_refused(host, &[]), "{host}");
            assert!(is_refused(host, &["https://app.example", "null"]), "{host}");
            assert!(!is_refused(host, &["*"]) || host == "a b", "{host}");
        }
        for host in [
            "127.0.0.1:8000",
            "localhost",
            "LOCALHOST:1",
            "app.localhost:8000",
            "[::1]:8000",
            "192.0.2.7",
            "",
        ] {
            assert!(!is_refused(host, &[]), "{host}");
        }
    }

    #[test]
    fn the_hosts_of_listed_origins_are_ours_whatever_their_scheme_and_port() {
        let listed = ["https://app.example", "https://*.apps.example"];
        for host in [
            "app.example",
            "APP.example:8000",
            "a.apps.example",
            "a.b.apps.example:80",
        ] {
            assert!(!is_refused(host, &listed), "{host}");
        }
        for host in ["apps.example", "www.app.example", "evilapps.example", "evil.example"] {
            assert!(is_refused(host, &listed), "{host}");
        }
    }
}
