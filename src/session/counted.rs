//! What is counted of one session: that it is open, what it is given, and why it ended.

use std::sync::Arc;

use super::Output;
use super::node::Node;
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
    /// When its newest subscription began: what was stored before tells nothing about how long deliveries take.
    subscribed_ms: u64,
}

impl Counted {
    pub(super) fn open(node: Arc<Node>, transport: Transport) -> Self {
        node.metrics().note_opened(transport);
        Self {
            node,
            transport,
            closed: Closed::Lost,
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
