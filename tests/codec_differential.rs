//! Our WebSocket decoder and tungstenite's read the same streams: valid, mutated and garbage, cut at random places.
//!
//! `THROUGHLINE_FUZZ_INPUTS` sets how many. Each input is made from its number alone, so that a failure names all that
//! is needed to see it again.

#![expect(clippy::print_stdout, reason = "says how much was compared")]

use fastrand::Rng;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use throughline::protocol::websocket::{CloseFrame, Decoder, Incoming, Limits};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

/// What tungstenite reads as one frame at most; above what our limits allow, so that a message too big is read by it.
const FRAME_BYTES_MAX: usize = 80_000;

#[test]
fn our_decoder_and_tungstenite_agree() {
    let inputs = std::env::var("THROUGHLINE_FUZZ_INPUTS").map_or(20_000, |count| count.parse().expect("a number"));
    let mut endings = BTreeMap::new();
    for input in 0..inputs {
        let mut random = Rng::with_seed(input);
        let message_bytes_max = one_of(&mut random, &[40, 1_000, 70_000]);
        let limits = Limits {
            message_bytes_max,
            fragments_max: u32::MAX,
        };
        let stream = stream(&mut random);
        let chunk_max = one_of(&mut random, &[1, 7, 100, stream.len().max(1)]);
        let ours = ours(&stream, chunk_max, limits, random.clone());
        let expected = expected(&stream, &ours, chunk_max, limits, &random);
        assert_eq!(
            ours, expected,
            "input {input}, cut to {chunk_max}, {limits:?}: {stream:02x?}"
        );
        assert_eq!(
            ours,
            self::ours(&stream, usize::MAX, limits, random),
            "input {input}: cut to {chunk_max}, and whole"
        );
        *endings.entry(format!("{:?}", ours.ending)).or_insert(0_u64) += 1;
    }
    println!("{inputs} inputs compared; they ended {endings:?}");
    assert!(inputs < 1_000 || endings.len() == 5, "every kind of ending was seen");
}

/// What was read of a stream, and how that ended.
#[derive(Debug, PartialEq)]
struct Reading {
    messages: Vec<Incoming>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// All was read; more may come.
    Open,
    /// The client closed.
    Closed,
    /// The client is to be closed with this code.
    Refused(u16),
}

fn ours(stream: &[u8], chunk_max: usize, limits: Limits, mut random: Rng) -> Reading {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut ending = Ending::Open;
    let mut bytes = stream.to_vec();
    let mut rest = bytes.as_mut_slice();
    while !rest.is_empty() {
        let chunk = random.usize(1..=chunk_max.min(rest.len()));
        let mut chunk = rest.split_off_mut(..chunk).unwrap_or_default();
        loop {
            match decoder.decode(&mut chunk, &limits) {
                Ok(Some(incoming)) => {
                    assert_eq!(ending, Ending::Open, "{incoming:?} after the end");
                    if matches!(incoming, Incoming::Close(_)) {
                        ending = Ending::Closed;
                    }
                    messages.push(incoming);
                }
                Ok(None) => break assert!(chunk.is_empty(), "bytes left over"),
                Err(violation) => {
                    return Reading {
                        messages,
                        ending: Ending::Refused(violation.close_code()),
                    };
                }
            }
        }
    }
    Reading { messages, ending }
}

fn theirs(stream: &[u8], chunk_max: usize, limits: Limits, random: Rng) -> Reading {
    let config = WebSocketConfig::default()
        .read_buffer_size(256)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(limits.message_bytes_max));
    let mut socket = WebSocket::from_raw_socket(
        Pipe {
            stream,
            chunk_max,
            random,
        },
        Role::Server,
        Some(config),
    );
    let mut messages = Vec::new();
    let ending = loop {
        match socket.read() {
            Ok(Message::Text(text)) => messages.push(Incoming::Text(text.as_str().to_owned())),
            Ok(Message::Binary(bytes)) => messages.push(Incoming::Binary(bytes.into())),
            Ok(Message::Ping(payload)) => messages.push(Incoming::Ping(payload)),
            Ok(Message::Pong(_)) => messages.push(Incoming::Pong),
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|frame| CloseFrame {
                    code: frame.code.into(),
                    reason: frame.reason.to_string(),
                });
                messages.push(Incoming::Close(frame));
                break Ending::Closed;
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break Ending::Open,
            Err(Error::Protocol(_)) => break Ending::Refused(1002),
            Err(Error::Utf8(_)) => break Ending::Refused(1007),
            Err(Error::Capacity(_)) => break Ending::Refused(1009),
            other => panic!("{other:?}"),
        }
    };
    Reading { messages, ending }
}

