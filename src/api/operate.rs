//! `POST /v1/disconnect`, `POST /v1/unsubscribe` and `GET /v1/channels`: what operators ask for.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;

use crate::http;
use crate::protocol::{Code, FollowedQuery, Object, Problem, Removal};
use crate::session::identity::Identity;
use crate::session::{Node, Removed};

/// The largest body that says whom to remove, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn disconnect(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    remove(&node, request, Removal::read_disconnect).await
}

pub(super) async fn unsubscribe(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    remove(&node, request, Removal::read_unsubscribe).await
}

async fn remove(
    node: &Node,
    request: Request,
    read: impl Fn(&[u8]) -> Result<Removal, Problem>,
) -> Result<Response, Problem> {
    let (operator, body) = admit(node, request).await?;
    let removal = read(&body)?;
    let Removed { position, sessions } = node.remove(&removal).await?;
    tracing::info!(
        // Nobody's, where everything is open.
        api_key = operator.api_key(),
        verb = removal.verb(),
        deny_s = removal.deny_s,
        %position,
        sessions,
        "an operator has sent somebody away"
    );
    let answer = Object::new()
        .text("position", &position.to_string())
        .optional_number("sessions", sessions.map(|sessions| sessions as u64))
        .number("deny_s", removal.deny_s);
    Ok(http::json(answer.finish()))
}

/// Lets an operator in, and nobody else: at the rates at which publications come in.
async fn admit(node: &Node, request: Request) -> Result<(Arc<Identity>, Bytes), Problem> {
    let (head, body) = request.into_parts();
    let admitted = check(node, &head).await;
    let request = Request::from_parts(head, body);
    let operator = match admitted {
        Ok(operator) => operator,
        Err(problem) => {
            http::discard_body(request, BODY_BYTES_MAX).await;
            return Err(problem);
        }
    };
    check_type(&http::media_type(request.headers()))?;
    Ok((operator, http::read_body(request, BODY_BYTES_MAX).await?.1))
}

/// Draws before the credentials are looked at: guessing keys is limited by address.
async fn check(node: &Node, head: &Parts) -> Result<Arc<Identity>, Problem> {
    let visitor = http::visitor(&head.extensions);
    visitor.request()?;
    let identity = http::verify(node, head, None).await?;
    identity.may_operate()?;
    visitor.identified(identity.caller()).keyed_request()?;
    Ok(identity)
}

/// The types that a body of `/v1/publish` may have to be read as JSON.
fn check_type(media_type: &str) -> Result<(), Problem> {
    if matches!(
        media_type,
        "" | "application/json" | "application/x-www-form-urlencoded"
    ) {
        return Ok(());
    }
    let detail = format!("the body must be JSON, sent as `Content-Type: application/json`, and not {media_type}");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

pub(super) async fn channels(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    check(&node, &head).await?;
    let query = FollowedQuery::read(head.uri.query().unwrap_or_default())?;
    Ok(http::json(query.answer(&node.followed(&query).await?)))
}
