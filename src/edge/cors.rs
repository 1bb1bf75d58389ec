//! What browsers let pages of other origins do.

use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HeaderName, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use tower_http::cors::{Any, CorsLayer};

use crate::http::{RATELIMIT, RATELIMIT_POLICY};

/// Pages of every origin may ask: what they may see is said by the token that they show, and a cookie counts for its
/// own origins alone.
pub(super) fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        // The star alone does not stand for `Authorization` (Fetch standard).
        .allow_headers([HeaderName::from_static("*"), AUTHORIZATION])
        .expose_headers([RETRY_AFTER, RATELIMIT, RATELIMIT_POLICY, WWW_AUTHENTICATE])
        .vary([ORIGIN])
}
