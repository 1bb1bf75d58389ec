//! Whose pages may ask: those of the listed origins, or else of the server's own.

use super::origin::{Origin, OriginPattern};

/// The origins whose pages may ask. None are listed: those of the same origin, and for what is asked on this machine
/// itself, of any port of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<OriginPattern>);

/// The page behind a request, as far as it is told: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// None, or one whose browser does not say which.
    Unsaid,
    /// One of the server's own origin.
    Own,
    /// One of a listed origin: it may come with cookies.
    Listed,
    /// One that may ask like anybody else, and not in its user's name.
    Stranger,
    /// The same, because every origin may.
    Anyone,
}

impl Page {
    /// Whether what its browser sends along by itself counts: a cookie.
    pub fn may_use_cookies(self) -> bool {
        matches!(self, Self::Own | Self::Listed)
    }
}

impl FromIterator<OriginPattern> for Origins {
    fn from_iter<T: IntoIterator<Item = OriginPattern>>(patterns: T) -> Self {
        Self(patterns.into_iter().collect())
    }
}

impl Origins {
    /// How a page stands that says this in `Origin`, asking what is at `own`. `None`: it may not ask.
    pub(super) fn judge(&self, said: &str, own: &Own) -> Option<Page> {
        let Some(origin) = Origin::read(said) else {
            let is_listed = self.0.contains(&OriginPattern::Null);
            let page = is_listed.then_some(Page::Stranger).or(self.anyone());
            return page.filter(|_| said == "null");
        };
        if self.0.iter().any(|pattern| pattern.names(&origin)) {
            return Some(Page::Listed);
        }
        if !self.0.is_empty() {
            return self.anyone();
        }
        let asked = own.origin(&origin)?;
        if asked == origin {
            return Some(Page::Own);
        }
        // A page that is being written, on a port of its own.
        (origin.is_loopback() && asked.is_loopback()).then_some(Page::Stranger)
    }

    /// Whether a host is among those of the listed origins.
    pub(super) fn name_host(&self, of: &Origin) -> bool {
        self.0.iter().any(|pattern| pattern.names_host(of))
    }

    fn anyone(&self) -> Option<Page> {
        self.0.contains(&OriginPattern::Any).then_some(Page::Anyone)
    }
}

/// Where a request was sent to, as its client sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// `host` or `host:port`.
    pub(super) authority: Option<String>,
    /// `None`: a proxy in front may have taken TLS off, and said nothing of it.
    pub(super) scheme: Option<String>,
}

impl Own {
    /// Its origin, to be compared with a page's. Where nobody said whether TLS was on the way, it counts as the page's.
    fn origin(&self, page: &Origin) -> Option<Origin> {
        let scheme = self.scheme.as_deref().unwrap_or(page.scheme());
        let is_web = matches!(scheme, "http" | "https");
        Origin::at(scheme, self.authority.as_deref()?).filter(|_| is_web)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(listed: &[&str]) -> Origins {
        listed
            .iter()
            .map(|text| text.parse::<OriginPattern>().unwrap())
            .collect()
    }

    fn own(authority: &str, scheme: Option<&str>) -> Own {
        Own {
            authority: Some(authority.to_owned()),
            scheme: scheme.map(str::to_owned),
        }
    }

    #[test]
    fn without_a_list_the_own_origin_may() {
        let none = origins(&[]);
        for (said, authority, scheme, expected) in [
            ("https://edge.example", "edge.example", None, Some(Page::Own)),
            ("http://edge.example", "EDGE.example:80", None, Some(Page::Own)),
            ("https://edge.example", "edge.example:443", None, Some(Page::Own)),
            ("https://edge.example:8443", "edge.example:8443", None, Some(Page::Own)),
            ("https://edge.example", "edge.example", Some("https"), Some(Page::Own)),
            ("https://xn--bcher-kva.example", "bücher.example", None, Some(Page::Own)),
            ("http://[::1]:8000", "[::1]:8000", None, Some(Page::Own)),
            // One that differs in scheme, host or port.
            ("http://edge.example", "edge.example", Some("https"), None),
            ("https://edge.example", "edge.example:80", None, None),
            ("https://edge.example:8443", "edge.example", None, None),
            ("https://a.edge.example", "edge.example", None, None),
            ("https://edge.example.evil.example", "edge.example", None, None),
            ("https://evil.example", "edge.example", None, None),
            ("capacitor://edge.example", "edge.example", None, None),
            ("null", "edge.example", None, None),
            ("", "edge.example", None, None),
            ("edge.example", "edge.example", None, None),
            ("https://evil.example", "evil.example/@edge.example", None, None),
            ("http://edge.example", "edge.example", Some("ftp"), None),
            // On the developer's own machine.
            ("http://localhost:5173", "localhost:8000", None, Some(Page::Stranger)),
            ("http://127.0.0.1:5173", "localhost:8000", None, Some(Page::Stranger)),
            ("https://app.localhost", "[::1]:8000", None, Some(Page::Stranger)),
            ("http://localhost:5173", "edge.example", None, None),
            ("https://evil.example", "localhost:8000", None, None),
            ("http://localhost.evil.example", "localhost:8000", None, None),
            ("null", "localhost:8000", None, None),
        ] {
            assert_eq!(
                none.judge(said, &own(authority, scheme)),
                expected,
                "{said} {authority}"
            );
        }
        assert_eq!(none.judge("https://edge.example", &Own::default()), None);
    }

    #[test]
    fn a_list_says_it_all() {
        let edge = own("edge.example", None);
        let listed = origins(&["https://app.example", "https://*.app.example"]);
        for (said, expected) in [
            ("https://app.example", Some(Page::Listed)),
            ("https://a.app.example", Some(Page::Listed)),
            ("https://edge.example", None),
            ("http://localhost:5173", None),
            ("null", None),
        ] {
            assert_eq!(listed.judge(said, &edge), expected, "{said}");
        }
        let any = origins(&["*", "https://app.example"]);
        for (said, expected) in [
            ("https://app.example", Some(Page::Listed)),
            ("https://evil.example", Some(Page::Anyone)),
            ("null", Some(Page::Anyone)),
            ("garbage", None),
        ] {
            assert_eq!(any.judge(said, &edge), expected, "{said}");
        }
        assert_eq!(origins(&["null"]).judge("null", &edge), Some(Page::Stranger));
        assert!(
            !Page::Anyone.may_use_cookies() && !Page::Stranger.may_use_cookies() && !Page::Unsaid.may_use_cookies()
        );
    }
}
