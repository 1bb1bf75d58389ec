//! WebSocket frames as a client reads and writes them (RFC 6455 §5), strictly: what a server must not send is an error.

use std::io;

/// A frame from the server. Ours never splits messages, so a fragment is an error here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close { code: u16, reason: String },
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Takes a frame off the front of what came, if it is whole.
pub(crate) fn take(input: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let Some((header_len, payload_len)) = lengths(input)? else {
        return Ok(None);
    };
    if input.len() < header_len + payload_len {
        return Ok(None);
    }
    let first = input[0];
    let payload = input[header_len..header_len + payload_len].to_vec();
    input.drain(..header_len + payload_len);
    read(first, payload).map(Some)
}

/// The lengths of the header and of the payload, as soon as they can be known.
fn lengths(input: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let (Some(_), Some(second)) = (input.first(), input.get(1)) else {
        return Ok(None);
    };
    let wide = match second {
        0..=125 => return Ok(Some((2, usize::from(*second)))),
        126 => 2,
        127 => 8,
        _ => return Err(io::Error::other("a masked frame from a server")),
    };
    let Some(bytes) = input.get(2..2 + wide) else {
        return Ok(None);
    };
    let len = bytes.iter().fold(0_u64, |len, byte| len << 8 | u64::from(*byte));
    let is_shortest = len > if wide == 2 { 125 } else { 0xffff };
    match usize::try_from(len) {
        Ok(len) if is_shortest => Ok(Some((2 + wide, len))),
        _ => Err(io::Error::other(format!("a length of {len} in {wide} bytes"))),
    }
}

fn read(first: u8, payload: Vec<u8>) -> io::Result<Frame> {
    if first & 0xf0 != 0x80 {
        return Err(io::Error::other(format!("a frame that begins with {first:#x}")));
    }
    match first & 0x0f {
        TEXT => String::from_utf8(payload).map(Frame::Text).map_err(io::Error::other),
        PING => Ok(Frame::Ping(payload)),
        PONG => Ok(Frame::Pong),
        CLOSE => read_close(&payload),
        opcode => Err(io::Error::other(format!("a frame with opcode {opcode}"))),
    }
}

fn read_close(payload: &[u8]) -> io::Result<Frame> {
    let Some((code, reason)) = payload.split_at_checked(2) else {
        return Ok(Frame::Close {
            code: 1005,
            reason: String::new(),
        });
    };
    Ok(Frame::Close {
        code: u16::from_be_bytes([code[0], code[1]]),
        reason: String::from_utf8(reason.to_vec()).map_err(io::Error::other)?,
    })
}

/// A text message in one masked frame.
pub(crate) fn text(message: &str) -> Vec<u8> {
    masked(TEXT, message.as_bytes())
}

/// A pong with the payload of the ping that it answers.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    masked(PONG, payload)
}

/// The end, in good order.
pub(crate) fn close(code: u16) -> Vec<u8> {
    masked(CLOSE, &code.to_be_bytes())
}

/// The end, with a payload of code and reason as it is given.
pub(crate) fn close_with(payload: &[u8]) -> Vec<u8> {
    masked(CLOSE, payload)
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).expect("a message of at most 65,535 bytes") {
        len @ 0..=125 => frame.push(0x80 | len.to_be_bytes()[1]),
        len => {
            frame.push(0x80 | 0x7e);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
