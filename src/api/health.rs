//! Whether this node lives, and whether it is ready.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};

use crate::session::Node;

/// What is true now may be wrong in a second, so nobody between may keep it.
fn ok() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

pub(super) async fn livez() -> Response {
    ok()
}

pub(super) async fn readyz(State(node): State<Arc<Node>>) -> Response {
    match node.check_ready() {
        Ok(()) => ok(),
        Err(problem) => problem.into_response(),
    }
}
