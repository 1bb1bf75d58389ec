//! Throughline: a real-time edge.
//!
//! **A channel is a bounded log. A subscription is a cursor over that log. Everything else is framing.**
//!
//! Back ends publish to channels; every subscriber receives the publications in order, none lost, none twice, every
//! gap said aloud, over WebSocket, Server-Sent Events or long-poll.
//! Joining, reconnecting, being slow, changing the transport and moving to another node are the same thing: a cursor
//! that is behind, which reads the log and then follows its live end.
//!
//! The modules in reading order, by floors; each knows lower floors only:
//!
//! 0. [`metrics`]: what is counted; imports nothing of ours.
//! 1. [`delivery`]: log, cursor, tail, subscription. Knows no HTTP, no Redis, no JSON, no clock, no randomness.
//! 2. [`engine`]: what keeps the logs. [`protocol`]: the words on the wire, without I/O.
//! 3. [`session`]: who is connected, who they are, how much they may do, what they are told; no sockets, no bytes.
//! 4. [`http`]: bodies and problems, who a request comes from, and the guard over a connection's bytes.
//! 5. [`transport`]: WebSocket, SSE, long-poll. [`api`]: publish, history, health, metrics.
//! 6. [`Edge`], then [`config`], then [`server`]: composition. The binary's command line stands above all.
//!
//! What is deliberately absent: a queue per reader, a lock that all deliveries share, a request that must reach the
//! node of an earlier one.

pub mod delivery;
pub mod metrics;

pub mod engine;
pub mod protocol;

pub mod http;
pub mod session;

pub mod api;
pub mod transport;

pub mod config;
mod edge;
pub mod server;

pub use edge::{Builder, Edge, Terms};

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
