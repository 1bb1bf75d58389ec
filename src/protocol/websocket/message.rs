//! A message under way: the text or the bytes of the pieces that came (RFC 6455 §5.6).

use super::utf8::PartialText;
use super::{Incoming, Opcode, Violation};

/// What came of a message. It grows with what comes, never with what was announced.
#[derive(Debug)]
pub(super) struct Message {
    /// Frames that it came in so far, the one under way included.
    pub(super) fragments: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Text(PartialText),
    Binary(Vec<u8>),
}

impl Message {
    /// The beginning of a message, by the opcode of its first frame.
    pub(super) fn new(opcode: Opcode) -> Self {
        let body = if opcode == Opcode::Text {
            Body::Text(PartialText::default())
        } else {
            Body::Binary(Vec::new())
        };
        Self { fragments: 1, body }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends a piece; of the first one no more than its size is allocated.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Violation> {
        match &mut self.body {
            Body::Text(text) => text.push(piece),
            Body::Binary(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// The message, of which this is the last piece.
    pub(super) fn finish(mut self, last: &[u8]) -> Result<Incoming, Violation> {
        self.push(last)?;
        match self.body {
            Body::Text(text) => text.finish().map(Incoming::Text),
            Body::Binary(bytes) => Ok(Incoming::Binary(bytes)),
        }
    }
}
