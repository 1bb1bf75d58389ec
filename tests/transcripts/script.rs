//! A transcript's lines, read into steps.

use std::path::Path;

use serde_json::Value;

use super::Failure;
use super::pattern::repeat;
use super::peer::Clock;

/// A transcript: what its server runs with, and what happens.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) step: Step,
}

#[derive(Debug)]
pub(crate) enum Step {
    Open(Open),
    Publish {
        channel: String,
        data: String,
    },
    Signal(String),
    Exit(i32),
    /// From now on `<NAME>` is a token of these claims, which expires in so many seconds.
    Token {
        name: String,
        seconds: u64,
        claims: Value,
    },
    /// Through the connection of that name; the empty name is the one that was opened last.
    Send(String, Send),
    Expect(String, Expect),
}

/// A connection that is opened, and the request that is sent on it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<Body>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    Http,
    /// Nothing is sent by itself.
    Tcp,
}

/// A line of a body.
#[derive(Debug)]
pub(crate) enum Body {
    Text(String),
    Hex(String),
}

#[derive(Debug)]
pub(crate) enum Send {
    Text(String),
    Hex(String),
    Raw(String),
    Ping(String),
    Pong(String),
    Close(Option<u16>, String),
    /// The client goes without a word.
    End,
}

#[derive(Debug)]
pub(crate) enum Expect {
    /// The next answer on a connection that was opened bare.
    Status(u16),
    Header(String, String),
    NoHeader(String),
    Problem {
        code: String,
        detail: String,
    },
    /// The answer came so many milliseconds after the request, or later.
    After(u64),
    Json(Value),
    Raw(String),
    Event {
        kind: String,
        id: Option<String>,
        data: Value,
    },
    Retry(String),
    Comment(usize),
    Ping,
    Pong(String),
    Close(u16, Option<String>),
    /// The answer's body is over.
    BodyEnd,
    /// The server ends the connection.
    ConnectionEnd,
}

impl Script {
    /// Reads a file; a line that cannot be read is named by its number.
    pub(crate) fn read(path: &Path) -> Result<Self, (usize, Failure)> {
        let text = std::fs::read_to_string(path).map_err(|error| (0, error.to_string()))?;
        let mut script = Self {
            environment: Vec::new(),
            lines: Vec::new(),
        };
        for (line, number) in text.lines().zip(1..) {
            if !line.is_empty() && !line.starts_with('#') {
                script
                    .add(&repeat(line), number)
                    .map_err(|failure| (number, format!("{line}\n  {failure}")))?;
            }
        }
        Ok(script)
    }

    /// Whether heartbeats are among what happens.
    pub(crate) fn clock(&self) -> Clock {
        let is_set = self.environment.iter().any(|(name, _)| name.ends_with("HEARTBEAT_MS"));
        if is_set { Clock::Fast } else { Clock::Slow }
    }

    fn add(&mut self, line: &str, number: usize) -> Result<(), Failure> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let step = match word {
            "server" => {
                let (name, value) = rest.split_once('=').ok_or("server NAME=VALUE")?;
                self.environment.push((name.to_owned(), value.to_owned()));
                return Ok(());
            }
            "+" | "|" | "|hex" => return self.add_to_request(word, rest),
            "ws" | "http" | "tcp" => Step::Open(open(word, rest)?),
            "publish" => {
                let (channel, data) = rest.split_once(' ').ok_or("publish CHANNEL JSON")?;
                let (channel, data) = (channel.to_owned(), data.to_owned());
                Step::Publish { channel, data }
            }
            "token" => {
                let mut words = rest.splitn(3, ' ');
                let (Some(name), Some(seconds), Some(claims)) = (words.next(), words.next(), words.next()) else {
                    return Err("token NAME SECONDS JSON".to_owned());
                };
                Step::Token {
                    name: name.to_owned(),
                    seconds: parse(seconds)?,
                    claims: json(claims)?,
                }
            }
            "signal" => Step::Signal(rest.to_owned()),
            "exit" => Step::Exit(parse(rest)?),
            _ => talk(word, rest)?,
        };
        self.lines.push(Line { number, step });
        Ok(())
    }

    fn add_to_request(&mut self, word: &str, rest: &str) -> Result<(), Failure> {
        let Some(Line {
            step: Step::Open(open), ..
        }) = self.lines.last_mut()
        else {
            return Err("a header or a body stands right after its request".to_owned());
        };
        match word {
            "+" => {
                let (name, value) = rest.split_once(':').ok_or("+ NAME: VALUE")?;
                open.headers.push((name.to_owned(), value.trim_start().to_owned()));
            }
            "|hex" => open.body.push(Body::Hex(rest.to_owned())),
            _ => open.body.push(Body::Text(rest.to_owned())),
        }
        Ok(())
    }
}

