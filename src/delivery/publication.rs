//! One entry of a channel's log, and what it was before it had a position.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Ack, ChannelName, LogPolicy, Position};

/// A publication before the engine has given it a position.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Where it goes.
    pub channel: ChannelName,
    /// What it says, as the publisher wrote it; opaque to this floor.
    pub data: Bytes,
    /// The publisher's word for what it is.
    pub event: Option<Box<str>>,
    /// The user who publishes, where a client does.
    pub sender: Option<Box<str>>,
    /// Makes a repetition harmless.
    pub key: Option<IdempotencyKey>,
    /// How much of the log is kept.
    pub policy: LogPolicy,
    /// When its publisher is told that it was stored.
    pub ack: Ack,
}

/// Names a publication for as long as its publisher may repeat it. Belongs to its publisher and channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Who publishes; nobody in particular where everything is open.
    pub publisher: Arc<str>,
    /// The publisher's own word for the publication.
    pub key: Box<str>,
    /// Which of the publications to its channel that were asked for under this word at once: 0 for the first.
    pub nth: usize,
}

/// One entry of a channel's log. Immutable.
#[derive(Debug)]
pub struct Publication {
    /// The channel whose log it stands in.
    pub channel: ChannelName,
    /// Where it stands.
    pub position: Position,
    /// When it was stored, in Unix milliseconds; never less than its predecessor's.
    pub time_ms: u64,
    /// The publisher's word for what it is.
    pub event: Option<Box<str>>,
    /// The user who published it, where a client did.
    pub sender: Option<Box<str>>,
    /// What it says.
    pub data: Bytes,
    encoded: OnceLock<Encoded>,
}

impl Publication {
    /// What a draft becomes at its position.
    pub fn new(draft: &Draft, position: Position, time_ms: u64) -> Self {
        Self::kept(
            draft.channel.clone(),
            position,
            time_ms,
            draft.event.clone(),
            draft.data.clone(),
        )
        .sent_by(draft.sender.clone())
    }

    /// One that an engine has kept, as it was given to the engine.
    pub fn kept(channel: ChannelName, position: Position, time_ms: u64, event: Option<Box<str>>, data: Bytes) -> Self {
        Self {
            channel,
            position,
            time_ms,
            event,
            sender: None,
            data,
            encoded: OnceLock::new(),
        }
    }

    /// The same, from a user.
    #[must_use]
    pub fn sent_by(self, sender: Option<Box<str>>) -> Self {
        Self { sender, ..self }
    }

    /// Its bytes on the wire, made by whoever needs them first and shared by every reader from then on.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Encoded) -> &Encoded {
        self.encoded.get_or_init(|| encode(self))
    }

    /// The bytes that it takes at most, its encoded form included: what a window counts.
    pub fn bytes_max(&self) -> usize {
        const ENVELOPE_BYTES_MAX: usize = 256;
        let words = [&self.event, &self.sender].into_iter().flatten().map(|word| word.len());
        let words = self.channel.as_str().len() + words.sum::<usize>();
        size_of::<Self>() + ENVELOPE_BYTES_MAX + 2 * (self.data.len() + words)
    }
}

/// A publication as it goes over the wire, encoded once: one buffer, whose marks its encoder defines.
#[derive(Debug)]
pub struct Encoded {
    /// All framings, one after the other, sharing what they have in common.
    pub bytes: Bytes,
    /// Where one part ends and the next begins.
    pub marks: [usize; 3],
}
