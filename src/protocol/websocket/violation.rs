//! What a client can do wrong, and the close code that tells it so (RFC 6455 §7.4.1).

use std::fmt;

/// Why a client's bytes are refused. The text says what was wrong and what would be right, and fits in a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 is set, but no extension was negotiated (§5.2).
    ReservedBits,
    /// An opcode that no RFC defines (§5.2).
    ReservedOpcode(u8),
    /// A client must mask every frame (§5.1).
    Unmasked,
    /// A control frame without FIN (§5.5).
    ControlFragmented,
    /// A control frame that announces more than 125 bytes (§5.5).
    ControlTooLong,
    /// "The minimal number of bytes MUST be used to encode the length" (§5.2).
    LengthNotMinimal,
    /// "The most significant bit MUST be 0" (§5.2).
    LengthTopBit,
    /// A continuation frame where no message is under way (§5.4).
    ContinuationWithoutStart,
    /// A text or binary frame where the message before has not ended (§5.4).
    MessageInsideMessage,
    /// What came of the message and what its newest frame announces are, together, too much.
    MessageTooBig {
        /// How big the message is at least.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// One fragment more than the limit.
    TooManyFragments {
        /// The limit.
        fragments_max: u32,
    },
    /// A text message that is not, and cannot become, valid UTF-8 (§8.1).
    TextNotUtf8,
    /// The same of the reason in a close frame (§5.5.1).
    CloseReasonNotUtf8,
    /// A close frame with half a code (§5.5.1).
    CloseTooShort,
    /// A close code that must not be sent or means nothing (§7.4).
    CloseCodeInvalid(u16),
}

impl Violation {
    /// The code of the close frame that answers it: 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::ContinuationWithoutStart
            | Self::MessageInsideMessage
            | Self::CloseTooShort
            | Self::CloseCodeInvalid(_) => 1002,
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => 1007,
            Self::MessageTooBig { .. } | Self::TooManyFragments { .. } => 1009,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "reserved bits are set: without an extension, RSV1, RSV2 and RSV3 must be 0",
            Self::ReservedOpcode(opcode) => {
                return write!(f, "opcode 0x{opcode:X} is reserved: use 0x0 to 0x2 or 0x8 to 0xA");
            }
            Self::Unmasked => "a frame is not masked: a client must mask every frame",
            Self::ControlFragmented => "a control frame is fragmented: close, ping and pong must have FIN set",
            Self::ControlTooLong => "a control frame is too long: close, ping and pong carry at most 125 bytes",
            Self::LengthNotMinimal => "a length takes more bytes than it needs: use the shortest of the three forms",
            Self::LengthTopBit => "a 64-bit length has its top bit set: it must be 0",
            Self::ContinuationWithoutStart => "nothing to continue: a message begins with a text or binary frame",
            Self::MessageInsideMessage => "a message begins inside another: end that one with a final continuation",
            Self::MessageTooBig { bytes, bytes_max } => {
                return write!(
                    f,
                    "a message of {bytes} bytes or more: at most {bytes_max} are accepted"
                );
            }
            Self::TooManyFragments { fragments_max } => {
                return write!(
                    f,
                    "a message in too many fragments: at most {fragments_max} are accepted"
                );
            }
            Self::TextNotUtf8 => "a text message is not UTF-8: it must be valid as a whole",
            Self::CloseReasonNotUtf8 => "the reason in a close frame is not UTF-8: it must be valid",
            Self::CloseTooShort => "a close frame has 1 byte: it has none, or a code of 2 bytes and then a reason",
            Self::CloseCodeInvalid(code) => {
                return write!(f, "close code {code} is invalid: use 1000-1003, 1007-1014 or 3000-4999");
            }
        })
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::Violation;

    /// RFC 6455 §5.5: a close frame has room for 123 bytes of reason.
    #[test]
    fn the_longest_texts_fit_in_a_close_frame() {
        let longest = [
            Violation::MessageTooBig {
                bytes: u64::MAX,
                bytes_max: usize::MAX,
            },
            Violation::TooManyFragments {
                fragments_max: u32::MAX,
            },
            Violation::CloseCodeInvalid(u16::MAX),
            Violation::ReservedOpcode(u8::MAX),
            Violation::CloseTooShort,
        ];
        for violation in longest {
            assert!(violation.to_string().len() <= 123, "{violation}");
        }
    }
}
