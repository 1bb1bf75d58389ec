//! Counts what is refused, whichever handler refuses it: a refusal carries its code as an extension of the response.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::protocol::Code;
use crate::session::Node;

/// The endpoints by which refusals are counted; all other paths are one, for clients make them up.
const ENDPOINTS: [&str; 9] = [
    "/v1/ws",
    "/v1/sse",
    "/v1/poll",
    "/v1/publish",
    "/v1/history",
    "/v1/presence",
    "/v1/disconnect",
    "/v1/unsubscribe",
    "/v1/channels",
];

/// Counts a refused request, under its endpoint and code.
pub async fn count_refusals(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let known = ENDPOINTS.into_iter().find(|endpoint| *endpoint == path);
    let response = next.run(request).await;
    if let Some(code) = response.extensions().get::<Code>() {
        node.metrics().note_refused(known.unwrap_or("other"), code.as_str());
    }
    response
}
