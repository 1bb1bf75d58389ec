//! §4: the opening handshake.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use crate::support::http::Head;
use crate::support::link::{Link, Receive, ended};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request that differs from a good one, and the status of its answer.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    method: &'static str,
    version: &'static str,
    /// Headers that replace those of the same name; an empty value takes one away.
    headers: &'static [(&'static str, &'static str)],
    /// What the answer must have besides.
    status: u16,
    answer: &'static [(&'static str, &'static str)],
}

const GOOD: [(&str, &str); 5] = [
    ("Host", "localhost"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
];

/// A good handshake, but for these headers.
pub(crate) fn request(place: &str, changed: &[(&str, &str)]) -> Vec<u8> {
    with("GET", place, "HTTP/1.1", changed)
}

fn with(method: &str, place: &str, version: &str, changed: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {place} {version}\r\n");
    let is_changed = |name: &str| changed.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let kept = GOOD.iter().filter(|(name, _)| !is_changed(name));
    for (name, value) in kept.chain(changed.iter().filter(|(_, value)| !value.is_empty())) {
        write!(head, "{name}: {value}\r\n").expect("a string takes everything");
    }
    (head + "\r\n").into_bytes()
}

impl Case {
    const fn good(name: &'static str, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            name,
            method: "GET",
            version: "HTTP/1.1",
            headers,
            status: 101,
            answer: &[("sec-websocket-accept", ACCEPT), ("upgrade", "websocket")],
        }
    }

    const fn bad(name: &'static str, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            status: 400,
            answer: &[("content-type", "application/problem+json"), ("connection", "close")],
            ..Self::good(name, headers)
        }
    }

    const fn answering(self, answer: &'static [(&'static str, &'static str)]) -> Self {
        Self { answer, ..self }
    }

    pub(crate) async fn run(&self, address: SocketAddr, place: &str) -> io::Result<()> {
        let mut link = Link::connect(address, Receive::Usual).await?;
        link.send(&with(self.method, place, self.version, self.headers)).await?;
        let head = Head::read(&mut link)
            .await?
            .ok_or_else(|| ended("before it answered"))?;
        if head.status != self.status {
            return Err(io::Error::other(format!("{} and not {}", head.status, self.status)));
        }
        for (name, value) in self.answer {
            if !head.header(name).eq_ignore_ascii_case(value) {
                return Err(io::Error::other(format!(
                    "{name} is {:?} and not {value}",
                    head.header(name)
                )));
            }
        }
        Ok(())
    }
}

/// What both the echo and `/v1/ws` must answer.
pub(crate) fn cases() -> Vec<Case> {
    [good(), bad()].into_iter().flatten().collect()
}

fn good() -> Vec<Case> {
    let no_subprotocol = &[("sec-websocket-accept", ACCEPT), ("sec-websocket-protocol", "")];
    let subprotocol = &[("sec-websocket-protocol", "throughline.v1")];
    let no_extension = &[("sec-websocket-extensions", "")];
    vec![
        Case::good("4.2.2 the key of the RFC", &[]),
        Case::good("4.2.1 Upgrade in other case", &[("Upgrade", "WebSocket")]),
        Case::good("4.2.1 Upgrade in capitals", &[("Upgrade", "WEBSOCKET")]),
        Case::good("4.2.1 Connection in lower case", &[("Connection", "upgrade")]),
        Case::good(
            "4.2.1 Connection among others",
            &[("Connection", "keep-alive, Upgrade")],
        ),
        Case::good(
            "4.2.1 Connection among others without a space",
            &[("Connection", "Upgrade,keep-alive")],
        ),
        Case::good(
            "4.2.1 names of headers in capitals",
            &[("UPGRADE", "websocket"), ("SEC-WEBSOCKET-KEY", KEY)],
        ),
        Case::good("4.1 a header of no meaning", &[("X-Whatever", "1")]),
        Case::good("4.1 an Origin", &[("Origin", "http://localhost")]),
        Case::good("4.1 no subprotocol is offered", &[]).answering(no_subprotocol),
        Case::good(
            "4.2.2 a subprotocol that is spoken",
            &[("Sec-WebSocket-Protocol", "throughline.v1")],
        )
        .answering(subprotocol),
        Case::good(
            "4.2.2 a subprotocol among others",
            &[("Sec-WebSocket-Protocol", "a, throughline.v1, b")],
        )
        .answering(subprotocol),
        Case::good(
            "4.2.2 no subprotocol that is spoken",
            &[("Sec-WebSocket-Protocol", "chat, superchat")],
        )
        .answering(no_subprotocol),
        Case::good(
            "9.1 an extension that is not spoken",
            &[("Sec-WebSocket-Extensions", "permessage-deflate")],
        )
        .answering(no_extension),
    ]
}

fn bad() -> Vec<Case> {
    let version = &[("sec-websocket-version", "13"), ("connection", "close")];
    vec![
        Case::bad("4.2.1 without Upgrade", &[("Upgrade", "")]),
        Case::bad("4.2.1 another Upgrade", &[("Upgrade", "h2c")]),
        Case::bad("4.2.1 an Upgrade that only begins so", &[("Upgrade", "websockets")]),
        Case::bad("4.2.1 without Connection", &[("Connection", "")]),
        Case::bad("4.2.1 another Connection", &[("Connection", "keep-alive")]),
        Case::bad("4.2.1 without a key", &[("Sec-WebSocket-Key", "")]),
        Case::bad(
            "4.2.1 a key of 15 bytes",
            &[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")],
        ),
        Case::bad(
            "4.2.1 a key of 17 bytes",
            &[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA=")],
        ),
        Case::bad(
            "4.2.1 a key that is not base64",
            &[("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==")],
        ),
        Case::bad(
            "4.2.1 a key without padding",
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")],
        ),
        Case::bad("4.2.1 without a version", &[("Sec-WebSocket-Version", "")]).answering(version),
        Case::bad("4.4 version 8", &[("Sec-WebSocket-Version", "8")]).answering(version),
        Case::bad("4.4 version 14", &[("Sec-WebSocket-Version", "14")]).answering(version),
        Case::bad("4.4 version 013", &[("Sec-WebSocket-Version", "013")]).answering(version),
        Case::bad(
            "4.4 a version that is no number",
            &[("Sec-WebSocket-Version", "thirteen")],
        )
        .answering(version),
        Case {
            method: "POST",
            status: 405,
            answer: &[("content-length", "")],
            ..Case::bad("4.2.1 by POST", &[])
        }
        .answering(&[]),
        Case {
            method: "PUT",
            status: 405,
            ..Case::bad("4.2.1 by PUT", &[])
        }
        .answering(&[]),
    ]
}
