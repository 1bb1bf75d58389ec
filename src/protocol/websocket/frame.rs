//! One frame of a client: its header, however its bytes come, and its payload, unmasked where it lies
//! (RFC 6455 §5.2, §5.3).

use super::{CONTROL_BYTES_MAX, Opcode, Violation};
use bytes::Buf as _;

/// Two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// What has come of a header.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    filled: u8,
}

impl PartialHeader {
    /// Whether none of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes what is missing from the front of `input`; `None` as long as that is not enough.
    pub(super) fn read(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        while self.filled < self.wanted() {
            let Some(byte) = input.split_off_first_mut() else {
                return Ok(None);
            };
            self.bytes[usize::from(self.filled)] = *byte;
            self.filled += 1;
        }
        Frame::parse(&self.bytes).map(Some)
    }

    /// How many bytes the header has, as far as those that came tell.
    fn wanted(&self) -> u8 {
        if self.filled < 2 {
            return 2;
        }
        let mask = if self.bytes[1] & MASKED == 0 { 0 } else { 4 };
        match self.bytes[1] & LENGTH {
            127 => 2 + 8 + mask,
            126 => 2 + 2 + mask,
            _ => 2 + mask,
        }
    }
}

/// A frame whose header is lawful by itself; whether it may come here is for the decoder to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// Whether it ends its message.
    pub(super) is_final: bool,
    /// What the rest of the payload is masked with, beginning at its next byte.
    mask: [u8; 4],
    /// Bytes of payload still to come.
    pub(super) remaining: u64,
}

impl Frame {
    /// Reads a header that is there as a whole.
    fn parse(mut header: &[u8]) -> Result<Self, Violation> {
        let (first, second) = (header.get_u8(), header.get_u8());
        if first & RESERVED != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::try_from(first & OPCODE)?;
        if second & MASKED == 0 {
            return Err(Violation::Unmasked);
        }
        let is_final = first & FIN != 0;
        if opcode.is_control() && !is_final {
            return Err(Violation::ControlFragmented);
        }
        if opcode.is_control() && usize::from(second & LENGTH) > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
        let remaining = payload_len(second & LENGTH, &mut header)?;
        Ok(Self {
            opcode,
            is_final,
            mask: header.get_u32().to_be_bytes(),
            remaining,
        })
    }

    /// Takes what has come of the payload from the front of `input`, unmasked.
    pub(super) fn take<'a>(&mut self, input: &mut &'a mut [u8]) -> &'a mut [u8] {
        let count = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        let piece = input.split_off_mut(..count).unwrap_or_default();
        unmask(piece, self.mask);
        self.mask.rotate_left(piece.len() % 4);
        self.remaining -= piece.len() as u64;
        piece
    }
}

/// The length that the header's seven bits `short` and, for the two longer forms, the bytes after them stand for.
fn payload_len(short: u8, header: &mut &[u8]) -> Result<u64, Violation> {
    let (len, longest_of_shorter_form) = match short {
        127 => (header.get_u64(), u64::from(u16::MAX)),
        126 => (u64::from(header.get_u16()), 125),
        _ => return Ok(u64::from(short)),
    };
    if len > u64::MAX / 2 {
        Err(Violation::LengthTopBit)
    } else if len <= longest_of_shorter_form {
        Err(Violation::LengthNotMinimal)
    } else {
        Ok(len)
    }
}

/// Eight bytes at a time, which the compiler makes sixteen or more.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Opcode, PartialHeader, Violation, unmask};

    fn read(mut header: Vec<u8>) -> Result<Option<Frame>, Violation> {
        PartialHeader::default().read(&mut header.as_mut_slice())
    }

    /// RFC 6455 §5.2: the three forms of the length, at both ends of each.
    #[test]
    fn each_length_has_one_form() {
        let cases: [(&[u8], _); 10] = [
            (&[0x82, 0x80], Ok(0)),
            (&[0x82, 0xFD], Ok(125)),
            (&[0x82, 0xFE, 0x00, 0x7D], Err(Violation::LengthNotMinimal)),
            (&[0x82, 0xFE, 0x00, 0x7E], Ok(126)),
            (&[0x82, 0xFE, 0xFF, 0xFF], Ok(0xFFFF)),
            (
                &[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                Err(Violation::LengthNotMinimal),
            ),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0], Ok(0x1_0000)),
            (
                &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                Ok((1 << 63) - 1),
            ),
            (&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(Violation::LengthTopBit)),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0], Err(Violation::LengthNotMinimal)),
        ];
        for (header, expected) in cases {
            let frame = read([header, &[1, 2, 3, 4]].concat());
            assert_eq!(frame.map(|frame| frame.unwrap().remaining), expected, "{header:x?}");
        }
    }

    /// RFC 6455 §5.1, §5.2, §5.5: what two bytes are enough to refuse.
    #[test]
    fn a_header_that_is_wrong_by_itself_is_refused() {
        for (first, second, violation) in [
            (0xC1, 0x80, Violation::ReservedBits),
            (0xA1, 0x80, Violation::ReservedBits),
            (0x91, 0x80, Violation::ReservedBits),
            (0x83, 0x80, Violation::ReservedOpcode(3)),
            (0x8F, 0x80, Violation::ReservedOpcode(15)),
            (0x81, 0x00, Violation::Unmasked),
            (0x09, 0x80, Violation::ControlFragmented),
            (0x88, 0xFE, Violation::ControlTooLong),
            (0x8A, 0xFF, Violation::ControlTooLong),
        ] {
            let header = [&[first, second][..], &[0; 12]].concat();
            assert_eq!(read(header).err(), Some(violation), "{first:x} {second:x}");
        }
    }

    /// RFC 6455 §5.2: an unmasked header has no mask to wait for.
    #[test]
    fn an_unmasked_frame_is_refused_without_waiting_for_its_payload() {
        assert_eq!(read(vec![0x81, 0x05]).err(), Some(Violation::Unmasked));
        assert!(read(vec![0x81, 0x85, 1, 2, 3]).unwrap().is_none());
    }

    /// RFC 6455 §5.3: the mask's four octets go round over the payload's, wherever the pieces are cut.
    #[test]
    fn a_payload_is_unmasked_in_pieces_as_at_once() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let plain: Vec<u8> = (0..67).collect();
        let masked: Vec<u8> = plain
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        let mut once = masked.clone();
        unmask(&mut once, mask);
        assert_eq!(once, plain);
        for cut in 0..=masked.len() {
            let mut frame = Frame {
                opcode: Opcode::Binary,
                is_final: true,
                mask,
                remaining: 67,
            };
            let (mut head, mut tail) = (masked[..cut].to_vec(), masked[cut..].to_vec());
            let pieces = [
                frame.take(&mut head.as_mut_slice()),
                frame.take(&mut tail.as_mut_slice()),
            ]
            .concat();
            assert!(pieces == plain && frame.remaining == 0, "cut at {cut}");
        }
    }
}
