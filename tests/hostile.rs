//! What strangers send: one attack per test, each with its reason, against the real binary.
//!
//! After each of them the server serves on, and holds no more memory than `docs/limits.md` says.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "in a test, what is not as it should be is a panic"
)]

mod support;

#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/commands.rs"]
mod commands;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/heads.rs"]
mod heads;
#[path = "hostile/silence.rs"]
mod silence;
#[path = "hostile/smuggling.rs"]
mod smuggling;
#[path = "hostile/target.rs"]
#[allow(dead_code, reason = "each test uses its own part of this")]
mod target;
