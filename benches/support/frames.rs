//! Just enough of RFC 6455 to count what a server sends: header lengths, text, and pings.

use std::io;

/// An empty pong under an all-zero mask: a sign of life.
pub(crate) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PUBLICATION: &[u8] = br#"{"type":"publication""#;

/// What some bytes held.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) publications: usize,
    pub(crate) pings: usize,
    /// How many bytes the complete frames took.
    pub(crate) length: usize,
}

/// Counts the complete frames at the beginning of `bytes`. A frame that means loss or the end is an error.
pub(crate) fn count(bytes: &[u8]) -> io::Result<Seen> {
    let mut seen = Seen::default();
    while let Some((payload, length)) = next(&bytes[seen.length..]) {
        match bytes[seen.length] {
            TEXT if payload.starts_with(PUBLICATION) => seen.publications += 1,
            TEXT if contains(payload, br#""type":"heartbeat""#) => {}
            PING => seen.pings += 1,
            _ => {
                return Err(io::Error::other(format!(
                    "unexpected: {}",
                    String::from_utf8_lossy(payload)
                )));
            }
        }
        seen.length += length;
    }
    Ok(seen)
}

/// The payload of the complete frame at the beginning of `bytes`, and the length of the whole frame.
pub(crate) fn next(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (header, payload) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    Some((bytes.get(header..header + payload)?, header + payload))
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
