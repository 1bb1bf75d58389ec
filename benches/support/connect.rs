//! Connections as a client makes them, by hand, up to the point where they only wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::frames;
use super::process::Process;
use super::terms::Terms;

const PATIENCE: Duration = Duration::from_secs(20);

/// Connections from one source address, before the next address is used: so that neither ports nor a limit for each
/// address run out.
const PER_ADDRESS: usize = 500;

/// A connected stream, and what came after the part that was waited for.
pub(crate) struct Connected {
    pub(crate) stream: TcpStream,
    pub(crate) rest: Vec<u8>,
}

/// A bare TCP connection; the `number`-th of many.
pub(crate) async fn tcp(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(2 + number / PER_ADDRESS).map_err(io::Error::other)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
    timeout(PATIENCE, socket.connect(server)).await?
}

/// The `number`-th client of a server.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) server: &'a Process,
    pub(crate) terms: &'a Terms,
    pub(crate) number: usize,
}

/// Subscribed over WebSocket.
pub(crate) async fn websocket(client: Client<'_>, channel: &str) -> io::Result<Connected> {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let stream = get(client, &format!("/v1/ws?channel={channel}"), upgrade).await?;
    until(stream, |bytes| {
        let mut end = after(bytes, b"\r\n\r\n")?;
        while let Some((payload, length)) = frames::next(&bytes[end..]) {
            end += length;
            if frames::contains(payload, br#""type":"subscribed""#) {
                return Some(end);
            }
        }
        None
    })
    .await
}

/// Subscribed over Server-Sent Events.
pub(crate) async fn event_source(client: Client<'_>, channel: &str) -> io::Result<Connected> {
    let path = format!("/v1/sse?channel={channel}");
    let stream = get(client, &path, "Accept: text/event-stream\r\n").await?;
    until(stream, |bytes| {
        let at = after(bytes, b"event: subscribed\n")?;
        Some(at + after(&bytes[at..], b"\n\n")?)
    })
    .await
}

/// A long-poll, asked: nothing tells when it is parked.
pub(crate) async fn poll(client: Client<'_>, path: &str) -> io::Result<Connected> {
    let stream = get(client, path, "").await?;
    Ok(Connected {
        stream,
        rest: Vec::new(),
    })
}

async fn get(client: Client<'_>, path: &str, headers: &str) -> io::Result<TcpStream> {
    let address = client.server.address;
    let stream = tcp(address, client.number).await?;
    let shown = client.terms.client(client.number)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}{shown}\r\n");
    stream.writable().await?;
    if stream.try_write(head.as_bytes())? < head.len() {
        return Err(io::Error::other("a short write of a request"));
    }
    Ok(stream)
}

/// Reads until `end` finds where the awaited part ends.
async fn until(stream: TcpStream, end: impl Fn(&[u8]) -> Option<usize>) -> io::Result<Connected> {
    let mut bytes = Vec::new();
    loop {
        timeout(PATIENCE, stream.readable()).await??;
        match stream.try_read_buf(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
            Ok(read) if read == 0 || bytes.starts_with(b"HTTP/1.1 4") || bytes.starts_with(b"HTTP/1.1 5") => {
                return Err(io::Error::other(format!(
                    "refused: {}",
                    String::from_utf8_lossy(&bytes)
                )));
            }
            Ok(_) => {}
        }
        if let Some(end) = end(&bytes) {
            return Ok(Connected {
                stream,
                rest: bytes.split_off(end),
            });
        }
    }
}

fn after(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .map(|start| start + part.len())
}
