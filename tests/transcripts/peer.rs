//! One connection of a transcript: what is sent on it, and what must come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Failure;
use super::event_stream::{Event, Events, Item};
use super::frames::Incoming;
use super::http::{Answer, request};
use super::pattern::Captures;
use super::script::{Expect, Kind};
use super::wire::Wire;

/// The example of RFC 6455 §1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What is asked for when a connection is opened, with every name filled in.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) kind: Kind,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
    pub(crate) clock: Clock,
}

/// What of that which comes by the clock a line waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    None,
    Heartbeat,
    Ping,
}

/// What becomes of pings and heartbeats that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// They come often, and are passed over.
    Fast,
    /// They come so seldom that only a server that is stuck lets it come to them.
    Slow,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    wire: Wire,
    kind: Kind,
    method: String,
    status: u16,
    sent: Instant,
    waited: Duration,
    answer: Option<Answer>,
    events: Events,
    clock: Clock,
}

impl Peer {
    /// Connects and sends the request. A WebSocket's answer is awaited.
    pub(crate) fn open(server: SocketAddr, asked: &Asked<'_>) -> Result<Self, Failure> {
        let mut peer = Self {
            wire: Wire::connect(server)?,
            kind: asked.kind,
            method: asked.method.to_owned(),
            status: asked.status,
            sent: Instant::now(),
            waited: Duration::ZERO,
            answer: None,
            events: Events::default(),
            clock: asked.clock,
        };
        let (host, length) = (server.to_string(), asked.body.len().to_string());
        let mut made_up = vec![("host", &*host)];
        match asked.kind {
            Kind::Tcp => return Ok(peer),
            Kind::WebSocket => made_up.extend([
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
            ]),
            Kind::Http if asked.method == "POST" => made_up.push(("content-length", &length)),
            Kind::Http => {}
        }
        let head = request(asked.method, asked.path, asked.headers, &made_up);
        peer.send(&[head.as_bytes(), asked.body].concat())?;
        if asked.kind == Kind::WebSocket {
            peer.answer()?;
        }
        Ok(peer)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.wire.send(bytes)
    }

