//! `POST /v1/publish` over one kept connection, with a body that is made once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::terms::Terms;

const PATIENCE: Duration = Duration::from_secs(20);

/// The bytes of `data`.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// One connection of a publisher.
pub(crate) struct Publisher {
    server: SocketAddr,
    stream: TcpStream,
    answer: Vec<u8>,
}

/// A whole request, ready to be sent again and again.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// So many publications to one channel: one alone, or a batch.
    pub(crate) fn new(channel: &str, publications: usize, terms: &Terms) -> Request {
        let data = "x".repeat(PAYLOAD_BYTES - 2);
        let one = format!(r#"{{"channel":"{channel}","data":"{data}"}}"#);
        let body = if publications == 1 {
            one
        } else {
            format!("[{}]", vec![one; publications].join(","))
        };
        let head = "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let shown = terms.back_end();
        Request(format!("{head}{shown}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

impl Publisher {
    pub(crate) async fn connect(server: SocketAddr) -> io::Result<Publisher> {
        Ok(Publisher {
            server,
            stream: connect(server).await?,
            answer: Vec::new(),
        })
    }

    /// Connects again if the server has ended the connection, which was idle for too long.
    pub(crate) async fn revive(&mut self) -> io::Result<()> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => self.stream = connect(self.server).await?,
        }
        Ok(())
    }

    /// Publishes, and waits for the answer; gives its body.
    pub(crate) async fn publish(&mut self, request: &Request) -> io::Result<&str> {
        self.stream.write_all(&request.0).await?;
        self.answer.clear();
        let body = loop {
            if let Some(body) = body_of(&self.answer)? {
                break body;
            }
            if timeout(PATIENCE, self.stream.read_buf(&mut self.answer)).await?? == 0 {
                return Err(io::Error::other("the server ended the publisher's connection"));
            }
        };
        let answer = std::str::from_utf8(&self.answer).map_err(io::Error::other)?;
        if !answer.starts_with("HTTP/1.1 200") || answer.contains(r#""error""#) {
            return Err(io::Error::other(format!("not published: {answer}")));
        }
        Ok(&answer[body..])
    }
}

async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where the body of a complete answer begins.
fn body_of(answer: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other(format!("an answer without a length: {text}")))?;
    Ok((answer.len() >= head + 4 + length).then_some(head + 4))
}
