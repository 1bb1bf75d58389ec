//! What this process asks of others over HTTP: the port, behind which the sockets are.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// A request to somebody whose address is configured.
#[derive(Clone)]
pub struct Request<'a> {
    /// `http://` or `https://`; it comes from the configuration and from nowhere else.
    pub url: &'a str,
    /// Beside those that HTTP itself needs.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// With one it is a `POST`, without one a `GET`.
    pub body: Option<Bytes>,
    /// How long all of it may take, from looking up the name to the last byte of the answer.
    pub time_max: Duration,
    /// The longest body of an answer that is read; `None`: the status is enough, and no body is waited for.
    pub answer_bytes_max: Option<usize>,
}

/// Where a URL leads: what stands behind may be secret.
pub(super) fn host(url: &str) -> &str {
    let host_at = url.find("://").map_or(0, |at| at + 3);
    let rest = &url[host_at..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// A URL as one may show it where its path is no secret: without user, password, query and fragment.
pub fn without_secrets(url: &str) -> String {
    let at = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(at);
    let host_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let path = &rest[host_ends..];
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    format!("{scheme}{}{path}", host(url))
}

/// Neither headers nor body, nor all of the URL: credentials may stand there.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &without_secrets(self.url))
            .finish_non_exhaustive()
    }
}

/// What was answered, whatever the status says.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code. A redirect is an answer like any other.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

/// Not the body, which may be secret.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer. The request may have been carried out all the same, unless nobody could be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// What was to be sent is no request: the URL, or a header.
    Malformed(String),
    /// Nobody could be reached: the name, the connection, the certificate.
    Unreachable(String),
    /// The exchange broke off.
    Broken(String),
    /// It took longer than this.
    Late(Duration),
    /// The body has more bytes than this.
    TooLong(usize),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "not a request that can be sent: {why}"),
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Broken(why) => write!(f, "the exchange broke off: {why}"),
            Self::Late(time_max) => write!(f, "no answer within {} ms", time_max.as_millis()),
            Self::TooLong(bytes_max) => write!(f, "the answer has more than {bytes_max} bytes"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Asks over HTTP. It follows no redirects, takes no proxy from the environment, and keeps no cookies.
///
/// A request may reach the other side twice, where a connection that was kept broke before anything was answered: so
/// it must be one that does no harm when it is repeated.
pub trait Ask: Send + Sync + fmt::Debug + 'static {
    /// The answer to a request, within its bounds. May be dropped at any time, which gives the exchange up.
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, NoAnswer>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_what_is_no_secret_is_shown() {
        for (url, path) in [
            (
                "https://user:secret@app.example:8443/hooks?token=secret",
                "https://app.example:8443/hooks",
            ),
            ("http://app.example:8443?x", "http://app.example:8443"),
            ("http://app.example:8443#x", "http://app.example:8443"),
            ("app.example:8443", "app.example:8443"),
            ("https://app.example:8443/@us/keys", "https://app.example:8443/@us/keys"),
        ] {
            assert_eq!(
                (host(url), without_secrets(url).as_str()),
                ("app.example:8443", path),
                "{url}"
            );
            let request = Request {
                url,
                headers: &[],
                body: None,
                time_max: Duration::ZERO,
                answer_bytes_max: None,
            };
            assert!(!format!("{request:?}").contains("secret"));
        }
    }
}
