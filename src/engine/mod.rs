//! Engines: what keeps the logs. They know `delivery` only.

mod idempotency;
pub mod memory;

pub use memory::MemoryEngine;
