//! From a client's bytes to what it sent: the rules that span frames (RFC 6455 §5.4, §5.5), and the limits.

use super::frame::{Frame, PartialHeader};
use super::incoming::{CloseFrame, Incoming};
use super::message::Message;
use super::{Opcode, Violation};
use std::mem;

/// What one message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload, over all fragments.
    pub message_bytes_max: usize,
    /// Fragments, control frames between them not counted. A message in one frame passes always.
    pub fragments_max: u32,
}

/// Reads the frames of one client.
///
/// It holds what has come of an unfinished header, message or control frame, in at most twice its size; between
/// messages, and for a header alone, it holds nothing on the heap.
#[derive(Debug, Default)]
pub struct Decoder {
    stage: Stage,
    /// The message of which the beginning has come, but not the end.
    message: Option<Box<Message>>,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
}

impl Decoder {
    /// A decoder for what comes after the handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`, up to the end of the next complete thing, and returns it. `None`: all of
    /// `input` is taken, and more is needed.
    ///
    /// Payloads are unmasked where they lie, so what was taken is not what came. A message that lies in `input` as a
    /// whole is copied once, into what is returned. A length above the limits is refused as soon as it is announced,
    /// and text as soon as it cannot become valid.
    ///
    /// # Errors
    ///
    /// A [`Violation`] is final, as [`Incoming::Close`] is: do not decode further. A decoder that is fed all the same
    /// takes everything and returns `None`, so that a connection can be read to its end.
    pub fn decode(&mut self, input: &mut &mut [u8], limits: &Limits) -> Result<Option<Incoming>, Violation> {
        let outcome = self.advance(input, limits);
        if matches!(outcome, Err(_) | Ok(Some(Incoming::Close(_)))) {
            *self = Self {
                stage: Stage::Closed,
                ..Self::default()
            };
        }
        outcome
    }

    /// Whether something has begun to come and has not come to its end: a message, a control frame, or a header.
    pub fn is_under_way(&self) -> bool {
        let is_between_frames = match &self.stage {
            Stage::Header(header) => header.is_empty(),
            Stage::Payload(_) => false,
            Stage::Closed => true,
        };
        self.message.is_some() || !is_between_frames
    }

