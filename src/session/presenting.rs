//! What a session has to do with presence: where it is, of what it is told, and what it may ask.

use std::sync::Arc;
use std::task::Context;

use super::identity::{Action, Identity};
use super::presence::{Attendance, Place, PollMark, Presences};
use super::{Done, Node, Output, Session, Stage};
use crate::delivery::ChannelName;
use crate::protocol::{Code, CommandId, PresenceAsk, PresenceQuery, PresenceReply, Problem, Push};

impl Node {
    /// Presence, if it is on for this channel.
    pub(super) fn presences_on(&self, channel: &ChannelName) -> Option<&Arc<Presences>> {
        self.policy(channel).presence_on.then_some(&self.presences)
    }

    /// Presence on a channel, if this identity may see it.
    ///
    /// # Errors
    /// `forbidden`.
    pub(super) async fn visible(&self, identity: &Identity, channel: &ChannelName) -> Result<&Arc<Presences>, Problem> {
        let presences = self.presences_on(channel).ok_or_else(|| off(channel))?;
        self.allow(identity, Action::Presence, channel).await?;
        Ok(presences)
    }

    /// Whether a new token still allows a subscription, and to see who is on its channel if that is told.
    ///
    /// # Errors
    /// `forbidden`.
    pub(super) async fn allow_again(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        presence: PresenceAsk,
    ) -> Result<(), Problem> {
        self.allow(identity, Action::Subscribe, channel).await?;
        match presence {
            PresenceAsk::Nothing => Ok(()),
            PresenceAsk::Members => self.visible(identity, channel).await.map(drop),
        }
    }

    /// Who is on a channel now.
    ///
    /// # Errors
    /// `forbidden`, or what the engine says.
    pub async fn presence(&self, identity: &Identity, query: PresenceQuery) -> Result<PresenceReply, Problem> {
        self.visible(identity, &query.channel).await?.reply(query).await
    }
}

fn off(channel: &ChannelName) -> Problem {
    let namespace = channel.namespace();
    let detail = format!(
        "presence is off for {channel}: leave `presence` out, or switch it on with `presence_on = true` for the \
         namespace {namespace}, or with `presence.enabled = true` for all"
    );
    Problem::new(Code::Forbidden, detail)
}

impl Session {
    /// The session is that of a poll, which was handed this by the one before it.
    ///
    /// # Errors
    /// `denied`, if an operator has sent that away.
    pub fn poll_again(&mut self, channels: &[ChannelName], handed_back: Option<&str>) -> Result<(), Problem> {
        if !channels
            .iter()
            .any(|channel| self.node().presences_on(channel).is_some())
        {
            return Ok(());
        }
        let poll = PollMark::read(handed_back, &self.identity, self.node().random_below(u64::MAX));
        // Asked after it is called so: an operator who comes meanwhile either sees the session or is seen by it.
        self.registered.call(poll.key());
        if let Some(name) = self.registered.names().of_polls() {
            self.node().refuse_behind(&self.identity, name, channels);
        }
        self.aside.attend(|| Attendance::of_poll(poll));
        self.check_denied(None)
    }

    /// A poll has its answer: what the next one has to hand back, where presence is on.
    pub fn answered(&mut self, channels: &[ChannelName]) -> Option<String> {
        self.aside.attendance_mut()?.answered(self.identity.who(), channels)
    }

    /// Whether there is a channel of which it is still to be told who is on it.
    pub fn awaits_members(&self) -> bool {
        self.aside.attendance().is_some_and(Attendance::has_new)
    }

    /// Enters a channel, the `nth` of its request, if there is presence on it.
    pub(super) fn enter(&mut self, place: Option<Place>, nth: usize) {
        let Some(place) = place else { return };
        let attendance = self.aside.attend(|| Attendance::new(self.registered.key()));
        attendance.enter(self.identity.who(), &place, nth, self.registered.shared());
    }

    /// Leaves a channel.
    pub(super) fn leave(&mut self, channel: &ChannelName) {
        if let Some(attendance) = self.aside.attendance_mut() {
            attendance.leave(channel);
            if !attendance.is_anywhere() {
                self.aside.retire();
            }
        }
    }

    /// What comes next that nobody asked for: presence first, for there is little of it.
    pub(super) fn serve(&mut self, cx: &mut Context<'_>) -> Option<Output> {
        if let Some(attendance) = self.aside.attendance_mut()
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

    /// Whether the policies of now let the session be told who is on a channel, if it is.
    pub(super) fn check_told(&self, channel: &ChannelName) -> Result<(), Problem> {
        match self.is_told_of(channel) {
            PresenceAsk::Nothing => Ok(()),
            PresenceAsk::Members if self.node().presences_on(channel).is_none() => Err(off(channel)),
            PresenceAsk::Members => self.node().still_allows(&self.identity, Action::Presence, channel),
        }
    }

    /// Whether the session is told who is on a channel.
    pub(super) fn is_told_of(&self, channel: &ChannelName) -> PresenceAsk {
        match self.aside.attendance() {
            Some(attendance) if attendance.watches(channel) => PresenceAsk::Members,
            _ => PresenceAsk::Nothing,
        }
    }

    /// Answers who is on a channel.
    pub(super) fn look_up(&mut self, query: PresenceQuery, id: Option<CommandId>) {
        let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
        self.work(Stage::Asked(id.clone()), async move {
            Done::Reply(Box::new(match node.presence(&identity, query).await {
                Ok(reply) => Push::Presence { reply, id },
                Err(problem) => Push::Error { problem, id },
            }))
        });
    }
}
