//! What is answered where no endpoint answers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::protocol::{Code, Problem};
use crate::session::Node;

/// After how long a client may come back that found no room.
const RETRY_FULL_MS: u64 = 5_000;

/// What is asked for where there is no room.
pub(super) async fn full() -> Problem {
    Problem::new(Code::Overloaded, "this node has all the connections that it can have").retry_after_ms(RETRY_FULL_MS)
}

/// While the node drains, an HTTP/1 connection ends after the answer that it has, and with a word: whoever keeps it
/// for another request learns in time that there is none.
pub(super) async fn end_connections(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if is_http1 && node.registry().is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What is asked for where nothing is.
pub(super) async fn not_found(uri: Uri) -> Problem {
    let there_is = "/v1/ws, /v1/sse, /v1/poll, /v1/publish, /v1/history, /v1/presence, /v1/channels, /v1/disconnect, /v1/unsubscribe, \
                    /livez, /readyz and /metrics";
    let shown: String = uri.path().chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no {shown}; there are {there_is}"))
}

/// What operators ask for where clients come, when it is elsewhere.
pub(super) async fn elsewhere(uri: Uri) -> Problem {
    let detail = format!(
        "{} is not here, but where operators look (`operations.listen` in the configuration)",
        uri.path()
    );
    Problem::new(Code::NotFound, detail)
}

/// What is asked for where operators look, and is not there.
pub(super) async fn no_operation(uri: Uri) -> Problem {
    let shown: String = uri.path().chars().take(64).collect();
    let detail = format!("there is no {shown} where operators look; there are /livez, /readyz and /metrics");
    Problem::new(Code::NotFound, detail)
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Result<Response, Problem> {
    let detail = format!(
        "{} does not take {method}; the header `Allow` names what it takes",
        uri.path()
    );
    Err(Problem::new(Code::MethodNotAllowed, detail))
}