    fn advance(&mut self, input: &mut &mut [u8], limits: &Limits) -> Result<Option<Incoming>, Violation> {
        loop {
            match &mut self.stage {
                Stage::Header(header) => {
                    let Some(frame) = header.read(input)? else {
                        return Ok(None);
                    };
                    self.admit(&frame, limits)?;
                    self.stage = Stage::Payload(frame);
                }
                Stage::Payload(frame) if input.is_empty() && frame.remaining > 0 => return Ok(None),
                Stage::Payload(frame) => {
                    let piece = frame.take(input);
                    let frame = *frame;
                    if frame.remaining == 0 {
                        self.stage = Stage::default();
                    }
                    if let Some(incoming) = self.accept(frame, piece)? {
                        return Ok(Some(incoming));
                    }
                }
                Stage::Closed => {
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Whether a frame may come here, before any of its payload is taken.
    fn admit(&mut self, frame: &Frame, limits: &Limits) -> Result<(), Violation> {
        let len = match (&mut self.message, frame.opcode) {
            (_, Opcode::Close | Opcode::Ping | Opcode::Pong) => return Ok(()),
            (None, Opcode::Text | Opcode::Binary) => 0,
            (None, Opcode::Continuation) => return Err(Violation::ContinuationWithoutStart),
            (Some(_), Opcode::Text | Opcode::Binary) => return Err(Violation::MessageInsideMessage),
            (Some(message), Opcode::Continuation) if message.fragments < limits.fragments_max => {
                message.fragments += 1;
                message.len()
            }
            (Some(_), Opcode::Continuation) => {
                return Err(Violation::TooManyFragments {
                    fragments_max: limits.fragments_max,
                });
            }
        };
        let (bytes, bytes_max) = (frame.remaining.saturating_add(len as u64), limits.message_bytes_max);
        if bytes <= bytes_max as u64 {
            Ok(())
        } else {
            Err(Violation::MessageTooBig { bytes, bytes_max })
        }
    }

    /// Takes a piece of a frame's payload, after which `frame.remaining` bytes are still to come.
    fn accept(&mut self, frame: Frame, piece: &[u8]) -> Result<Option<Incoming>, Violation> {
        match frame.opcode {
            Opcode::Continuation | Opcode::Text | Opcode::Binary => self.data(frame, piece),
            Opcode::Ping => Ok(self.control(frame, piece).map(|payload| Incoming::Ping(payload.into()))),
            Opcode::Pong => Ok(self.control(frame, piece).map(|_| Incoming::Pong)),
            Opcode::Close => {
                let Some(payload) = self.control(frame, piece) else {
                    return Ok(None);
                };
                Ok(Some(Incoming::Close(CloseFrame::parse(&payload)?)))
            }
        }
    }

    /// The message, if this piece completes it. One that comes as a whole is never put into a box.
    fn data(&mut self, frame: Frame, piece: &[u8]) -> Result<Option<Incoming>, Violation> {
        let begin = || Message::new(frame.opcode);
        if frame.is_final && frame.remaining == 0 {
            let message = self.message.take().map_or_else(begin, |message| *message);
            return message.finish(piece).map(Some);
        }
        self.message.get_or_insert_with(|| Box::new(begin())).push(piece)?;
        Ok(None)
    }

    /// The control frame's payload, if this piece completes it.
    fn control(&mut self, frame: Frame, piece: &[u8]) -> Option<Vec<u8>> {
        self.control.extend_from_slice(piece);
        (frame.remaining == 0).then(|| mem::take(&mut self.control))
    }
}

/// What the next byte is part of.
#[derive(Debug)]
enum Stage {
    Header(PartialHeader),
    Payload(Frame),
    /// Nothing: the client has closed, or has broken the protocol.
    Closed,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Header(PartialHeader::default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::put_header;
    use super::{CloseFrame, Decoder, Incoming, Limits, Opcode, Stage, Violation};
    use bytes::BufMut as _;

    const LIMITS: Limits = Limits {
        message_bytes_max: 100_000,
        fragments_max: 4,
    };
    const FIN: u8 = 0x80;

    /// A client's frame, masked. `first` is the header's first byte: FIN and the opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut frame = Vec::new();
        put_header(&mut frame, Opcode::Text, payload.len());
        (frame[0], frame[1]) = (first, frame[1] | 0x80);
        frame.put_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    /// All that a decoder makes of `pieces`, and how it ends.
    fn decode(decoder: &mut Decoder, pieces: &[&[u8]]) -> (Vec<Incoming>, Option<Violation>) {
        let mut all = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut input = piece.as_mut_slice();
            loop {
                match decoder.decode(&mut input, &LIMITS) {
                    Ok(Some(incoming)) => all.push(incoming),
                    Ok(None) => break assert!(input.is_empty()),
                    Err(violation) => return (all, Some(violation)),
                }
            }
        }
        (all, None)
    }

    fn at_once(bytes: &[u8]) -> (Vec<Incoming>, Option<Violation>) {
        decode(&mut Decoder::new(), &[bytes])
    }

    fn violation(frames: &[Vec<u8>]) -> Option<Violation> {
        at_once(&frames.concat()).1
    }

    fn text(text: &str) -> Incoming {
        Incoming::Text(text.to_owned())
    }

    fn holds_nothing(decoder: &Decoder) -> bool {
        decoder.message.is_none() && decoder.control.capacity() == 0
    }

    /// RFC 6455 §5.7: the examples that a client can send.
    #[test]
    fn the_examples_of_the_rfc() {
        let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(at_once(hello), (vec![text("Hello")], None));
        let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(at_once(pong), (vec![Incoming::Pong], None));
    }

    /// RFC 6455 §5.4, §5.5: control frames may come between the fragments of a message, and stand for themselves.
    #[test]
    fn control_frames_come_between_fragments() {
        let frames = [
            frame(0x1, b"a"),
            frame(0x89, b"now"),
            frame(0x0, b""),
            frame(0x8A, b"x"),
            frame(0x80, b"b"),
        ];
        let expected = vec![Incoming::Ping("now".into()), Incoming::Pong, text("ab")];
        assert_eq!(at_once(&frames.concat()), (expected, None));
    }

    /// RFC 6455 §5.4: a continuation continues, and a message does not begin before the other has ended.
    #[test]
    fn fragments_come_in_order() {
        assert_eq!(
            violation(&[frame(0x80, b"")]),
            Some(Violation::ContinuationWithoutStart)
        );
        assert_eq!(
            violation(&[frame(0x1, b""), frame(0x81, b"")]),
            Some(Violation::MessageInsideMessage)
        );
        assert_eq!(
            violation(&[frame(0x2, b""), frame(0x2, b"")]),
            Some(Violation::MessageInsideMessage)
        );
        let after_whole = [frame(0x81, b""), frame(0x0, b"")];
        assert_eq!(violation(&after_whole), Some(Violation::ContinuationWithoutStart));
    }

    /// RFC 6455 §10.4: a length is refused when it is announced, so that 14 bytes cannot cost gigabytes.
    #[test]
    fn an_announced_length_is_refused_before_its_payload() {
        let mut decoder = Decoder::new();
        let header = b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0";
        let too_big = Violation::MessageTooBig {
            bytes: (1 << 63) - 1,
            bytes_max: 100_000,
        };
        assert_eq!(decode(&mut decoder, &[header]), (vec![], Some(too_big)));
        assert_eq!(violation(&[frame(0x82, &vec![0; 100_000])]), None);
        let too_big = Violation::MessageTooBig {
            bytes: 100_001,
            bytes_max: 100_000,
        };
        assert_eq!(
            violation(&[frame(0x2, &vec![0; 60_000]), frame(0x0, &vec![0; 40_001])]),
            Some(too_big)
        );
    }

    /// RFC 6455 §10.4: a message without end in empty fragments would be under every limit of size.
    #[test]
    fn fragments_are_limited() {
        let fragments = |count: usize| [vec![frame(0x1, b"")], vec![frame(0x0, b""); count - 1]].concat();
        assert_eq!(violation(&fragments(4)), None);
        assert_eq!(
            violation(&fragments(5)),
            Some(Violation::TooManyFragments { fragments_max: 4 })
        );
    }

    /// RFC 6455 §8.1: text is refused at the first byte after which it cannot be valid, the end or not.
    #[test]
    fn text_is_refused_as_soon_as_it_cannot_be_valid() {
        let surrogate = frame(0x1, b"\xED\xA0.......");
        assert_eq!(at_once(&surrogate[..7]), (vec![], None));
        assert_eq!(at_once(&surrogate[..8]), (vec![], Some(Violation::TextNotUtf8)));
        let cut = [frame(0x1, b"\xE2"), frame(0x0, b"\x82"), frame(0x80, b"\xAC")];
        assert_eq!(at_once(&cut.concat()), (vec![text("€")], None));
        assert_eq!(
            violation(&[frame(0x1, b"\xE2"), frame(0x80, b"\x82")]),
            Some(Violation::TextNotUtf8)
        );
    }

    /// RFC 6455 §5.5.1, §1.4: nothing after a close frame is looked at, and what was under way is let go.
    #[test]
    fn nothing_counts_after_a_close() {
        let mut decoder = Decoder::new();
        let bytes = [frame(0x1, b"half"), frame(0x88, b"\x0F\xA0bye"), vec![0xFF; 100]].concat();
        let close = Incoming::Close(Some(CloseFrame {
            code: 4000,
            reason: "bye".to_owned(),
        }));
        assert_eq!(decode(&mut decoder, &[&bytes, &bytes]), (vec![close], None));
        assert!(holds_nothing(&decoder) && matches!(decoder.stage, Stage::Closed));
        assert_eq!(at_once(&frame(0x88, b"")), (vec![Incoming::Close(None)], None));
        assert_eq!(violation(&[frame(0x88, b"\x03")]), Some(Violation::CloseTooShort));
    }

    /// The limits of RFC 6455 §10.4, for those who send nothing: there are tens of thousands of them.
    #[test]
    fn an_idle_decoder_is_small_and_holds_nothing() {
        assert!(size_of::<Decoder>() <= 56, "{}", size_of::<Decoder>());
        let bytes = [frame(0x1, b"frag"), frame(0x89, b"ping"), frame(0x80, b"ment")].concat();
        let mut decoder = Decoder::new();
        assert!(holds_nothing(&decoder));
        for cut in [&bytes[..8], &bytes[8..18], &bytes[18..24], &bytes[24..29]] {
            decode(&mut decoder, &[cut]);
            assert!(!holds_nothing(&decoder));
        }
        assert!(decoder.is_under_way());
        assert_eq!(decode(&mut decoder, &[&bytes[29..]]), (vec![text("fragment")], None));
        assert!(holds_nothing(&decoder) && !decoder.is_under_way());
        decode(&mut decoder, &[&frame(0x81, b"later")[..6]]);
        assert!(holds_nothing(&decoder), "a header alone costs nothing");
        assert!(decoder.is_under_way());
        let mut decoder = Decoder::new();
        decode(&mut decoder, &[&[0x89]]);
        assert!(decoder.is_under_way(), "its first byte has come");
        decode(&mut decoder, &[&frame(0x89, b"ping")[1..]]);
        assert!(!decoder.is_under_way());
    }

    /// RFC 6455 §5.2: a stream means the same wherever it is cut, even after every byte.
    #[test]
    fn bytes_may_come_one_at_a_time() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut stream = Vec::new();
            for _ in 0..random.usize(1..8) {
                let opcode = *random.choice(&[0x0, 0x1, 0x2, 0x8, 0x9, 0xA]).unwrap();
                let sizes = if opcode & 0x8 == 0 {
                    [0, 125, 126, 70_000]
                } else {
                    [0, 4, 20, 124]
                };
                let size = *random.choice(&sizes).unwrap();
                let payload: String = (0..size / 2).map(|_| random.char('\0'..='ÿ')).collect();
                let fin = if opcode & 0x8 == 0 && random.bool() { 0 } else { FIN };
                stream.extend(frame(fin | opcode, &payload.as_bytes()[..payload.len().min(size)]));
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(decode(&mut Decoder::new(), &bytes), at_once(&stream), "seed {seed}");
        }
    }
}
