//! Where HTTP/1.1 requests begin and end in a stream of bytes, and which of them nobody should believe.
//!
//! A request whose length two parsers may read differently is how one request is smuggled inside another, past a
//! proxy (RFC 9112 §11.2). Such a request is refused before anything else reads it.
//!
//! This reads no more than where requests end, and is the stricter of two readers: hyper reads the same bytes behind
//! it, and refuses what is wrong in any other way. Whatever is let through here must end there at the same byte.

use crate::protocol::{Code, Problem};

/// The most headers of a request.
const HEADERS_MAX: usize = 100;

/// The largest head of a request, in bytes. What is behind this reads as much at the least.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The longest first line of a request, in bytes: the largest cursor, and as much again for channels.
const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of a chunked body that say nothing: extensions and trailers.
const CHUNK_EXTRAS_BYTES_MAX: usize = 8 * 1024;

/// Follows the requests of one connection. Pure: bytes in, a refusal out.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Within a head, of which so much has come.
    Head(Head),
    /// So many bytes of a body are still to come.
    Body(u64),
    Chunks(Chunks),
    /// A request for another protocol, which was not answered yet.
    Switching,
    /// Not HTTP any more.
    Opaque,
}

#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    line_len: usize,
    /// Whether more than the empty lines that may stand before a request has come (RFC 9112 §2.2).
    has_begun: bool,
}

/// Within a chunked body (RFC 9112 §7.1). Every line of it ends in CR LF and has neither anywhere else: a parser that
/// is kinder than the one behind it would lose step with it.
#[derive(Debug)]
struct Chunks {
    part: Part,
    /// Whether a CR waits for its LF.
    has_cr: bool,
    /// How much of extensions and trailers has come.
    extras: usize,
}

#[derive(Debug)]
enum Part {
    Size {
        size: u64,
        digits: u8,
        in_extension: bool,
    },
    Data(u64),
    /// The line end after a chunk's data.
    DataEnd,
    /// A line after the last chunk, of which so many bytes have come.
    Trailer {
        line_len: usize,
    },
}

impl Chunks {
    const START: Self = Self {
        part: Part::START,
        has_cr: false,
        extras: 0,
    };
}

impl Part {
    const START: Self = Self::Size {
        size: 0,
        digits: 0,
        in_extension: false,
    };
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head(Head::default()),
        }
    }

    /// Whether part of a head has come, and the rest has not.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(&self.state, State::Head(head) if !head.bytes.is_empty())
    }

    /// Whether a request for another protocol waits for its answer.
    pub(super) fn is_switching(&self) -> bool {
        matches!(self.state, State::Switching)
    }

    /// The other protocol begins.
    pub(super) fn switched(&mut self) {
        self.state = State::Opaque;
    }

    /// Goes through what came next.
    ///
    /// # Errors
    /// The refusal of a request that is malformed or of doubtful length; the connection is of no use any more.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Problem> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head(head) => {
                    let (len, is_whole) = head.take(bytes)?;
                    bytes = &bytes[len..];
                    if is_whole {
                        self.state = body_of(&head.bytes)?;
                    }
                }
                State::Body(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[len..];
                    *left -= len as u64;
                    if *left == 0 {
                        *self = Self::new();
                    }
                }
                State::Chunks(chunks) => {
                    let (len, is_over) = chunks.take(bytes)?;
                    bytes = &bytes[len..];
                    if is_over {
                        *self = Self::new();
                    }
                }
                State::Switching | State::Opaque => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Head {
    /// Takes up to the end of the head: how much that is, and whether it has come.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Problem> {
        for (at, byte) in bytes.iter().enumerate() {
            let before = if at == 0 { self.bytes.last() } else { bytes.get(at - 1) };
            if *byte != b'\n' {
                self.line_len += 1;
                if self.line_len > REQUEST_LINE_BYTES_MAX && !self.has_begun {
                    return Err(too_large(&format!(
                        "the request's first line has more than {REQUEST_LINE_BYTES_MAX} bytes; use POST with a body, or \
                         fewer channels"
                    )));
                }
                continue;
            }
            if before != Some(&b'\r') {
                return Err(refusal(
                    "a line of the request's head ends in LF alone; lines end in CR LF",
                ));
            }
            let is_empty = self.line_len == 1;
            self.line_len = 0;
            self.has_begun |= !is_empty;
            if is_empty && self.has_begun {
                self.keep(&bytes[..=at])?;
                return Ok((at + 1, true));
            }
        }
        self.keep(bytes)?;
        Ok((bytes.len(), false))
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if self.bytes.len() + bytes.len() > HEAD_BYTES_MAX {
            return Err(too_large(&format!(
                "the request's head has more than {HEAD_BYTES_MAX} bytes, the most that is read"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// What follows a head.
fn body_of(head: &[u8]) -> Result<State, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(refusal("the request's head ends too early")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(too_large(&format!(
                "the request has more than {HEADERS_MAX} headers, the most that are read"
            )));
        }
        Err(error) => return Err(refusal(&format!("the request's head cannot be read: {error}"))),
    }
    let values = |name: &str| values(request.headers, name);
    check_host(request.version, &values("host"))?;
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok(without_body(&values("upgrade"))),
        ([length], []) => match read_length(length) {
            Some(0) => Ok(without_body(&values("upgrade"))),
            Some(length) => Ok(State::Body(length)),
            None => Err(refusal("`Content-Length` is not a decimal number")),
        },
        ([], [encoding]) if encoding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) => {
            Ok(State::Chunks(Chunks::START))
        }
        ([], _) => Err(refusal("`Transfer-Encoding` can only be `chunked`, once, in HTTP/1.1")),
        (_, []) => Err(refusal("`Content-Length` is there more than once")),
        _ => Err(refusal(
            "the request has both `Content-Length` and `Transfer-Encoding`; send one of them",
        )),
    }
}

/// The next request, unless WebSocket is asked for: no other protocol is ever switched to.
fn without_body(upgrades: &[&[u8]]) -> State {
    let asks_websocket = |value: &&[u8]| value.eq_ignore_ascii_case(b"websocket");
    if upgrades.iter().any(asks_websocket) {
        State::Switching
    } else {
        State::Head(Head::default())
    }
}

fn read_length(value: &[u8]) -> Option<u64> {
    let is_decimal = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| is_decimal)?.parse().ok()
}

