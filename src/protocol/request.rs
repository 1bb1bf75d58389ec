//! What a subscribing request asks for, in a query or in a JSON body.

use std::collections::HashSet;

use super::envelope::Envelope;
use super::{Code, Limits, Problem, read_query};
use crate::delivery::{ChannelName, Cursor, Since};

/// Channels and where to begin on each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Each channel once, in the order in which the request names them.
    pub channels: Vec<(ChannelName, Since)>,
    /// For how long a long-poll waits, in seconds.
    pub wait_s: u64,
    /// Whether an event stream carries the cursor.
    pub id_lines: IdLines,
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

/// What was given, before it is checked.
#[derive(Default)]
struct Given {
    channels: Vec<String>,
    since: Option<String>,
    wait_s: Option<u64>,
    id_lines: Option<String>,
}

/// Reads a query string. `last_event_id` is the header of that name, which wins.
///
/// # Errors
/// `bad_channel`, `bad_cursor`, `bad_request`, `too_many_channels`.
pub fn read_stream_query(query: &str, last_event_id: Option<&str>, limits: &Limits) -> Result<StreamRequest, Problem> {
    let mut given = Given::default();
    for (name, value) in read_query(query)? {
        match &*name {
            "channel" => given.channels.push(value.into_owned()),
            "wait" => given.wait_s = Some(value.parse().map_err(|_| bad_wait(&value))?),
            "cursor" => given.id_lines = Some(value.into_owned()),
            name if SINCE.contains(&name) && !value.is_empty() => {
                given.since.get_or_insert(value.into_owned());
            }
            _ => {}
        }
    }
    given.checked(last_event_id, limits)
}

/// Reads a JSON body.
///
/// # Errors
/// As [`read_stream_query`], and `bad_json`.
pub fn read_stream_body(body: &[u8], last_event_id: Option<&str>, limits: &Limits) -> Result<StreamRequest, Problem> {
    let envelope = Envelope::read(body)?;
    let mut given = Given {
        channels: envelope
            .texts("channels", usize::MAX)?
            .map(|channels| channels.kept)
            .unwrap_or_default(),
        wait_s: envelope.number("wait")?,
        id_lines: envelope.text("cursor")?,
        ..Given::default()
    };
    for name in SINCE {
        let since = envelope.text(name)?.filter(|since| !since.is_empty());
        given.since = given.since.or(since);
    }
    given.checked(last_event_id, limits)
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

impl Given {
    fn checked(self, last_event_id: Option<&str>, limits: &Limits) -> Result<StreamRequest, Problem> {
        let channels = distinct(&self.channels, limits)?;
        let since = last_event_id
            .filter(|id| !id.is_empty())
            .or(self.since.as_deref())
            .unwrap_or_default();
        let elements = since.parse::<Cursor>()?.elements_for(channels.len())?;
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
        })
    }
}

fn distinct(names: &[String], limits: &Limits) -> Result<Vec<ChannelName>, Problem> {
    let mut channels: Vec<ChannelName> = Vec::new();
    let mut seen = HashSet::new();
    for name in names {
        let channel = ChannelName::parse(name)?;
        if !seen.insert(name) {
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
        read_stream_query(query, None, &Limits::default())
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
        let request = read_stream_query("channel=a&since=start", Some("now"), &Limits::default()).unwrap();
        assert_eq!(request.channels[0].1, Since::Now);
        let request = read_stream_query("channel=a&since=&lastEventId=start", Some(""), &Limits::default()).unwrap();
        assert_eq!(request.channels[0].1, Since::Start);
    }

    #[test]
    fn a_body_says_the_same_as_a_query() {
        let body = br#"{"channels":["a","b"],"since":"start","wait":3,"cursor":"none"}"#;
        let from_body = read_stream_body(body, None, &Limits::default()).unwrap();
        assert_eq!(
            from_body,
            read("channel=a&channel=b&since=start&wait=3&cursor=none").unwrap()
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (query, code) in [
            ("channel=", Code::BadChannel),
            ("channel=a&wait=56", Code::BadRequest),
            ("channel=a&wait=-1", Code::BadRequest),
            ("channel=a&cursor=x", Code::BadRequest),
            ("channel=a&since=x", Code::BadCursor),
        ] {
            assert_eq!(read(query).unwrap_err().code, code, "{query}");
        }
    }
}