/// `ws [NAME] PATH [STATUS]`, `http [NAME] METHOD PATH [STATUS]`, `tcp [NAME]`.
fn open(word: &str, rest: &str) -> Result<Open, Failure> {
    let mut words = rest.split_whitespace().peekable();
    let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let name = words.next_if(is_name).unwrap_or_default();
    let (kind, status) = match word {
        "ws" => (Kind::WebSocket, 101),
        "http" => (Kind::Http, 200),
        _ => (Kind::Tcp, 0),
    };
    let method = if kind == Kind::Http { words.next() } else { Some("GET") };
    let path = if kind == Kind::Tcp { Some("") } else { words.next() };
    let status = words.next().map(parse).transpose()?.unwrap_or(status);
    match (method, path, words.next()) {
        (Some(method), Some(path), None) => Ok(Open {
            kind,
            name: name.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }),
        _ => Err("ws [NAME] PATH [STATUS], http [NAME] METHOD PATH [STATUS] or tcp [NAME]".to_owned()),
    }
}

/// `[NAME]>…` sends, `[NAME]<…` and `[NAME]=…` expect.
fn talk(word: &str, rest: &str) -> Result<Step, Failure> {
    let at = word.find(['>', '<', '=']).ok_or("no such line in this language")?;
    let (name, verb) = word.split_at(at);
    let name = name.to_owned();
    if verb.starts_with('>') {
        send(verb, rest).map(|send| Step::Send(name, send))
    } else {
        expect(verb, rest).map(|expect| Step::Expect(name, expect))
    }
}

fn send(verb: &str, rest: &str) -> Result<Send, Failure> {
    let text = rest.to_owned();
    Ok(match verb {
        ">" => Send::Text(text),
        ">hex" => Send::Hex(text),
        ">raw" => Send::Raw(serde_json::from_str(rest).map_err(|error| format!(">raw JSON-STRING: {error}"))?),
        ">ping" => Send::Ping(text),
        ">pong" => Send::Pong(text),
        ">close" if rest.is_empty() => Send::Close(None, text),
        ">close" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            Send::Close(Some(parse(code)?), reason.to_owned())
        }
        ">eof" => Send::End,
        _ => return Err(format!("nothing can be sent by {verb}")),
    })
}

fn expect(verb: &str, rest: &str) -> Result<Expect, Failure> {
    let text = rest.to_owned();
    Ok(match verb {
        "=" => match rest.split_once(':') {
            Some((name, pattern)) => Expect::Header(name.to_owned(), pattern.trim_start().to_owned()),
            None => Expect::Status(parse(rest)?),
        },
        "=no" => Expect::NoHeader(text),
        "=problem" => {
            let (code, detail) = rest.split_once(' ').ok_or("=problem CODE DETAIL")?;
            let (code, detail) = (code.to_owned(), detail.to_owned());
            Expect::Problem { code, detail }
        }
        "=after" => Expect::After(parse(rest)?),
        "<" => Expect::Json(json(rest)?),
        "<raw" => Expect::Raw(text),
        "<event" => {
            let mut words = rest.splitn(3, ' ');
            let (Some(kind), Some(id), Some(data)) = (words.next(), words.next(), words.next()) else {
                return Err("<event TYPE ID JSON, with - for no id".to_owned());
            };
            Expect::Event {
                kind: kind.to_owned(),
                id: (id != "-").then(|| id.to_owned()),
                data: json(data)?,
            }
        }
        "<retry" => Expect::Retry(text),
        "<comment" => Expect::Comment(parse(rest)?),
        "<ping" => Expect::Ping,
        "<pong" => Expect::Pong(text),
        "<close" => match rest.split_once(' ') {
            Some((code, reason)) => Expect::Close(parse(code)?, Some(reason.to_owned())),
            None => Expect::Close(parse(rest)?, None),
        },
        "<end" => Expect::BodyEnd,
        "<eof" => Expect::ConnectionEnd,
        _ => return Err(format!("nothing can be expected by {verb}")),
    })
}

fn json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|_| format!("{text:?} is not the number that is expected here"))
}
