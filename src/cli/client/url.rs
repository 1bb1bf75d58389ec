//! Where the server is: a URL, taken apart once.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use hyper::Uri;

const URL_DEFAULT: &str = "http://127.0.0.1:8000";
const URL_VARIABLE: &str = "THROUGHLINE_URL";
const PORT_DEFAULT: u16 = 80;

/// A server's address, and the path under which it serves the protocol.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// As the URL wrote it: the `Host` header.
    authority: String,
    /// Nothing, or `/edge`: never with a slash at its end.
    prefix: String,
}

impl Target {
    /// The host's name or address, without the brackets of an IPv6 address, and the port.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The request target of an endpoint such as `/v1/ws`.
    pub(crate) fn endpoint(&self, path: &str, query: &str) -> String {
        let question_mark = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{question_mark}{query}", self.prefix)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some(scheme @ ("https" | "wss")) => {
                return Err(format!("{scheme}:// is not supported yet; use http:// or ws://"));
            }
            _ => return Err("a URL begins with http:// or ws://".to_owned()),
        }
        if uri.query().is_some() {
            return Err("a URL with a query is not supported; channels and cursor are arguments".to_owned());
        }
        let authority = uri.authority().ok_or("the URL names no host")?;
        if authority.as_str().contains('@') {
            return Err("a user name or password in the URL is not supported".to_owned());
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: port(&authority.as_str()[authority.host().len()..])?,
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

/// What follows the host in the authority: nothing, or `:PORT`.
fn port(text: &str) -> Result<u16, String> {
    match text.strip_prefix(':') {
        None | Some("") => Ok(PORT_DEFAULT),
        Some(digits) => digits.parse().map_err(|_| format!("{digits:?} is not a port")),
    }
}

/// The URL that holds where none is given: the environment's, else a server on this machine.
pub(crate) fn default_url() -> &'static str {
    static URL: LazyLock<String> = LazyLock::new(|| match std::env::var_os(URL_VARIABLE) {
        Some(url) if !url.is_empty() => url.to_string_lossy().into_owned(),
        _ => URL_DEFAULT.to_owned(),
    });
    &URL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        url.parse::<Target>().unwrap_err()
    }

    #[test]
    fn a_path_becomes_a_prefix() {
        let target: Target = "http://edge.example:8080/edge/".parse().unwrap();
        assert_eq!(target.address(), ("edge.example", 8080));
        assert_eq!(target.authority(), "edge.example:8080");
        assert_eq!(target.endpoint("/v1/ws", "channel=a"), "/edge/v1/ws?channel=a");
        assert_eq!(target.to_string(), "http://edge.example:8080/edge");
    }

    #[test]
    fn the_port_is_80_where_none_is_named() {
        let target: Target = "ws://edge.example".parse().unwrap();
        assert_eq!(target.address(), ("edge.example", 80));
        assert_eq!(target.endpoint("/v1/publish", ""), "/v1/publish");
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets_for_connecting_only() {
        let target: Target = "http://[::1]:8000".parse().unwrap();
        assert_eq!(target.address(), ("::1", 8000));
        assert_eq!(target.authority(), "[::1]:8000");
        let target: Target = "http://[2001:db8::1]/edge".parse().unwrap();
        assert_eq!(target.address(), ("2001:db8::1", 80));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        assert!(refusal("https://edge.example").contains("https:// is not supported yet"));
        assert!(refusal("wss://edge.example").contains("wss:// is not supported yet"));
        assert!(refusal("edge.example:8000").contains("begins with http://"));
        assert!(refusal("http://user:secret@edge.example").contains("user name"));
        assert!(refusal("http://edge.example/?token=t").contains("query"));
        assert!(refusal("http://edge.example:99999").contains("not a port"));
        assert!(refusal("ftp://edge.example").contains("begins with http://"));
    }
}