/// A socket on which a client's bytes come in chunks, and then nothing more; what is written to it is lost.
struct Pipe<'a> {
    stream: &'a [u8],
    chunk_max: usize,
    random: Rng,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.stream.len().min(buffer.len()).min(self.chunk_max);
        if available == 0 {
            return Ok(0);
        }
        let chunk = self.random.usize(1..=available);
        self.stream.read(&mut buffer[..chunk])
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads, brought to what the RFC asks where tungstenite is known to part from it:
///
/// - up to a [`parting`], it reads the stream; what the RFC has there follows;
/// - it looks at a frame once that is there as a whole, but §7.1.7 and §8.1 let an endpoint fail the connection on what
///   it has seen. So where we refuse and it waits, it is given the rest of the frame, and must then refuse for the
///   same reason.
fn expected(stream: &[u8], ours: &Reading, chunk_max: usize, limits: Limits, random: &Rng) -> Reading {
    let frames = frames(stream);
    let parting = frames
        .iter()
        .find_map(|frame| Some((frame.start, parting(stream, frame, ours)?)));
    let lawful = parting.as_ref().map_or(stream, |(start, _)| &stream[..*start]);
    let mut reading = theirs(lawful, chunk_max, limits, random.clone());
    match (reading.ending, parting, ours.ending) {
        (Ending::Open, Some((_, at_parting)), _) => {
            reading.messages.extend(at_parting.messages);
            reading.ending = at_parting.ending;
        }
        (Ending::Open, None, Ending::Refused(_)) => {
            let end = frames.last().map_or(0, |frame| frame.end);
            let completed = [stream, &vec![0; end.saturating_sub(stream.len())]].concat();
            reading = theirs(&completed, chunk_max, limits, random.clone());
        }
        _ => {}
    }
    reading
}

/// What is to be read of a frame about which tungstenite and the RFC differ; `None` where they do not.
fn parting(stream: &[u8], frame: &Frame, ours: &Reading) -> Option<Reading> {
    let refused = |code| {
        Some(Reading {
            messages: Vec::new(),
            ending: Ending::Refused(code),
        })
    };
    // §5.2: "the minimal number of bytes MUST be used to encode the length", and "the most significant bit MUST be 0".
    // Tungstenite takes any form, and a length of 2^63 for one that is merely too big.
    if !frame.is_length_lawful {
        return refused(1002);
    }
    // Tungstenite looks at the length first and at the rest of the header later. If that is wrong as well (the reserved
    // bits, the mask and so on), both reasons are true, and the RFC prefers neither.
    if frame.end - frame.payload > FRAME_BYTES_MAX {
        return refused(if ours.ending == Ending::Refused(1002) {
            1002
        } else {
            1009
        });
    }
    let payload = frame.close_payload(stream)?;
    let (code, reason) = payload.split_first_chunk()?;
    match u16::from_be_bytes(*code) {
        // Registered with IANA under §11.7 (Bad Gateway); tungstenite does not know it.
        1014 => Some(match String::from_utf8(reason.to_vec()) {
            Err(_) => return refused(1007),
            Ok(reason) => Reading {
                messages: vec![Incoming::Close(Some(CloseFrame { code: 1014, reason }))],
                ending: Ending::Closed,
            },
        }),
        1000..=1003 | 1007..=1013 | 3000..=4999 => None,
        // §7.4.1, §7.4.2: must not be sent, or means nothing. Tungstenite reports 1002 as if the client had sent it.
        _ => refused(1002),
    }
}

