//! What this node counts, for Prometheus.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::http;
use crate::metrics::MEDIA_TYPE;
use crate::protocol::Problem;
use crate::session::Node;

pub(super) async fn metrics(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    http::verify(&node, &head, None).await?.may_operate()?;
    Ok(text(&node))
}

pub(super) async fn open_metrics(State(node): State<Arc<Node>>) -> Response {
    text(&node)
}

fn text(node: &Node) -> Response {
    let headers = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, node.measure().to_text()).into_response()
}
