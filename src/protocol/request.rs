//! What a subscribing request asks for, in a query or in a JSON body.

use std::collections::HashSet;

use super::envelope::Envelope;
use super::secret::Secret;
use super::{Code, Limits, Problem, read_query};
use crate::delivery::{ChannelName, Cursor, Since, Surplus};

/// Channels and where to begin on each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Each channel once, in the order in which the request names them.
    pub channels: Vec<(ChannelName, Since)>,
    /// For how long a long-poll waits, in seconds.
    pub wait_s: u64,
    /// Whether an event stream carries the cursor.
    pub id_lines: IdLines,
    /// Whether it wants to be told who is on them.
    pub presence: PresenceAsk,
    /// What the poll before it was given to hand back.
    pub session: Option<String>,
}

/// What is asked about who is on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PresenceAsk {
    /// Nothing.
    #[default]
    Nothing,
    /// To be told of its members, and of what becomes of them.
    Members,
}

impl PresenceAsk {
    pub(super) fn of(is_asked: Option<bool>) -> Self {
        if is_asked == Some(true) {
            Self::Members
        } else {
            Self::Nothing
        }
    }
}

/// Whether the events of a stream carry the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdLines {
    /// They do, so that a native client resumes by itself.
    Cursor,
    /// The client keeps positions itself.
    None,
}

/// The names under which a cursor is accepted.
const SINCE: [&str; 4] = ["since", "last_event_id", "lastEventId", "lastEventID"];

/// What was asked, before it is known who asks: what it comes to depends on that.
#[derive(Debug, Default)]
pub struct Asked {
    /// The token, if the request has it here.
    pub token: Option<Secret>,
    channels: Vec<String>,
    since: Option<String>,
    wait_s: Option<u64>,
    id_lines: Option<String>,
    presence: PresenceAsk,
    session: Option<String>,
}

/// Reads a query string.
///
/// # Errors
/// `bad_request`, or `bad_channel` for one that is not UTF-8.
pub fn read_stream_query(query: &str) -> Result<Asked, Problem> {
    let mut given = Asked::default();
    for (name, value) in read_query(query)? {
        match &*name {
            "channel" => given.channels.push(value.into_owned()),
            "wait" => given.wait_s = Some(value.parse().map_err(|_| bad_wait(&value))?),
            "cursor" => given.id_lines = Some(value.into_owned()),
            "presence" => given.presence = read_presence(&value)?,
            "session" => given.session = Some(value.into_owned()),
            "token" => given.token = Some(Secret::new(value.into_owned())),
            name if SINCE.contains(&name) && !value.is_empty() => {
                given.since.get_or_insert(value.into_owned());
            }
            _ => {}
        }
    }
    Ok(given)
}

/// Reads a JSON body.
///
/// # Errors
/// As [`read_stream_query`], and `bad_json`.
pub fn read_stream_body(body: &[u8]) -> Result<Asked, Problem> {
    let envelope = Envelope::read(body)?;
    let mut given = Asked {
        token: envelope.secret("token")?,
        channels: envelope
            .texts("channels", usize::MAX)?
            .map(|channels| channels.kept)
            .unwrap_or_default(),
        wait_s: envelope.number("wait")?,
        id_lines: envelope.text("cursor")?,
        presence: PresenceAsk::of(envelope.flag("presence")?),
        session: envelope.text("session")?,
        ..Asked::default()
    };
    for name in SINCE {
        let since = envelope.text(name)?.filter(|since| !since.is_empty());
        given.since = given.since.or(since);
    }
    Ok(given)
}

impl StreamRequest {
    /// The request, if it names a channel; else `bad_request` with `detail`.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn with_channels(self, detail: &'static str) -> Result<Self, Problem> {
        if self.channels.is_empty() {
            Err(Problem::new(Code::BadRequest, detail))
        } else {
            Ok(self)
        }
    }
}

impl Asked {
    /// Whether it names a channel itself.
    pub fn names_any(&self) -> bool {
        !self.channels.is_empty()
    }

    /// What it comes to for one to whom the server has `added` channels, which come after those that are named; `None`: it
    /// never does.
    /// `last_event_id` is the header of that name, which wins.
    ///
    /// # Errors
    /// `bad_channel`, `bad_cursor`, `bad_request`, `too_many_channels`.
    pub fn checked(
        &self,
        added: Option<&[ChannelName]>,
        last_event_id: Option<&str>,
        limits: &Limits,
    ) -> Result<StreamRequest, Problem> {
        let channels = distinct(&self.channels, added.unwrap_or_default(), limits)?;
        let surplus = added.map_or(Surplus::Nothing, |_| Surplus::Positions);
        let since = last_event_id
            .filter(|id| !id.is_empty())
            .or(self.since.as_deref())
            .unwrap_or_default();
        let elements = since.parse::<Cursor>()?.elements_for(channels.len(), surplus)?;
        let wait_s = self.wait_s.unwrap_or(Limits::WAIT_S_DEFAULT);
        if wait_s > Limits::WAIT_S_MAX {
            return Err(bad_wait(&wait_s.to_string()));
        }
        let id_lines = match self.id_lines.as_deref() {
            None => IdLines::Cursor,
            Some("none") => IdLines::None,
            Some(_) => {
                return Err(Problem::new(
                    Code::BadRequest,
                    "`cursor` can only be `none`; a cursor goes into `since`",
                ));
            }
        };
        Ok(StreamRequest {
            channels: channels.into_iter().zip(elements).collect(),
            wait_s,
            id_lines,
            presence: self.presence,
            session: self.session.clone(),
        })
    }
}

