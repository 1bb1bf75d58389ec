//! The WebSocket frame codec (RFC 6455), server side: bytes in, [`Incoming`] out; payload in, a frame's bytes out.
//!
//! A [`Decoder`] reads the masked frames of one client; the functions that end in `_frame` write a server's frames,
//! which carry no mask, so that one encoding serves every subscriber.
//! It knows no socket, no clock and no task: the transport reads, writes, answers pings and decides when to close.
//! No extension is negotiated, so a reserved bit is a [`Violation`], like everything else that the RFC forbids.

#![expect(
    clippy::mut_mut,
    reason = "what reads from the front of a slice moves the slice, as `split_off_mut` does"
)]

mod decode;
mod encode;
mod frame;
mod handshake;
mod incoming;
mod message;
mod opcode;
mod utf8;
mod violation;

pub use decode::{Decoder, Limits};
pub use encode::{binary_frame, close_frame, header_len, ping_frame, pong_frame, put_header, text_frame};
pub use handshake::accept_key;
pub use incoming::{CloseFrame, Incoming};
pub use opcode::Opcode;
pub use violation::Violation;

/// What the payload of a ping, a pong or a close frame may have at most (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;
