//! What a request shows to say who asks: one function from its head, and the token in its body, to a credential.

use axum::http::header::{COOKIE, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use axum::http::{HeaderMap, Method, request};

use crate::protocol::{Code, Problem, Secret, read_query};
use crate::session::identity::{CookieRule, Credential};

/// The subprotocol that a WebSocket client may offer; it must be offered beside a token.
pub const SUBPROTOCOL: &str = "throughline.v1";

const TOKEN_SUBPROTOCOL: &str = "bearer.";

/// What the request shows, from the first of these that it has: `Authorization`, `X-API-Key`, the subprotocol, the
/// body, the cookie, the query. What comes first counts, be it right or wrong.
///
/// # Errors
/// `bad_request` for a token as subprotocol without the protocol itself, `token_invalid` for a header that is there
/// twice or is no text, `origin_refused` if all there is is a cookie under an origin that may not use it.
pub fn credential(
    head: &request::Parts,
    in_body: Option<&Secret>,
    rule: &CookieRule,
) -> Result<Option<Credential>, Problem> {
    let headers = &head.headers;
    let offered = offered_token(head)?;
    if let Some(text) = only(headers, "authorization", |text| bearer(text).map(Credential::bearer))? {
        return Ok(Some(text));
    }
    if let Some(key) = only(headers, "x-api-key", |text| {
        Some(Credential::ApiKey(text.trim().to_owned()))
    })? {
        return Ok(Some(key));
    }
    if let Some(token) = offered.or_else(|| in_body.map(|token| token.reveal().to_owned())) {
        return Ok(Some(Credential::Token(token)));
    }
    let in_cookie = rule.name.as_deref().and_then(|name| cookie(headers, name));
    let is_cookie_refused = in_cookie.is_some() && !may_use_cookie(head, rule);
    if let Some(token) = in_cookie.filter(|_| !is_cookie_refused) {
        return Ok(Some(Credential::Token(token)));
    }
    let query = read_query(head.uri.query().unwrap_or_default())?;
    if let Some((_, token)) = query.into_iter().find(|(name, _)| name == "token") {
        return Ok(Some(Credential::Token(token.into_owned())));
    }
    if is_cookie_refused {
        let detail = "pages of this origin may not use the cookie here; add the origin to `auth.origins`";
        return Err(Problem::new(Code::OriginRefused, detail));
    }
    Ok(None)
}

/// A header that must not be there twice: which of the two would count is what an attacker would choose.
fn only(
    headers: &HeaderMap,
    name: &'static str,
    read: impl Fn(&str) -> Option<Credential>,
) -> Result<Option<Credential>, Problem> {
    let mut values = headers.get_all(name).into_iter();
    let bad = |why| Problem::new(Code::TokenInvalid, format!("the header `{name}` {why}"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(bad("is there twice")),
        (Some(value), None) => value.to_str().map(read).map_err(|_| bad("is no text")),
    }
}

/// What stands behind `Bearer`. Another scheme is for somebody else: a proxy in front, say.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// Whether it asks for a WebSocket: over HTTP/1.1 by an upgrade, over HTTP/2 by an extended CONNECT.
fn asks_for_websocket(head: &request::Parts) -> bool {
    head.method == Method::CONNECT || head.headers.contains_key(UPGRADE)
}

fn offered_token(head: &request::Parts) -> Result<Option<String>, Problem> {
    if !asks_for_websocket(head) {
        return Ok(None);
    }
    let values = head.headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offers = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let offers: Vec<_> = offers.map(str::trim).collect();
    let mut tokens = offers.iter().filter_map(|offer| offer.strip_prefix(TOKEN_SUBPROTOCOL));
    let token = tokens.next().map(str::to_owned);
    if token.is_some() && !offers.contains(&SUBPROTOCOL) {
        let detail = "a token as the subprotocol `bearer.…` must be offered together with `throughline.v1`, \
                      which is then selected";
        return Err(Problem::new(Code::BadRequest, detail));
    }
    if tokens.next().is_some() {
        return Err(Problem::new(
            Code::TokenInvalid,
            "two tokens are offered as subprotocols; offer one",
        ));
    }
    Ok(token)
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).into_iter();
    let pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut named = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name);
    named.next().map(|(_, value)| value.trim_matches('"').to_owned())
}

/// A browser sends cookies along whoever's page asks: so the page's origin must be one that may.
pub(super) fn may_use_cookie(head: &request::Parts, rule: &CookieRule) -> bool {
    let headers = &head.headers;
    let mut origins = headers.get_all(ORIGIN).into_iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            // HTTP/2 has no `Host`, but an authority.
            let authority = head.uri.authority().map(axum::http::uri::Authority::as_str);
            let host = authority.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
            origin
                .to_str()
                .is_ok_and(|origin| is_allowed(origin, host, &rule.origins))
        }
        (Some(_), Some(_)) => false,
        // A same-origin `EventSource` sends none.
        (None, _) => {
            let is_plain_get = head.method == Method::GET && !asks_for_websocket(head);
            let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
            is_plain_get && site != Some(b"cross-site")
        }
    }
}

