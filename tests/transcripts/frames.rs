//! WebSocket frames on the client's side: masked out, unmasked in (RFC 6455 §5.2).

use super::Failure;
use super::wire::Wire;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const MASKED: u8 = 0x80;
/// Lengths of two and of eight bytes follow.
const MEDIUM: u8 = 126;
const LONG: u8 = 127;

/// What a transcript may send as a frame of its own.
#[derive(Debug)]
pub(crate) enum Outgoing<'a> {
    Text(&'a str),
    Ping(&'a str),
    Pong(&'a str),
    /// Without a code there is no payload at all.
    Close(Option<u16>, &'a str),
}

/// What the server sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    Text(String),
    Ping,
    Pong(String),
    Close(u16, String),
}

impl Outgoing<'_> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => masked(TEXT, text.as_bytes()),
            Self::Ping(payload) => masked(PING, payload.as_bytes()),
            Self::Pong(payload) => masked(PONG, payload.as_bytes()),
            Self::Close(None, _) => masked(CLOSE, b""),
            Self::Close(Some(code), reason) => masked(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat()),
        }
    }
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => frame.push(MASKED | short),
        (_, Ok(medium)) => {
            frame.push(MASKED | MEDIUM);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(MASKED | LONG);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Incoming {
    /// The next frame, which must be whole and unmasked.
    pub(crate) fn read(wire: &mut Wire) -> Result<Self, Failure> {
        let head = wire.take(2)?;
        let opcode = head[0] & 0x0F;
        if head[0] & 0xF0 != 0x80 || head[1] & MASKED != 0 {
            return Err(format!(
                "a frame begins with {:02x} {:02x}: not whole, or reserved bits, or masked",
                head[0], head[1]
            ));
        }
        let len = match head[1] {
            MEDIUM => number(&wire.take(2)?),
            LONG => number(&wire.take(8)?),
            short => usize::from(short),
        };
        let payload = wire.take(len)?;
        match (opcode, &payload[..]) {
            (TEXT, _) => Ok(Self::Text(text(payload)?)),
            (PING, _) => Ok(Self::Ping),
            (PONG, _) => Ok(Self::Pong(text(payload)?)),
            (CLOSE, [high, low, reason @ ..]) => {
                Ok(Self::Close(u16::from_be_bytes([*high, *low]), text(reason.to_vec())?))
            }
            _ => Err(format!("a frame of opcode {opcode:#x} with {len} bytes")),
        }
    }

    /// In words, for a failure.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.chars().take(600).collect(),
            Self::Ping => "a ping".to_owned(),
            Self::Pong(payload) => format!("a pong {payload:?}"),
            Self::Close(code, reason) => format!("close {code} {reason:?}"),
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number * 256 + usize::from(*byte))
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| format!("what the server sent is not UTF-8: {error}"))
}
