//! Pages of other origins: who may ask, and what their browsers are told (Fetch standard, CORS).
//!
//! A browser says by `Origin` whose page asks. One that may not is refused before anything else is looked at, on every
//! endpoint: CORS alone keeps answers from a page, and neither its requests from having been carried out nor a WebSocket
//! from being opened.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use axum::http::{Method, StatusCode, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::admission::{Door, Rules};
use super::discard_body;
use super::hosts::check_host;
use super::origins::{Own, Page};
use super::sent_to::sent_to;
use crate::protocol::{Code, Problem};

/// What a page may read of an answer beyond its body.
const EXPOSED: &str = "retry-after,ratelimit,ratelimit-policy,www-authenticate";

/// For how long a browser need not ask again whether it may, in seconds: as long as any browser believes. An origin that
/// is taken off the list meanwhile is refused by the request itself.
const PREFLIGHT_S: &str = "7200";

/// What is read of the body of a refused request, so that its sender hears why.
const REFUSED_BYTES_MAX: usize = 1024 * 1024;

/// How much of an origin is repeated to whoever sent it.
const SHOWN_CHARS_MAX: usize = 200;

/// The layer: refuses pages that may not ask, answers their browsers' questions, and puts the [`Page`] into the request.
pub async fn cors(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let rules = door.rules();
    let judged = check_host(&head, &rules).and_then(|()| judge(&head, &rules));
    let mut response = match judged {
        Err(problem) => {
            let mut response = problem.into_response();
            // Its client may have begun to speak another protocol.
            if head.headers.contains_key(UPGRADE) {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            discard_body(Request::from_parts(head, body), REFUSED_BYTES_MAX).await;
            response
        }
        Ok((page, origin)) => {
            head.extensions.insert(page);
            let mut response = match (&origin, preflight(&head)) {
                (Some(_), Some(answer)) => answer,
                _ => next.run(Request::from_parts(head, body)).await,
            };
            allow(&mut response, page, origin);
            response
        }
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
    response
}

/// Whose page asks, and what it says of itself.
fn judge(head: &request::Parts, rules: &Rules) -> Result<(Page, Option<HeaderValue>), Problem> {
    let mut said = head.headers.get_all(ORIGIN).into_iter();
    let (origin, more) = (said.next(), said.next());
    let Some(origin) = origin else {
        return Ok((Page::Unsaid, None));
    };
    let own = sent_to(head, &rules.trusted_proxies);
    let text = origin.to_str().ok().filter(|_| more.is_none());
    let page = text.and_then(|text| rules.origins.judge(text, &own));
    page.map(|page| (page, Some(origin.clone())))
        .ok_or_else(|| refusal(text, &own, rules))
}

fn refusal(origin: Option<&str>, own: &Own, rules: &Rules) -> Problem {
    let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
    let detail = match origin {
        None => "the header `Origin` is there twice, or is no text".to_owned(),
        Some("null") => "a page without an origin (a file, a sandboxed frame) may not ask here; serve it by HTTP, or \
                         list \"null\" in `origins`"
            .to_owned(),
        Some(origin) if rules.origins == super::Origins::default() => format!(
            "pages of {:?} may not ask here: `origins` is empty, so only those of this server may, which was asked as \
             {:?}; list the origin, or let the proxy in front pass on the `Host`",
            shown(origin),
            shown(own.authority.as_deref().unwrap_or_default()),
        ),
        Some(origin) => format!("pages of {:?} may not ask here; list that in `origins`", shown(origin)),
    };
    Problem::new(Code::OriginRefused, detail)
}

/// The answer to a browser that asks whether its page may ask; `None` if this is no such question.
fn preflight(head: &request::Parts) -> Option<Response> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    // Those that it asks for, by name: with credentials the star is no wildcard, and never stands for `Authorization`.
    if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_S));
    let asked = "access-control-request-method, access-control-request-headers";
    headers.append(VARY, HeaderValue::from_static(asked));
    Some(response)
}

fn allow(response: &mut Response, page: Page, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    let headers = response.headers_mut();
    let allowed = if page == Page::Anyone {
        HeaderValue::from_static("*")
    } else {
        origin
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    if page == Page::Listed {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
