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
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::connection::{Connection, Opening};
use crate::http::{Guarded, Kept, Lease, Narrow, SUBPROTOCOL, Stream, header, identify};
use crate::metrics::Transport;
use crate::protocol::websocket::accept_key;
use crate::protocol::{Code, Ending, Problem, read_stream_query};
use crate::session::limits::Arrival;
use crate::session::{Session, Wanted, ask, check_any};
use crate::transport::{Transports, note_refused};

/// What a client asks for, by its version of HTTP.
enum Asked {
    /// That the connection becomes a WebSocket (RFC 6455 §4.1); what to answer to its key.
    Upgrade { accept: String },
    /// That a stream of it does (RFC 8441).
    Connect,
}

/// `GET /v1/ws`, or an extended CONNECT
pub(in crate::transport) async fn upgrade(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    let (mut request, _) = request.into_parts();
    let asked = match check(&request) {
        Ok(asked) => asked,
        Err(problem) if problem.code == Code::MethodNotAllowed => return problem.into_response(),
        Err(problem) => return unfit(problem),
    };
    let mut response = agree(&asked, &request.headers);
    let opened = open(&transports, &request).await;
    let opening = match opened.inspect_err(|problem| note_refused(Transport::WebSocket, problem)) {
        Ok((session, asked)) => Opening::Session(Box::new(session), asked),
        // A browser cannot read the status of a refused handshake, so it is told on the connection.
        // That its origin is refused is the status, always.
        Err(problem)
            if problem.code != Code::OriginRefused
                && request.headers.contains_key(ORIGIN)
                && transports.may_tell_refusal() =>
        {
            response.extensions_mut().insert(problem.code);
            Opening::Refused(Ending::from(problem))
        }
        Err(problem) => return unfit(problem),
    };
    switch(&mut request, response, transports, opening)
}

/// Gives the socket to a task of its own once the answer is sent.
fn switch(request: &mut request::Parts, response: Response, transports: Arc<Transports>, opening: Opening) -> Response {
    let lease = request.extensions.remove::<Lease>();
    let Some(upgrading) = request.extensions.remove::<OnUpgrade>() else {
        return Problem::new(Code::BadRequest, "this connection cannot be upgraded to WebSocket").into_response();
    };
    tokio::spawn(take_over(upgrading, lease, transports, opening));
    response
}

/// Says everything back, over the same handshake, codec and task.
pub(in crate::transport) async fn echo(State(transports): State<Arc<Transports>>, request: Request) -> Response {
    let (mut request, _) = request.into_parts();
    match check(&request) {
        Ok(asked) => {
            let response = agree(&asked, &request.headers);
            switch(&mut request, response, transports, Opening::Echo)
        }
        Err(problem) => unfit(problem),
    }
}

async fn open(transports: &Transports, request: &request::Parts) -> Result<(Session, Vec<Wanted>), Problem> {
    let node = &transports.node;
    let seat = transports.seat(&request.extensions, Arrival::Connection)?;
    let asked = read_stream_query(request.uri.query().unwrap_or_default())?;
    let identity = identify(node, request, None).await?;
    let names_any = asked.names_any();
    let added = node.channels_at_connect(&identity);
    let asked = asked.checked(added.as_deref(), None, &node.limits())?;
    // Those of several that are refused get an `unsubscribed` each.
    let asked = ask(node, &identity, asked.channels, asked.presence).await;
    // Whoever names none has come to send commands: what the server adds of its own is no condition for that.
    if names_any {
        check_any(&asked)?;
    }
    let session = Session::open(node, Transport::WebSocket, identity, seat)?;
    Ok((session, asked))
}

/// Whether this is a handshake.
fn check(request: &request::Parts) -> Result<Asked, Problem> {
    let bad = |detail| Err(Problem::new(Code::BadRequest, detail));
    let headers = &request.headers;
    let is_connect = request.method == Method::CONNECT;
    if is_connect {
        let protocol = request.extensions.get::<Protocol>();
        if !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
            return bad("a WebSocket over HTTP/2 begins with CONNECT and `:protocol` = `websocket` (RFC 8441)");
        }
    } else if request.method != Method::GET {
        let detail = "a WebSocket begins with GET (RFC 6455 §4.1), over HTTP/2 with CONNECT (RFC 8441)";
        return Err(Problem::new(Code::MethodNotAllowed, detail));
    } else if !has_token(headers, UPGRADE, "websocket") || !has_token(headers, CONNECTION, "upgrade") {
        return bad(
            "this is the WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`, or use /v1/sse",
        );
    }
    if header(headers, SEC_WEBSOCKET_VERSION) != Some("13") {
        return bad("`Sec-WebSocket-Version` must be 13");
    }
    if is_connect {
        return Ok(Asked::Connect);
    }
    match header(headers, SEC_WEBSOCKET_KEY) {
        Some(key) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => {
            let accept = accept_key(key);
            Ok(Asked::Upgrade { accept })
        }
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

fn agree(asked: &Asked, headers_asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    if let Asked::Upgrade { accept } = asked {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    if has_token(headers_asked, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// Waits for hyper to hand the socket over, then leaves it to a fresh task, whose future is as small as it can be.
async fn take_over(upgrading: OnUpgrade, lease: Option<Lease>, transports: Arc<Transports>, opening: Opening) {
    match upgrading.await {
        Ok(upgraded) => spawn(upgraded, lease, transports, opening),
        Err(error) => tracing::debug!(%error, "the client left during the handshake"),
    }
}

fn spawn(upgraded: Upgraded, lease: Option<Lease>, transports: Arc<Transports>, opening: Opening) {
    // The socket itself where it can be had: from our own accept loop, or from axum's. What came early is copied, for
    // it pins the whole buffer that it was read into.
    let upgraded = match upgraded.downcast::<TokioIo<Guarded<Kept<Stream>>>>() {
        Ok(parts) => {
            let input = parts.read_buf.to_vec();
            let (stream, place) = parts.io.into_inner().into_inner().into_parts();
            return match stream {
                Stream::Tcp(stream) => serve(Kept::new(stream, place), input, transports, opening),
                Stream::Unix(stream) => serve(Kept::new(stream, place), input, transports, opening),
                Stream::Tls(stream) => serve(Kept::new(stream, place), input, transports, opening),
            };
        }
        Err(upgraded) => upgraded,
    };
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => serve(parts.io.into_inner(), parts.read_buf.to_vec(), transports, opening),
        // A stream of an HTTP/2 connection, or whatever somebody's server gives us.
        Err(upgraded) => {
            let stream = Kept::new(Narrow(TokioIo::new(upgraded)), lease);
            serve(stream, Vec::new(), transports, opening);
        }
    }
}

fn serve<S>(socket: S, input: Vec<u8>, transports: Arc<Transports>, opening: Opening)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(Connection::new(socket, input, transports, opening));
}
