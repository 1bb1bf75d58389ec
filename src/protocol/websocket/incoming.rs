//! What a client sends, once it is complete.

use super::Violation;
use bytes::Bytes;

/// One complete thing that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// To be answered by a pong with the same payload, of at most 125 bytes.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The last that the client sent; to be answered by a close frame, unless one was sent before.
    Close(Option<CloseFrame>),
}

/// Why the client closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// 1000 to 1003, 1007 to 1014, or 3000 to 4999 (RFC 6455 §7.4 and its IANA registry).
    pub code: u16,
    /// For people who debug; may be empty, and is at most 123 bytes.
    pub reason: String,
}

impl CloseFrame {
    /// Reads a close frame's payload: nothing, or a code and a reason (§5.5.1).
    pub(super) fn parse(payload: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() {
                Ok(None)
            } else {
                Err(Violation::CloseTooShort)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Violation::CloseCodeInvalid(code));
        }
        let reason = str::from_utf8(reason)
            .map_err(|_| Violation::CloseReasonNotUtf8)?
            .to_owned();
        Ok(Some(Self { code, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::{CloseFrame, Violation};

    fn code(payload: &[u8]) -> Result<Option<u16>, Violation> {
        CloseFrame::parse(payload).map(|frame| frame.map(|frame| frame.code))
    }

    /// RFC 6455 §7.4: 1004, 1005, 1006 and 1015 must not be sent; below 1000, up to 2999 and from 5000 on there is
    /// nothing. 1012, 1013 and 1014 came later, by the IANA registry.
    #[test]
    fn a_close_code_is_one_that_may_be_sent() {
        for valid in [
            1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16,
        ] {
            assert_eq!(code(&valid.to_be_bytes()), Ok(Some(valid)));
        }
        for invalid in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535_u16] {
            assert_eq!(code(&invalid.to_be_bytes()), Err(Violation::CloseCodeInvalid(invalid)));
        }
    }

    /// RFC 6455 §5.5.1: no payload, or two bytes of code and a reason in UTF-8.
    #[test]
    fn a_close_payload_is_empty_or_a_code_and_a_reason() {
        assert_eq!(code(b""), Ok(None));
        assert_eq!(code(b"\x03"), Err(Violation::CloseTooShort));
        assert_eq!(code(b"\x03\xE8\xFF"), Err(Violation::CloseReasonNotUtf8));
        let frame = CloseFrame {
            code: 1000,
            reason: "päuschen".to_owned(),
        };
        assert_eq!(
            CloseFrame::parse(&[b"\x03\xE8", "päuschen".as_bytes()].concat()),
            Ok(Some(frame))
        );
    }
}
