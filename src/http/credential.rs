//! What a request shows to say who asks: one function from its head, and the token in its body, to a credential.

use axum::http::header::{COOKIE, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use axum::http::{HeaderMap, Method, request};

use super::origins::Page;
use crate::protocol::{Code, Problem, Secret, read_query};
use crate::session::identity::Credential;

/// The subprotocol that a WebSocket client may offer; it must be offered beside a token.
pub const SUBPROTOCOL: &str = "throughline.v1";

const TOKEN_SUBPROTOCOL: &str = "bearer.";

/// What the request shows, from the first of these that it has: `Authorization`, `X-API-Key`, the subprotocol, the
/// body, the cookie of this name, the query. What comes first counts, be it right or wrong.
///
/// # Errors
/// `bad_request` for a token as subprotocol without the protocol itself, `token_invalid` for a header that is there
/// twice or is no text, `origin_refused` if all there is is a cookie for a page that may not use it.
pub fn credential(
    head: &request::Parts,
    in_body: Option<&Secret>,
    cookie_name: Option<&str>,
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
    let in_cookie = cookie_name.and_then(|name| cookie(headers, name));
    let is_cookie_refused = in_cookie.is_some() && !may_use_cookies(head);
    if let Some(token) = in_cookie.filter(|_| !is_cookie_refused) {
        return Ok(Some(Credential::Token(token)));
    }
    let query = read_query(head.uri.query().unwrap_or_default())?;
    if let Some((_, token)) = query.into_iter().find(|(name, _)| name == "token") {
        return Ok(Some(Credential::Token(token.into_owned())));
    }
    if is_cookie_refused {
        let detail = "this page may not use the cookie here; list its origin in `origins`, or show the token otherwise";
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

/// Whether cookies count: a browser sends them along whoever's page asks, so the page must be one that may.
pub fn may_use_cookies(head: &request::Parts) -> bool {
    match head.extensions.get::<Page>() {
        Some(Page::Unsaid) | None => {
            // A same-origin `EventSource` says nothing of its origin.
            let is_plain_get = head.method == Method::GET && !asks_for_websocket(head);
            let site = head
                .headers
                .get("sec-fetch-site")
                .map(axum::http::HeaderValue::as_bytes);
            is_plain_get && site != Some(b"cross-site")
        }
        Some(page) => page.may_use_cookies(),
    }
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
        from(&head, body)
    }

    fn from(head: &request::Parts, body: Option<&str>) -> String {
        let body = body.map(|token| Secret::new(token.to_owned()));
        match credential(head, body.as_ref(), Some("session")) {
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
        ];
        assert_eq!(of("POST", "/v1/sse?token=e", &all, Some("c")), "token a");
        assert_eq!(of("POST", "/v1/sse?token=e", &all[1..], Some("c")), "key b");
        assert_eq!(of("POST", "/v1/sse?token=e", &all[2..], Some("c")), "token c");
        assert_eq!(of("GET", "/v1/sse?token=e", &all[2..], None), "token d");
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
    fn a_cookie_counts_for_pages_that_may_use_it_only() {
        let under = |page: Page, method: &str, more: &[(&str, &str)]| {
            let mut request = axum::http::Request::builder().method(method).uri("/v1/ws");
            for (name, value) in [&[("cookie", "session=\"d\"")], more].concat() {
                request = request.header(name, value);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            head.extensions.insert(page);
            from(&head, None)
        };
        for page in [Page::Own, Page::Listed] {
            for (method, more) in [("GET", &[][..]), ("POST", &[]), ("GET", WS), ("CONNECT", &[])] {
                assert_eq!(under(page, method, more), "token d", "{page:?} {method}");
            }
        }
        assert_eq!(under(Page::Unsaid, "GET", &[]), "token d");
        assert_eq!(
            under(Page::Unsaid, "GET", &[("sec-fetch-site", "same-origin")]),
            "token d"
        );
        for refused in [
            under(Page::Unsaid, "GET", &[("sec-fetch-site", "cross-site")]),
            under(Page::Unsaid, "POST", &[]),
            under(Page::Unsaid, "GET", WS),
            under(Page::Unsaid, "CONNECT", &[]),
            under(Page::Stranger, "GET", &[]),
            under(Page::Stranger, "GET", WS),
            under(Page::Anyone, "GET", &[]),
            under(Page::Anyone, "POST", &[]),
            under(Page::Anyone, "GET", WS),
        ] {
            assert_eq!(refused, "origin_refused");
        }
    }
}