fn is_allowed(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    if !allowed.is_empty() {
        return allowed.iter().any(|known| known.eq_ignore_ascii_case(origin));
    }
    // Whether a proxy in front has taken TLS off is not known here.
    let named = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    matches!((named, host), (Some(named), Some(host)) if named.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WS: &[(&str, &str)] = &[("upgrade", "websocket")];

    fn of(method: &str, target: &str, headers: &[(&str, &str)], body: Option<&str>) -> String {
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "edge.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let body = body.map(|token| Secret::new(token.to_owned()));
        let rule = CookieRule {
            name: Some("session".to_owned()),
            origins: Vec::new(),
        };
        match credential(&head, body.as_ref(), &rule) {
            Ok(None) => "none".to_owned(),
            Ok(Some(Credential::Token(token))) => format!("token {token}"),
            Ok(Some(Credential::ApiKey(key))) => format!("key {key}"),
            Err(problem) => problem.code.as_str().to_owned(),
        }
    }

    #[test]
    fn each_source_is_read_and_the_first_counts() {
        let all = [
            ("authorization", "Bearer a"),
            ("x-api-key", "b"),
            ("cookie", "x=1; session=d"),
            ("origin", "https://edge.example"),
        ];
        assert_eq!(of("POST", "/v1/sse?token=e", &all, Some("c")), "token a");
        assert_eq!(of("POST", "/v1/sse?token=e", &all[1..], Some("c")), "key b");
        assert_eq!(of("POST", "/v1/sse?token=e", &all[2..], Some("c")), "token c");
        assert_eq!(of("POST", "/v1/sse?token=e", &all[2..], None), "token d");
        assert_eq!(of("POST", "/v1/sse?token=e%2B", &[], None), "token e+");
        assert_eq!(of("GET", "/v1/sse", &[], None), "none");
        assert_eq!(of("GET", "/", &[("authorization", "bearer tlk_x")], None), "key tlk_x");
        assert_eq!(of("GET", "/", &[("authorization", "Basic eDp5")], None), "none");
        assert_eq!(of("GET", "/", &[("authorization", "Bearer")], None), "token ");
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        for name in ["authorization", "x-api-key"] {
            let twice = [(name, "Bearer a"), (name, "Bearer b")];
            assert_eq!(of("GET", "/", &twice, None), "token_invalid");
        }
        let two = [WS[0], ("sec-websocket-protocol", "throughline.v1, bearer.a, bearer.b")];
        assert_eq!(of("GET", "/v1/ws", &two, None), "token_invalid");
    }

    #[test]
    fn a_token_as_subprotocol_needs_the_protocol_beside_it() {
        let offer = |offered| of("GET", "/v1/ws", &[WS[0], ("sec-websocket-protocol", offered)], None);
        assert_eq!(offer("throughline.v1, bearer.a"), "token a");
        assert_eq!(offer("bearer.a,throughline.v1"), "token a");
        assert_eq!(offer("bearer.a"), "bad_request");
        assert_eq!(offer("throughline.v1"), "none");
        let over_http2 = [("sec-websocket-protocol", "throughline.v1, bearer.a")];
        assert_eq!(
            of("CONNECT", "https://edge.example/v1/ws", &over_http2, None),
            "token a"
        );
        let elsewhere = [("sec-websocket-protocol", "throughline.v1, bearer.a")];
        assert_eq!(of("GET", "/v1/sse", &elsewhere, None), "none");
    }

    #[test]
    fn a_cookie_counts_for_pages_of_this_origin_only() {
        let cookie = ("cookie", "session=\"d\"");
        let under = |method, target, more: &[(&str, &str)]| of(method, target, &[&[cookie], more].concat(), None);
        let (own, other) = (("origin", "http://edge.example"), ("origin", "https://evil.example"));
        let null = ("origin", "null");
        assert_eq!(under("GET", "/v1/sse", &[]), "token d");
        assert_eq!(under("GET", "/v1/sse", &[own]), "token d");
        assert_eq!(under("GET", "/v1/sse", &[("sec-fetch-site", "same-origin")]), "token d");
        assert_eq!(under("POST", "/v1/publish", &[own]), "token d");
        assert_eq!(under("GET", "/v1/ws", &[WS[0], own]), "token d");
        assert_eq!(under("CONNECT", "https://edge.example/v1/ws", &[own]), "token d");
        for refused in [
            under("GET", "/v1/sse", &[other]),
            under("GET", "/v1/sse", &[null]),
            under("GET", "/v1/sse", &[own, other]),
            under("GET", "/v1/sse", &[("sec-fetch-site", "cross-site")]),
            under("POST", "/v1/publish", &[]),
            under("POST", "/v1/publish", &[other]),
            under("GET", "/v1/ws", &[WS[0]]),
            under("CONNECT", "https://edge.example/v1/ws", &[]),
            under("CONNECT", "https://other.example/v1/ws", &[own]),
            under("GET", "/v1/ws", &[WS[0], other]),
        ] {
            assert_eq!(refused, "origin_refused");
        }
        assert_eq!(under("GET", "/v1/sse?token=e", &[other]), "token e");
    }
}
