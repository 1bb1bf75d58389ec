//! Channels that cannot be had yet though they may be: their engine is away, or the app that decides says nothing. Their
//! client was told so, and is told again when they have begun.
//!
//! Only a WebSocket's client can ask again on its own connection. So whatever a request named is tried again here, on
//! every transport alike, from where it asked to begin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::beginnings::{Asked, Begun, Started, ask_again, begin};
use super::{Done, Node, Output, Session, Stage};
use crate::delivery::{ChannelName, Joined};
use crate::protocol::{Code, Problem, Push};

/// The least time between two attempts, over which they are spread as well, and how often it doubles at most where the
/// engine is there.
const PAUSE_MS: u64 = 500;
const DOUBLED_MAX: u32 = 5;

/// The channels of one session that are tried again.
#[derive(Default)]
pub(super) struct Latecomers {
    waiting: Vec<Late>,
    /// Ends when it is time for another attempt.
    pause: Option<BoxFuture<'static, ()>>,
    failed: u32,
    /// Those that have begun and are yet to be told.
    begun: VecDeque<(usize, ChannelName, Joined)>,
}

/// A channel that is tried again, and the key that is kept for it, if one is.
struct Late {
    key: Option<usize>,
    asked: Asked,
}

impl Latecomers {
    /// How many are tried again.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to be tried, or told.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty()
    }

    fn add(&mut self, key: Option<usize>, asked: Asked) {
        self.waiting.push(Late { key, asked });
        self.pause = None;
    }

    /// Takes a channel out, if it is among them.
    fn take(&mut self, channel: &ChannelName) -> Option<Late> {
        let at = self.waiting.iter().position(|late| late.asked.channel == *channel)?;
        Some(self.waiting.remove(at))
    }

    /// Those to be tried, when it is time.
    fn poll(&mut self, node: &Arc<Node>, cx: &mut Context<'_>) -> Poll<Vec<Asked>> {
        if self.waiting.is_empty() {
            self.pause = None;
            return Poll::Pending;
        }
        let (waiting, failed) = (&self.waiting, self.failed);
        let pause = self.pause.get_or_insert_with(|| {
            let channels = waiting.iter().map(|late| late.asked.channel.clone()).collect();
            Box::pin(until_any_is_there(Arc::clone(node), channels, failed))
        });
        if pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pause = None;
        Poll::Ready(self.waiting.iter().map(|late| late.asked.clone()).collect())
    }
}

/// Waits until the engine has one of the channels. While it is away it knows that without asking anybody.
async fn until_any_is_there(node: Arc<Node>, channels: Vec<ChannelName>, failed: u32) {
    let least_ms = PAUSE_MS << failed.min(DOUBLED_MAX);
    loop {
        tokio::time::sleep(Duration::from_millis(least_ms + node.random_below(least_ms))).await;
        let attaching = channels.iter().map(|channel| node.engine().attach(channel));
        if join_all(attaching).await.iter().any(Result::is_ok) {
            return;
        }
    }
}

impl Session {
    /// Tries a channel again, if it could not be had for a reason that may pass. Where its key is kept, it begins under
    /// that.
    pub(super) fn try_later(&mut self, key: Option<usize>, asked: Asked, problem: &Problem) {
        if problem.retry_ms.is_some() {
            self.aside.late_or_new().add(key, asked);
        }
    }

    /// Gives up a channel that would be tried again; says whether it would have been.
    pub(super) fn give_up(&mut self, channel: &ChannelName) -> bool {
        let given_up = self.aside.late_mut().and_then(|late| late.take(channel));
        self.aside.free();
        given_up.is_some()
    }

    /// Begins to try again what is due, when nothing else is under way.
    pub(super) fn mind_latecomers(&mut self, cx: &mut Context<'_>) {
        let Some(late) = self.aside.late_mut() else { return };
        let Poll::Ready(asked) = late.poll(self.counted.node(), cx) else {
            return;
        };
        let (node, identity) = (Arc::clone(self.counted.node()), Arc::clone(&self.identity));
        self.work(Stage::Unasked, async move {
            let wanted = ask_again(&node, &identity, asked).await;
            Done::Late(begin(&node, wanted).await)
        });
    }

    /// What became of those that were tried again. One that was given up meanwhile does not begin.
    pub(super) fn begun_late(&mut self, begun: Vec<Begun>) {
        let mut has_failed = false;
        for Begun { asked, outcome } in begun {
            let channel = asked.channel;
            let outcome = outcome.and_then(|started| self.check_denied(Some(&channel)).map(|()| started));
            if outcome.as_ref().is_err_and(|problem| problem.retry_ms.is_some()) {
                // That the engine has not all of them is seen without trying.
                has_failed |= outcome.is_err_and(|problem| problem.code != Code::EngineUnavailable);
                continue;
            }
            let Some(late) = self.aside.late_mut().and_then(|late| late.take(&channel)) else {
                continue;
            };
            match outcome {
                Ok(started) => self.begin_late(late.key, channel, started),
                Err(problem) => self.reply(Push::Unsubscribed {
                    channel,
                    problem: Some(problem),
                    id: None,
                }),
            }
        }
        if let Some(late) = self.aside.late_mut() {
            late.failed = if has_failed { late.failed.saturating_add(1) } else { 0 };
        }
        self.aside.free();
    }

    fn begin_late(&mut self, key: Option<usize>, channel: ChannelName, started: Started) {
        self.counted.note_joined(&started.joined);
        let session = self.registered.shared();
        let key = match key {
            Some(key) => {
                self.subscriptions.put(key, started.subscription, session);
                key
            }
            None => self.subscriptions.admit(started.subscription, session),
        };
        self.enter(started.place, key);
        self.occupy(&channel);
        self.aside.late_or_new().begun.push_back((key, channel, started.joined));
    }

    /// The next one that has begun late, to be told before what it brings.
    pub(super) fn pop_late(&mut self) -> Option<Output> {
        let (key, channel, joined) = self.aside.late_mut()?.begun.pop_front()?;
        self.aside.free();
        Some(Output::Joined { key, channel, joined })
    }
}
