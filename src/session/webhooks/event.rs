//! What an app is told of a channel: that it is occupied or vacated, and who joined or left.

use crate::delivery::{ChannelName, Member, PresenceEvent};
use crate::protocol::Object;

/// What an app can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The first session came.
    ChannelOccupied,
    /// The last session went.
    ChannelVacated,
    /// A user came: their first session.
    MemberJoined,
    /// A user went: their last session.
    MemberLeft,
}

impl EventKind {
    /// All that there are.
    pub const ALL: [Self; 4] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberJoined,
        Self::MemberLeft,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberJoined => "member_joined",
            Self::MemberLeft => "member_left",
        }
    }

    pub(super) fn of(event: &PresenceEvent) -> Self {
        match event {
            PresenceEvent::Occupied => Self::ChannelOccupied,
            PresenceEvent::Vacated => Self::ChannelVacated,
            PresenceEvent::Joined(_) => Self::MemberJoined,
            PresenceEvent::Left(_) => Self::MemberLeft,
        }
    }
}

/// An event's fields, but those that it gets from its place in the log.
pub(super) fn to_json(channel: &ChannelName, event: &PresenceEvent) -> String {
    let object = Object::new().text("channel", channel.as_str());
    match event {
        PresenceEvent::Occupied | PresenceEvent::Vacated => object,
        PresenceEvent::Joined(member) | PresenceEvent::Left(member) => object.raw("member", &of_member(member)),
    }
    .finish()
}

fn of_member(member: &Member) -> String {
    let object = Object::new()
        .text("user", member.who.user())
        .number("sessions", u64::from(member.sessions));
    match member.who.info() {
        Some(info) => object.raw("info", info),
        None => object,
    }
    .finish()
}
