//! A push: its bytes as they came, and the fields that we read of it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::{Failure, Refusal};
use super::position::Position;
use super::terminal::word;

/// How much of what is not a push is shown.
const EXCERPT_CHARS_MAX: usize = 120;

#[derive(Debug)]
pub(crate) struct Push {
    text: String,
    pub(crate) body: Body,
}

/// The types that mean something to us. The others are passed on and otherwise ignored.
#[derive(Debug)]
pub(crate) enum Body {
    Welcome(Welcome),
    Subscribed(Subscribed),
    Publication(Publication),
    Gap(Gap),
    Unsubscribed(Unsubscribed),
    Closing(Closing),
    Other,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Welcome {
    heartbeat_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscribed {
    pub(crate) channel: String,
    pub(crate) position: Position,
    pub(crate) resume: Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resume {
    Fresh,
    Complete,
    Gap,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Publication {
    pub(crate) channel: String,
    pub(crate) position: Position,
    pub(crate) event: Option<String>,
    data: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) channel: String,
    pub(crate) from: Position,
    pub(crate) to: Position,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Unsubscribed {
    pub(crate) channel: String,
    code: String,
    message: String,
    retry_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Closing {
    code: String,
    message: String,
    retry_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

impl Push {
    pub(crate) fn parse(text: String) -> Result<Self, Failure> {
        match Body::parse(&text) {
            Ok(body) => Ok(Self { text, body }),
            Err(error) => {
                let excerpt: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
                Err(Failure::Violation(format!("not a push: {error}: {excerpt}")))
            }
        }
    }

    /// The push as it came, on one line.
    pub(crate) fn line(&self) -> String {
        one_line(&self.text)
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.body, Body::Closing(_))
    }

    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.body, Body::Publication(_))
    }

    /// How long the connection may be silent from now on, where the push says it: two heartbeats.
    pub(crate) fn silence_max(&self) -> Option<Duration> {
        let Body::Welcome(welcome) = &self.body else {
            return None;
        };
        let heartbeat_ms = welcome.heartbeat_ms.filter(|ms| *ms > 0)?;
        Some(Duration::from_millis(heartbeat_ms.saturating_mul(2)))
    }
}

impl Body {
    fn parse(text: &str) -> serde_json::Result<Self> {
        let kind: Kind = serde_json::from_str(text)?;
        Ok(match kind.r#type.as_str() {
            "welcome" => Self::Welcome(serde_json::from_str(text)?),
            "subscribed" => Self::Subscribed(serde_json::from_str(text)?),
            "publication" => Self::Publication(serde_json::from_str(text)?),
            "gap" => Self::Gap(serde_json::from_str(text)?),
            "unsubscribed" => Self::Unsubscribed(serde_json::from_str(text)?),
            "closing" => Self::Closing(serde_json::from_str(text)?),
            _ => Self::Other,
        })
    }
}

impl Publication {
    /// The data as it was published, on one line.
    fn data_line(&self) -> String {
        one_line(self.data.get())
    }

    /// For people: CHANNEL POSITION EVENT DATA, on one line.
    pub(crate) fn columns(&self) -> String {
        let event = self.event.as_deref().map_or_else(|| "-".to_owned(), word);
        format!("{} {} {event} {}", self.channel, self.position, self.data_line())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gap on {}: lost {}..{}", self.channel, self.from, self.to)
    }
}

impl Unsubscribed {
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::from_push(&self.code, &self.message, self.retry_ms)
    }
}

impl Closing {
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::from_push(&self.code, &self.message, self.retry_ms)
    }
}

/// JSON on one line: a raw line end can stand between tokens only, where a space is as good.
pub(crate) fn one_line(json: &str) -> String {
    json.trim().replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(text: &str) -> Push {
        Push::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn data_stays_as_it_was() {
        let text = r#"{"type":"publication","channel":"a","position":"e-1","time":1,"data":{"z":1.50,"a":"\u00e9"}}"#;
        let push = push(text);
        assert_eq!(push.line(), text);
        let Body::Publication(publication) = &push.body else {
            panic!("{push:?}")
        };
        assert_eq!(publication.data_line(), r#"{"z":1.50,"a":"\u00e9"}"#);
        assert_eq!(publication.event, None);
    }

    #[test]
    fn a_line_end_between_tokens_does_not_end_the_line() {
        let push = push("{\"type\":\"publication\",\"channel\":\"a\",\"position\":\"e-1\",\"data\":[1,\r\n2]}");
        let Body::Publication(publication) = &push.body else {
            panic!("{push:?}")
        };
        assert_eq!(publication.data_line(), "[1,  2]");
    }

    #[test]
    fn what_is_unknown_is_no_error() {
        assert!(matches!(push(r#"{"type":"progress","channel":"a"}"#).body, Body::Other));
        assert!(matches!(
            push(r#"{"type":"closing","code":"x","message":"m","new":1}"#).body,
            Body::Closing(_)
        ));
    }

    #[test]
    fn what_is_malformed_is_said_with_an_excerpt() {
        let error = Push::parse(r#"{"type":"gap","channel":"a","from":"e-1","to":"now"}"#.to_owned()).unwrap_err();
        assert!(error.to_string().contains("\"now\" is not a position"), "{error}");
        assert!(Push::parse("null".to_owned()).is_err());
    }

    #[test]
    fn two_heartbeats_of_silence_are_death() {
        let text = r#"{"type":"welcome","session":"s","heartbeat_ms":400}"#;
        assert_eq!(push(text).silence_max(), Some(Duration::from_millis(800)));
        assert_eq!(push(r#"{"type":"welcome","heartbeat_ms":0}"#).silence_max(), None);
        assert_eq!(push(r#"{"type":"heartbeat"}"#).silence_max(), None);
    }
}
