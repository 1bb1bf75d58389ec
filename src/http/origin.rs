//! An origin (RFC 6454): whose page asks, as browsers say it, and as a configuration names it.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// A scheme, a host and a port, in the one form that each has: lower case, Punycode, no default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Reads what an `Origin` header says. `None`: it is none, or it is `null`.
    pub(super) fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// The origin of what is at an authority (`host` or `host:port`).
    pub(super) fn at(scheme: &str, authority: &str) -> Option<Self> {
        Self::read(&format!("{scheme}://{authority}"))
    }

    /// Its scheme.
    pub(super) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether its host is this machine, by a name that cannot be anybody else's.
    pub(super) fn is_loopback(&self) -> bool {
        let is_name = self.host == "localhost" || self.host.ends_with(".localhost");
        is_name || self.host == "[::1]" || {
            let address = self.host.parse::<std::net::Ipv4Addr>();
            address.is_ok_and(|address| address.is_loopback())
        }
    }

    /// Whether its host is an address: nobody can make a name of their own lead there.
    pub(super) fn is_address(&self) -> bool {
        self.host.starts_with('[') || self.host.parse::<std::net::Ipv4Addr>().is_ok()
    }

    /// Whether the other's host is below this one's.
    fn is_above(&self, other: &Self) -> bool {
        let labels = other.host.strip_suffix(&self.host);
        labels.is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
    }

    fn parse(text: &str) -> Result<Self, BadOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(BadOrigin::Form)?;
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        if !is_scheme(scheme) || rest.is_empty() {
            return Err(BadOrigin::Form);
        }
        if let Some(authority) = rest.strip_suffix('/').filter(|rest| !rest.contains('/')) {
            return Err(BadOrigin::Path(format!("{scheme}://{authority}")));
        }
        if let Some((authority, _)) = rest.split_once(['/', '?', '#']) {
            return Err(BadOrigin::Path(format!("{scheme}://{authority}")));
        }
        if rest.contains(|c: char| "@\\*".contains(c) || c.is_whitespace() || c.is_control()) {
            return Err(BadOrigin::Form);
        }
        let scheme = scheme.to_ascii_lowercase();
        match &*scheme {
            "http" | "https" => {
                let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| BadOrigin::Form)?;
                let host = url.host().map(|host: Host<&str>| host.to_string());
                Ok(Self {
                    host: host.ok_or(BadOrigin::Form)?,
                    port: url.port(),
                    scheme,
                })
            }
            // A browser's extension, an app's web view: what stands there is opaque.
            _ => Ok(Self {
                host: rest.to_ascii_lowercase(),
                port: None,
                scheme,
            }),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// An entry of the list of origins that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: every origin, without credentials.
    Any,
    /// `null`: what has no origin (a file, a sandboxed frame), without credentials.
    Null,
    /// One origin.
    One(Origin),
    /// `https://*.example.com`: every host below this one, however deep, and not itself.
    Below(Origin),
}

impl OriginPattern {
    /// Whether it names this origin; `*` and `null` name none.
    pub(super) fn names(&self, origin: &Origin) -> bool {
        match self {
            Self::Any | Self::Null => false,
            Self::One(one) => one == origin,
            Self::Below(parent) => {
                origin.scheme == parent.scheme && origin.port == parent.port && parent.is_above(origin)
            }
        }
    }
}

impl OriginPattern {
    /// Whether it names this origin's host, whatever the scheme and port.
    pub(super) fn names_host(&self, origin: &Origin) -> bool {
        match self {
            Self::Any => true,
            Self::Null => false,
            Self::One(one) => one.host == origin.host,
            Self::Below(parent) => parent.is_above(origin),
        }
    }
}

impl FromStr for OriginPattern {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let Some((scheme, parent)) = text.split_once("://*.") else {
            let origin = Origin::parse(text).map_err(|error| error.of(text))?;
            return Ok(Self::One(origin));
        };
        let origin = Origin::at(scheme, parent).ok_or(BadOrigin::Form.of(text))?;
        let is_name = origin.host.parse::<std::net::Ipv4Addr>().is_err() && !origin.host.starts_with('[');
        if !is_name || !matches!(&*origin.scheme, "http" | "https") {
            return Err(BadOrigin::Form);
        }
        // Whoever meant a whole top-level domain meant everybody.
        if !origin.host.contains('.') && origin.host != "localhost" {
            return Err(BadOrigin::TooWide);
        }
        Ok(Self::Below(origin))
    }
}

