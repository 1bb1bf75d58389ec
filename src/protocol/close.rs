//! Every reason for which the server ends a session, with its close code and its words.

use super::websocket::Violation;
use super::{Code, Limits, Problem};

/// Why a session ends, and what its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The WebSocket close code.
    pub close_code: u16,
    /// What the last push says; `None` where nobody is left to be told.
    pub problem: Option<Problem>,
}

impl Ending {
    /// The node is going away: come back after `retry_ms`, to any node.
    pub fn draining(retry_ms: u64) -> Self {
        Problem::new(Code::Draining, "this node is shutting down; come back, to any node")
            .retry_after_ms(retry_ms)
            .into()
    }

    /// The reader took nothing for the write deadline.
    pub fn slow_reader(write_timeout_ms: u64) -> Self {
        let detail =
            format!("nothing was taken from this connection for {write_timeout_ms} ms; resume from your position");
        Problem::new(Code::SlowReader, detail).retry_after_ms(1000).into()
    }

    /// A message was begun and did not arrive in time.
    pub fn late(message_time_ms_max: u64) -> Self {
        let detail =
            format!("a message did not arrive within {message_time_ms_max} ms; send its fragments without pause");
        Problem::new(Code::BadRequest, detail).into()
    }

    /// Nothing was heard for two heartbeats.
    pub fn silent() -> Self {
        Self {
            close_code: 1001,
            problem: None,
        }
    }

    /// Message after message was no command.
    pub fn malformed() -> Self {
        let detail = format!("{} messages in a row were no commands", Limits::MALFORMED_MAX);
        Problem::new(Code::BadRequest, detail).into()
    }

    /// A binary message, where only text is understood.
    pub fn binary() -> Self {
        Problem::new(
            Code::UnsupportedMediaType,
            "binary messages are not understood; send JSON in text messages",
        )
        .into()
    }
}

impl From<Problem> for Ending {
    fn from(problem: Problem) -> Self {
        Self {
            close_code: problem.code.close_code(),
            problem: Some(problem),
        }
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        let code = if violation.close_code() == 1009 {
            Code::TooLarge
        } else {
            Code::BadRequest
        };
        Self {
            close_code: violation.close_code(),
            problem: Some(Problem::new(code, violation.to_string())),
        }
    }
}
