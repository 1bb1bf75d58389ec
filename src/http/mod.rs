//! HTTP's own manners, shared by the subscribing and the publishing side: bodies in, problems out.

mod admission;
mod carried;
mod client;
mod client_address;
mod cors;
mod credential;
mod forwarded;
mod frames;
mod framing;
mod guard;
mod hosts;
mod identify;
mod kept;
mod lease;
mod origin;
mod origins;
mod peer;
mod refusals;
mod sent_to;
mod stream;

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    AsHeaderName, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, Request, StatusCode, request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::protocol::{Code, Problem};

pub use admission::{Door, RATELIMIT, RATELIMIT_POLICY, Rules, admission, locate, visitor};
pub use carried::carried;
pub use client::HttpClient;
pub use client_address::{ClientAddress, client_address};
pub use cors::cors;
pub use credential::{SUBPROTOCOL, credential, may_use_cookies};
pub use frames::PREFACE;
pub use guard::{Guarded, HEAD_TIMEOUT, Version, refusal};
pub use hosts::Hosts;
pub use identify::{count_reading, identify, verify};
pub use kept::{Kept, Place};
pub use lease::{Lease, Lent, Narrow};
pub use origin::{BadOrigin, Origin, OriginPattern};
pub use origins::{Origins, Page};
pub use peer::Peer;
pub use refusals::count_refusals;
pub use sent_to::Encrypted;
pub use stream::Stream;

/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a whole body, of at most `bytes_max`, and gives the head back with it.
///
/// # Errors
/// `too_large`, or `bad_request` for a body that breaks off or does not arrive in time.
pub async fn read_body(request: Request<Body>, bytes_max: usize) -> Result<(request::Parts, Bytes), Problem> {
    let (head, body) = request.into_parts();
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok((head, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            Code::TooLarge,
            format!("the body has more than {bytes_max} bytes, the most that is read"),
        )),
        Ok(Err(error)) => Err(Problem::new(
            Code::BadRequest,
            format!("the body could not be read: {error}"),
        )),
        Err(_elapsed) => {
            let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::new(Code::BadRequest, detail))
        }
    }
}

/// Reads what is still to come of a refused request and forgets it, so that its sender hears of the refusal and not of
/// a connection that broke. Whoever asked first whether to send it (`Expect`) need not.
pub async fn discard_body(request: Request<Body>, bytes_max: usize) {
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body = Limited::new(request.into_body(), bytes_max);
    let reading = async { while let Some(Ok(_)) = body.frame().await {} };
    // Who takes longer is cut.
    let _late = tokio::time::timeout(BODY_TIMEOUT, reading).await;
}

/// A header's value as text, if it is there and is text.
pub fn header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A header's value, which is UTF-8 if it is there.
///
/// # Errors
/// `bad_request`, for what is not: what a client says is not ignored in silence.
pub fn text_header(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Problem::new(
            Code::BadRequest,
            format!("the header `{name}` is not UTF-8"),
        )),
    }
}

/// The media type of a request's body, without parameters, in lower case; empty if there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let given = header(headers, CONTENT_TYPE).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// An answer in JSON that no cache keeps.
pub fn json(json: String) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response()
}

impl IntoResponse for Problem {
    /// `application/problem+json` (RFC 9457), with `Retry-After` where the request may be repeated. The code goes along
    /// as an extension.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let names = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let mut response = (status, names, self.to_json()).into_response();
        let headers = response.headers_mut();
        if let Some(retry_ms) = self.retry_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_ms.div_ceil(1000)));
        }
        if matches!(self.code, Code::TooLarge | Code::Draining) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.code.status() == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge(self.code)));
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

/// How to come in (RFC 6750 §3); where no credentials were shown there is nothing to say of them.
fn challenge(code: Code) -> &'static str {
    if code == Code::TokenExpired {
        "Bearer realm=\"throughline\", error=\"invalid_token\", error_description=\"the token has expired\""
    } else if code == Code::TokenInvalid {
        "Bearer realm=\"throughline\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"throughline\""
    }
}
