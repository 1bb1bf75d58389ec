//! What is counted of one session: that it is open, what it is given, and why it ended.

use std::sync::Arc;

use super::Output;
use super::node::Node;
use crate::delivery::{Joined, Resume};
use crate::metrics::Transport;
use crate::protocol::Ending;

/// Why a session ended that said nothing: its connection broke, or its client left without a word.
const LOST: &str = "lost";

/// Counts one session for as long as it is there.
pub(super) struct Counted {
    node: Arc<Node>,
    transport: Transport,
    ended: &'static str,
    /// When its newest subscription began: what was stored before tells nothing about how long deliveries take.
    subscribed_ms: u64,
}

impl Counted {
    pub(super) fn open(node: Arc<Node>, transport: Transport) -> Self {
        node.metrics().note_opened(transport);
        Self {
            node,
            transport,
            ended: LOST,
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
            Output::Push(_) => {}
            Output::Ending(ending) => self.note_ending(ending),
        }
    }

    pub(super) fn note_written(&self) {
        self.node.metrics().note_written(self.transport);
    }

    pub(super) fn note_ending(&mut self, ending: &Ending) {
        self.note_end(
            ending
                .problem
                .as_ref()
                .map_or("silent", |problem| problem.code.as_str()),
        );
    }

    /// The first reason stands.
    pub(super) fn note_end(&mut self, reason: &'static str) {
        if self.ended == LOST {
            self.ended = reason;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.node.metrics().note_closed(self.transport, self.ended);
    }
}