fn distinct(names: &[String], granted: &[ChannelName], limits: &Limits) -> Result<Vec<ChannelName>, Problem> {
    let mut channels: Vec<ChannelName> = Vec::new();
    let mut seen = HashSet::new();
    let asked = names.iter().map(|name| ChannelName::parse(name));
    for channel in asked.chain(granted.iter().cloned().map(Ok)) {
        let channel = channel?;
        if !seen.insert(channel.clone()) {
            continue;
        }
        if channels.len() == limits.channels_max {
            let detail = format!("more than {} channels; use several connections", limits.channels_max);
            return Err(Problem::new(Code::TooManyChannels, detail));
        }
        channels.push(channel);
    }
    Ok(channels)
}

/// `1` or `true` asks, `0`, `false` or nothing does not.
fn read_presence(value: &str) -> Result<PresenceAsk, Problem> {
    match value {
        "1" | "true" => Ok(PresenceAsk::Members),
        "" | "0" | "false" => Ok(PresenceAsk::Nothing),
        _ => Err(Problem::new(Code::BadRequest, "`presence` must be 1 or 0")),
    }
}

fn bad_wait(given: &str) -> Problem {
    let shown: String = given.chars().take(20).collect();
    Problem::new(
        Code::BadRequest,
        format!("`wait` must be 0 to {} seconds, not {shown:?}", Limits::WAIT_S_MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<StreamRequest, Problem> {
        read_stream_query(query)?.checked(None, None, &Limits::default())
    }

    #[test]
    fn duplicates_count_once_and_the_cursor_follows_the_distinct_channels() {
        let request = read("channel=a&channel=b&channel=a&since=start.last:2").unwrap();
        let channels: Vec<_> = request
            .channels
            .iter()
            .map(|(channel, since)| (channel.as_str(), *since))
            .collect();
        assert_eq!(channels, [("a", Since::Start), ("b", Since::Last(2))]);
        assert_eq!(
            read("channel=a&channel=a&since=now.now").unwrap_err().code,
            Code::BadCursor
        );
    }

    #[test]
    fn the_header_wins_and_empty_is_absent() {
        let request = read_stream_query("channel=a&since=start").unwrap();
        let request = request.checked(None, Some("now"), &Limits::default()).unwrap();
        assert_eq!(request.channels[0].1, Since::Now);
        let request = read_stream_query("channel=a&since=&lastEventId=start").unwrap();
        let request = request.checked(None, Some(""), &Limits::default()).unwrap();
        assert_eq!(request.channels[0].1, Since::Start);
    }

    #[test]
    fn a_body_says_the_same_as_a_query() {
        let body = br#"{"channels":["a","b"],"since":"start","wait":3,"cursor":"none","presence":true,"session":"x"}"#;
        let from_body = read_stream_body(body).unwrap();
        let from_body = from_body.checked(None, None, &Limits::default()).unwrap();
        assert_eq!(
            from_body,
            read("channel=a&channel=b&since=start&wait=3&cursor=none&presence=1&session=x").unwrap()
        );
    }

    #[test]
    fn channels_that_are_granted_come_after_those_that_are_named() {
        let granted = ["b", "c"].map(|name| ChannelName::parse(name).unwrap());
        let request = read_stream_query("channel=x&channel=b&since=start.last:1.last:2").unwrap();
        let request = request.checked(Some(&granted), None, &Limits::default()).unwrap();
        let channels: Vec<_> = request.channels.iter().map(|(channel, _)| channel.as_str()).collect();
        assert_eq!(channels, ["x", "b", "c"]);
        assert_eq!(request.channels[2].1, Since::Last(2));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (query, code) in [
            ("channel=", Code::BadChannel),
            ("channel=a&wait=56", Code::BadRequest),
            ("channel=a&wait=-1", Code::BadRequest),
            ("channel=a&cursor=x", Code::BadRequest),
            ("channel=a&presence=yes", Code::BadRequest),
            ("channel=a&since=x", Code::BadCursor),
        ] {
            assert_eq!(read(query).unwrap_err().code, code, "{query}");
        }
    }
}
