//! What a session may no longer have: by a new token, or by new policies.

use super::Session;
use super::identity::Action;
use crate::delivery::ChannelName;
use crate::protocol::{Problem, Push};

impl Session {
    /// Ends the subscriptions that the policies of now do not allow. The app, where it decides, is asked at the next
    /// resume.
    pub(super) fn obey_policies(&mut self) {
        let refused = |channel: &ChannelName| {
            let allowed = self.node().still_allows(&self.identity, Action::Subscribe, channel);
            let allowed = allowed.and_then(|()| self.check_told(channel));
            Some((channel.clone(), allowed.err()?))
        };
        let refused: Vec<_> = self.subscriptions.channels().filter_map(refused).collect();
        self.withdraw(refused);
    }

    /// Ends subscriptions for a reason of the server's, each unless it has ended meanwhile.
    pub(super) fn withdraw(&mut self, refused: Vec<(ChannelName, Problem)>) {
        for (channel, problem) in refused {
            let Some(key) = self.subscriptions.key_of(&channel) else {
                continue;
            };
            self.subscriptions.remove(key);
            self.leave(&channel);
            self.reply(Push::Unsubscribed {
                channel,
                problem: Some(problem),
                id: None,
            });
        }
    }
}