    /// The head of the answer, which must have the status that is expected.
    pub(crate) fn answer(&mut self) -> Result<&mut Answer, Failure> {
        let is_first = self.answer.is_none();
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None if self.kind == Kind::Tcp => return Err("no answer was expected here by its status".to_owned()),
            None => Answer::read(&mut self.wire, &self.method)?,
        };
        if is_first {
            self.waited = self.sent.elapsed();
            self.check(&mut answer)?;
        }
        Ok(self.answer.insert(answer))
    }

    fn check(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        if answer.status != self.status {
            let is_endless = answer.status == 101 || answer.is_event_stream();
            let body = if is_endless {
                String::new()
            } else {
                answer.body(&mut self.wire)?
            };
            let (expected, status) = (self.status, answer.status);
            return Err(format!("expected status {expected}\n     got {status} {body}"));
        }
        match answer.header("sec-websocket-accept")[..] {
            [ACCEPT] => Ok(()),
            _ if self.status != 101 => Ok(()),
            ref other => Err(format!("expected sec-websocket-accept: {ACCEPT}\n     got {other:?}")),
        }
    }

    /// Reads on until what is expected has come, or something else.
    pub(crate) fn expect(&mut self, expect: &Expect, captures: &mut Captures) -> Result<(), Failure> {
        self.wire.begin_to_wait();
        match expect {
            Expect::Status(status) => self.next_answer(*status),
            Expect::Header(name, pattern) => self.expect_header(name, pattern, captures),
            Expect::NoHeader(name) => match self.answer()?.header(name)[..] {
                [] => Ok(()),
                ref values => Err(format!("expected no {name}\n     got {values:?}")),
            },
            Expect::Problem { code, detail } => self.expect_problem(code, detail, captures),
            Expect::After(ms) => {
                self.answer()?;
                let (waited, least) = (self.waited, Duration::from_millis(*ms));
                let early = || format!("expected an answer after {least:?}\n     got it after {waited:?}");
                if waited >= least { Ok(()) } else { Err(early()) }
            }
            Expect::Json(pattern) => {
                let text = self.text(beat_in(&pattern["type"]))?;
                let given = serde_json::from_str(&text);
                let given: Value = given.map_err(|error| format!("expected JSON, not {error}\n     got {text}"))?;
                captures
                    .match_json(pattern, &given)
                    .map_err(|failure| format!("{failure}\n      in {}", text.chars().take(600).collect::<String>()))
            }
            Expect::Raw(pattern) => {
                let text = self.text(Beat::None)?;
                captures.match_text(pattern, &text)
            }
            Expect::Event { kind, id, data } => {
                let item = self.item(beat_in(&data["type"]))?;
                match_event(&item, (kind, id.as_deref(), data), captures)
            }
            Expect::Retry(pattern) => {
                let item = self.item(Beat::None)?;
                let Item::Retry(text) = item else {
                    return Err(format!("expected retry\n     got {item:?}"));
                };
                captures.match_text(pattern, &text)
            }
            Expect::Comment(least) => {
                let item = self.item(Beat::None)?;
                let is_long = matches!(item, Item::Comment(len) if len >= *least);
                let wrong = || format!("expected a comment of {least} bytes\n     got {item:?}");
                if is_long { Ok(()) } else { Err(wrong()) }
            }
            Expect::Ping | Expect::Pong(_) | Expect::Close(..) => self.expect_frame(expect, captures),
            Expect::BodyEnd => self.expect_body_end(),
            Expect::ConnectionEnd => self.expect_end(),
        }
    }

    fn next_answer(&mut self, status: u16) -> Result<(), Failure> {
        if let Some(earlier) = &mut self.answer {
            earlier.body(&mut self.wire)?;
        }
        self.status = status;
        let mut answer = Answer::read(&mut self.wire, &self.method)?;
        self.check(&mut answer)?;
        self.answer = Some(answer);
        Ok(())
    }

    fn expect_header(&mut self, name: &str, pattern: &str, captures: &mut Captures) -> Result<(), Failure> {
        let values = self.answer()?.header(name).join(", ");
        captures.match_text(pattern, &values)
    }

    /// A refusal as RFC 9457 and §8 of the protocol have it.
    fn expect_problem(&mut self, code: &str, detail: &str, captures: &mut Captures) -> Result<(), Failure> {
        self.expect_header("content-type", "application/problem+json", captures)?;
        let retry_after = self.answer()?.header("retry-after").join(", ");
        let text = self.text(Beat::None)?;
        let given: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        let mut pattern = serde_json::json!({
            "type": format!("urn:throughline:problem:{code}"),
            "title": "<*>",
            "status": self.status,
            "detail": detail,
            "code": code,
        });
        if !retry_after.is_empty() {
            let retry_ms = given["retry_ms"].as_u64().unwrap_or_default();
            captures.match_text(&retry_ms.div_ceil(1000).to_string(), &retry_after)?;
            pattern["retry_ms"] = retry_ms.into();
        }
        captures.match_json(&pattern, &given)
    }

    /// Whether frames follow the answer.
    fn is_upgraded(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.status == 101)
    }

    /// The next message, event's data, or the answer's body.
    fn text(&mut self, wanted: Beat) -> Result<String, Failure> {
        if self.is_upgraded() {
            let frame = self.frame(wanted)?;
            let Incoming::Text(text) = frame else {
                return Err(format!("expected a message\n     got {}", frame.shown()));
            };
            return Ok(text);
        }
        if self.answer()?.is_event_stream() {
            let item = self.item(wanted)?;
            let Item::Event(Event { data: Some(data), .. }) = item else {
                return Err(format!("expected an event\n     got {item:?}"));
            };
            return Ok(data);
        }
        let answer = self.answer.as_mut().ok_or("no answer")?;
        answer.body(&mut self.wire)
    }

    /// The next frame. What comes by the clock is passed over where that is fast, unless it is wanted.
    fn frame(&mut self, wanted: Beat) -> Result<Incoming, Failure> {
        loop {
            let frame = Incoming::read(&mut self.wire)?;
            let is_by_the_clock = match &frame {
                Incoming::Ping => wanted != Beat::Ping,
                Incoming::Text(text) => wanted != Beat::Heartbeat && text == r#"{"type":"heartbeat"}"#,
                Incoming::Pong(_) | Incoming::Close(..) => false,
            };
            if !is_by_the_clock || self.clock == Clock::Slow {
                return Ok(frame);
            }
        }
    }

    fn expect_frame(&mut self, expect: &Expect, captures: &mut Captures) -> Result<(), Failure> {
        let wanted = if matches!(expect, Expect::Ping) {
            Beat::Ping
        } else {
            Beat::None
        };
        let frame = self.frame(wanted)?;
        match (expect, &frame) {
            (Expect::Ping, Incoming::Ping) => Ok(()),
            (Expect::Pong(expected), Incoming::Pong(payload)) => captures.match_text(expected, payload),
            (Expect::Close(code, pattern), Incoming::Close(given, reason)) if code == given => {
                let pattern = pattern.as_deref().unwrap_or("<*>");
                captures.match_text(pattern, reason)
            }
            (_, other) => Err(format!("expected {expect:?}\n     got {}", other.shown())),
        }
    }

    /// The next thing that an event stream says.
    fn item(&mut self, wanted: Beat) -> Result<Item, Failure> {
        loop {
            let item = self.next_item()?.ok_or("the event stream is over")?;
            let is_heartbeat = matches!(&item, Item::Event(event) if event.kind.as_deref() == Some("heartbeat"));
            if !is_heartbeat || wanted == Beat::Heartbeat || self.clock == Clock::Slow {
                return Ok(item);
            }
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>, Failure> {
        self.answer()?;
        let answer = self.answer.as_mut().ok_or("no answer")?;
        loop {
            if let Some(item) = self.events.pop() {
                return Ok(Some(item));
            }
            match answer.piece(&mut self.wire)? {
                Some(piece) => self.events.push(&piece),
                None => return Ok(None),
            }
        }
    }

    fn expect_body_end(&mut self) -> Result<(), Failure> {
        match self.next_item()? {
            None => Ok(()),
            Some(item) => Err(format!("expected the end of the body\n     got {item:?}")),
        }
    }

    fn expect_end(&mut self) -> Result<(), Failure> {
        if !self.is_upgraded()
            && let Some(answer) = &mut self.answer
        {
            answer.body(&mut self.wire)?;
        }
        match &self.wire.take_rest()?[..] {
            [] => Ok(()),
            rest => Err(format!(
                "expected the end of the connection\n     got {:?}",
                String::from_utf8_lossy(rest)
            )),
        }
    }
}

/// What a push of this type has to do with the clock.
fn beat_in(kind: &Value) -> Beat {
    if kind == "heartbeat" {
        Beat::Heartbeat
    } else {
        Beat::None
    }
}

fn match_event(item: &Item, pattern: (&str, Option<&str>, &Value), captures: &mut Captures) -> Result<(), Failure> {
    let (kind, id, data) = pattern;
    let wrong = |failure: &str| format!("{failure}\n      in {item:?}");
    let Item::Event(event) = item else {
        return Err(wrong("expected an event"));
    };
    if event.kind.as_deref().unwrap_or("message") != kind {
        return Err(wrong(&format!("expected an event of type {kind}")));
    }
    let given = event.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
    let given: Value = given.ok_or_else(|| wrong("expected JSON as data"))?;
    captures.match_json(data, &given).map_err(|failure| wrong(&failure))?;
    match (id, event.id.as_deref()) {
        (None, None) => Ok(()),
        (Some(pattern), Some(id)) => captures.match_text(pattern, id).map_err(|failure| wrong(&failure)),
        (None, Some(_)) => Err(wrong("expected no id")),
        (Some(pattern), None) => Err(wrong(&format!("expected the id {pattern}"))),
    }
}
