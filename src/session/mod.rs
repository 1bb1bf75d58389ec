//! A session: one client as the server sees it, with its subscriptions. No sockets, no bytes.

mod aside;
mod beginnings;
mod control;
mod counted;
mod door;
mod expiry;
mod followed;
mod heeding;
mod history;
pub mod hooks;
pub mod identity;
mod latecomers;
pub mod limits;
mod node;
mod occupancy;
pub mod outgoing;
pub mod policy;
pub mod presence;
mod presenting;
mod publishing;
mod ready;
mod recent;
mod registry;
mod subscriptions;
pub mod webhooks;
mod withdrawn;
mod working;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::{join_all, poll_fn};

use crate::delivery::{ChannelName, Gap, Joined, Publication};
use crate::metrics::Transport;
use crate::protocol::{Code, Command, CommandId, Ending, PresenceFrame, Problem, Push};

use aside::Aside;
use beginnings::Begun;
pub use beginnings::{JoinResult, Wanted, ask, check_any};
pub use control::Removed;
pub use counted::Closed;
use counted::Counted;
use expiry::Expiry;
use identity::Identity;
use limits::{Over, Seat};
pub use node::Node;
use publishing::Prepared;
use registry::{Registered, Urgency};
pub use registry::{Registry, SessionId};
use subscriptions::Subscriptions;
use working::{Stage, Working};

/// Replies that may wait to be sent before further commands are read.
const REPLIES_MAX: usize = 16;

/// What a session has for its client.
#[derive(Debug)]
pub enum Output {
    /// The next publication of the subscription `key`.
    Publication {
        /// Which subscription: 0, 1, 2 … in the order in which they began.
        key: usize,
        /// Shared by all who receive it.
        publication: Arc<Publication>,
    },
    /// What is lost to the subscription `key`.
    Gap {
        /// Which subscription.
        key: usize,
        /// Its channel.
        channel: ChannelName,
        /// What is lost.
        gap: Gap,
    },
    /// The subscription `key` has begun after its client was told that it could not, yet.
    Joined {
        /// Which subscription: its place in the request, where it keeps that.
        key: usize,
        /// Its channel.
        channel: ChannelName,
        /// Where it begins, and how.
        joined: Joined,
    },
    /// Who is on a channel, or came or went; shared by all who are told.
    Presence(PresenceFrame),
    /// Anything else.
    Push(Box<Push>),
    /// The session is over: the last thing to be said.
    Ending(Box<Ending>),
}

/// One client: its subscriptions, and the command that is being carried out.
///
/// It is driven by [`Session::poll_next`] from one task. Dropping it ends its subscriptions.
pub struct Session {
    /// Replies that wait, and presence. Before the node, which has to be there when presence ends.
    aside: Aside,
    counted: Counted,
    registered: Registered,
    /// The task that is registered.
    waker: Option<Waker>,
    subscriptions: Subscriptions,
    working: Option<Box<Working>>,
    /// What it may still do, and its place among the open connections, for as long as it lives.
    seat: Seat,
    identity: Arc<Identity>,
    expiry: Expiry,
}

/// A command that was carried out.
enum Done {
    Reply(Box<Push>),
    /// A publication that may be stored, as far as was asked.
    Prepared(ChannelName, Prepared, Option<CommandId>),
    Begun {
        begun: Vec<Begun>,
        id: Option<CommandId>,
    },
    /// What was tried again.
    Late(Vec<Begun>),
    /// The new identity, and what it may no longer have.
    Refreshed(Arc<Identity>, Vec<(ChannelName, Problem)>, Option<CommandId>),
}

impl Session {
    /// Opens a session of `identity` on `node`, for a client that is connected by `transport`.
    ///
    /// # Errors
    /// `draining`, if the node takes no new sessions; `denied`, `token_expired` or `token_invalid`, if its client would not
    /// be let in any more.
    pub fn open(node: &Arc<Node>, transport: Transport, identity: Arc<Identity>, seat: Seat) -> Result<Self, Problem> {
        let mut session = Self::open_last(node, transport, identity, seat);
        // Asked after entering: a drain, or an operator, that came meanwhile either sees the session or is seen by it.
        let refused = session.refusal().map_or(Ok(()), Err);
        let refused = refused.and_then(|()| session.check_denied(None));
        // The app may have been asked meanwhile.
        let refused = refused.and_then(|()| node.check_standing(&session.identity));
        match refused.err() {
            Some(refused) => {
                session.note_closed(Closed::Code(refused.code));
                Err(refused)
            }
            None => Ok(session),
        }
    }

    /// Why it may read what is there, but not wait for more.
    pub fn refusal(&self) -> Option<Problem> {
        let node = self.node();
        node.registry().is_draining().then(|| node.draining())
    }

    /// Opens a session on a node that may be draining, to read what is there and not to wait for more.
    pub fn open_last(node: &Arc<Node>, transport: Transport, identity: Arc<Identity>, seat: Seat) -> Self {
        let registered = node.register(node.one_of_many(identity));
        Self {
            counted: Counted::open(Arc::clone(node), transport, registered.id()),
            waker: None,
            subscriptions: Subscriptions::new(),
            aside: Aside::default(),
            working: None,
            seat,
            identity: registered.identity(),
            registered,
            expiry: Expiry::default(),
        }
    }