impl Chunks {
    /// Takes up to the end of a part: how much that is, and whether the body is over.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Problem> {
        if let Part::Data(left) = &mut self.part {
            let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= len as u64;
            if *left == 0 {
                self.part = Part::DataEnd;
            }
            return Ok((len, false));
        }
        let is_over = match (bytes[0], self.has_cr) {
            (b'\r', false) => {
                self.has_cr = true;
                false
            }
            (b'\n', true) => {
                self.has_cr = false;
                self.part.end_line()?
            }
            (b'\r' | b'\n', _) | (_, true) => return Err(bad_chunks()),
            (byte, false) => {
                self.part.take_byte(byte)?;
                self.note_extra()?;
                false
            }
        };
        Ok((1, is_over))
    }

    fn note_extra(&mut self) -> Result<(), Problem> {
        self.extras += usize::from(matches!(
            self.part,
            Part::Size { in_extension: true, .. } | Part::Trailer { .. }
        ));
        if self.extras <= CHUNK_EXTRAS_BYTES_MAX {
            return Ok(());
        }
        Err(too_large(&format!(
            "the extensions and trailers of the chunked body have more than {CHUNK_EXTRAS_BYTES_MAX} bytes; send none"
        )))
    }
}

impl Part {
    /// What comes after a line; says whether that was the last one.
    fn end_line(&mut self) -> Result<bool, Problem> {
        *self = match self {
            Self::Size { digits: 0, .. } => return Err(bad_chunks()),
            Self::Size { size: 0, .. } => Self::Trailer { line_len: 0 },
            Self::Size { size, .. } => Self::Data(*size),
            Self::Trailer { line_len: 0 } => return Ok(true),
            Self::Trailer { .. } => Self::Trailer { line_len: 0 },
            Self::DataEnd | Self::Data(_) => Self::START,
        };
        Ok(false)
    }

    fn take_byte(&mut self, byte: u8) -> Result<(), Problem> {
        match self {
            Self::Size { in_extension: true, .. } => {}
            Self::Size {
                in_extension,
                digits: 1..,
                ..
            } if matches!(byte, b';' | b' ' | b'\t') => *in_extension = true,
            Self::Size { size, digits, .. } => match char::from(byte).to_digit(16) {
                Some(digit) if *digits < 15 => {
                    *size = *size * 16 + u64::from(digit);
                    *digits += 1;
                }
                _ => return Err(bad_chunks()),
            },
            Self::Trailer { line_len } => *line_len += 1,
            Self::DataEnd | Self::Data(_) => return Err(bad_chunks()),
        }
        Ok(())
    }
}

fn bad_chunks() -> Problem {
    refusal("the chunked body cannot be read: a size in hexadecimal, CR LF, so many bytes, CR LF, and 0 at the end")
}

fn values<'a>(headers: &[httparse::Header<'a>], name: &str) -> Vec<&'a [u8]> {
    let of_name = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
    headers.iter().filter(of_name).map(|header| header.value).collect()
}

