//! What the app is asked, and how its answer is read: strictly, for what is misunderstood would let somebody in.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::fields::Fields;
use super::json::{self, Object};
use super::{Code, Item, Limits, Problem};

/// When the app is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// When a client comes.
    Connect,
    /// When it subscribes, each time.
    Subscribe,
    /// When it publishes.
    Publish,
}

impl Hook {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Subscribe, Self::Publish];

    /// Its word in questions, metrics and the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }
}

/// What a client wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// Come in.
    Connect,
    /// Subscribe to this channel.
    Subscribe(&'a str),
    /// Publish this.
    Publish(&'a Item),
}

impl Wish<'_> {
    /// Which hook decides about it.
    pub fn hook(&self) -> Hook {
        match self {
            Self::Connect => Hook::Connect,
            Self::Subscribe(_) => Hook::Subscribe,
            Self::Publish(_) => Hook::Publish,
        }
    }
}

/// The question, in JSON: what is wanted, and by whom, as far as that is known.
pub fn question(wish: Wish<'_>, user: Option<&str>, address: Option<IpAddr>) -> String {
    let asked = Object::new().text("type", wish.hook().as_str());
    let asked = match wish {
        Wish::Connect => asked,
        Wish::Subscribe(channel) => asked.text("channel", channel),
        Wish::Publish(item) => {
            // As it was published: checked, compact JSON.
            let data = String::from_utf8_lossy(&item.data);
            asked
                .text("channel", item.channel.as_str())
                .raw("data", &data)
                .optional_text("event", item.event.as_deref())
        }
    };
    let address = address.map(|address| address.to_canonical().to_string());
    asked
        .optional_text("user", user)
        .optional_text("address", address.as_deref())
        .finish()
}

/// What the app says.
#[derive(Debug, Clone)]
pub struct HookAnswer {
    /// Yes, or why not.
    pub decided: Result<Allowed, Problem>,
    /// For how long it holds, in seconds, if it says so.
    pub cache_s: Option<u64>,
}

/// What the app adds to its yes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    /// Who the client is.
    pub user: Option<Box<str>>,
    /// What it may do, like the claim `throughline` of a token.
    pub grants: Option<Fields>,
    /// Until when it may stay, in Unix milliseconds.
    pub expires_at_ms: Option<u64>,
    /// What is published instead, as compact JSON.
    pub data: Option<Bytes>,
    /// The word for it instead.
    pub event: Option<Box<str>>,
}

/// What a refusal may say.
const REFUSALS: [Code; 8] = [
    Code::Forbidden,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::Denied,
    Code::BadRequest,
    Code::TooLarge,
    Code::RateLimited,
    Code::Overloaded,
];

/// The longest `message` of a refusal, in bytes.
const MESSAGE_BYTES_MAX: usize = 256;

/// Fields as they come. One that nobody knows is refused: it might have been meant to keep somebody out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told<'a> {
    allow: bool,
    code: Option<String>,
    message: Option<String>,
    retry_ms: Option<u64>,
    cache_s: Option<u64>,
    user: Option<String>,
    grants: Option<Fields>,
    expires_at: Option<u64>,
    #[serde(borrow, default, deserialize_with = "given")]
    data: Option<&'a RawValue>,
    event: Option<String>,
}

/// `null` is data like any other.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads an answer to a hook's question.
///
/// # Errors
/// What is wrong with it, for whoever maintains the app; nothing of what it says.
pub fn read_answer(hook: Hook, body: &[u8]) -> Result<HookAnswer, String> {
    let text = json::check(body).map_err(|problem| problem.detail.into_owned())?;
    let told: Told<'_> = serde_json::from_str(text).map_err(|error| {
        // The library's words may repeat a value; where it stands is enough.
        let what = if error.is_data() {
            "has a field that is unknown, missing, twice there, or of another kind"
        } else {
            "is not JSON"
        };
        format!("the answer {what}, at line {} column {}", error.line(), error.column())
    })?;
    told.check(hook)?;
    Ok(HookAnswer {
        cache_s: told.cache_s,
        decided: if told.allow {
            Ok(told.allowed())
        } else {
            Err(told.refusal(hook)?)
        },
    })
}

