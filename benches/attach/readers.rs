//! Readers of many channels each, which come back with the cursor that they were given.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::CHANNELS_EACH;

const PATIENCE: Duration = Duration::from_secs(60);

/// One reader; connected once it has been attached.
pub(crate) struct Reader {
    number: usize,
    cursor: Option<String>,
    stream: Option<TcpStream>,
}

impl Reader {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            cursor: None,
            stream: None,
        }
    }

    pub(crate) fn leave(&mut self) {
        self.stream = None;
    }

    /// Connects, and waits until each of its channels is subscribed; from its cursor on, with nothing lost.
    pub(crate) async fn attach(mut self, node: SocketAddr) -> io::Result<Self> {
        let names: Vec<_> = (0..CHANNELS_EACH)
            .map(|channel| format!("\"many:{}:{channel}\"", self.number))
            .collect();
        let since = self
            .cursor
            .as_ref()
            .map_or(String::new(), |cursor| format!(",\"since\":\"{cursor}\""));
        let body = format!("{{\"channels\":[{}]{since}}}", names.join(","));
        let head = format!(
            "POST /v1/sse HTTP/1.1\r\nHost: {node}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let resume = if self.cursor.is_some() { "complete" } else { "fresh" };
        let begun = format!("\"resume\":\"{resume}\"");
        let mut stream = TcpStream::connect(node).await?;
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut text = Vec::new();
        let told = loop {
            let read = timeout(PATIENCE, stream.read_buf(&mut text)).await??;
            let told = String::from_utf8_lossy(&text);
            if told.matches(&begun).count() == CHANNELS_EACH && told.trim_end_matches("\r\n").ends_with("\n\n") {
                break told.into_owned();
            }
            if read == 0 || told.starts_with("HTTP/1.1 4") || told.starts_with("HTTP/1.1 5") {
                return Err(io::Error::other(format!("not attached: {told}")));
            }
        };
        let cursor = told.lines().rev().find_map(|line| line.strip_prefix("id: "));
        self.cursor = Some(cursor.ok_or_else(|| io::Error::other("no cursor"))?.to_owned());
        self.stream = Some(stream);
        Ok(self)
    }
}

impl Reader {
    /// Waits until each of its channels is told to have lost everything.
    pub(crate) async fn is_told(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(io::Error::other("not connected"));
        };
        let mut text = Vec::new();
        while String::from_utf8_lossy(&text).matches("event: gap\n").count() < CHANNELS_EACH {
            if timeout(PATIENCE, stream.read_buf(&mut text)).await?? == 0 {
                return Err(io::Error::other("the node ended a connection"));
            }
        }
        Ok(())
    }
}

/// Whether a node says that it is ready.
pub(crate) async fn is_ready(node: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(node).await?;
    let head = format!("GET /readyz HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
