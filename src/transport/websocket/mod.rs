//! WebSocket: the handshake by hyper, then a small task of its own on the bare socket.

mod clock;
mod connection;
mod handshake;
mod outbox;

pub(super) use handshake::{echo, upgrade};