/// Why a text names no origin, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadOrigin {
    /// It is none.
    Form,
    /// There is something behind the host and port; without it, it would be this.
    Path(String),
    /// It has no scheme; with one, it would be this.
    Scheme(String),
    /// It names a whole top-level domain.
    TooWide,
}

impl BadOrigin {
    fn of(self, text: &str) -> Self {
        let is_host = |text: &str| Origin::at("https", text.trim_start_matches("*.")).is_some();
        if self == Self::Form && !text.contains("://") && is_host(text) {
            return Self::Scheme(format!("https://{text}"));
        }
        self
    }
}

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "must be scheme, host and port, like \"https://app.example\", \"https://*.app.example\" or \
                 \"http://localhost:5173\"; or \"*\" for every origin, or \"null\"",
            ),
            Self::Path(right) => write!(f, "an origin ends with its host or port: write {right:?}"),
            Self::Scheme(right) => write!(f, "an origin begins with its scheme: write {right:?}"),
            Self::TooWide => f.write_str("this names everybody's hosts: name the domain too, or write \"*\""),
        }
    }
}

impl std::error::Error for BadOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_form() {
        for (text, expected) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:80", "https://app.example:80"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://BÜCHER.example:8443", "https://xn--bcher-kva.example:8443"),
            ("http://[2001:DB8::1]:8000", "http://[2001:db8::1]:8000"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(Origin::read(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "null",
            "*",
            "app.example",
            "://app.example",
            "https://",
            "https:///",
            "https://a b",
            "https://a@b",
            "https://a\\b",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://*.a",
            "https://a:65536",
            "https://a:x",
            "https://[::1",
            "7://a",
        ] {
            assert_eq!(Origin::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_names_its_own_and_nothing_that_looks_like_it() {
        let named = |pattern: &str, origin: &str| {
            let pattern: OriginPattern = pattern.parse().unwrap();
            pattern.names(&Origin::read(origin).unwrap())
        };
        for (pattern, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://App.example:443", "https://app.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.example.com", "https://a.b.example.com"),
            ("https://*.example.com:8443", "https://a.example.com:8443"),
            ("http://*.localhost", "http://app.localhost"),
        ] {
            assert!(named(pattern, origin), "{pattern} {origin}");
        }
        for (pattern, origin) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example", "https://app.example.evil.example"),
            ("https://app.example", "https://evilapp.example"),
            ("https://app.example", "https://a.app.example"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            ("https://*.example.com", "https://a.example.com.evil.example"),
            ("https://*.example.com", "http://a.example.com"),
            ("https://*.example.com", "https://a.example.com:8443"),
            ("*", "https://app.example"),
            ("null", "https://app.example"),
        ] {
            assert!(!named(pattern, origin), "{pattern} {origin}");
        }
    }

    #[test]
    fn what_names_no_origin_is_told_what_would() {
        for (text, right) in [
            ("https://app.example/", "write \"https://app.example\""),
            ("https://app.example/chat", "write \"https://app.example\""),
            ("https://app.example?x", "write \"https://app.example\""),
            ("app.example", "write \"https://app.example\""),
            ("localhost:5173", "write \"https://localhost:5173\""),
            ("*.app.example", "write \"https://*.app.example\""),
            ("https://*.com", "name the domain"),
            ("https://*", "must be scheme"),
            ("https://a.*.example", "must be scheme"),
            ("https://*.10.0.0.1", "must be scheme"),
            ("https://user@app.example", "must be scheme"),
            ("", "must be scheme"),
            ("Null", "write \"https://Null\""),
        ] {
            let error = text.parse::<OriginPattern>().unwrap_err().to_string();
            assert!(error.contains(right), "{text}: {error}");
        }
    }
}
