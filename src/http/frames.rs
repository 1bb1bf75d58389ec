//! Where HTTP/2 frames begin and end in a stream of bytes (RFC 9113 §4.1), and when there are too many that say nothing.
//!
//! The library behind this understands frames; it has no clock. Here it is seen whether one is late, and whether a
//! client asks for more work than it can mean.

use tokio::time::Instant;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames that carry neither a request nor data, which a client may send at once. Each costs the server work and the
/// client nothing: resets of requests that have just begun, pings, settings, empty data (CVE-2023-44487, CVE-2019-9511
/// and following).
const IDLE_FRAMES_BURST: u32 = 1_000;

/// How many of them it may go on sending in a second.
const IDLE_FRAMES_PER_S: u32 = 200;

const HEAD_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    head_len: usize,
    payload_left: usize,
    /// Whether the first frame has come, without which the connection has not begun.
    has_begun: bool,
    /// Whether a header block has begun and not ended (RFC 9113 §4.3).
    is_within_block: bool,
    idle_left: u32,
    refilled: Instant,
}

/// The client sent too many frames that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood;

impl Frames {
    /// Follows a connection from its preface on.
    pub(super) fn new() -> Self {
        Self {
            preface_left: PREFACE.len(),
            head: [0; HEAD_BYTES],
            head_len: 0,
            payload_left: 0,
            has_begun: false,
            is_within_block: false,
            idle_left: IDLE_FRAMES_BURST,
            refilled: Instant::now(),
        }
    }

    /// Whether something has begun to come of which the rest must follow soon: a frame, or the headers of a request.
    pub(super) fn is_within_head(&self) -> bool {
        !self.has_begun || self.is_within_block || self.head_len > 0
    }

    /// Goes through what came next.
    ///
    /// # Errors
    /// [`Flood`]: the connection should end.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.head_len < HEAD_BYTES {
                let taken = (HEAD_BYTES - self.head_len).min(bytes.len());
                self.head[self.head_len..self.head_len + taken].copy_from_slice(&bytes[..taken]);
                self.head_len += taken;
                bytes = &bytes[taken..];
                if self.head_len == HEAD_BYTES {
                    self.begin_frame()?;
                }
            }
            let taken = self.payload_left.min(bytes.len());
            self.payload_left -= taken;
            bytes = &bytes[taken..];
            if self.head_len == HEAD_BYTES && self.payload_left == 0 {
                self.end_frame();
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), Flood> {
        let [high, middle, low, kind, ..] = self.head;
        self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
        let is_idle = match kind {
            DATA => self.payload_left == 0,
            HEADERS | WINDOW_UPDATE => false,
            _ => true,
        };
        if is_idle { self.count_idle() } else { Ok(()) }
    }

    fn end_frame(&mut self) {
        let [_, _, _, kind, flags, ..] = self.head;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_within_block = flags & END_HEADERS == 0;
        }
        self.has_begun = true;
        self.head_len = 0;
    }

    fn count_idle(&mut self) -> Result<(), Flood> {
        if self.idle_left == 0 {
            let passed = u32::try_from(self.refilled.elapsed().as_millis()).unwrap_or(u32::MAX);
            let earned = passed.saturating_mul(IDLE_FRAMES_PER_S) / 1000;
            self.idle_left = earned.min(IDLE_FRAMES_BURST);
            self.refilled = Instant::now();
        }
        self.idle_left = self.idle_left.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_and_not_ended_is_known_at_every_byte() {
        let mut bytes = PREFACE.to_vec();
        let mut ends = Vec::new();
        for (kind, flags, payload, is_end) in [
            (0x4, 0, &b""[..], true),
            (HEADERS, 0, b"abc", false),
            (CONTINUATION, 0, b"", false),
            (CONTINUATION, END_HEADERS, b"d", true),
            (DATA, 0, b"0123456789", true),
            (HEADERS, END_HEADERS | 1, b"x", true),
        ] {
            bytes.extend(frame(kind, flags, payload));
            if is_end {
                ends.push(bytes.len());
            }
        }
        let mut frames = Frames::new();
        for (at, byte) in bytes.iter().enumerate() {
            frames.follow(&[*byte]).unwrap();
            assert_eq!(
                !frames.is_within_head(),
                ends.contains(&(at + 1)),
                "after {} bytes",
                at + 1
            );
        }
        let mut at_once = Frames::new();
        at_once.follow(&bytes).unwrap();
        assert!(!at_once.is_within_head());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_say_nothing_are_counted_and_forgiven() {
        for (kind, payload) in [
            (0x6, &b"12345678"[..]),
            (0x3, b"1234"),
            (DATA, b""),
            (0x4, b""),
            (0xfa, b""),
        ] {
            let mut frames = Frames::new();
            frames.follow(PREFACE).unwrap();
            let bytes = frame(kind, 0, payload);
            for _ in 0..IDLE_FRAMES_BURST {
                frames.follow(&bytes).unwrap();
            }
            assert_eq!(frames.follow(&bytes), Err(Flood), "kind {kind}");
        }
        let mut frames = Frames::new();
        frames.follow(PREFACE).unwrap();
        for _ in 0..20 * IDLE_FRAMES_BURST {
            frames.follow(&frame(0x6, 0, b"12345678")).unwrap();
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        for _ in 0..20 * IDLE_FRAMES_BURST {
            frames.follow(&frame(DATA, 0, b"x")).unwrap();
            frames.follow(&frame(WINDOW_UPDATE, 0, b"1234")).unwrap();
        }
    }
}
