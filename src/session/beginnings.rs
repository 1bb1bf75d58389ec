//! How subscriptions begin: it is asked whether they may, and then the channels are joined one after the other.

use std::sync::Arc;

use super::Node;
use super::identity::{Action, Identity};
use super::presence::Place;
use crate::delivery::{ChannelName, Joined, Since, Subscription, subscribe};
use crate::protocol::{PresenceAsk, Problem};

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
    let mut asked = Vec::with_capacity(channels.len());
    let (mut is_any_visible, mut invisible) = (false, None);
    for (channel, since) in channels {
        let mut start = node.allow(identity, Action::Subscribe, &channel).await.map(|()| Start {
            since,
            presence: PresenceAsk::Nothing,
        });
        if let (Ok(start), PresenceAsk::Members) = (&mut start, presence) {
            match node.visible(identity, &channel).await {
                Ok(_) => {
                    is_any_visible = true;
                    start.presence = PresenceAsk::Members;
                }
                Err(problem) => drop(invisible.get_or_insert(problem)),
            }
        }
        asked.push((channel, start));
    }
    if let (Some(problem), false) = (invisible, is_any_visible) {
        for start in asked.iter_mut().map(|(_, start)| start).filter(|start| start.is_ok()) {
            *start = Err(problem.clone());
        }
    }
    asked
}

/// If all of several are refused, so is the request: with what the first one met.
///
/// # Errors
/// That.
pub fn check_any(asked: &[Wanted]) -> Result<(), Problem> {
    match asked.first() {
        Some((_, Err(first))) if asked.iter().all(|(_, asked)| asked.is_err()) => Err(first.clone()),
        _ => Ok(()),
    }
}

/// Subscribes to one channel after the other, so that their pushes come in the order of the request.
pub(super) async fn begin(node: &Node, asked: Vec<Wanted>) -> Vec<Begun> {
    let mut begun = Vec::with_capacity(asked.len());
    for (channel, asked) in asked {
        let started = match asked {
            Ok(start) => begin_one(node, &channel, start).await,
            Err(problem) => Err(problem),
        };
        begun.push((channel, started));
    }
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
