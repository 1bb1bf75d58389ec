//! A removal: what an operator decides about a user or a session. Its JSON is both the body of a request and what the
//! nodes tell each other.

use super::envelope::Envelope;
use super::json::Object;
use super::{Code, Problem};
use crate::delivery::ChannelName;

/// The longest name of a user, in bytes: as long as a token's `sub` may be.
const USER_BYTES_MAX: usize = 255;

/// Who is removed, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whose sessions.
    pub subject: Subject,
    /// The channel whose subscriptions end; `None`: the sessions end.
    pub channel: Option<ChannelName>,
    /// For how long they are refused, in seconds; 0 also takes back what was said before.
    pub deny_s: u64,
    /// What the sessions are told.
    pub reason: Reason,
}

/// Whose sessions a removal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All of a user.
    User(Box<str>),
    /// One, as its `welcome` or the answer to its poll named it.
    Session(Box<str>),
    /// All under one token, by its mark: what becomes of a session that is refused. Only nodes say this.
    Token(Box<str>),
}

/// What those who are removed are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// They are not wanted.
    #[default]
    Denied,
    /// They are to come back with a new token.
    TokenExpired,
}

impl Reason {
    /// The word of the protocol.
    pub fn code(self) -> Code {
        match self {
            Self::Denied => Code::Denied,
            Self::TokenExpired => Code::TokenExpired,
        }
    }

    fn read(word: &str) -> Option<Self> {
        let all = [Self::Denied, Self::TokenExpired];
        all.into_iter().find(|reason| reason.code().as_str() == word)
    }
}

impl Removal {
    /// The longest refusal, in seconds: a day. Whoever is not to come back for longer gets no new token.
    pub const DENY_S_MAX: u64 = 24 * 60 * 60;

    /// Reads the body of `POST /v1/disconnect`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_disconnect(body: &[u8]) -> Result<Self, Problem> {
        let envelope = Envelope::read(body)?;
        envelope.check_names(&["user", "session", "deny_s", "code"])?;
        let reason = match envelope.text("code")? {
            None => Reason::default(),
            Some(word) => Reason::read(&word).ok_or_else(|| bad("`code` must be \"denied\" or \"token_expired\""))?,
        };
        let removal = Self {
            subject: subject(&envelope)?,
            channel: None,
            deny_s: deny_s(&envelope)?,
            reason,
        };
        if removal.deny_s > 0 && reason != Reason::Denied {
            return Err(bad(
                "whoever is refused for `deny_s` cannot come back with a new token: leave `code` or `deny_s` out",
            ));
        }
        Ok(removal)
    }

    /// Reads the body of `POST /v1/unsubscribe`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_unsubscribe(body: &[u8]) -> Result<Self, Problem> {
        let envelope = Envelope::read(body)?;
        envelope.check_names(&["user", "session", "channel", "deny_s"])?;
        Ok(Self {
            subject: subject(&envelope)?,
            channel: Some(ChannelName::parse(&envelope.required_text("channel")?)?),
            deny_s: deny_s(&envelope)?,
            reason: Reason::Denied,
        })
    }

    /// Reads what [`Removal::to_json`] wrote.
    pub fn read_told(json: &[u8]) -> Option<Self> {
        let envelope = Envelope::read(json).ok()?;
        let channel = envelope.text("channel").ok()?;
        let subject = match envelope.text("token").ok()? {
            Some(mark) => Subject::Token(mark.into()),
            None => subject(&envelope).ok()?,
        };
        Some(Self {
            subject,
            channel: channel.map(|name| ChannelName::parse(&name)).transpose().ok()?,
            deny_s: deny_s(&envelope).ok()?,
            reason: Reason::read(&envelope.text("code").ok()??)?,
        })
    }

    /// What the nodes are told.
    pub fn to_json(&self) -> String {
        let object = match &self.subject {
            Subject::User(user) => Object::new().text("user", user),
            Subject::Session(session) => Object::new().text("session", session),
            Subject::Token(mark) => Object::new().text("token", mark),
        };
        object
            .optional_text("channel", self.channel.as_ref().map(ChannelName::as_str))
            .number("deny_s", self.deny_s)
            .text("code", self.reason.code().as_str())
            .finish()
    }

    /// What is done, in a word.
    pub fn verb(&self) -> &'static str {
        match self.channel {
            None => "disconnect",
            Some(_) => "unsubscribe",
        }
    }
}