/// Where a frame lies in a stream.
struct Frame {
    start: usize,
    payload: usize,
    end: usize,
    is_length_lawful: bool,
}

impl Frame {
    /// The payload, unmasked, if this is a lawful close frame that is there as a whole (§5.5.1).
    fn close_payload(&self, stream: &[u8]) -> Option<Vec<u8>> {
        let header = stream.get(self.start..self.payload)?;
        let payload = stream.get(self.payload..self.end)?;
        let is_lawful = header.len() == 6 && header[0] == 0x88 && header[1] & 0x80 != 0;
        is_lawful.then(|| {
            payload
                .iter()
                .zip(header[2..].iter().cycle())
                .map(|(byte, key)| byte ^ key)
                .collect()
        })
    }
}

/// The frames of a stream whose headers are complete, lawful or not; the last one may end after the stream (§5.2).
fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(&[_, second]) = stream.get(start..).and_then(|rest| rest.first_chunk()) {
        let (length_bytes, lawful) = match second & 0x7F {
            126 => (start + 2..start + 4, 126..=0xFFFF),
            127 => (start + 2..start + 10, 0x1_0000..=u64::MAX / 2),
            _ => (start + 1..start + 2, 0..=125),
        };
        let payload = length_bytes.end + if second & 0x80 == 0 { 0 } else { 4 };
        if payload > stream.len() {
            break;
        }
        let len = match &stream[length_bytes] {
            [short] => u64::from(short & 0x7F),
            long => long.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        let end = payload.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        frames.push(Frame {
            start,
            payload,
            end,
            is_length_lawful: lawful.contains(&len),
        });
        start = end;
    }
    frames
}

/// A client's bytes: in equal parts lawful, lawful but for some accidents, wrong frame by frame, and noise.
fn stream(random: &mut Rng) -> Vec<u8> {
    match random.u8(..4) {
        0 => lawful(random),
        1 => mutated(random),
        2 => (0..random.usize(1..6)).flat_map(|_| unlawful_frame(random)).collect(),
        _ => (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
    }
}

fn lawful(random: &mut Rng) -> Vec<u8> {
    let mut stream: Vec<u8> = (0..random.usize(..6)).flat_map(|_| lawful_message(random)).collect();
    if random.u8(..3) == 0 {
        stream.extend(lawful_close(random));
        stream.extend((0..random.usize(..10)).map(|_| random.u8(..)));
    }
    stream
}

/// A message in one to four fragments, with control frames between them.
fn lawful_message(random: &mut Rng) -> Vec<u8> {
    let (opcode, payload) = if random.bool() {
        (0x1, text(random).into_bytes())
    } else {
        (0x2, (0..size(random)).map(|_| random.u8(..)).collect())
    };
    let mut cuts: Vec<usize> = (0..random.usize(..4)).map(|_| random.usize(..=payload.len())).collect();
    cuts.sort_unstable();
    let mut stream = Vec::new();
    let mut start = 0;
    for cut in cuts {
        stream.extend(frame(
            if start == 0 && stream.is_empty() { opcode } else { 0 },
            &payload[start..cut],
            random,
        ));
        if random.u8(..3) == 0 {
            let ping: Vec<u8> = (0..random.usize(..126)).map(|_| random.u8(..)).collect();
            stream.extend(frame(if random.bool() { 0x89 } else { 0x8A }, &ping, random));
        }
        start = cut;
    }
    let last = if stream.is_empty() { 0x80 | opcode } else { 0x80 };
    stream.extend(frame(last, &payload[start..], random));
    stream
}

fn lawful_close(random: &mut Rng) -> Vec<u8> {
    let code = one_of(random, &[1000_u16, 1001, 1003, 1011, 1014, 3000, 4999]);
    let reason: String = text(random).chars().take(30).collect();
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    frame(0x88, if random.u8(..4) == 0 { b"" } else { &payload }, random)
}

/// One to four accidents of a kind that storage, a proxy or a bug brings about.
fn mutated(random: &mut Rng) -> Vec<u8> {
    let mut stream = lawful(random);
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=stream.len());
        let to = random.usize(at..=stream.len().min(at + 8));
        match random.u8(..5) {
            0 => stream.truncate(at),
            1 => drop(stream.drain(at..to)),
            2 => drop(stream.splice(at..at, [random.u8(..), random.u8(..)])),
            3 => stream[at..to].fill(random.u8(..)),
            _ => stream[at..to]
                .iter_mut()
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
    }
    stream
}

