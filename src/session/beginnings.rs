//! How subscriptions begin: it is asked whether they may, and then the channels are joined, a few at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::identity::{Action, Identity};
use super::presence::Place;
use super::{Closed, Done, Node, Session, Stage};
use crate::delivery::{ChannelName, EngineError, EngineErrorKind, Joined, Since, Subscription, subscribe};
use crate::protocol::{CommandId, PresenceAsk, Problem, Push};

/// Channels of one request that begin at once.
const BEGUN_AT_ONCE_MAX: usize = 16;

/// For how long a request waits for any of its channels to begin, after one was given up.
const PATIENCE: Duration = Duration::from_millis(1_700);

/// A channel, and how its subscription began.
pub type JoinResult = (ChannelName, Result<Joined, Problem>);

/// What is asked for of a channel.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) channel: ChannelName,
    pub(super) since: Since,
    /// Whether to tell who is on it.
    pub(super) presence: PresenceAsk,
}

/// How a subscription began, or why not.
pub(super) struct Begun {
    pub(super) asked: Asked,
    pub(super) outcome: Result<Started, Problem>,
}

/// A subscription that has begun, and its channel's place where there is presence.
pub(super) struct Started {
    pub(super) joined: Joined,
    pub(super) subscription: Subscription,
    pub(super) place: Option<Place>,
}

/// What is asked for of a channel, and whether it may begin: then, whether it is told who is on it.
#[derive(Debug)]
pub struct Wanted {
    asked: Asked,
    allowed: Result<PresenceAsk, Problem>,
}

/// Asks of each channel whether this one may subscribe to it, and be told who is on it if it asks for that. Presence
/// that can be had on some channels is left out on others; if it can be had on none, none begins.
pub async fn ask(
    node: &Node,
    identity: &Identity,
    channels: Vec<(ChannelName, Since)>,
    presence: PresenceAsk,
) -> Vec<Wanted> {
    let asked = channels.into_iter().map(|(channel, since)| Asked {
        channel,
        since,
        presence,
    });
    let answered = ask_each(node, identity, asked.collect()).await;
    let is_any_visible = answered.iter().any(|answered| matches!(answered.visible, Some(Ok(()))));
    let unseen = if is_any_visible {
        Unseen::LeftOut
    } else {
        Unseen::Refused
    };
    let wanted = answered.into_iter().map(|answered| answered.wanted(unseen));
    wanted.collect()
}

/// The same for some of what was asked for before: what of presence cannot be had is left out.
pub(super) async fn ask_again(node: &Node, identity: &Identity, asked: Vec<Asked>) -> Vec<Wanted> {
    let answered = ask_each(node, identity, asked).await;
    answered
        .into_iter()
        .map(|answered| answered.wanted(Unseen::LeftOut))
        .collect()
}

/// What was answered about a channel: whether it may be subscribed to and, if that is asked for, whether it may be told
/// who is on it.
struct Answered {
    asked: Asked,
    allowed: Result<(), Problem>,
    visible: Option<Result<(), Problem>>,
}

/// What becomes of presence that cannot be had on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unseen {
    /// It can be had on another.
    LeftOut,
    Refused,
}

impl Answered {
    fn wanted(self, unseen: Unseen) -> Wanted {
        let allowed = match (self.allowed, self.visible) {
            (Err(problem), _) => Err(problem),
            (Ok(()), Some(Err(problem))) if unseen == Unseen::Refused => Err(problem),
            (Ok(()), Some(Ok(()))) => Ok(PresenceAsk::Members),
            (Ok(()), _) => Ok(PresenceAsk::Nothing),
        };
        Wanted {
            asked: self.asked,
            allowed,
        }
    }
}

async fn ask_each(node: &Node, identity: &Identity, asked: Vec<Asked>) -> Vec<Answered> {
    // All at once, for the app may be asked about each.
    let asking = asked.into_iter().map(|asked| async move {
        let allowed = node.allow(identity, Action::Subscribe, &asked.channel).await;
        let visible = match asked.presence {
            PresenceAsk::Members if allowed.is_ok() => Some(node.visible(identity, &asked.channel).await.map(drop)),
            PresenceAsk::Members | PresenceAsk::Nothing => None,
        };
        Answered {
            asked,
            allowed,
            visible,
        }
    });
    join_all(asking).await
}

/// If all of several are refused, so is the request: with what the first one met, or the first one that may be tried
/// again.
///
/// # Errors
/// That.
pub fn check_any(wanted: &[Wanted]) -> Result<(), Problem> {
    check_any_of(wanted.iter().map(|wanted| wanted.allowed.as_ref().err()))
}

fn check_any_begun(begun: &[Begun]) -> Result<(), Problem> {
    check_any_of(begun.iter().map(|begun| begun.outcome.as_ref().err()))
}

fn check_any_of<'a>(refused: impl Iterator<Item = Option<&'a Problem>>) -> Result<(), Problem> {
    let mut told: Option<&Problem> = None;
    for refused in refused {
        let Some(problem) = refused else { return Ok(()) };
        if told.is_none_or(|told| told.retry_ms.is_none() && problem.retry_ms.is_some()) {
            told = Some(problem);
        }
    }
    told.map_or(Ok(()), |problem| Err(problem.clone()))
}