    /// The first push of its connection.
    pub fn welcome(&self, heartbeat_ms: u64) -> Push {
        Push::Welcome {
            session: self.registered.id().to_string(),
            heartbeat_ms,
            expires_at: self.identity.expires_at_ms(),
        }
    }

    /// The node that it is on.
    pub fn node(&self) -> &Arc<Node> {
        self.counted.node()
    }

    /// Whether it takes another command now; they are carried out one after the other.
    pub fn takes_commands(&self) -> bool {
        // An answer of `history` or `presence` may be large, so nothing is asked for before it is on its way.
        let is_large = |push: &Push| matches!(push, Push::History { .. } | Push::Presence { .. });
        self.working.is_none() && self.aside.count() < REPLIES_MAX && !self.aside.newest().is_some_and(is_large)
    }

    /// Begins to carry out a command, whose reply comes from [`Session::poll_next`].
    ///
    /// To be called only if it [takes commands](Session::takes_commands).
    pub fn handle(&mut self, id: Option<CommandId>, command: Command) {
        debug_assert!(self.takes_commands());
        let publish_to = match &command {
            Command::Publish(item) => Some(&item.channel),
            Command::Ping
            | Command::Subscribe(..)
            | Command::Unsubscribe(_)
            | Command::History(_)
            | Command::Presence(_)
            | Command::Refresh(_) => None,
        };
        match self.seat.command(self.identity.caller(), publish_to) {
            Ok(()) => self.carry_out(id, command),
            Err(over) => {
                if publish_to.is_some() {
                    let (Over::Refused(problem) | Over::Enough(problem)) = &over;
                    self.note_unpublished(problem);
                }
                self.refuse_over(id, over);
            }
        }
    }

    /// A publication was refused that never came to the node.
    pub fn note_unpublished(&self, problem: &Problem) {
        self.node().metrics().note_published(problem.code.as_str());
    }

    fn carry_out(&mut self, id: Option<CommandId>, command: Command) {
        self.tell_time();
        self.heed();
        // Its end comes next: nothing more is carried out before.
        if let Some(problem) = self.told_to_end() {
            return self.reply_error(id, problem);
        }
        match command {
            Command::Refresh(token) => {
                let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
                // None is added while this is carried out.
                let channels = self.subscriptions.channels();
                let channels: Vec<_> = channels
                    .map(|channel| (channel.clone(), self.is_told_of(channel)))
                    .collect();
                self.work(Stage::Renewing(id.clone()), async move {
                    let renewed = match node.refresh(&identity, &token).await {
                        Ok(renewed) => renewed,
                        Err(problem) => return Done::Reply(Box::new(Push::Error { problem, id })),
                    };
                    let asking = channels.into_iter().map(|(channel, presence)| {
                        let (node, renewed) = (&node, &renewed);
                        async move {
                            let allowed = node.allow_again(renewed, &channel, presence).await;
                            Some((channel, allowed.err()?))
                        }
                    });
                    let refused = join_all(asking).await.into_iter().flatten().collect();
                    Done::Refreshed(renewed, refused, id)
                });
            }
            _ if self.expiry.is_over() => self.reply_error(id, self.identity.time_is_over()),
            Command::Ping => self.reply(Push::Pong { id }),
            Command::Subscribe(channel, since, presence) => {
                // From now on by the client's own word.
                self.give_up(&channel);
                match self.may_subscribe(&channel) {
                    Ok(()) => self.begin(vec![(channel, since)], presence, id),
                    Err(problem) => self.reply_error(id, problem),
                }
            }
            Command::Unsubscribe(channel) => self.unsubscribe(channel, id),
            Command::Publish(item) => {
                let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
                self.work(Stage::Asked(id.clone()), async move {
                    let channel = item.channel.clone();
                    match node.prepare(&identity, vec![item]).await {
                        Ok(prepared) => Done::Prepared(channel, prepared, id),
                        Err(problem) => Done::Reply(Box::new(Push::Error { problem, id })),
                    }
                });
            }
            Command::History(query) => {
                let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
                self.work(Stage::Asked(id.clone()), async move {
                    Done::Reply(Box::new(match node.history(&identity, query).await {
                        Ok(reply) => Push::History { reply, id },
                        Err(problem) => Push::Error { problem, id },
                    }))
                });
            }
            Command::Presence(query) => self.look_up(query, id),
        }
    }

    /// Answers a command that could not be read. It counts like one that could.
    pub fn refuse(&mut self, id: Option<CommandId>, problem: Problem) {
        match self.seat.command(self.identity.caller(), None) {
            Ok(()) => self.reply_error(id, problem),
            Err(over) => self.refuse_over(id, over),
        }
    }

    /// Answers a command that is over a limit; if that goes on and on, it is the last.
    fn refuse_over(&mut self, id: Option<CommandId>, over: Over) {
        match over {
            Over::Refused(problem) => self.reply_error(id, problem),
            Over::Enough(problem) => {
                self.reply_error(id, problem.clone());
                self.node().registry().end(self.registered.id(), problem.into());
            }
        }
    }

