//! Every way in which talking to the server ends, what to say of it, and whether to come back.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{StatusCode, header};
use serde::Deserialize;

use super::super::exit::Exit;

/// The same request would be refused again.
const STATUSES_FINAL: [u16; 8] = [400, 401, 403, 404, 405, 413, 415, 422];

#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection to that place.
    Unreachable { place: String, cause: String },
    /// No TLS with that place, or not with whom we believe.
    Insecure { place: String, cause: String },
    /// The server said no.
    Refused(Refusal),
    /// The connection, or the wait for an answer, came to an end.
    Broken(String),
    /// The server broke the protocol, so that nothing it says can be relied on.
    Violation(String),
}

/// A refusal in the server's own words.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) comeback: Comeback,
}

/// Whether to come back after a failure, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comeback {
    Never,
    /// When our own back-off says so.
    Backoff,
    /// When the server said so.
    After(Duration),
}

impl Failure {
    pub(crate) fn comeback(&self) -> Comeback {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) => Comeback::Backoff,
            Self::Refused(refusal) => refusal.comeback,
            Self::Insecure { .. } | Self::Violation(_) => Comeback::Never,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Insecure { .. } => Exit::Unavailable,
            Self::Refused(_) => Exit::Refused,
            Self::Broken(_) => Exit::Temporary,
            Self::Violation(_) => Exit::Software,
        }
    }

    /// The connection broke; an error of hyper or tungstenite says little without what lies beneath it.
    pub(crate) fn broken(what: &str, error: &dyn Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Broken(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insecure { place, cause } => write!(
                f,
                "no TLS with {place}: {cause} (name who signed its certificate with --cacert FILE, or say http:// if \
                 it speaks no TLS)"
            ),
            Self::Unreachable { place, cause } => write!(
                f,
                "cannot connect to {place}: {cause} (start a server there with `throughline serve`, \
                 or name another with --url)"
            ),
            Self::Refused(refusal) => write!(f, "{} ({})", refusal.detail, refusal.code),
            Self::Broken(why) => f.write_str(why),
            Self::Violation(what) => write!(f, "protocol error: {what}"),
        }
    }
}

/// What we read of a problem report (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Refusal {
    /// What an HTTP answer refuses. One that is no problem report of ours (a proxy's page, say) is told by its status.
    pub(crate) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
            code: status.as_u16().to_string(),
            detail: format!(
                "the server answered: {}{}; it, or a proxy before it, does not seem to be Throughline: check --url",
                reason(status),
                location(headers)
            ),
        });
        Self {
            code: problem.code,
            detail: problem.detail,
            comeback: comeback(status, headers),
        }
    }

    /// What a push (`closing`, `unsubscribed`) ends: without `retry_ms` for good.
    pub(crate) fn from_push(code: &str, message: &str, retry_ms: Option<u64>) -> Self {
        let comeback = retry_ms.map_or(Comeback::Never, |ms| Comeback::After(Duration::from_millis(ms)));
        Self {
            code: code.to_owned(),
            detail: message.to_owned(),
            comeback,
        }
    }
}

fn comeback(status: StatusCode, headers: &HeaderMap) -> Comeback {
    if STATUSES_FINAL.contains(&status.as_u16()) {
        return Comeback::Never;
    }
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(Comeback::Backoff, |seconds| {
        Comeback::After(Duration::from_secs(seconds))
    })
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("a status without a name")
}

/// Redirects are not followed, but said.
fn location(headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    location.map(|url| format!(", to {url}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, retry_after: Option<&'static str>, body: &str) -> Refusal {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        Refusal::from_answer(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn a_problem_report_speaks_for_itself() {
        let refusal = refusal(
            400,
            None,
            r#"{"status":400,"code":"bad_cursor","detail":"no such element"}"#,
        );
        assert_eq!(Failure::Refused(refusal).to_string(), "no such element (bad_cursor)");
    }

    #[test]
    fn what_would_be_refused_again_is_final() {
        for status in STATUSES_FINAL {
            assert_eq!(refusal(status, Some("1"), "").comeback, Comeback::Never, "{status}");
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        assert_eq!(
            refusal(503, Some("3"), "").comeback,
            Comeback::After(Duration::from_secs(3))
        );
        assert_eq!(refusal(429, None, "").comeback, Comeback::Backoff);
        let a_date = Some("Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(refusal(503, a_date, "").comeback, Comeback::Backoff);
    }

    #[test]
    fn a_page_from_a_proxy_is_told_by_its_status() {
        let refusal = refusal(502, None, "<html>");
        assert_eq!((refusal.code.as_str(), refusal.comeback), ("502", Comeback::Backoff));
        assert!(refusal.detail.starts_with("the server answered: Bad Gateway;"));
    }
}
