//! Whether this node lives, and whether it is ready.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::protocol::{Code, Problem};
use crate::session::Node;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(node): State<Arc<Node>>) -> Response {
    if node.registry().is_draining() {
        return Problem::new(Code::Draining, "this node is shutting down")
            .retry_after_ms(1000)
            .into_response();
    }
    "ok\n".into_response()
}