impl Told<'_> {
    /// Whether only that is there which means something.
    fn check(&self, hook: Hook) -> Result<(), String> {
        let is_allowed_at = |at: Hook| self.allow && hook == at;
        let checked = [
            ("code", self.code.is_some(), !self.allow),
            ("message", self.message.is_some(), !self.allow),
            ("retry_ms", self.retry_ms.is_some(), !self.allow),
            ("user", self.user.is_some(), is_allowed_at(Hook::Connect)),
            ("grants", self.grants.is_some(), is_allowed_at(Hook::Connect)),
            ("expires_at", self.expires_at.is_some(), is_allowed_at(Hook::Connect)),
            ("data", self.data.is_some(), is_allowed_at(Hook::Publish)),
            ("event", self.event.is_some(), is_allowed_at(Hook::Publish)),
        ];
        if let Some((name, ..)) = checked.iter().find(|(_, is_there, may_be)| *is_there && !may_be) {
            let (said, asked) = (self.allow, hook.as_str());
            return Err(format!(
                "`{name}` means nothing in an answer to `{asked}` with `allow` = {said}"
            ));
        }
        if self
            .event
            .as_ref()
            .is_some_and(|event| event.len() > Limits::EVENT_BYTES_MAX)
        {
            return Err(format!("`event` has more than {} bytes", Limits::EVENT_BYTES_MAX));
        }
        let is_replaced = self.data.is_some() || self.event.is_some();
        if is_replaced && self.cache_s.is_some_and(|seconds| seconds > 0) {
            return Err(
                "`cache_s` beside `data` or `event`: what replaces one publication does not hold for others".into(),
            );
        }
        Ok(())
    }

    fn allowed(self) -> Allowed {
        Allowed {
            user: self.user.map(Into::into),
            grants: self.grants,
            expires_at_ms: self.expires_at,
            data: self.data.map(json::compact),
            event: self.event.map(Into::into),
        }
    }

    fn refusal(self, hook: Hook) -> Result<Problem, String> {
        const RETRY_MS: u64 = 1000;
        // Nobody is told to come back at once, or in a year.
        const RETRY_MS_RANGE: std::ops::RangeInclusive<u64> = 1..=86_400_000;
        let code = match self.code.as_deref() {
            None => Code::Forbidden,
            Some(word) => *REFUSALS.iter().find(|code| code.as_str() == word).ok_or_else(|| {
                let words = REFUSALS.map(Code::as_str).join(", ");
                format!("`code` must be one of {words}")
            })?,
        };
        let may_be_retried = matches!(code, Code::RateLimited | Code::Overloaded);
        if self.retry_ms.is_some() && !may_be_retried {
            return Err("`retry_ms` goes with `rate_limited` and `overloaded`; all else is final".to_owned());
        }
        if self
            .message
            .as_ref()
            .is_some_and(|message| message.len() > MESSAGE_BYTES_MAX)
        {
            return Err(format!("`message` has more than {MESSAGE_BYTES_MAX} bytes"));
        }
        let message = self.message.unwrap_or_else(|| match hook {
            Hook::Connect => "the app does not let this client in".to_owned(),
            Hook::Subscribe => "the app does not let this client subscribe to this channel".to_owned(),
            Hook::Publish => "the app does not let this client publish this".to_owned(),
        });
        let problem = Problem::new(code, message);
        Ok(if may_be_retried {
            let retry_ms = self.retry_ms.unwrap_or(RETRY_MS);
            problem.retry_after_ms(retry_ms.clamp(*RETRY_MS_RANGE.start(), *RETRY_MS_RANGE.end()))
        } else {
            problem
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::ChannelName;

    #[test]
    fn a_question_says_what_is_wanted_and_by_whom() {
        let item = Item {
            channel: ChannelName::parse("chat:1").unwrap(),
            data: Bytes::from_static(b"{\"n\":1e400}"),
            event: Some("like".into()),
            key: None,
        };
        let address = "::ffff:192.0.2.7".parse().ok();
        assert_eq!(question(Wish::Connect, None, None), r#"{"type":"connect"}"#);
        assert_eq!(
            question(Wish::Subscribe("a"), Some("a\"b"), address),
            r#"{"type":"subscribe","channel":"a","user":"a\"b","address":"192.0.2.7"}"#
        );
        assert_eq!(
            question(Wish::Publish(&item), None, None),
            r#"{"type":"publish","channel":"chat:1","data":{"n":1e400},"event":"like"}"#
        );
    }

    #[test]
    fn an_answer_is_read_strictly() {
        let read = |hook, text: &str| read_answer(hook, text.as_bytes());
        let yes = |hook, text| read(hook, text).unwrap().decided.unwrap();
        assert_eq!(yes(Hook::Subscribe, r#"{"allow":true}"#), Allowed::default());
        assert_eq!(
            yes(Hook::Publish, r#"{"allow":true,"data": null}"#).data.unwrap(),
            "null"
        );
        let full = r#"{"allow":true,"user":"ada","grants":{"subscribe":["a"]},"expires_at":7,"cache_s":3}"#;
        assert_eq!(yes(Hook::Connect, full).user.as_deref(), Some("ada"));
        assert_eq!(read(Hook::Connect, full).unwrap().cache_s, Some(3));
        for text in [
            "",
            "[]",
            "true",
            "{}",
            r#"{"allow":"true"}"#,
            r#"{"allow":1}"#,
            r#"{"allow":null}"#,
            r#"{"allow":true,"allow":false}"#,
            r#"{"alow":true}"#,
            r#"{"allow":true,"expire_at":7}"#,
            r#"{"allow":true,"code":"forbidden"}"#,
            r#"{"allow":true,"data":1}"#,
            r#"{"allow":true,"expires_at":"7"}"#,
            r#"{"allow":true,"grants":["a"]}"#,
            r#"{"allow":true} x"#,
            r#"{"allow":false,"code":"nonsense"}"#,
            r#"{"allow":false,"code":"draining"}"#,
            r#"{"allow":false,"retry_ms":5}"#,
            r#"{"allow":false,"user":"ada"}"#,
        ] {
            assert!(read(Hook::Connect, text).is_err(), "{text}");
        }
        for text in [
            r#"{"allow":true,"data":1,"cache_s":1}"#,
            r#"{"allow":true,"user":"ada"}"#,
        ] {
            assert!(read(Hook::Publish, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_whether_to_come_back() {
        let no = |text: &str| {
            read_answer(Hook::Connect, text.as_bytes())
                .unwrap()
                .decided
                .unwrap_err()
        };
        let said = no(r#"{"allow":false}"#);
        assert_eq!((said.code, said.retry_ms), (Code::Forbidden, None));
        let said = no(r#"{"allow":false,"code":"rate_limited","message":"later","retry_ms":7}"#);
        assert_eq!(
            (said.code, &*said.detail, said.retry_ms),
            (Code::RateLimited, "later", Some(7))
        );
        assert_eq!(no(r#"{"allow":false,"code":"overloaded"}"#).retry_ms, Some(1000));
        // Neither at once nor never.
        for (said_ms, told_ms) in [("0", 1), ("1000000000000000", 86_400_000)] {
            let said = format!(r#"{{"allow":false,"code":"overloaded","retry_ms":{said_ms}}}"#);
            assert_eq!(no(&said).retry_ms, Some(told_ms));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_what_was_said() {
        let secret = r#"{"allow":true,"user":["hunter2"]}"#;
        let why = read_answer(Hook::Connect, secret.as_bytes()).unwrap_err();
        assert!(!why.contains("hunter2") && why.contains("column"), "{why}");
    }
}
