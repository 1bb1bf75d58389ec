//! What a session has to do with presence: where it is, of what it is told, and what it may ask.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Context;

use super::identity::{Action, Identity};
use super::presence::{Attendance, Place, PollMark, Presences};
use super::{Done, Node, Output, Session};
use crate::delivery::ChannelName;
use crate::protocol::{Code, CommandId, PresenceAsk, PresenceQuery, PresenceReply, Problem, Push};

impl Node {
    /// Presence, if it is on for this channel.
    pub(super) fn presences_on(&self, _channel: &ChannelName) -> Option<&Arc<Presences>> {
        self.presences.as_ref()
    }

    /// Presence on a channel, if this identity may see it.
    fn visible(&self, identity: &Identity, channel: &ChannelName) -> Result<&Arc<Presences>, Problem> {
        let Some(presences) = self.presences_on(channel) else {
            let detail = format!(
                "presence is off for {channel}; leave `presence` out, or switch it on with `presence.enabled = true`"
            );
            return Err(Problem::new(Code::Forbidden, detail));
        };
        identity.may(Action::Presence, channel)?;
        Ok(presences)
    }

    /// The channels of which a session is told that asks for it: where presence is on, and it may.
    ///
    /// # Errors
    /// If it is told of none: why, of the first.
    pub(super) fn watched<'a>(
        &self,
        identity: &Identity,
        channels: impl Iterator<Item = &'a ChannelName>,
        ask: PresenceAsk,
    ) -> Result<HashSet<ChannelName>, Problem> {
        let mut watched = HashSet::new();
        let mut refused = Ok(());
        if ask == PresenceAsk::Members {
            for channel in channels {
                match self.visible(identity, channel) {
                    Ok(_) => drop(watched.insert(channel.clone())),
                    Err(problem) => refused = refused.and(Err(problem)),
                }
            }
        }
        if watched.is_empty() {
            refused.map(|()| watched)
        } else {
            Ok(watched)
        }
    }

    /// Who is on a channel now.
    ///
    /// # Errors
    /// `forbidden`, or what the engine says.
    pub async fn presence(&self, identity: &Identity, query: PresenceQuery) -> Result<PresenceReply, Problem> {
        self.visible(identity, &query.channel)?.reply(query).await
    }
}

impl Session {
    /// The session is that of a poll, which was handed this by the one before it.
    pub fn poll_again(&mut self, handed_back: Option<&str>) {
        let Some(presences) = &self.node().presences else {
            return;
        };
        let poll = PollMark::read(handed_back, &self.identity, self.node().random_below(u64::MAX));
        let attendance = Attendance::new(Arc::clone(presences), poll.key(), self.identity.who());
        self.attendance = Some(Box::new(attendance.of_poll(poll)));
    }

    /// A poll has its answer: what the next one has to hand back, where presence is on.
    pub fn answered(&mut self, channels: &[ChannelName]) -> Option<String> {
        self.attendance.as_mut()?.answered(channels)
    }

    /// Whether there is a channel of which it is still to be told who is on it.
    pub fn awaits_members(&self) -> bool {
        self.attendance.as_ref().is_some_and(|attendance| attendance.has_new())
    }

    /// Enters a channel, the `nth` of its request, if there is presence on it.
    pub(super) fn enter(&mut self, place: Option<Place>, nth: usize) {
        let Some(place) = place else { return };
        let attendance = self.attendance.get_or_insert_with(|| {
            let attendance = Attendance::new(place.presences(), self.registered.key(), self.identity.who());
            Box::new(attendance)
        });
        attendance.enter(place, nth, self.registered.shared());
    }

    /// Leaves a channel.
    pub(super) fn leave(&mut self, channel: &ChannelName) {
        if let Some(attendance) = &mut self.attendance {
            attendance.leave(channel);
            if !attendance.is_anywhere() {
                self.attendance = None;
            }
        }
    }

    /// What comes next that nobody asked for: presence first, for there is little of it.
    pub(super) fn serve(&mut self, cx: &mut Context<'_>) -> Option<Output> {
        if let Some(attendance) = &mut self.attendance
            && let Some(frame) = attendance.poll()
        {
            return Some(Output::Presence(frame));
        }
        let output = self.subscriptions.serve(self.registered.shared(), cx)?;
        if let Output::Push(push) = &output
            && let Push::Unsubscribed { channel, .. } = &**push
        {
            self.leave(channel);
        }
        Some(output)
    }

    /// Whether a new token still allows to see who is on a channel, if the session is told of it.
    pub(super) fn may_go_on_watching(&self, channel: &ChannelName) -> Result<(), Problem> {
        match &self.attendance {
            Some(attendance) if attendance.watches(channel) => self.node().visible(&self.identity, channel).map(drop),
            _ => Ok(()),
        }
    }

    /// Answers who is on a channel.
    pub(super) fn look_up(&mut self, query: PresenceQuery, id: Option<CommandId>) {
        let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
        self.working = Some(Box::pin(async move {
            Done::Reply(Box::new(match node.presence(&identity, query).await {
                Ok(reply) => Push::Presence { reply, id },
                Err(problem) => Push::Error { problem, id },
            }))
        }));
    }
}
