//! HTTP/1.1 as a client speaks it: requests as bytes, heads, and bodies that are taken apart strictly.

use std::fmt::Write as _;
use std::io;

use super::link::{Link, ended};

/// A path with a query, each value percent-encoded.
pub(crate) fn target(path: &str, query: &[(&str, &str)]) -> String {
    let query = query.iter().map(|(name, value)| {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        format!("{name}={value}")
    });
    let query = query.collect::<Vec<_>>().join("&");
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// A `GET` as bytes.
pub(crate) fn get(target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", target, headers).into_bytes()
}

/// A `POST` as bytes.
pub(crate) fn post(target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    headers.push(("content-length", &length));
    let mut bytes = request("POST", target, &headers).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a string takes everything");
    }
    head + "\r\n"
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Takes a head off the front of what came, if it is whole.
    pub(crate) fn take(input: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8(input.drain(..end + 4).collect()).map_err(io::Error::other)?;
        let mut lines = text.trim_end().split("\r\n");
        let bad = || io::Error::other(format!("not the head of an answer: {text:?}"));
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(bad)?;
        let headers = lines.map(|line| line.split_once(": ")).collect::<Option<Vec<_>>>();
        let owned = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
        let headers = headers.ok_or_else(bad)?.into_iter().map(owned).collect();
        Ok(Some(Self { status, headers }))
    }

    /// Reads until the head is there. `None`: the server closed the connection before a byte of it came.
    pub(crate) async fn read(link: &mut Link) -> io::Result<Option<Self>> {
        loop {
            if let Some(head) = Self::take(&mut link.input)? {
                return Ok(Some(head));
            }
            if !link.read().await? {
                return if link.input.is_empty() {
                    Ok(None)
                } else {
                    Err(ended("within a head"))
                };
            }
        }
    }

    /// How its body is framed.
    pub(crate) fn body(&self) -> io::Result<Body> {
        if self.header("transfer-encoding") == "chunked" {
            return Ok(Body::Chunked(Chunk::Size));
        }
        let length = self.header("content-length").parse();
        length.map(Body::Length).map_err(io::Error::other)
    }
}

/// What is still to come of a body.
#[derive(Debug)]
pub(crate) enum Body {
    Length(usize),
    Chunked(Chunk),
}

/// Where in a chunked body the next byte stands (RFC 9112 §7.1).
#[derive(Debug)]
pub(crate) enum Chunk {
    Size,
    Data(usize),
    AfterData,
    Trailer,
    Done,
}

impl Body {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// Takes what there is of the body off the front of what came.
    pub(crate) fn take(&mut self, input: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Length(left) => {
                let taken = input.len().min(*left);
                *left -= taken;
                Ok(take_front(input, taken))
            }
            Self::Chunked(chunk) => take_chunks(chunk, input),
        }
    }

    /// Reads all that is left.
    pub(crate) async fn read_to_end(mut self, link: &mut Link) -> io::Result<Vec<u8>> {
        let mut bytes = self.take(&mut link.input)?;
        while !self.is_done() {
            if !link.read().await? {
                return Err(ended("within a body"));
            }
            bytes.extend(self.take(&mut link.input)?);
        }
        Ok(bytes)
    }
}

fn take_chunks(chunk: &mut Chunk, input: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match chunk {
            Chunk::Size => {
                let Some(line) = take_line(input)? else {
                    return Ok(bytes);
                };
                let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                *chunk = if size == 0 { Chunk::Trailer } else { Chunk::Data(size) };
            }
            Chunk::Data(left) => {
                if input.is_empty() {
                    return Ok(bytes);
                }
                let taken = input.len().min(*left);
                bytes.extend_from_slice(&input[..taken]);
                input.drain(..taken);
                *left -= taken;
                if *left == 0 {
                    *chunk = Chunk::AfterData;
                }
            }
            Chunk::AfterData => match take_line(input)?.as_deref() {
                Some("") => *chunk = Chunk::Size,
                Some(more) => return Err(io::Error::other(format!("{more:?} after a chunk"))),
                None => return Ok(bytes),
            },
            Chunk::Trailer => match take_line(input)?.as_deref() {
                Some("") => *chunk = Chunk::Done,
                Some(_trailer) => {}
                None => return Ok(bytes),
            },
            Chunk::Done => return Ok(bytes),
        }
    }
}

/// Copied at once: byte by byte would cost a debug build most of its time.
fn take_front(input: &mut Vec<u8>, count: usize) -> Vec<u8> {
    let rest = input.split_off(count);
    std::mem::replace(input, rest)
}

fn take_line(input: &mut Vec<u8>) -> io::Result<Option<String>> {
    let Some(end) = input.windows(2).position(|bytes| bytes == b"\r\n") else {
        return Ok(None);
    };
    let line = input.drain(..end + 2).take(end).collect();
    String::from_utf8(line).map(Some).map_err(io::Error::other)
}