    fn reply_error(&mut self, id: Option<CommandId>, problem: Problem) {
        self.reply(Push::Error { problem, id });
    }

    /// The replies that were not taken yet: what was asked before a connection ends is answered before its end.
    pub fn take_replies(&mut self) -> impl Iterator<Item = Push> + use<> {
        self.aside.take()
    }

    /// What comes next. Cancel safe.
    pub async fn next(&mut self) -> Output {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What was given was written, or answered, at once.
    pub fn note_written(&self) {
        self.counted.note_written();
    }

    /// The connection ends, for a reason of the server's.
    pub fn note_ending(&mut self, ending: &Ending) {
        self.counted.note_ending(ending);
    }

    /// The connection ends, for a reason that is not told.
    pub fn note_closed(&mut self, closed: Closed) {
        self.counted.note_closed(closed);
    }

    /// What comes next: replies first, then the channels that have something, in turn.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        let polled = self.poll_output(cx);
        if let Poll::Ready(output) = &polled {
            self.counted.note_output(output);
        }
        polled
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.registered.register(cx.waker());
        }
        self.go_on(cx);
        if self.registered.takes_new_policies() {
            if let Some(working) = &mut self.working {
                working.note_new_policies();
            }
            self.obey_policies();
        }
        // Afterwards, for that may have been its end.
        self.heed();
        if let Some(push) = self.aside.pop() {
            return Poll::Ready(Output::Push(Box::new(push)));
        }
        if let Some(output) = self.pop_late() {
            return Poll::Ready(output);
        }
        // Before what comes next: a busy channel does not keep a session beyond its token, or beyond its welcome.
        if let Some(ending) = self.early_ending() {
            return self.end_early(ending).map(|ending| Output::Ending(Box::new(ending)));
        }
        if let Some(output) = self.serve(cx) {
            return Poll::Ready(output);
        }
        match self.registered.ending(Urgency::Last) {
            Some(ending) if self.working.is_none() => Poll::Ready(Output::Ending(Box::new(ending))),
            _ => Poll::Pending,
        }
    }

    /// Goes on with what is under way, and begins what is due, until it has to be waited for.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(working) = &mut self.working {
                let Poll::Ready(done) = working.poll(cx) else {
                    return;
                };
                let is_outdated = working.is_outdated();
                self.working = None;
                self.finish(done);
                if is_outdated {
                    self.obey_policies();
                }
            }
            if self.working.is_none() {
                self.mind_latecomers(cx);
            }
            if self.working.is_none() {
                return;
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Reply(push) => self.reply(*push),
            Done::Prepared(channel, prepared, id) => self.store(channel, prepared, id),
            Done::Refreshed(identity, refused, id) => self.refreshed(identity, refused, id),
            Done::Begun { begun, id } => self.begun(begun, id.as_ref()),
            Done::Late(begun) => self.begun_late(begun),
        }
    }

    /// Does this aside, until it is done.
    fn work(&mut self, stage: Stage, doing: impl Future<Output = Done> + Send + 'static) {
        self.working = Some(Box::new(Working::new(stage, doing)));
    }

    /// Gives a publication to the engine, unless the session was told meanwhile to end.
    fn store(&mut self, channel: ChannelName, prepared: Prepared, id: Option<CommandId>) {
        self.heed();
        if let Some(problem) = self.told_to_end() {
            return self.reply_error(id, problem);
        }
        let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
        self.work(Stage::Storing, async move {
            Done::Reply(Box::new(match node.store_one(&identity, prepared).await {
                Ok(published) => Push::Published { channel, published, id },
                Err(problem) => Push::Error { problem, id },
            }))
        });
    }

    fn may_subscribe(&self, channel: &ChannelName) -> Result<(), Problem> {
        self.check_denied(Some(channel))?;
        if self.subscriptions.key_of(channel).is_some() {
            let detail =
                format!("this session is subscribed to {channel} already; unsubscribe first to begin elsewhere");
            return Err(Problem::new(Code::AlreadySubscribed, detail));
        }
        let channels_max = self.node().limits().channels_max;
        if self.subscriptions.count() + self.aside.late_count() >= channels_max {
            let detail =
                format!("this session has {channels_max} subscriptions, the most that it may; use another connection");
            return Err(Problem::new(Code::TooManyChannels, detail));
        }
        Ok(())
    }

    fn unsubscribe(&mut self, channel: ChannelName, id: Option<CommandId>) {
        let key = self.subscriptions.key_of(&channel);
        if let Some(key) = key {
            self.subscriptions.remove(key);
            self.leave(&channel);
        }
        if key.is_some() || self.give_up(&channel) {
            self.reply(Push::Unsubscribed {
                channel,
                problem: None,
                id,
            });
        } else {
            let detail = format!("this session is not subscribed to {channel}");
            self.reply_error(id, Problem::new(Code::NotSubscribed, detail));
        }
    }

    fn reply(&mut self, push: Push) {
        self.aside.push(push);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.counted.log_end(self.registered.id());
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.registered.id())
            .finish_non_exhaustive()
    }
}
