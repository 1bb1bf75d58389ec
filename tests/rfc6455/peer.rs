//! The client's side: frames as bytes, whatever is wrong with them, and what comes back, read strictly.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use throughline::Edge;
use throughline::protocol::Limits;
use throughline::transport::Timings;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::http::Head;
use crate::support::link::{Link, Receive, ended};
use crate::support::node::{Node, Setup};

/// The longest message that the echo takes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 200_000;
/// The most fragments of one.
pub(crate) const FRAGMENTS_MAX: u32 = 64;

/// A node behind the public door, and an echo that an app has mounted.
pub(crate) struct Server {
    pub(crate) door: SocketAddr,
    pub(crate) echo: SocketAddr,
    _node: Node,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(message_time_max: Duration) -> Self {
        let limits = Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            message_fragments_max: FRAGMENTS_MAX,
            message_time_ms_max: u64::try_from(message_time_max.as_millis()).expect("a short time"),
            ..Limits::default()
        };
        let timings = Timings {
            heartbeat_ms: 320,
            write_timeout_ms: 60_000,
        };
        let node = Node::start(Setup {
            limits,
            ..Setup::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port that is free");
        let echo = listener.local_addr().expect("it has an address");
        // The pulse is fine enough for the shortest deadline here; a client that is silent while it waits is pinged.
        let edge = Edge::builder().limits(limits).timings(timings).build();
        let app = Router::new().route("/", edge.websocket_echo());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self {
            door: node.address,
            echo,
            _node: node,
            serving,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Text(String),
    Binary(Vec<u8>),
    /// The server's own, to see whether we live.
    Ping,
    Pong(Vec<u8>),
    Close(u16),
}

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection lives on.
    Open,
    /// The server's close frame has this code, and then the stream ends.
    Closed(u16),
}

/// How the bytes are cut on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Whole,
    /// After this byte.
    At(usize),
    /// After every byte.
    Everywhere,
}

/// What is sent, and what must come.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) send: Vec<u8>,
    pub(crate) cut: Cut,
    pub(crate) expect: Vec<Got>,
    pub(crate) end: End,
}

impl Case {
    /// What must be answered, after which the connection lives on.
    pub(crate) fn answered(name: impl Into<String>, send: Vec<u8>, expect: Vec<Got>) -> Self {
        Self {
            name: name.into(),
            send,
            cut: Cut::Whole,
            expect,
            end: End::Open,
        }
    }

    /// What must be closed for, with nothing before it.
    pub(crate) fn closed(name: impl Into<String>, send: Vec<u8>, code: u16) -> Self {
        Self {
            end: End::Closed(code),
            ..Self::answered(name, send, Vec::new())
        }
    }

    pub(crate) fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    pub(crate) fn after(self, expect: Vec<Got>) -> Self {
        Self { expect, ..self }
    }

    pub(crate) async fn run(&self, address: SocketAddr) -> io::Result<()> {
        let mut link = open(address).await?;
        match self.cut {
            Cut::Whole => link.send(&self.send).await?,
            Cut::At(at) => {
                link.send(&self.send[..at]).await?;
                link.send(&self.send[at..]).await?;
            }
            Cut::Everywhere => {
                for byte in &self.send {
                    link.send(&[*byte]).await?;
                }
            }
        }
        for expected in &self.expect {
            same(&next(&mut link).await?, expected)?;
        }
        match self.end {
            End::Closed(code) => same(&until_closed(&mut link).await?, &Some(code)),
            End::Open => {
                link.send(&frame(0x89, b"alive?")).await?;
                same(&next(&mut link).await?, &Got::Pong(b"alive?".to_vec()))?;
                link.send(&frame(0x88, &1000_u16.to_be_bytes())).await?;
                same(&until_closed(&mut link).await?, &Some(1000))
            }
        }
    }
}

fn same<T: PartialEq + fmt::Debug>(got: &T, expected: &T) -> io::Result<()> {
    if got == expected {
        return Ok(());
    }
    let shown = |value: &T| format!("{value:?}").chars().take(200).collect::<String>();
    Err(io::Error::other(format!(
        "got {} and not {}",
        shown(got),
        shown(expected)
    )))
}

/// A connection on which the handshake is over.
pub(crate) async fn open(address: SocketAddr) -> io::Result<Link> {
    let mut link = Link::connect(address, Receive::Usual).await?;
    link.send(&super::handshake::request("/", &[])).await?;
    switched(&mut link).await?;
    Ok(link)
}

pub(crate) async fn switched(link: &mut Link) -> io::Result<()> {
    let head = Head::read(link).await?.ok_or_else(|| ended("before it answered"))?;
    same(&head.status, &101)
}

/// The next frame, the server's pings aside.
pub(crate) async fn next(link: &mut Link) -> io::Result<Got> {
    loop {
        match take(&mut link.input)? {
            Some(Got::Ping) => {}
            Some(got) => return Ok(got),
            None if link.read().await? => {}
            None => return Err(ended("without a close frame")),
        }
    }
}

/// Reads a close frame, and the end of the stream behind it. `None`: it ended without one.
pub(crate) async fn until_closed(link: &mut Link) -> io::Result<Option<u16>> {
    let code = loop {
        match take(&mut link.input)? {
            Some(Got::Close(code)) => break code,
            Some(Got::Ping) => {}
            Some(got) => return Err(io::Error::other(format!("{got:?} before the close frame"))),
            None if link.read().await? => {}
            None => return Ok(None),
        }
    };
    while link.read().await? {}
    if link.input.is_empty() {
        Ok(Some(code))
    } else {
        Err(io::Error::other(format!("{:?} after the close frame", link.input)))
    }
}

/// Takes a frame, if it is whole.
fn take(input: &mut Vec<u8>) -> io::Result<Option<Got>> {
    let [first, second, rest @ ..] = &input[..] else {
        return Ok(None);
    };
    let wide = match second {
        0..126 => 0,
        126 => 2,
        127 => 8,
        _ => return Err(io::Error::other("a masked frame from a server (5.1)")),
    };
    let Some((length, rest)) = rest.split_at_checked(wide) else {
        return Ok(None);
    };
    let len = match wide {
        0 => usize::from(*second),
        _ => length.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
    };
    let Some(payload) = rest.get(..len).map(<[u8]>::to_vec) else {
        return Ok(None);
    };
    let first = *first;
    input.drain(..2 + wide + len);
    match first {
        0x81 => String::from_utf8(payload)
            .map(|text| Some(Got::Text(text)))
            .map_err(io::Error::other),
        0x82 => Ok(Some(Got::Binary(payload))),
        0x89 => Ok(Some(Got::Ping)),
        0x8A => Ok(Some(Got::Pong(payload))),
        0x88 if payload.len() >= 2 && str::from_utf8(&payload[2..]).is_ok() => {
            Ok(Some(Got::Close(u16::from_be_bytes([payload[0], payload[1]]))))
        }
        _ => Err(io::Error::other(format!("a frame that begins with {first:#x}"))),
    }
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame; `first` is FIN, the reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    match payload.len() {
        len @ 0..126 => frame_with(first, &[u8::try_from(len).expect("short")], payload),
        len @ 126..=0xFFFF => {
            let len = u16::try_from(len).expect("medium").to_be_bytes();
            frame_with(first, &[&[126], &len[..]].concat(), payload)
        }
        len => frame_with(first, &[&[127], &(len as u64).to_be_bytes()[..]].concat(), payload),
    }
}

/// The same with the bytes of the length as given, the mask's bit aside.
pub(crate) fn frame_with(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, length[0] | 0x80];
    frame.extend(&length[1..]);
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
