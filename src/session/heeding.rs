//! What a session does about what others decided of it: operators, and whoever lets the node drain.

use super::Session;
use super::identity::token_expired;
use super::registry::Urgency;
use crate::delivery::ChannelName;
use crate::protocol::{Ending, Problem};

impl Session {
    /// Ends the subscriptions that others have ended.
    pub(super) fn heed(&mut self) {
        let ended = self.registered.take_unsubscribed();
        if !ended.is_empty() {
            self.withdraw(ended);
        }
    }

    /// Why nothing more is served, if so.
    pub(super) fn early_ending(&self) -> Option<Ending> {
        if self.expiry.is_over() {
            return Some(token_expired().into());
        }
        self.registered.ending(Urgency::Now)
    }

    /// Why others have it end at once, if they do.
    pub(super) fn told_to_end(&self) -> Option<Problem> {
        self.registered.ending(Urgency::Now)?.problem
    }

    /// Whether an operator has sent it away meanwhile, everywhere or from a channel.
    pub(super) fn check_denied(&self, channel: Option<&ChannelName>) -> Result<(), Problem> {
        let node = self.node();
        let session = Some(self.registered.names());
        node.control.check(&self.identity, session, (channel, node.now_ms()))
    }
}
