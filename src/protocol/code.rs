//! The words for what went wrong, the same over HTTP, in command replies and in pushes.

use std::borrow::Cow;
use std::fmt;

use super::json::Object;
use crate::delivery::{BadChannelName, BadCursor, EngineError, EngineErrorKind};

/// A stable word for what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented by its word and by `title`")]
pub enum Code {
    BadRequest,
    BadChannel,
    BadCursor,
    BadJson,
    UnknownCommand,
    AlreadySubscribed,
    NotSubscribed,
    TooManyChannels,
    Unauthenticated,
    TokenInvalid,
    TokenExpired,
    Forbidden,
    OriginRefused,
    Denied,
    NotFound,
    MethodNotAllowed,
    UnsupportedMediaType,
    IdempotencyMismatch,
    TooLarge,
    RateLimited,
    TooManyConnections,
    EngineUnavailable,
    Draining,
    Overloaded,
    SlowReader,
}

impl Code {
    /// Every code there is.
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::BadChannel,
        Self::BadCursor,
        Self::BadJson,
        Self::UnknownCommand,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::TooManyChannels,
        Self::Unauthenticated,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::Forbidden,
        Self::OriginRefused,
        Self::Denied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::IdempotencyMismatch,
        Self::TooLarge,
        Self::RateLimited,
        Self::TooManyConnections,
        Self::EngineUnavailable,
        Self::Draining,
        Self::Overloaded,
        Self::SlowReader,
    ];

    /// Word, HTTP status, WebSocket close code and title: the one table of them.
    fn row(self) -> (&'static str, u16, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad_request", 400, 4400, "The request is not understood"),
            Self::BadChannel => ("bad_channel", 400, 4400, "Not the name of a channel"),
            Self::BadCursor => ("bad_cursor", 400, 4400, "Not a cursor"),
            Self::BadJson => ("bad_json", 400, 4400, "Not the JSON that is expected"),
            Self::UnknownCommand => ("unknown_command", 400, 4400, "No such command"),
            Self::AlreadySubscribed => ("already_subscribed", 400, 4400, "Subscribed already"),
            Self::NotSubscribed => ("not_subscribed", 400, 4400, "Not subscribed"),
            Self::TooManyChannels => ("too_many_channels", 400, 4400, "Too many channels"),
            Self::Unauthenticated => ("unauthenticated", 401, 4401, "Credentials are needed"),
            Self::TokenInvalid => ("token_invalid", 401, 4401, "The credentials are not accepted"),
            Self::TokenExpired => ("token_expired", 401, 4401, "The token has expired"),
            Self::Forbidden => ("forbidden", 403, 4403, "Not allowed"),
            Self::OriginRefused => ("origin_refused", 403, 4403, "Not from this origin"),
            Self::Denied => ("denied", 403, 4403, "Sent away by an operator"),
            Self::NotFound => ("not_found", 404, 4400, "Not found"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, 4400, "Method not allowed"),
            Self::UnsupportedMediaType => ("unsupported_media_type", 415, 1003, "Unsupported media type"),
            Self::IdempotencyMismatch => ("idempotency_mismatch", 422, 4400, "Another payload under the same key"),
            Self::TooLarge => ("too_large", 413, 1009, "Too large"),
            Self::RateLimited => ("rate_limited", 429, 4429, "Too many requests"),
            Self::TooManyConnections => ("too_many_connections", 429, 4429, "Too many connections"),
            Self::EngineUnavailable => ("engine_unavailable", 503, 1013, "The engine is not available"),
            Self::Draining => ("draining", 503, 1012, "The server is shutting down"),
            Self::Overloaded => ("overloaded", 503, 1013, "Overloaded"),
            Self::SlowReader => ("slow_reader", 503, 1013, "The reader takes nothing"),
        }
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The status over HTTP.
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// The code with which a WebSocket is closed for this.
    pub fn close_code(self) -> u16 {
        self.row().2
    }

    /// A short title, the same for every occurrence.
    pub fn title(self) -> &'static str {
        self.row().3
    }
}

/// Something went wrong: a code, what exactly, and whether to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable word.
    pub code: Code,
    /// What was wrong, where, and what would be right.
    pub detail: Cow<'static, str>,
    /// When to try again, in milliseconds; `None`: not with the same request.
    pub retry_ms: Option<u64>,
    /// What became of the request.
    pub outcome: Outcome,
}

/// What became of a request that met a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not carried out.
    Refused,
    /// It may have been carried out or not.
    Unknown,
    /// It was stored, but not as safely as it has to be.
    Stored,
}

impl Outcome {
    /// The word that a client is told, where there is something to tell.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Refused => None,
            Self::Unknown => Some("unknown"),
            Self::Stored => Some("stored"),
        }
    }
}

impl Problem {
    /// The longest detail, in bytes: what a client sent is never sent back as a whole.
    const DETAIL_BYTES_MAX: usize = 1024;

    /// A problem that the same request would meet again. A detail that is too long is cut.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::DETAIL_BYTES_MAX {
            let end = (0..=Self::DETAIL_BYTES_MAX)
                .rev()
                .find(|end| detail.is_char_boundary(*end));
            detail = format!("{}…", &detail[..end.unwrap_or_default()]).into();
        }
        Self {
            code,
            detail,
            retry_ms: None,
            outcome: Outcome::Refused,
        }
    }

    /// The same, for a request that may be repeated after so many milliseconds.
    #[must_use]
    pub fn retry_after_ms(self, retry_ms: u64) -> Self {
        Self {
            retry_ms: Some(retry_ms),
            ..self
        }
    }

    /// As `application/problem+json` (RFC 9457).
    pub fn to_json(&self) -> String {
        Object::new()
            .text("type", &format!("urn:throughline:problem:{}", self.code.as_str()))
            .text("title", self.code.title())
            .number("status", u64::from(self.code.status()))
            .text("detail", &self.detail)
            .text("code", self.code.as_str())
            .optional_number("retry_ms", self.retry_ms)
            .optional_text("outcome", self.outcome.as_str())
            .finish()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code.as_str())
    }
}

impl std::error::Error for Problem {}

impl From<BadChannelName> for Problem {
    fn from(bad: BadChannelName) -> Self {
        Self::new(Code::BadChannel, bad.to_string())
    }
}

impl From<BadCursor> for Problem {
    fn from(bad: BadCursor) -> Self {
        Self::new(Code::BadCursor, bad.to_string())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        const RETRY_MS: u64 = 1000;
        let code = match error.kind() {
            EngineErrorKind::Unavailable | EngineErrorKind::Unanswered | EngineErrorKind::NotReplicated(_) => {
                Code::EngineUnavailable
            }
            EngineErrorKind::Full => Code::Overloaded,
            EngineErrorKind::KeyMismatch => Code::IdempotencyMismatch,
        };
        let mut problem = Self::new(code, error.to_string());
        problem.outcome = match error.kind() {
            EngineErrorKind::Unanswered => Outcome::Unknown,
            EngineErrorKind::NotReplicated(_) => Outcome::Stored,
            EngineErrorKind::Unavailable | EngineErrorKind::Full | EngineErrorKind::KeyMismatch => Outcome::Refused,
        };
        if error.is_retryable() {
            problem.retry_after_ms(RETRY_MS)
        } else {
            problem
        }
    }
}
