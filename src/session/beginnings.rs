//! How subscriptions begin: it is asked whether they may, and then the channels are joined, a few at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::Node;
use super::identity::{Action, Identity};
use super::presence::Place;
use crate::delivery::{ChannelName, EngineError, EngineErrorKind, Joined, Since, Subscription, subscribe};
use crate::protocol::{PresenceAsk, Problem};

/// Channels of one request that begin at once.
const BEGUN_AT_ONCE_MAX: usize = 16;

/// For how long a request waits for any of its channels to begin, after one was given up.
const PATIENCE: Duration = Duration::from_millis(1_700);

/// A channel, and how its subscription began.
pub type JoinResult = (ChannelName, Result<Joined, Problem>);

pub(super) type Begun = (ChannelName, Result<Started, Problem>);

/// A subscription that has begun, and its channel's place where there is presence.
pub(super) struct Started {
    pub(super) joined: Joined,
    pub(super) subscription: Subscription,
    pub(super) place: Option<Place>,
}

/// A channel, and how to begin on it or why not to.
pub type Wanted = (ChannelName, Result<Start, Problem>);

/// How to begin on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    since: Since,
    /// Whether to tell who is on it.
    presence: PresenceAsk,
}

/// Asks of each channel whether this one may subscribe to it, and be told who is on it if it asks for that. Presence
/// that can be had on some channels is left out on others; if it can be had on none, none begins.
pub async fn ask(
    node: &Node,
    identity: &Identity,
    channels: Vec<(ChannelName, Since)>,
    presence: PresenceAsk,
) -> Vec<Wanted> {
    // All at once, for the app may be asked about each.
    let asking = channels.into_iter().map(|(channel, since)| async move {
        let allowed = node.allow(identity, Action::Subscribe, &channel).await;
        let visible = match presence {
            PresenceAsk::Members if allowed.is_ok() => Some(node.visible(identity, &channel).await.map(drop)),
            PresenceAsk::Members | PresenceAsk::Nothing => None,
        };
        (channel, allowed.map(|()| since), visible)
    });
    let asked = join_all(asking).await;
    let is_any_visible = asked.iter().any(|(_, _, visible)| matches!(visible, Some(Ok(()))));
    let wanted = asked.into_iter().map(|(channel, since, visible)| {
        let start = match (since, visible) {
            (Err(problem), _) => Err(problem),
            (Ok(_), Some(Err(problem))) if !is_any_visible => Err(problem),
            (Ok(since), visible) => {
                let is_visible = matches!(visible, Some(Ok(())));
                let presence = if is_visible { presence } else { PresenceAsk::Nothing };
                Ok(Start { since, presence })
            }
        };
        (channel, start)
    });
    wanted.collect()
}

/// If all of several are refused, so is the request: with what the first one met, or the first one that may be tried
/// again.
///
/// # Errors
/// That.
pub fn check_any<T>(asked: &[(ChannelName, Result<T, Problem>)]) -> Result<(), Problem> {
    let mut told: Option<&Problem> = None;
    for (_, asked) in asked {
        let Err(problem) = asked else { return Ok(()) };
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
pub(super) async fn begin(node: &Node, asked: Vec<Wanted>) -> Vec<Begun> {
    let names: Vec<_> = asked.iter().map(|(channel, _)| channel.clone()).collect();
    let beginning = asked.into_iter().map(|(channel, asked)| async move {
        let started = match asked {
            Ok(start) => begin_one(node, &channel, start).await,
            Err(problem) => Err(problem),
        };
        (channel, started)
    });
    let mut beginning = stream::iter(beginning).buffered(BEGUN_AT_ONCE_MAX);
    let mut begun = Vec::with_capacity(names.len());
    let (mut moved_at, mut has_failed) = (Instant::now(), false);
    loop {
        let next = beginning.next();
        let next = if has_failed {
            timeout_at(moved_at + PATIENCE, next).await.unwrap_or(None)
        } else {
            next.await
        };
        let Some((channel, started)) = next else { break };
        match started {
            Ok(_) => moved_at = Instant::now(),
            Err(_) => has_failed = true,
        }
        begun.push((channel, started));
    }
    let given_up = names.into_iter().skip(begun.len());
    let unavailable = || EngineError::from(EngineErrorKind::Unavailable).into();
    begun.extend(given_up.map(|channel| (channel, Err(unavailable()))));
    begun
}

async fn begin_one(node: &Node, channel: &ChannelName, start: Start) -> Result<Started, Problem> {
    let (joined, subscription) = subscribe(Arc::clone(node.engine()), channel.clone(), start.since).await?;
    let place = match node.presences_on(channel) {
        Some(presences) => Some(presences.place(channel, start.presence).await?),
        None => None,
    };
    Ok(Started {
        joined,
        subscription,
        place,
    })
}
