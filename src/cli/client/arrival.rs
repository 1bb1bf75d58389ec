//! What a connection gives, piece by piece, whichever the transport.

use std::time::Duration;

use super::push::Push;

#[derive(Debug)]
pub(crate) enum Arrival {
    Push(Push),
    /// The server's own account of where we stand: the cursor of a poll's answer, the `id` of an event.
    Cursor(String),
    /// Not to come back sooner than this after the stream ended (the `retry` of an event stream).
    Retry(Duration),
}

impl Arrival {
    /// Whether it shows that the transport works, as an opened connection alone does not.
    pub(crate) fn proves_transport(&self) -> bool {
        match self {
            Self::Push(push) => !push.is_closing(),
            Self::Cursor(_) => true,
            Self::Retry(_) => false,
        }
    }
}
