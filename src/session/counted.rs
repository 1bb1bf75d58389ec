//! What is counted and logged of one session: that it is open, what it is given, and why it ended.

use std::sync::Arc;

use super::node::Node;
use super::{Output, SessionId};
use crate::delivery::{Joined, Resume};
use crate::metrics::Transport;
use crate::protocol::{Code, Ending};

/// Why a session ended, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Nobody said why: the connection broke, or the client left without a word.
    Lost,
    /// The client closed it.
    Client,
    /// The client gave no sign of life.
    Silent,
    /// A poll had its answer.
    Answered,
    /// The server gave this as the reason.
    Code(Code),
}

impl Closed {
    fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Client => "client",
            Self::Silent => "silent",
            Self::Answered => "answered",
            Self::Code(code) => code.as_str(),
        }
    }
}

/// Counts one session for as long as it is there.
pub(super) struct Counted {
    node: Arc<Node>,
    transport: Transport,
    closed: Closed,
    /// When it was opened, in ticks of the wall clock. Small, for each session has one.
    opened: u32,
    /// When its newest subscription began: what was stored before tells nothing about how long deliveries take.
    subscribed_ms: u64,
}

impl Counted {
    pub(super) fn open(node: Arc<Node>, transport: Transport, session: SessionId) -> Self {
        node.metrics().note_opened(transport);
        tracing::debug!(%session, transport = transport.label(), "a session is open");
        Self {
            transport,
            closed: Closed::Lost,
            opened: ticks(node.now_ms()),
            node,
            subscribed_ms: u64::MAX,
        }
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn note_joined(&mut self, joined: &Joined) {
        self.subscribed_ms = self.node.now_ms();
        self.node.metrics().note_subscribed(match joined.resume {
            Resume::Fresh => "fresh",
            Resume::Complete => "complete",
            Resume::Gap => "gap",
        });
    }

    pub(super) fn note_output(&mut self, output: &Output) {
        let metrics = self.node.metrics();
        match output {
            Output::Publication { publication, .. } => {
                let stored_ms = publication.time_ms;
                let after_ms = (stored_ms >= self.subscribed_ms).then(|| self.node.now_ms().saturating_sub(stored_ms));
                metrics.note_delivered(self.transport, after_ms);
            }
            Output::Gap { .. } => metrics.note_gap(),
            Output::Presence(frame) => metrics.note_presence_push(frame.kind()),
            Output::Push(_) | Output::Joined { .. } => {}
            Output::Ending(ending) => self.note_ending(ending),
        }
    }

    pub(super) fn note_written(&self) {
        self.node.metrics().note_written(self.transport);
    }

    pub(super) fn note_ending(&mut self, ending: &Ending) {
        let code = ending.problem.as_ref().map(|problem| problem.code);
        self.note_closed(code.map_or(Closed::Silent, Closed::Code));
    }

    /// Logs its end, by the words of the metrics.
    pub(super) fn log_end(&self, session: SessionId) {
        tracing::debug!(
            %session,
            transport = self.transport.label(),
            reason = self.closed.word(),
            duration_ms = elapsed_ms(self.opened, ticks(self.node.now_ms())),
            "a session has ended"
        );
    }

    /// The first reason stands.
    pub(super) fn note_closed(&mut self, closed: Closed) {
        if self.closed == Closed::Lost {
            self.closed = closed;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.node.metrics().note_closed(self.transport, self.closed.word());
    }
}

/// How long a tick is: 32 bits of them are more than a year.
const TICK_MS: u64 = 10;

#[expect(clippy::cast_possible_truncation, reason = "they begin anew when they are used up")]
fn ticks(now_ms: u64) -> u32 {
    (now_ms / TICK_MS) as u32
}

/// From one tick to another, across their beginning anew; nothing if the clock was set back.
fn elapsed_ms(from: u32, to: u32) -> u64 {
    let ticks = to.wrapping_sub(from);
    if ticks > u32::MAX / 2 {
        0
    } else {
        u64::from(ticks) * TICK_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_across_the_end_of_the_ticks_and_not_backwards() {
        assert_eq!(elapsed_ms(ticks(1_732_240_000_123), ticks(1_732_240_002_129)), 2000);
        assert_eq!(elapsed_ms(u32::MAX, 1), 20);
        assert_eq!(elapsed_ms(100, 99), 0);
    }

    #[test]
    fn what_is_counted_of_a_session_stays_small() {
        assert!(size_of::<Counted>() <= 24, "{}", size_of::<Counted>());
    }
}