/// A frame that is mostly wrong, and then in one way only.
fn unlawful_frame(random: &mut Rng) -> Vec<u8> {
    let noise: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..)).collect();
    match random.u8(..9) {
        0 => frame(random.u8(..), &noise, random),
        1 => frame(one_of(random, &[0x01, 0x00, 0x81, 0x80]), &noise, random),
        2 => frame(
            one_of(random, &[0x88, 0x89, 0x8A]),
            &[0; 126][random.usize(..2)..],
            random,
        ),
        3 => {
            let code = one_of(
                random,
                &[
                    999_u16, 1000, 1003, 1004, 1006, 1007, 1015, 1016, 2999, 3000, 4999, 5000,
                ],
            );
            frame(0x88, &code.to_be_bytes(), random)
        }
        4 => frame(0x88, &[&1014_u16.to_be_bytes(), &noise[..]].concat(), random),
        5 => {
            let len = one_of(random, &[0, 125, 126]);
            frame_of_length(
                0x82,
                &[&[0xFE][..], &u16::to_be_bytes(len)].concat(),
                &vec![0; len.into()],
                random,
            )
        }
        6 => {
            let len = one_of(random, &[0, 125, 0xFFFF, 0x1_0000, 1 << 62, 1 << 63, u64::MAX]);
            let payload = vec![0; usize::try_from(len.min(200)).unwrap_or(200)];
            frame_of_length(0x82, &[&[0xFF][..], &len.to_be_bytes()].concat(), &payload, random)
        }
        7 => [vec![0x82, random.u8(..0x80)], noise].concat(),
        _ => lawful_message(random),
    }
}

/// Text of characters of one to four bytes.
fn text(random: &mut Rng) -> String {
    let size = size(random);
    let mut text = String::new();
    while text.len() < size {
        let last = one_of(random, &['\u{7F}', '\u{7FF}', '\u{FFFF}', char::MAX]);
        text.push(random.char('\0'..=last));
    }
    text
}

/// Mostly small, sometimes about the bounds between the forms of the length.
fn size(random: &mut Rng) -> usize {
    match random.u8(..) {
        0 => random.usize(65_530..65_540),
        1..16 => random.usize(100..2_000),
        16..48 => random.usize(120..130),
        _ => random.usize(..30),
    }
}

fn one_of<T: Copy>(random: &mut Rng, choices: &[T]) -> T {
    choices[random.usize(..choices.len())]
}

/// A masked frame; `first` is FIN, the reserved bits and the opcode.
fn frame(first: u8, payload: &[u8], random: &mut Rng) -> Vec<u8> {
    match u16::try_from(payload.len()) {
        Ok(short @ ..126) => frame_of_length(first, &[0x80 | short.to_be_bytes()[1]], payload, random),
        Ok(medium) => frame_of_length(first, &[&[0xFE][..], &medium.to_be_bytes()].concat(), payload, random),
        Err(_) => frame_of_length(
            first,
            &[&[0xFF][..], &(payload.len() as u64).to_be_bytes()].concat(),
            payload,
            random,
        ),
    }
}

/// The same with the mask's bit and the length as given.
fn frame_of_length(first: u8, length: &[u8], payload: &[u8], random: &mut Rng) -> Vec<u8> {
    let mask = random.u32(..).to_be_bytes();
    let mut frame = [&[first], length, &mask].concat();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
