//! A server's frames: whole, unmasked, each in one allocation of its exact size (RFC 6455 §5.2).

use super::{CONTROL_BYTES_MAX, Opcode};
use bytes::{BufMut, Bytes};

/// A close frame's payload is a code of two bytes, and then the reason.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// How many bytes [`put_header`] writes for a payload of `payload_len` bytes.
pub fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes the header of a whole frame; its payload, of `payload_len` bytes, comes right after it.
pub fn put_header(out: &mut impl BufMut, opcode: Opcode, payload_len: usize) {
    out.put_u8(0x80 | opcode as u8);
    if let Ok(short @ ..=125) = u8::try_from(payload_len) {
        out.put_u8(short);
    } else if let Ok(medium) = u16::try_from(payload_len) {
        out.put_u8(126);
        out.put_u16(medium);
    } else {
        out.put_u8(127);
        out.put_u64(payload_len as u64);
    }
}

/// A text message. That `text` is UTF-8 is for the caller to know.
pub fn text_frame(text: &[u8]) -> Bytes {
    frame(Opcode::Text, &[text])
}

/// A binary message.
pub fn binary_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, &[payload])
}

/// A ping; of `payload` the first 125 bytes (§5.5.2).
pub fn ping_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
}

/// The pong that answers a ping with this payload; of it the first 125 bytes (§5.5.3).
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
}

/// A close frame; of `reason` as many whole characters as fit in 123 bytes (§5.5.1).
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let end = (0..=REASON_BYTES_MAX)
        .rev()
        .find(|&end| reason.is_char_boundary(end))
        .unwrap_or(0);
    frame(Opcode::Close, &[&code.to_be_bytes(), &reason.as_bytes()[..end]])
}

/// A whole frame, whose payload is the parts one after the other.
fn frame(opcode: Opcode, parts: &[&[u8]]) -> Bytes {
    let payload_len = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(header_len(payload_len) + payload_len);
    put_header(&mut out, opcode, payload_len);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::{Opcode, binary_frame, close_frame, header_len, ping_frame, pong_frame, put_header, text_frame};

    /// RFC 6455 §5.7: the examples that a server can send.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(text_frame(b"Hello")[..], *b"\x81\x05Hello");
        assert_eq!(ping_frame(b"Hello")[..], *b"\x89\x05Hello");
        assert_eq!(binary_frame(&[7; 256])[..5], *b"\x82\x7E\x01\x00\x07");
        assert_eq!(binary_frame(&vec![7; 65536])[..11], *b"\x82\x7F\0\0\0\0\0\x01\0\0\x07");
    }

    /// RFC 6455 §5.2: the shortest form of the length, at both ends of each.
    #[test]
    fn a_header_is_as_long_as_announced() {
        for payload_len in [0, 125, 126, 0xFFFF, 0x1_0000, usize::MAX] {
            let mut header = Vec::new();
            put_header(&mut header, Opcode::Text, payload_len);
            assert_eq!(header.len(), header_len(payload_len), "{payload_len}");
        }
    }

    /// RFC 6455 §5.5: control frames carry at most 125 bytes.
    #[test]
    fn a_control_frame_is_cut_to_what_it_can_carry() {
        assert_eq!(pong_frame(b"")[..], *b"\x8A\x00");
        assert_eq!(ping_frame(&[1; 126]).len(), 2 + 125);
        assert_eq!(pong_frame(&[1; 126])[..2], *b"\x8A\x7D");
    }

    /// RFC 6455 §5.5.1: the reason is UTF-8, so it is cut between characters.
    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(close_frame(1000, "")[..], *b"\x88\x02\x03\xE8");
        assert_eq!(close_frame(4401, "expired")[..], *b"\x88\x09\x11\x31expired");
        assert_eq!(close_frame(1000, &"a".repeat(124)).len(), 2 + 125);
        let cut = close_frame(1000, &"€".repeat(42));
        assert_eq!(str::from_utf8(&cut[4..]), Ok("€".repeat(41).as_str()));
        let cut = close_frame(1000, &"🦀".repeat(31));
        assert_eq!((cut[1], cut.len()), (122, 124));
    }
}
