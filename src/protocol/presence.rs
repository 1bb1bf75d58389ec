//! Who is on a channel, as it is told: encoded once for all who are told the same.

use bytes::{BufMut, Bytes, BytesMut};

use super::command::CommandId;
use super::json::{Object, array};
use super::websocket::{Opcode, header_len, put_header};
use crate::delivery::{ChannelName, Member};

/// How many are on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users, each once, and sessions without a user.
    pub count: u64,
    /// Sessions.
    pub sessions: u64,
}

/// What is told of a channel's members.
#[derive(Debug)]
pub enum PresencePush<'a> {
    /// Who is there, as far as the list goes, and how many in truth.
    Members(&'a [Member], Counts),
    /// Somebody came.
    Joined(&'a Member, Counts),
    /// Somebody went.
    Left(&'a Member, Counts),
}

impl PresencePush<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Members(..) => "members",
            Self::Joined(..) => "joined",
            Self::Left(..) => "left",
        }
    }

    /// Encodes it, for everybody.
    pub fn encode(&self, channel: &ChannelName) -> PresenceFrame {
        let kind = self.kind();
        let object = Object::new().text("type", kind).text("channel", channel.as_str());
        let (object, counts) = match self {
            Self::Members(members, counts) => (object.raw("members", &list(members)), counts),
            Self::Joined(member, counts) | Self::Left(member, counts) => {
                (object.raw("member", &json_of(member)), counts)
            }
        };
        let json = with_counts(object, *counts).finish();
        let json_at = header_len(json.len());
        let mut frame = BytesMut::with_capacity(json_at + json.len());
        put_header(&mut frame, Opcode::Text, json.len());
        frame.put_slice(json.as_bytes());
        PresenceFrame {
            kind,
            frame: frame.freeze(),
            json_at,
        }
    }
}

/// An encoded push, shared by all who are told it.
#[derive(Debug, Clone)]
pub struct PresenceFrame {
    kind: &'static str,
    frame: Bytes,
    json_at: usize,
}

impl PresenceFrame {
    /// Its `type`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The push as JSON.
    pub fn json(&self) -> &str {
        str::from_utf8(&self.frame[self.json_at..]).unwrap_or_default()
    }

    /// An unmasked text frame (RFC 6455 §5.2).
    pub fn websocket(&self) -> Bytes {
        self.frame.clone()
    }
}

/// What is asked about a channel's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceQuery {
    /// The channel.
    pub channel: ChannelName,
    /// How many members to list; absent: as many as there may be.
    pub members: Option<usize>,
}

/// The answer to whoever asks once.
#[derive(Debug, Clone)]
pub struct PresenceReply {
    /// The channel.
    pub channel: ChannelName,
    /// The members that are listed; `None` where only their number was asked for.
    pub members: Option<Vec<Member>>,
    /// How many there are in truth.
    pub counts: Counts,
}

impl PresenceReply {
    /// The answer as JSON, outside of a connection.
    pub fn to_json(&self) -> String {
        self.write(Object::new()).finish()
    }

    pub(super) fn write(&self, object: Object) -> Object {
        let object = object.text("channel", self.channel.as_str());
        let object = match &self.members {
            Some(members) => object.raw("members", &list(members)),
            None => object,
        };
        with_counts(object, self.counts)
    }

    pub(super) fn write_reply(&self, object: Object, id: Option<&CommandId>) -> Object {
        let object = match id {
            Some(id) => object.raw("id", id.as_json()),
            None => object,
        };
        self.write(object)
    }
}

fn with_counts(object: Object, counts: Counts) -> Object {
    object.number("count", counts.count).number("sessions", counts.sessions)
}

fn list(members: &[Member]) -> String {
    array(members.iter().map(json_of))
}

fn json_of(member: &Member) -> String {
    let object = Object::new()
        .text("user", member.who.user())
        .number("sessions", member.sessions.into());
    match member.who.info() {
        Some(info) => object.raw("info", info),
        None => object,
    }
    .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Who;

    #[test]
    fn a_push_is_the_same_json_in_every_form() {
        let channel = ChannelName::parse("chat:1").unwrap();
        let member = Member {
            who: Who::new("a\"da", Some(r#"{"name":"Ada"}"#)),
            sessions: 2,
        };
        let counts = Counts { count: 1, sessions: 3 };
        let pushed = PresencePush::Joined(&member, counts).encode(&channel);
        let json = r#"{"type":"joined","channel":"chat:1","member":{"user":"a\"da","sessions":2,"info":{"name":"Ada"}},"count":1,"sessions":3}"#;
        assert_eq!((pushed.kind(), pushed.json()), ("joined", json));
        let frame = pushed.websocket();
        assert_eq!(frame[..2], [0x81, u8::try_from(json.len()).unwrap()]);
        assert_eq!(&frame[2..], json.as_bytes());
        let listed = PresencePush::Members(&[], Counts::default()).encode(&channel);
        assert_eq!(
            listed.json(),
            r#"{"type":"members","channel":"chat:1","members":[],"count":0,"sessions":0}"#
        );
    }
}
