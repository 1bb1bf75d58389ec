//! Where a request was sent to, as its client sees it: by its own head, or by the word of a proxy that is trusted.

use axum::http::header::{FORWARDED, HOST};
use axum::http::{HeaderMap, request};
use ipnet::IpNet;

use super::client_address::is_believed;
use super::forwarded::forwarded;
use super::header;
use super::origins::Own;
use super::peer::Peer;

/// An extension of requests that came over TLS which ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encrypted;

/// Finds it. What `Forwarded` and `X-Forwarded-Host`, `-Proto` say differently, neither is believed about.
pub(super) fn sent_to(head: &request::Parts, trusted: &[IpNet]) -> Own {
    let peer = head.extensions.get::<Peer>();
    let said = if peer.is_some_and(|peer| is_believed(*peer, trusted)) {
        said_by_proxy(&head.headers)
    } else {
        Own::default()
    };
    // HTTP/2 has no `Host`, but an authority.
    let authority = head.uri.authority().map(axum::http::uri::Authority::as_str);
    let asked = authority.or_else(|| header(&head.headers, HOST)).map(str::to_owned);
    let is_encrypted = head.extensions.get::<Encrypted>().is_some();
    Own {
        authority: said.authority.or(asked),
        scheme: said.scheme.or_else(|| is_encrypted.then(|| "https".to_owned())),
    }
}

/// Of several proxies the one nearest to the client says what the client sees. A page cannot make its browser write
/// these headers to another origin without being allowed to first, so nothing is gained by inventing them.
fn said_by_proxy(headers: &HeaderMap) -> Own {
    let elements = header(headers, FORWARDED).and_then(forwarded).unwrap_or_default();
    let host = elements.iter().find_map(|element| element.host.clone());
    let proto = elements.iter().find_map(|element| element.proto.clone());
    let proto = proto.map(|proto| proto.to_ascii_lowercase());
    let first = |name| {
        let value = header(headers, name)?.split(',').next()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    Own {
        authority: agreed(host, first("x-forwarded-host")),
        scheme: agreed(
            proto,
            first("x-forwarded-proto").map(|proto| proto.to_ascii_lowercase()),
        ),
    }
}

fn agreed(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(one),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers<'a> = &'a [(&'static str, &'a str)];

    fn found(peer: &str, headers: Headers<'_>) -> String {
        let mut request = axum::http::Request::builder().uri("/v1/poll");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.extensions.insert(Peer { ip: peer.parse().ok() });
        let own = sent_to(&head, &["10.0.0.0/8".parse().unwrap()]);
        format!(
            "{}://{}",
            own.scheme.unwrap_or_else(|| "?".to_owned()),
            own.authority.unwrap_or_default()
        )
    }

    #[test]
    fn a_proxy_that_is_trusted_says_where_it_was_asked() {
        let host = ("host", "127.0.0.1:8000");
        let table: &[(&str, Headers<'_>, &str)] = &[
            ("198.51.100.9", &[host], "?://127.0.0.1:8000"),
            (
                "198.51.100.9",
                &[host, ("x-forwarded-host", "a.example"), ("x-forwarded-proto", "https")],
                "?://127.0.0.1:8000",
            ),
            ("10.0.0.1", &[host], "?://127.0.0.1:8000"),
            (
                "10.0.0.1",
                &[host, ("x-forwarded-proto", "HTTPS")],
                "https://127.0.0.1:8000",
            ),
            (
                "10.0.0.1",
                &[
                    host,
                    ("x-forwarded-host", "a.example, b.example"),
                    ("x-forwarded-proto", "https, http"),
                ],
                "https://a.example",
            ),
            ("unix", &[host, ("x-forwarded-host", "a.example")], "?://a.example"),
            (
                "10.0.0.1",
                &[
                    host,
                    (
                        "forwarded",
                        "for=192.0.2.1;host=\"a.example:8443\";proto=https, for=10.0.0.2;host=b",
                    ),
                ],
                "https://a.example:8443",
            ),
            (
                "10.0.0.1",
                &[host, ("forwarded", "host=a.example"), ("x-forwarded-host", "a.example")],
                "?://a.example",
            ),
            (
                "10.0.0.1",
                &[
                    host,
                    ("forwarded", "host=a.example"),
                    ("x-forwarded-host", "evil.example"),
                ],
                "?://127.0.0.1:8000",
            ),
            (
                "10.0.0.1",
                &[host, ("forwarded", "host=a.example, \"")],
                "?://127.0.0.1:8000",
            ),
        ];
        for (peer, headers, expected) in table {
            assert_eq!(found(peer, headers), *expected, "{peer} {headers:?}");
        }
    }
}
