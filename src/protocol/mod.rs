//! The words on the wire: what clients say, and what they are told. Pure functions without I/O.

mod close;
mod code;
mod command;
mod envelope;
pub mod event_stream;
mod fields;
mod followed;
mod framing;
mod hook;
mod json;
mod limits;
mod list;
mod presence;
mod publish;
mod push;
mod query;
mod removal;
mod request;
mod secret;
pub mod websocket;

pub use close::Ending;
pub use code::{Code, Outcome, Problem};
pub use command::{Command, CommandId, HistoryQuery, asks_to_publish, read_command};
pub use fields::Fields;
pub use followed::FollowedQuery;
pub use framing::Framed;
pub use hook::{Allowed, Hook, HookAnswer, Wish, question, read_answer};
pub use json::{Object, compact};
pub use limits::Limits;
pub use presence::{Counts, PresenceFrame, PresencePush, PresenceQuery, PresenceReply};
pub use publish::{
    Item, ItemKey, ItemResult, PublishRequest, RawBody, answer_one, answer_refused, read_header_key, read_publish,
    read_raw,
};
pub use push::{HistoryReply, Push};
pub use query::{QueryPair, read_query};
pub use removal::{Reason, Removal, Subject};
pub use request::{Asked, IdLines, PresenceAsk, StreamRequest, read_stream_body, read_stream_query};
pub use secret::Secret;