/// Two hosts, or none where one must be, are read differently by a proxy and by what is behind it (RFC 9112 §3.2).
fn check_host(version: Option<u8>, hosts: &[&[u8]]) -> Result<(), Problem> {
    match hosts {
        [_] => Ok(()),
        [] if version == Some(0) => Ok(()),
        [] => Err(refusal("`Host` is missing; HTTP/1.1 needs it")),
        _ => Err(refusal("`Host` is there more than once")),
    }
}

fn refusal(detail: &str) -> Problem {
    Problem::new(Code::BadRequest, detail.to_owned())
}

fn too_large(detail: &str) -> Problem {
    Problem::new(Code::TooLarge, detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes at once, and one at a time.
    fn follow(bytes: &[u8]) -> Result<Framing, Problem> {
        let mut at_once = Framing::new();
        let outcome = at_once.follow(bytes);
        let mut slowly = Framing::new();
        let slow_outcome = bytes.iter().try_for_each(|byte| slowly.follow(&[*byte]));
        assert_eq!(outcome.is_ok(), slow_outcome.is_ok());
        outcome?;
        assert_eq!(format!("{:?}", at_once.state), format!("{:?}", slowly.state));
        Ok(at_once)
    }

    fn is_between_requests(bytes: &[u8]) -> bool {
        matches!(follow(bytes).unwrap().state, State::Head(head) if head.bytes.is_empty())
    }

    #[test]
    fn requests_of_every_lawful_length_are_followed_to_their_end() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
        let sized = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\n\ncd"
            .split_at(52)
            .0;
        let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
        assert!(is_between_requests(get));
        assert!(is_between_requests(
            &[get, chunked, sized, get, b"\r\n\r\n", get].concat()
        ));
        let empty = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nContent-Length: 0\r\n\r\n";
        assert!(follow(empty).unwrap().is_switching());
        assert!(
            is_between_requests(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"),
            "is never switched to"
        );
        assert!(
            follow(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\nanything\n")
                .unwrap()
                .is_switching()
        );
    }

    #[test]
    fn doubtful_lengths_are_refused() {
        for head in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Host: a",
            "Host: b",
            "A: b\r\n c: folded",
            "A: b\nContent-Length: 1",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
            assert_eq!(follow(request.as_bytes()).unwrap_err().code, Code::BadRequest, "{head}");
        }
        assert!(follow(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(follow(b"GET / HTTP/1.1\r\n\r\n").is_err(), "HTTP/1.1 needs a host");
        assert!(is_between_requests(b"GET / HTTP/1.0\r\n\r\n"), "HTTP/1.0 does not");
        for body in [
            "x\r\n",
            "\r\n",
            "1\r\nab",
            "1234567890123456\r\n",
            "1\n",
            "1\ra",
            "1;x\n",
            "1\r\na\n",
            "1\r\na\r\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\r\r\n",
            "0\r\n\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(follow(request.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn heads_and_what_surrounds_chunks_are_of_bounded_size() {
        let code = |request: &str| follow(request.as_bytes()).map_err(|problem| problem.code).err();
        let line = |bytes: usize| {
            format!(
                "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
                "a".repeat(bytes - "GET / HTTP/1.1\r".len())
            )
        };
        assert_eq!(code(&line(REQUEST_LINE_BYTES_MAX)), None);
        assert_eq!(code(&line(REQUEST_LINE_BYTES_MAX + 1)), Some(Code::TooLarge));
        let head = |headers: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(headers - 1));
        assert_eq!(code(&head(HEADERS_MAX)), None);
        assert_eq!(code(&head(HEADERS_MAX + 1)), Some(Code::TooLarge));
        let long = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\na: {}\r\n\r\n", "b".repeat(bytes));
        assert_eq!(code(&long(HEAD_BYTES_MAX - 32)), None);
        assert_eq!(code(&long(HEAD_BYTES_MAX - 31)), Some(Code::TooLarge));
        let chunked = |body: &str| {
            code(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            ))
        };
        let extras = "x".repeat(CHUNK_EXTRAS_BYTES_MAX);
        assert_eq!(chunked(&format!("1;{extras}\r\na\r\n")), Some(Code::TooLarge));
        assert_eq!(chunked(&format!("0\r\nA: {extras}")), Some(Code::TooLarge));
        assert_eq!(chunked(&"1;x\r\na\r\n".repeat(CHUNK_EXTRAS_BYTES_MAX / 2)), None);
        assert_eq!(
            chunked(&"1;x\r\na\r\n".repeat(CHUNK_EXTRAS_BYTES_MAX / 2 + 1)),
            Some(Code::TooLarge)
        );
    }
}
