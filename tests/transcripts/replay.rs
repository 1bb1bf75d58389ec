//! A transcript's steps, one after the other, against a server of its own.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::frames::Outgoing;
use super::pattern::Captures;
use super::peer::{Asked, Clock, Peer};
use super::script::{Body, Kind, Open, Script, Send, Step};
use super::server::Server;
use super::{Failure, shown_path};

/// Replays one file; what goes wrong names the file and the line.
pub(crate) fn replay_file(path: &Path) -> Result<(), Failure> {
    let at = |number: usize| format!("{}:{number}:", shown_path(path));
    let script = Script::read(path).map_err(|(number, failure)| format!("{} {failure}", at(number)))?;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let server = Server::start(&script.environment).map_err(|failure| format!("{} {failure}", at(1)))?;
    let mut replay = Replay {
        server,
        captures: Captures::default(),
        peers: HashMap::new(),
        latest: String::new(),
        clock: script.clock(),
    };
    for line in &script.lines {
        replay.step(&line.step).map_err(|failure| {
            let text = text.lines().nth(line.number - 1).unwrap_or_default();
            format!("{} {text}\n  {failure}", at(line.number))
        })?;
    }
    match &replay.server.panics()[..] {
        [] => Ok(()),
        panics => Err(format!("{} the server panicked: {panics:?}", at(0))),
    }
}

/// What a transcript has come to.
#[derive(Debug)]
struct Replay {
    server: Server,
    captures: Captures,
    peers: HashMap<String, Peer>,
    /// The name of the connection that was opened last.
    latest: String,
    clock: Clock,
}

impl Replay {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Open(open) => self.open(open),
            Step::Publish { channel, data } => self.publish(channel, data),
            Step::Token { name, seconds, claims } => {
                self.captures.set(name, token(*seconds, claims));
                Ok(())
            }
            Step::Signal(name) => self.server.signal(name),
            Step::Exit(expected) => match self.server.exit_code()? {
                Some(code) if code == *expected => Ok(()),
                code => Err(format!("expected exit code {expected}\n     got {code:?}")),
            },
            Step::Send(name, Send::End) => {
                let name = self.name(name);
                self.peers.remove(&name).map(drop).ok_or_else(|| unknown(&name))
            }
            Step::Send(name, send) => {
                let bytes = self.bytes(send)?;
                self.peer(name)?.0.send(&bytes)
            }
            Step::Expect(name, expect) => {
                let (peer, captures) = self.peer(name)?;
                peer.expect(expect, captures)
            }
        }
    }

    fn open(&mut self, open: &Open) -> Result<(), Failure> {
        let fill = |(name, value): &(String, String)| Ok((name.clone(), self.captures.fill(value)?));
        let headers = open.headers.iter().map(fill).collect::<Result<Vec<_>, Failure>>()?;
        let asked = Asked {
            kind: open.kind,
            method: &open.method,
            path: &self.captures.fill(&open.path)?,
            status: open.status,
            headers: &headers,
            body: &self.body(&open.body)?,
            clock: self.clock,
        };
        let mut peer = Peer::open(self.server.address, &asked)?;
        // Only an answer that has a name can be waited for later.
        if open.kind == Kind::Http && open.name.is_empty() {
            peer.answer()?;
        }
        self.latest.clone_from(&open.name);
        self.peers.insert(open.name.clone(), peer);
        Ok(())
    }

    /// `publish CHANNEL JSON`
    fn publish(&self, channel: &str, data: &str) -> Result<(), Failure> {
        let (channel, data) = (self.captures.fill(channel)?, self.captures.fill(data)?);
        let body = format!(r#"{{"channel":{},"data":{data}}}"#, serde_json::Value::from(channel));
        let asked = Asked {
            kind: Kind::Http,
            method: "POST",
            path: "/v1/publish",
            status: 200,
            headers: &[],
            body: body.as_bytes(),
            clock: self.clock,
        };
        Peer::open(self.server.address, &asked)?.answer().map(|_| ())
    }

    /// A body's lines, with line feeds between them.
    fn body(&self, lines: &[Body]) -> Result<Vec<u8>, Failure> {
        let line = |line: &Body| match line {
            Body::Text(text) => self.captures.fill(text).map(String::into_bytes),
            Body::Hex(text) => unhex(text),
        };
        let lines = lines.iter().map(line).collect::<Result<Vec<_>, Failure>>()?;
        Ok(lines.join(&b'\n'))
    }

    fn bytes(&self, send: &Send) -> Result<Vec<u8>, Failure> {
        let fill = |text: &str| self.captures.fill(text);
        Ok(match send {
            Send::Text(text) => Outgoing::Text(&fill(text)?).to_bytes(),
            Send::Ping(payload) => Outgoing::Ping(payload).to_bytes(),
            Send::Pong(payload) => Outgoing::Pong(payload).to_bytes(),
            Send::Close(code, reason) => Outgoing::Close(*code, reason).to_bytes(),
            Send::Raw(text) => fill(text)?.into_bytes(),
            Send::Hex(text) => unhex(text)?,
            Send::End => Vec::new(),
        })
    }

    fn name(&self, name: &str) -> String {
        if name.is_empty() { &self.latest } else { name }.to_owned()
    }

    fn peer(&mut self, name: &str) -> Result<(&mut Peer, &mut Captures), Failure> {
        let name = self.name(name);
        let peer = self.peers.get_mut(&name).ok_or_else(|| unknown(&name))?;
        Ok((peer, &mut self.captures))
    }
}

/// Signed by the secret of `fixtures/config/tokens.toml`.
fn token(seconds: u64, claims: &serde_json::Value) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut claims = claims.clone();
    claims["exp"] = (since.as_secs() + seconds).into();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret for tests, of which everybody knows");
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn unknown(name: &str) -> Failure {
    format!("there is no connection {name:?}")
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<_> = text.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect();
    let bytes = digits.chunks(2).map(|pair| match pair {
        [Some(high), Some(low)] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.ok_or_else(|| "hexadecimal digits come in pairs".to_owned())
}
