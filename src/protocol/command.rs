//! Commands: what a WebSocket client asks for.

use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::presence::PresenceQuery;
use super::publish::{Item, read_item};
use super::request::PresenceAsk;
use super::secret::Secret;
use super::{Code, Limits, Problem};
use crate::delivery::{ChannelName, Position, Since};

/// What a client asks for.
#[derive(Debug)]
pub enum Command {
    /// Follow a channel, and maybe who is on it.
    Subscribe(ChannelName, Since, PresenceAsk),
    /// Stop following it.
    Unsubscribe(ChannelName),
    /// Publish.
    Publish(Item),
    /// Read a channel's window.
    History(HistoryQuery),
    /// See who is on a channel.
    Presence(PresenceQuery),
    /// Go on with a new token.
    Refresh(Secret),
    /// A sign of life.
    Ping,
}

/// The number that a command carries and its reply repeats, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandId(Box<str>);

impl CommandId {
    const BYTES_MAX: usize = 32;

    fn read(value: &RawValue) -> Result<Self, Problem> {
        let text = value.get();
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        if is_number && text.len() <= Self::BYTES_MAX {
            return Ok(Self(text.into()));
        }
        Err(Problem::new(
            Code::BadRequest,
            format!("`id` must be a number of at most {} characters", Self::BYTES_MAX),
        ))
    }

    /// The number as JSON.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// Which part of a channel's window to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The channel.
    pub channel: ChannelName,
    /// Where to begin; absent: the oldest, or with `before` the newest before it.
    pub since: Option<Since>,
    /// Only what comes before this position.
    pub before: Option<Position>,
    /// At most so many publications.
    pub limit: Option<u64>,
}

impl HistoryQuery {
    /// From the texts of a request.
    ///
    /// # Errors
    /// `bad_channel`, or `bad_cursor` for `since` and `before`.
    pub fn read(channel: &str, since: Option<&str>, before: Option<&str>, limit: Option<u64>) -> Result<Self, Problem> {
        Ok(Self {
            channel: ChannelName::parse(channel)?,
            since: since.filter(|since| !since.is_empty()).map(str::parse).transpose()?,
            before: before.filter(|before| !before.is_empty()).map(str::parse).transpose()?,
            limit,
        })
    }
}

/// Reads one message: the command's number, if it has one, and the command or what is wrong with it.
pub fn read_command(message: &str, limits: &Limits) -> (Option<CommandId>, Result<Command, Problem>) {
    let envelope = match Envelope::read(message.as_bytes()) {
        Ok(envelope) => envelope,
        Err(problem) => return (None, Err(problem)),
    };
    match envelope.given("id").map(CommandId::read).transpose() {
        Ok(id) => (id, read_words(&envelope, limits)),
        Err(problem) => (None, Err(problem)),
    }
}

/// Whether a message that could not be read as a command would have published.
pub fn asks_to_publish(message: &str) -> bool {
    let envelope = Envelope::read(message.as_bytes());
    envelope.is_ok_and(|envelope| envelope.required_text("type").is_ok_and(|verb| verb == "publish"))
}

fn read_words(envelope: &Envelope<'_>, limits: &Limits) -> Result<Command, Problem> {
    let channel = || Ok::<_, Problem>(ChannelName::parse(&envelope.required_text("channel")?)?);
    match envelope.required_text("type")?.as_str() {
        "subscribe" => {
            let since = envelope.text("since")?.filter(|since| !since.is_empty());
            Ok(Command::Subscribe(
                channel()?,
                since.map_or(Ok(Since::Now), |since| since.parse())?,
                PresenceAsk::of(envelope.flag("presence")?),
            ))
        }
        "unsubscribe" => channel().map(Command::Unsubscribe),
        "publish" => read_item(envelope, &envelope.required_text("channel")?, limits).map(Command::Publish),
        "history" => HistoryQuery::read(
            &envelope.required_text("channel")?,
            envelope.text("since")?.as_deref(),
            envelope.text("before")?.as_deref(),
            envelope.number("limit")?,
        )
        .map(Command::History),
        "presence" => Ok(Command::Presence(PresenceQuery {
            channel: channel()?,
            members: envelope
                .number("members")?
                .map(|members| usize::try_from(members).unwrap_or(usize::MAX)),
        })),
        "refresh" => envelope.required_secret("token").map(Command::Refresh),
        "ping" => Ok(Command::Ping),
        other => {
            let shown: String = other.chars().take(32).collect();
            let known = "`subscribe`, `unsubscribe`, `publish`, `history`, `presence`, `refresh` and `ping`";
            Err(Problem::new(
                Code::UnknownCommand,
                format!("there is no command {shown:?}; there are {known}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(message: &str) -> Code {
        read_command(message, &Limits::default()).1.unwrap_err().code
    }

    #[test]
    fn a_command_keeps_its_number_as_it_was_written() {
        for id in ["0", "-1", "1.50", "1e3", "18446744073709551616"] {
            let (read, command) = read_command(&format!(r#"{{"id":{id},"type":"ping"}}"#), &Limits::default());
            assert_eq!(read.unwrap().as_json(), id);
            assert!(matches!(command, Ok(Command::Ping)));
        }
        let (id, _) = read_command(r#"{"id":7,"type":"nonsense"}"#, &Limits::default());
        assert_eq!(id.unwrap().as_json(), "7", "a refusal carries the number too");
    }

    #[test]
    fn what_is_no_command_is_refused_by_its_code() {
        for (message, code) in [
            ("", Code::BadJson),
            ("[]", Code::BadJson),
            ("{}", Code::BadRequest),
            (r#"{"type":"ping","type":"ping"}"#, Code::BadJson),
            (r#"{"type":"ping","id":"1"}"#, Code::BadRequest),
            (r#"{"type":"dance"}"#, Code::UnknownCommand),
            (r#"{"type":"subscribe"}"#, Code::BadRequest),
            (r#"{"type":"subscribe","channel":"$x"}"#, Code::BadChannel),
            (r#"{"type":"subscribe","channel":"a","since":"x"}"#, Code::BadCursor),
            (r#"{"type":"history","channel":"a","before":"now"}"#, Code::BadCursor),
            (r#"{"type":"publish","channel":"a"}"#, Code::BadRequest),
            (
                r#"{"type":"subscribe","channel":"a","presence":"yes"}"#,
                Code::BadRequest,
            ),
            (r#"{"type":"presence"}"#, Code::BadRequest),
            (r#"{"type":"presence","channel":"a","members":-1}"#, Code::BadRequest),
            (r#"{"type":"refresh"}"#, Code::BadRequest),
        ] {
            assert_eq!(code_of(message), code, "{message}");
        }
    }
}
