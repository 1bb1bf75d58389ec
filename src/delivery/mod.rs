//! The core: a channel is a bounded log, a subscription is a cursor over that log.
//!
//! First join, reconnect, slow reader, lost hint, change of transport and deploy are names for one thing,
//! "my cursor is behind", with one cure: read the log after the cursor, then follow its tail.
//! If the log no longer holds what is missing, that is a [`Gap`], and it is said aloud.
//!
//! Readers pull.
//! A slow reader costs one cursor, never a queue, and nobody waits for it: when the tail has passed it by, it reads
//! the [`Log`] again, and when the log has passed it by too, it is told exactly what it lost.
//!
//! This floor knows no HTTP, no Redis, no JSON, no clock and no randomness of its own.

mod ack;
mod channel;
mod engine;
#[cfg(feature = "seeded-faults")]
pub mod faults;
mod heirs;
mod listing;
mod log;
mod parking;
mod position;
mod presence;
mod publication;
mod subscription;
mod sync;
mod tail;

pub use ack::{Ack, Replicas, Shortfall};
pub use channel::{BadChannelName, ChannelName};
pub use engine::{Engine, EngineError, EngineErrorKind, Health, Outside, Published, Shards};
pub use heirs::{Claim, Heirs, Known, Places, Settled};
pub use listing::{FirstByName, Followed, Listing};
pub use log::{Backlog, Follow, Log, LogPolicy, Page};
pub use parking::{Parked, Parking, Woken};
pub use position::{BadCursor, Cursor, Epoch, Gap, Offset, Position, Since, Surplus, Tag};
pub use presence::{
    Member, Others, Presence, PresenceEvent, PresenceEvents, Present, Report, Reported, SessionKey, Who,
};
pub use publication::{Draft, Encoded, IdempotencyKey, Publication};
pub use subscription::{Delivery, EndReason, Joined, Resume, Subscription, subscribe};
pub use tail::{Live, Tail};
