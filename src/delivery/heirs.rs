//! What becomes of the sessions of a node that crashed: another one ends them, wherever they were.

use std::fmt;

use futures_util::future::BoxFuture;

use super::{ChannelName, EngineError, PresenceEvent};

/// On which channels a node has sessions, as that has changed.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Those on which it has some from now on.
    pub came: Vec<ChannelName>,
    /// Those on which it has none any more.
    pub went: Vec<ChannelName>,
}

/// What is known of all nodes.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether what this node said before is still known; if not, all channels on which it has sessions have to be said.
    pub is_known: bool,
    /// Nodes whose leases ended and that had sessions somewhere; not more than a few of them.
    pub ended: Vec<String>,
}

/// What is taken over of a node whose lease ended.
#[derive(Debug, Clone, Default)]
pub struct Claim {
    /// The node.
    pub node: String,
    /// Channels that were taken over and are settled.
    pub settled: Vec<ChannelName>,
    /// The most channels to be taken over.
    pub count_max: usize,
}

/// What became of a channel on which leases may have ended.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// What changed because they ended.
    pub events: Vec<PresenceEvent>,
    /// After how many milliseconds the next lease on it ends, unless it is renewed.
    pub lease_ms: Option<u64>,
}

/// How nodes know where each other's sessions are, beside who is there.
///
/// *Before.* A node says that it has sessions on a channel before it reports the first, and that it has none after it has
/// reported that: so whatever it has reported can be found, whenever it crashes.
///
/// *Lease.* What it said holds for as long as its lease, which everything that it says renews. It is kept for much longer,
/// for it may take long until there is another node.
///
/// *Claims.* A channel that one node has taken over is left to it for a while, and comes to another one if it is not
/// settled by then. A node that comes back to life takes its channels back.
///
/// *Events.* Of all nodes at most one is told of each event, as by [`Presence::report`](super::Presence::report).
pub trait Heirs: fmt::Debug + Send + Sync + 'static {
    /// Says where this node has sessions, if anything of that has changed, and that it lives.
    fn say<'a>(&'a self, places: &'a Places) -> BoxFuture<'a, Result<Known, EngineError>>;

    /// Takes over channels of a node whose lease ended, and gives back those that are settled.
    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<ChannelName>, EngineError>>;

    /// Ends the sessions on a channel whose leases ended.
    fn settle<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Settled, EngineError>>;
}
