//! Opcodes: what a frame carries (RFC 6455 §5.2).

use super::Violation;

/// What a frame carries; the value is its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 0x1,
    /// A message of bytes, or its first fragment.
    Binary = 0x2,
    /// The last frame of its sender.
    Close = 0x8,
    /// To be answered by a pong with the same payload.
    Ping = 0x9,
    /// The answer to a ping, or a sign of life.
    Pong = 0xA,
}

impl Opcode {
    /// Whether it is a control frame's: such a frame is short and whole, and may come between fragments (§5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl TryFrom<u8> for Opcode {
    type Error = Violation;

    fn try_from(number: u8) -> Result<Self, Violation> {
        Ok(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(Violation::ReservedOpcode(number)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Opcode, Violation};

    /// RFC 6455 §5.2 and §5.5: control frames are those with the highest bit of the opcode set; the rest is reserved.
    #[test]
    fn a_number_is_an_opcode_or_reserved() {
        for number in 0..=u8::MAX {
            match Opcode::try_from(number) {
                Ok(opcode) => assert!(opcode as u8 == number && opcode.is_control() == (number >= 8)),
                Err(violation) => assert_eq!(violation, Violation::ReservedOpcode(number)),
            }
        }
        assert_eq!(
            (0..=u8::MAX).filter(|&number| Opcode::try_from(number).is_ok()).count(),
            6
        );
    }
}
