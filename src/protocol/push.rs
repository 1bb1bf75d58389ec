//! Pushes and replies: what a client is told beside publications.

use std::sync::Arc;

use super::Problem;
use super::command::CommandId;
use super::framing::Framed;
use super::json::Object;
use super::presence::PresenceReply;
use super::publish::write_published;
use crate::delivery::{ChannelName, Gap, Joined, Page, Position, Publication, Published, Resume};

/// What a client is told, publications excepted: those are encoded once, by [`Framed`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of the protocol")]
pub enum Push {
    /// The first push of a connection.
    Welcome {
        session: String,
        heartbeat_ms: u64,
        expires_at: Option<u64>,
    },
    /// A subscription begins.
    Subscribed {
        channel: ChannelName,
        joined: Joined,
        id: Option<CommandId>,
    },
    /// Publications are lost to this reader.
    Gap { channel: ChannelName, gap: Gap },
    /// A subscription ended; without a problem, because it was asked for.
    Unsubscribed {
        channel: ChannelName,
        problem: Option<Problem>,
        id: Option<CommandId>,
    },
    /// Nothing else was sent for a while.
    Heartbeat,
    /// The token is about to expire.
    Expiring { expires_at: u64 },
    /// The last push.
    Closing(Problem),
    /// The reply to `publish`.
    Published {
        channel: ChannelName,
        published: Published,
        id: Option<CommandId>,
    },
    /// The reply to `history`.
    History { reply: HistoryReply, id: Option<CommandId> },
    /// The reply to `presence`.
    Presence {
        reply: PresenceReply,
        id: Option<CommandId>,
    },
    /// The reply to `refresh`.
    Refreshed {
        expires_at: Option<u64>,
        id: Option<CommandId>,
    },
    /// The reply to `ping`.
    Pong { id: Option<CommandId> },
    /// A command failed.
    Error { problem: Problem, id: Option<CommandId> },
}

impl Push {
    /// The `type` of every push and reply, the publication's and those of presence included.
    pub const KINDS: [&'static str; 17] = [
        "welcome",
        "subscribed",
        "publication",
        "gap",
        "members",
        "joined",
        "left",
        "unsubscribed",
        "heartbeat",
        "expiring",
        "closing",
        "published",
        "history",
        "presence",
        "refreshed",
        "pong",
        "error",
    ];

    /// Its `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::Subscribed { .. } => "subscribed",
            Self::Gap { .. } => "gap",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Heartbeat => "heartbeat",
            Self::Expiring { .. } => "expiring",
            Self::Closing(_) => "closing",
            Self::Published { .. } => "published",
            Self::History { .. } => "history",
            Self::Presence { .. } => "presence",
            Self::Refreshed { .. } => "refreshed",
            Self::Pong { .. } => "pong",
            Self::Error { .. } => "error",
        }
    }

    /// The push as JSON.
    pub fn to_json(&self) -> String {
        let object = Object::new().text("type", self.kind());
        match self {
            Self::Welcome {
                session,
                heartbeat_ms,
                expires_at,
            } => object
                .text("session", session)
                .number("heartbeat_ms", *heartbeat_ms)
                .optional_number("expires_at", *expires_at),
            Self::Subscribed { channel, joined, id } => with_id(object, id.as_ref())
                .text("channel", channel.as_str())
                .position("position", &joined.position)
                .text("resume", resume_word(joined.resume)),
            Self::Gap { channel, gap } => object
                .text("channel", channel.as_str())
                .position("from", &gap.from)
                .position("to", &gap.to),
            Self::Unsubscribed { channel, problem, id } => {
                let object = with_id(object, id.as_ref()).text("channel", channel.as_str());
                match problem {
                    None => object
                        .text("code", "requested")
                        .text("message", "unsubscribed, as was asked for"),
                    Some(problem) => with_problem(object, problem),
                }
            }
            Self::Expiring { expires_at } => object.number("expires_at", *expires_at),
            Self::Closing(problem) => with_problem(object, problem),
            Self::Published { channel, published, id } => {
                write_published(with_id(object, id.as_ref()), channel, published)
            }
            Self::History { reply, id } => reply.write(with_id(object, id.as_ref())),
            Self::Presence { reply, id } => reply.write_reply(object, id.as_ref()),
            Self::Refreshed { expires_at, id } => {
                with_id(object, id.as_ref()).optional_number("expires_at", *expires_at)
            }
            Self::Heartbeat => object,
            Self::Pong { id } => with_id(object, id.as_ref()),
            Self::Error { problem, id } => with_problem(with_id(object, id.as_ref()), problem),
        }
        .finish()
    }
}

impl Object {
    fn position(self, name: &str, position: &Position) -> Self {
        self.text(name, &position.to_string())
    }
}

fn with_id(object: Object, id: Option<&CommandId>) -> Object {
    match id {
        Some(id) => object.raw("id", id.as_json()),
        None => object,
    }
}

fn with_problem(object: Object, problem: &Problem) -> Object {
    object
        .text("code", problem.code.as_str())
        .text("message", &problem.detail)
        .optional_number("retry_ms", problem.retry_ms)
        .optional_text("outcome", problem.outcome.as_str())
}

fn resume_word(resume: Resume) -> &'static str {
    match resume {
        Resume::Fresh => "fresh",
        Resume::Complete => "complete",
        Resume::Gap => "gap",
    }
}

/// Part of a channel's window.
#[derive(Debug, Clone)]
pub struct HistoryReply {
    /// The channel.
    pub channel: ChannelName,
    /// Oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// The position right before the oldest publication that the window holds.
    pub start: Position,
    /// The position of the newest publication.
    pub top: Position,
    /// What is lost after the position that was asked for.
    pub gap: Option<Gap>,
}

impl HistoryReply {
    /// What a page of the log says about a channel.
    pub fn new(channel: ChannelName, page: Page) -> Self {
        Self {
            channel,
            publications: page.publications,
            start: page.start,
            top: page.top,
            gap: page.gap,
        }
    }

    /// The answer as JSON, outside of a connection.
    pub fn to_json(&self) -> String {
        self.write(Object::new()).finish()
    }

    fn write(&self, object: Object) -> Object {
        let object = object
            .text("channel", self.channel.as_str())
            .array(
                "publications",
                self.publications
                    .iter()
                    .map(|publication| Framed::of(publication).json()),
            )
            .position("start", &self.start)
            .position("top", &self.top);
        match &self.gap {
            Some(gap) => object.raw(
                "gap",
                &Object::new()
                    .position("from", &gap.from)
                    .position("to", &gap.to)
                    .finish(),
            ),
            None => object,
        }
    }
}
