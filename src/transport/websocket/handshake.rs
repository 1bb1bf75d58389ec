//! The opening handshake (RFC 6455 §4), and how a refusal is told to a browser, which cannot read its status.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connection::{Connection, Opening};
use crate::delivery::{ChannelName, Since};
use crate::http::{Guarded, SUBPROTOCOL, header, identify};
use crate::metrics::Transport;
use crate::protocol::websocket::accept_key;
use crate::protocol::{Code, Ending, Problem, read_stream_query};
use crate::session::Session;
use crate::session::identity::Action;
use crate::transport::Transports;

/// `GET /v1/ws`
pub(in crate::transport) async fn upgrade(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    let (mut request, _) = request.into_parts();
    if request.method != Method::GET {
        let detail = "a WebSocket begins with GET (RFC 6455 §4.1)";
        return Problem::new(Code::MethodNotAllowed, detail).into_response();
    }
    let accept = match check(&request.headers) {
        Ok(accept) => accept,
        Err(problem) => return unfit(problem),
    };
    let mut response = switching(&accept, &request.headers);
    let opening = match open(&transports, &request).await {
        Ok((session, channels)) => Opening::Session(Box::new(session), channels),
        // A browser cannot read the status of a refused handshake, so it is told on the connection.
        // That its origin is refused is the status, always.
        Err(problem) if problem.code != Code::OriginRefused && request.headers.contains_key(ORIGIN) => {
            response.extensions_mut().insert(problem.code);
            Opening::Refused(Ending::from(problem))
        }
        Err(problem) => return unfit(problem),
    };
    let Some(upgrading) = request.extensions.remove::<OnUpgrade>() else {
        return Problem::new(Code::BadRequest, "this connection cannot be upgraded to WebSocket").into_response();
    };
    tokio::spawn(take_over(upgrading, transports, opening));
    response
}

async fn open(
    transports: &Transports,
    request: &request::Parts,
) -> Result<(Session, Vec<(ChannelName, Since)>), Problem> {
    let node = &transports.node;
    let asked = read_stream_query(request.uri.query().unwrap_or_default())?;
    let identity = identify(node, request, None).await?;
    let asked = asked.checked(identity.channels(), None, node.limits())?;
    // If all are refused, so is the request; those of several get an `unsubscribed` each.
    let mut allowed = asked
        .channels
        .iter()
        .map(|(channel, _)| identity.may(Action::Subscribe, channel));
    if let Some(Err(first)) = allowed.next()
        && allowed.all(|other| other.is_err())
    {
        return Err(first);
    }
    drop(allowed);
    Ok((Session::open(node, Transport::WebSocket, identity)?, asked.channels))
}

/// What the server answers to the client's key, if this is a handshake.
fn check(headers: &HeaderMap) -> Result<String, Problem> {
    let bad = |detail| Err(Problem::new(Code::BadRequest, detail));
    if !has_token(headers, UPGRADE, "websocket") || !has_token(headers, CONNECTION, "upgrade") {
        return bad(
            "this is the WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`, or use /v1/sse",
        );
    }
    if header(headers, SEC_WEBSOCKET_VERSION) != Some("13") {
        return bad("`Sec-WebSocket-Version` must be 13");
    }
    match header(headers, SEC_WEBSOCKET_KEY) {
        Some(key) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => Ok(accept_key(key)),
        _ => bad("`Sec-WebSocket-Key` must be 16 bytes in base64"),
    }
}

/// A refusal; it says which version is spoken (RFC 6455 §4.4), and ends the connection, on which the client may have
/// begun to speak another protocol.
fn unfit(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn has_token(headers: &HeaderMap, name: axum::http::HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|given| given.trim().eq_ignore_ascii_case(token))
}

fn switching(accept: &str, asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if has_token(asked, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// Waits for hyper to hand the socket over, then leaves it to a fresh task, whose future is as small as it can be.
async fn take_over(upgrading: OnUpgrade, transports: Arc<Transports>, opening: Opening) {
    match upgrading.await {
        Ok(upgraded) => spawn(upgraded, transports, opening),
        Err(error) => tracing::debug!(%error, "the client left during the handshake"),
    }
}

fn spawn(upgraded: Upgraded, transports: Arc<Transports>, opening: Opening) {
    // The socket itself where it can be had: from our own accept loop, or from axum's. What came early is copied, for
    // it pins the whole buffer that it was read into.
    let upgraded = match auto::upgrade::downcast::<TokioIo<Guarded<TcpStream>>>(upgraded) {
        Ok(parts) => {
            let socket = parts.io.into_inner().into_inner();
            return serve(socket, parts.read_buf.to_vec(), transports, opening);
        }
        Err(upgraded) => upgraded,
    };
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => serve(parts.io.into_inner(), parts.read_buf.to_vec(), transports, opening),
        Err(upgraded) => serve(TokioIo::new(upgraded), Vec::new(), transports, opening),
    }
}

fn serve<S>(socket: S, input: Vec<u8>, transports: Arc<Transports>, opening: Opening)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(Connection::new(socket, input, transports, opening));
}
