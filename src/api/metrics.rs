//! What this node counts, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::metrics::MEDIA_TYPE;
use crate::session::Node;

pub(super) async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let headers = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, node.metrics().to_text()).into_response()
}
