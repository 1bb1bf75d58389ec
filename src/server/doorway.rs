//! What a connection goes through before its first request: who it is, TLS, and which HTTP it speaks.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::proxy_protocol::Proxies;
use super::tls::Tls;
use crate::http::{HEAD_TIMEOUT, PREFACE, Peer, Stream, Version, refusal};
use crate::protocol::{Code, Problem};

/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client that speaks no TLS has to take the answer that says so.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What is read of what such a client goes on to say.
const REFUSED_BYTES_MAX: u64 = 64 * 1024;

/// What a TLS connection begins with: the type of a record that holds a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection whose first request is about to come.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) version: Version,
    /// What was read to see which HTTP it is.
    pub(super) prefix: Box<[u8]>,
    /// Until when the head of the first request has to come.
    pub(super) deadline: Instant,
}

/// Lets a connection in.
///
/// # Errors
/// Why it broke off, or was turned away.
pub(super) async fn enter(
    stream: Stream,
    peer: Peer,
    proxies: Option<&Proxies>,
    tls: Option<&Tls>,
) -> io::Result<Visitor> {
    let (mut stream, peer) = match stream {
        Stream::Tcp(mut stream) => {
            let peer = match proxies {
                Some(proxies) => proxies.read(&mut stream, peer).await?,
                None => peer,
            };
            match tls {
                Some(tls) => (shake_hands(stream, tls).await?, peer),
                None => (Stream::Tcp(stream), peer),
            }
        }
        // Neither is for those who share this machine with us.
        stream @ (Stream::Unix(_) | Stream::Tls(_)) => (stream, peer),
    };
    let deadline = Instant::now() + HEAD_TIMEOUT;
    let (version, prefix) = timeout_at(deadline, recognise(&mut stream)).await??;
    Ok(Visitor {
        stream,
        peer,
        version,
        prefix,
        deadline,
    })
}

async fn shake_hands(mut stream: TcpStream, tls: &Tls) -> io::Result<Stream> {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mut first = [0];
    let len = timeout_at(deadline, stream.peek(&mut first)).await??;
    if len > 0 && first[0] != TLS_HANDSHAKE {
        let _ = timeout(REFUSAL_TIMEOUT, say_that_this_is_tls(&mut stream)).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks no TLS"));
    }
    let stream = timeout_at(deadline, tls.acceptor().accept(stream)).await??;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Reads what the client has to say, too: what is unread when a connection is closed takes the answer with it.
async fn say_that_this_is_tls(stream: &mut TcpStream) -> io::Result<()> {
    let detail = "this port speaks TLS: use https:// or wss://";
    let answer = refusal(&Problem::new(Code::BadRequest, detail));
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

/// HTTP/2 is what begins with its preface (RFC 9113 §3.4); everything else is HTTP/1, or refused as such.
async fn recognise(stream: &mut Stream) -> io::Result<(Version, Box<[u8]>)> {
    let mut bytes = [0; PREFACE.len()];
    let mut len = 0;
    while len < bytes.len() {
        let came = stream.read(&mut bytes[len..]).await?;
        len += came;
        if came == 0 || bytes[..len] != PREFACE[..len] {
            return Ok((Version::Http1, bytes[..len].into()));
        }
    }
    Ok((Version::Http2, bytes.into()))
}
