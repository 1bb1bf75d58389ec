//! Whether this node lives, and whether it is ready.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::session::Node;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(node): State<Arc<Node>>) -> Response {
    match node.check_ready() {
        Ok(()) => "ok\n".into_response(),
        Err(problem) => problem.into_response(),
    }
}