fn subject(envelope: &Envelope<'_>) -> Result<Subject, Problem> {
    match (envelope.text("user")?, envelope.text("session")?) {
        (Some(user), None) => {
            let fits = (1..=USER_BYTES_MAX).contains(&user.len()) && !user.chars().any(char::is_control);
            let detail = "`user` must be a token's `sub`: 1 to 255 bytes without control characters";
            fits.then(|| Subject::User(user.into())).ok_or_else(|| bad(detail))
        }
        (None, Some(session)) => {
            // A poll's is followed by what its client knows.
            let session = session.split_once('.').map_or(&*session, |(session, _)| session);
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let fits = session.len() == 32 && session.bytes().all(is_digit);
            let detail = "`session` must be what a `welcome` or the answer to a poll has, which begins with 32 \
                          hexadecimal digits in lower case";
            fits.then(|| Subject::Session(session.into()))
                .ok_or_else(|| bad(detail))
        }
        (None, None) => Err(bad("nobody is named; add `\"user\":\"…\"` or `\"session\":\"…\"`")),
        (Some(_), Some(_)) => Err(bad("`user` and `session` are both there; name one of them")),
    }
}

fn deny_s(envelope: &Envelope<'_>) -> Result<u64, Problem> {
    let deny_s = envelope.number("deny_s")?.unwrap_or(0);
    if deny_s > Removal::DENY_S_MAX {
        let max = Removal::DENY_S_MAX;
        return Err(Problem::new(
            Code::BadRequest,
            format!("`deny_s` is at most {max}, a day, and not {deny_s}; give no new token to whoever is to stay away"),
        ));
    }
    Ok(deny_s)
}

fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_read() {
        let bodies = [
            r#"{"user":"ada"}"#,
            r#"{"user":"a\"d\\a","deny_s":86400,"code":"denied"}"#,
            r#"{"session":"0123456789abcdef0123456789abcdef","code":"token_expired"}"#,
        ];
        for body in bodies {
            let removal = Removal::read_disconnect(body.as_bytes()).unwrap();
            assert_eq!(Removal::read_told(removal.to_json().as_bytes()), Some(removal));
        }
        let removal = Removal::read_unsubscribe(br#"{"user":"ada","channel":"chat:1","deny_s":5}"#).unwrap();
        assert_eq!(removal.verb(), "unsubscribe");
        assert_eq!(Removal::read_told(removal.to_json().as_bytes()), Some(removal.clone()));
        let of_token = Removal {
            subject: Subject::Token("00ff".into()),
            ..removal
        };
        assert_eq!(Removal::read_told(of_token.to_json().as_bytes()), Some(of_token));
    }

    #[test]
    fn a_bad_body_says_what_would_be_right() {
        let refused = |body: &str| Removal::read_disconnect(body.as_bytes()).unwrap_err();
        for (body, words) in [
            ("{}", "add `\"user\""),
            (r#"{"user":"a","session":"b"}"#, "name one of them"),
            (r#"{"user":""}"#, "1 to 255 bytes"),
            (r#"{"user":"a\u0007"}"#, "without control characters"),
            (r#"{"user":7}"#, "`user` must be a string"),
            (r#"{"session":"me"}"#, "32 hexadecimal digits"),
            (
                r#"{"token":"00ff"}"#,
                "there is no field `token`; there are `user`, `session`, `deny_s`, `code`",
            ),
            (
                r#"{"user":"a","denys":60}"#,
                "there is no field `denys`; did you mean `deny_s`?",
            ),
            (r#"{"user":"a","deny":60}"#, "did you mean `deny_s`?"),
            (r#"{"user":"a","channel":"c"}"#, "there is no field `channel`"),
            (r#"{"user":null}"#, "nobody is named"),
            (r#"{"user":"a","deny_s":86401}"#, "at most 86400"),
            (r#"{"user":"a","deny_s":-1}"#, "not negative"),
            (r#"{"user":"a","code":"gone"}"#, "\"token_expired\""),
            (
                r#"{"user":"a","deny_s":1,"code":"token_expired"}"#,
                "leave `code` or `deny_s` out",
            ),
        ] {
            let detail = refused(body).detail;
            assert!(detail.contains(words), "{body}: {detail}");
        }
        let reserved = Removal::read_unsubscribe(br#"{"user":"a","channel":"$control"}"#).unwrap_err();
        assert_eq!(reserved.code, Code::BadChannel);
    }
}
