//! HTTP/1.1 on the client's side: a request as bytes, an answer's head, its body whole or piece by piece.

use std::fmt::Write;

use super::Failure;
use super::wire::Wire;

/// An answer: its head, and where its body stands.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// So many bytes are to come.
    Sized(usize),
    Chunked,
    /// It ends with the connection.
    ToTheEnd,
    Over,
}

/// A request as bytes. A header that the transcript gives stands instead of the one that is made up here.
pub(crate) fn request(method: &str, path: &str, given: &[(String, String)], made_up: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let is_given = |name: &str| given.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let made_up = made_up.iter().filter(|(name, _)| !is_given(name));
    let given = given.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in made_up.copied().chain(given) {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head + "\r\n"
}

impl Answer {
    /// Reads the head of the next answer.
    pub(crate) fn read(wire: &mut Wire, method: &str) -> Result<Self, Failure> {
        let head = wire.take_until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).map_err(|error| format!("the answer's head is not UTF-8: {error}"))?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("an answer begins with {first:?}"))?;
        let header = |line: &str| {
            let split = line.split_once(':');
            split.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<_> = lines.filter_map(header).collect();
        let mut answer = Self {
            status,
            headers,
            body: Body::Over,
        };
        answer.body = answer.body_length(method);
        Ok(answer)
    }

    fn body_length(&self, method: &str) -> Body {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Body::Over;
        }
        if self.header("transfer-encoding").contains(&"chunked") {
            return Body::Chunked;
        }
        let length = self.header("content-length");
        let length = length.first().and_then(|length| length.parse().ok());
        length.map_or(Body::ToTheEnd, Body::Sized)
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| &**value).collect()
    }

    /// Whether its body need not end.
    pub(crate) fn is_event_stream(&self) -> bool {
        let types = self.header("content-type");
        types.iter().any(|kind| kind.starts_with("text/event-stream"))
    }

    /// The next piece of the body; `None` after the last.
    pub(crate) fn piece(&mut self, wire: &mut Wire) -> Result<Option<Vec<u8>>, Failure> {
        match std::mem::replace(&mut self.body, Body::Over) {
            Body::Over | Body::Sized(0) => Ok(None),
            Body::Sized(len) => wire.take(len).map(Some),
            Body::ToTheEnd => wire.take_rest().map(Some),
            Body::Chunked => {
                let size = wire.take_until(b"\r\n")?;
                let size = str::from_utf8(&size)
                    .ok()
                    .and_then(|size| usize::from_str_radix(size.split(';').next()?, 16).ok())
                    .ok_or("a chunk without a size")?;
                let chunk = wire.take(size)?;
                if wire.take(2)? != b"\r\n" {
                    return Err("a chunk without its end".to_owned());
                }
                if size == 0 {
                    return Ok(None);
                }
                self.body = Body::Chunked;
                Ok(Some(chunk))
            }
        }
    }

    /// What is left of the body.
    pub(crate) fn body(&mut self, wire: &mut Wire) -> Result<String, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(wire)? {
            body.extend(piece);
        }
        String::from_utf8(body).map_err(|error| format!("the answer's body is not UTF-8: {error}"))
    }
}
