//! Where the server is: a URL, taken apart once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use hyper::Uri;

const URL_DEFAULT: &str = "http://127.0.0.1:8000";
const URL_VARIABLE: &str = "THROUGHLINE_URL";
const PORT_PLAIN: u16 = 80;
const PORT_SECURE: u16 = 443;
/// What a socket's path comes after, here as in `listen`.
const UNIX: &str = "unix:";

/// A server's address, and the path under which it serves the protocol.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    dial: Dial,
    is_secure: bool,
    /// As the URL wrote it: the `Host` header.
    authority: String,
    /// Nothing, or `/edge`: never with a slash at its end.
    prefix: String,
}

/// What to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dial {
    Tcp {
        /// A name or an address, without the brackets of an IPv6 address.
        host: String,
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Target {
    /// The server that listens at this socket.
    fn of_socket(path: &str) -> Self {
        Self {
            dial: Dial::Unix(path.into()),
            is_secure: false,
            authority: "localhost".to_owned(),
            prefix: String::new(),
        }
    }

    pub(crate) fn dial(&self) -> &Dial {
        &self.dial
    }

    /// Whether it is reached by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
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
        if let Some(path) = text.strip_prefix(UNIX) {
            return if path.is_empty() {
                Err("unix: is followed by the path of a socket, like unix:/run/throughline.sock".to_owned())
            } else {
                Ok(Self::of_socket(path))
            };
        }
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("{error}; a URL is like {URL_DEFAULT}"))?;
        let is_secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err("a URL begins with http://, https://, ws://, wss:// or unix:".to_owned()),
        };
        if uri.query().is_some() {
            return Err("a URL with a query is not supported; channels, cursor and token are arguments".to_owned());
        }
        let authority = uri.authority().ok_or("the URL names no host")?;
        if authority.as_str().contains('@') {
            return Err("a user name or password in the URL is not supported; a token comes with --token".to_owned());
        }
        let port = port(&authority.as_str()[authority.host().len()..])?;
        Ok(Self {
            dial: Dial::Tcp {
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port: port.unwrap_or(if is_secure { PORT_SECURE } else { PORT_PLAIN }),
            },
            is_secure,
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Dial::Unix(path) = &self.dial {
            return write!(f, "{UNIX}{}", path.display());
        }
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// What follows the host in the authority: nothing, or `:PORT`.
fn port(text: &str) -> Result<Option<u16>, String> {
    match text.strip_prefix(':') {
        None | Some("") => Ok(None),
        Some(digits) => {
            let wrong = |_| format!("{digits:?} is not a port; it is a number from 1 to 65535");
            digits.parse().map(Some).map_err(wrong)
        }
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

    fn tcp(host: &str, port: u16) -> Dial {
        Dial::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    fn refusal(url: &str) -> String {
        url.parse::<Target>().unwrap_err()
    }

    #[test]
    fn a_path_becomes_a_prefix() {
        let target: Target = "http://edge.example:8080/edge/".parse().unwrap();
        assert_eq!(*target.dial(), tcp("edge.example", 8080));
        assert_eq!(target.authority(), "edge.example:8080");
        assert_eq!(target.endpoint("/v1/ws", "channel=a"), "/edge/v1/ws?channel=a");
        assert_eq!(target.to_string(), "http://edge.example:8080/edge");
    }

    #[test]
    fn the_port_is_80_where_none_is_named() {
        let target: Target = "ws://edge.example".parse().unwrap();
        assert_eq!(*target.dial(), tcp("edge.example", 80));
        assert_eq!(target.endpoint("/v1/publish", ""), "/v1/publish");
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets_for_connecting_only() {
        let target: Target = "http://[::1]:8000".parse().unwrap();
        assert_eq!(*target.dial(), tcp("::1", 8000));
        assert_eq!(target.authority(), "[::1]:8000");
        let target: Target = "http://[2001:db8::1]/edge".parse().unwrap();
        assert_eq!(*target.dial(), tcp("2001:db8::1", 80));
    }

    #[test]
    fn tls_and_sockets_have_their_own_beginnings() {
        for url in ["https://edge.example/edge", "wss://edge.example/edge"] {
            let target: Target = url.parse().unwrap();
            assert!(target.is_secure());
            assert_eq!(*target.dial(), tcp("edge.example", 443));
            assert_eq!(target.to_string(), "https://edge.example/edge");
        }
        let target: Target = "unix:/run/t.sock".parse().unwrap();
        assert_eq!(*target.dial(), Dial::Unix("/run/t.sock".into()));
        assert_eq!(
            (target.authority(), target.to_string().as_str()),
            ("localhost", "unix:/run/t.sock")
        );
        assert!(refusal("unix:").contains("unix:/run"));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        assert!(refusal("edge.example:8000").contains("begins with http://"));
        assert!(refusal("http://user:secret@edge.example").contains("user name"));
        assert!(refusal("http://edge.example/?token=t").contains("query"));
        assert!(refusal("http://edge.example:99999").contains("not a port"));
        assert!(refusal("ftp://edge.example").contains("begins with http://"));
    }
}