/// Subscribes to a few channels at once; each has its place, so that their pushes come in the order of the request.
///
/// The engine says how long one is waited for. Once it has given one up, the others are waited for together: they are
/// given up when none has begun for a while.
pub(super) async fn begin(node: &Node, wanted: Vec<Wanted>) -> Vec<Begun> {
    // Those whom the engine refuses are as many as follow the channel.
    let refused = |problem| node.spread(problem);
    let all: Vec<_> = wanted.iter().map(|wanted| wanted.asked.clone()).collect();
    let beginning = wanted.into_iter().map(|Wanted { asked, allowed }| async move {
        let outcome = match allowed {
            Ok(presence) => begin_one(node, &asked, presence).await.map_err(refused),
            Err(problem) => Err(problem),
        };
        Begun { asked, outcome }
    });
    let mut beginning = stream::iter(beginning).buffered(BEGUN_AT_ONCE_MAX);
    let mut begun = Vec::with_capacity(all.len());
    let (mut moved_at, mut has_failed) = (Instant::now(), false);
    loop {
        let next = beginning.next();
        let next = if has_failed {
            timeout_at(moved_at + PATIENCE, next).await.unwrap_or(None)
        } else {
            next.await
        };
        let Some(next) = next else { break };
        match next.outcome {
            Ok(_) => moved_at = Instant::now(),
            Err(_) => has_failed = true,
        }
        begun.push(next);
    }
    let given_up = all.into_iter().skip(begun.len());
    let unavailable = || EngineError::from(EngineErrorKind::Unavailable).into();
    begun.extend(given_up.map(|asked| Begun {
        asked,
        outcome: Err(refused(unavailable())),
    }));
    begun
}

async fn begin_one(node: &Node, asked: &Asked, presence: PresenceAsk) -> Result<Started, Problem> {
    let channel = &asked.channel;
    let (joined, subscription) = subscribe(Arc::clone(node.engine()), channel.clone(), asked.since).await?;
    let place = match node.presences_on(channel) {
        Some(presences) => Some(presences.place(channel, presence).await?),
        None => None,
    };
    Ok(Started {
        joined,
        subscription,
        place,
    })
}

impl Session {
    /// Begins subscriptions, each of which is answered by `subscribed` or `unsubscribed`.
    pub(super) fn begin(&mut self, channels: Vec<(ChannelName, Since)>, presence: PresenceAsk, id: Option<CommandId>) {
        let (node, identity) = (Arc::clone(self.node()), Arc::clone(&self.identity));
        self.work(Stage::Asked(id.clone()), async move {
            let wanted = ask(&node, &identity, channels, presence).await;
            let begun = begin(&node, wanted).await;
            Done::Begun { begun, id }
        });
    }

    /// Begins subscriptions after it was [asked](ask) whether they may begin.
    pub fn begin_asked(&mut self, wanted: Vec<Wanted>) {
        let node = Arc::clone(self.node());
        self.work(Stage::Unasked, async move {
            let begun = begin(&node, wanted).await;
            Done::Begun { begun, id: None }
        });
    }

    /// Subscribes a session that has no subscriptions yet, and says how each began; their keys are their places. What is
    /// refused for a reason that may pass is tried again.
    ///
    /// # Errors
    /// If all are refused, so is the request, as [`check_any`] says; `denied`, `token_expired` or `token_invalid`, if its
    /// client would not be let in any more when that is known.
    pub async fn join(
        &mut self,
        channels: Vec<(ChannelName, Since)>,
        presence: PresenceAsk,
    ) -> Result<Vec<JoinResult>, Problem> {
        let wanted = ask(self.node(), &self.identity, channels, presence).await;
        let begun = begin(self.node(), wanted).await;
        let refused = check_any_begun(&begun)
            .and_then(|()| self.check_denied(None))
            .and_then(|()| self.node().check_standing(&self.identity));
        refused.inspect_err(|problem| self.note_closed(Closed::Code(problem.code)))?;
        let admit = |(nth, Begun { asked, outcome }): (usize, Begun)| {
            let channel = asked.channel.clone();
            // An operator may have come meanwhile, who did not see this subscription.
            let outcome = outcome.and_then(|started| self.check_denied(Some(&channel)).map(|()| started));
            let (joined, subscription) = match outcome {
                Ok(started) => {
                    self.counted.note_joined(&started.joined);
                    self.enter(started.place, nth);
                    (Ok(started.joined), Some(started.subscription))
                }
                Err(problem) => {
                    self.try_later(Some(nth), asked, &problem);
                    (Err(problem), None)
                }
            };
            self.subscriptions.append(subscription, self.registered.shared());
            self.occupy(&channel);
            (channel, joined)
        };
        Ok(begun.into_iter().enumerate().map(admit).collect())
    }

    /// Takes what has begun, and answers how. What was asked for by a command that has an `id` is its client's to repeat;
    /// everything else is tried again.
    pub(super) fn begun(&mut self, begun: Vec<Begun>, id: Option<&CommandId>) {
        for Begun { asked, outcome } in begun {
            let channel = asked.channel.clone();
            // An operator may have come meanwhile, who did not see this subscription.
            let outcome = outcome.and_then(|started| self.check_denied(Some(&channel)).map(|()| started));
            let push = match outcome {
                Ok(Started {
                    joined,
                    subscription,
                    place,
                }) => {
                    self.counted.note_joined(&joined);
                    self.subscriptions.admit(subscription, self.registered.shared());
                    self.enter(place, 0);
                    self.occupy(&channel);
                    let id = id.cloned();
                    Push::Subscribed { channel, joined, id }
                }
                Err(problem) if id.is_some() => Push::Error {
                    problem,
                    id: id.cloned(),
                },
                Err(problem) => {
                    self.try_later(None, asked, &problem);
                    Push::Unsubscribed {
                        channel,
                        problem: Some(problem),
                        id: None,
                    }
                }
            };
            self.reply(push);
        }
    }
}
