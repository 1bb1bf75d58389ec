//! Who is on a channel: its members, what becomes of them, and how nodes tell each other of their sessions.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{ChannelName, EngineError, Heirs};

/// Whose a session is: a user, and what the app says of them, as JSON. It is kept in many places, and takes eight bytes
/// in each; what stands behind them is shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Who(Arc<Person>);

#[derive(PartialEq, Eq)]
struct Person {
    user: Box<str>,
    info: Option<Box<str>>,
}

impl Who {
    /// A user, and what the app says of them.
    pub fn new(user: &str, info: Option<&str>) -> Self {
        Self(Arc::new(Person {
            user: user.into(),
            info: info.map(Box::from),
        }))
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// What the app says of the user, as JSON.
    pub fn info(&self) -> Option<&str> {
        self.0.info.as_deref()
    }
}

/// A user on a channel, with all of their sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub who: Who,
    /// How many sessions of theirs are on the channel.
    pub sessions: u32,
}

/// A session as presence knows it: the same on every node. Aligned as its neighbours are, for there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct SessionKey(pub u128);

/// A session on a channel, and whose it is: `None` is nobody in particular.
pub type Present = (SessionKey, Option<Who>);

/// What a node says about its own sessions on one channel.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The sessions that came.
    pub came: Vec<Present>,
    /// The sessions that went.
    pub went: Vec<SessionKey>,
    /// Which report of this node on this channel it follows; `None` says that `came` are all that there are.
    pub after: Option<u64>,
    /// The number of this report, greater than those of this node before it.
    pub number: u64,
}

/// What became of a report.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    /// Whether the others can know it; if not, the report before it is not known any more, and all sessions have to be
    /// reported.
    pub is_taken: bool,
    /// What changed by it, over all nodes; and what changed because the lease of a node ended.
    pub events: Vec<PresenceEvent>,
}

/// The sessions of other nodes on one channel.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// The sessions, in no order.
    pub sessions: Vec<Present>,
    /// After how many milliseconds the first lease of a node among them ends, unless it is renewed.
    pub lease_ms: Option<u64>,
}

/// How nodes tell each other who is on a channel. A node that is alone needs none.
///
/// *Lease.* What a node reported holds for as long as its lease, which every report renews, an empty one too. A node
/// that reports nothing for that long has no sessions any more, whatever became of it.
///
/// *Order.* A node sends the reports on one channel one after the other; one whose predecessor is not known has no
/// effect, and its answer says so.
///
/// *One key, one session.* A session that is reported by two nodes is one; it stays for as long as the one that
/// reported it last says so.
///
/// *Events.* Of all nodes at most one is told of each event, in the answer to the report that brought it about: none, if
/// that answer is lost.
///
/// *Cancellation.* A dropped report may or may not have taken effect, like one that failed: the next one says all.
pub trait Presence: fmt::Debug + Send + Sync + 'static {
    /// Reports the sessions of this node.
    fn report<'a>(
        &'a self,
        channel: &'a ChannelName,
        report: &'a Report,
    ) -> BoxFuture<'a, Result<Reported, EngineError>>;

    /// The sessions of the other nodes.
    fn others<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Others, EngineError>>;

    /// How the sessions of a node that crashed are ended where no other node is on the channel; `None`: they are not, and
    /// nobody is told of them before somebody is.
    fn heirs(&self) -> Option<&dyn Heirs> {
        None
    }
}

/// A change to who is on a channel, over all nodes; what comes back within the debounce has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceEvent {
    /// The first session came.
    Occupied,
    /// The last session went.
    Vacated,
    /// A user came: their first session.
    Joined(Member),
    /// A user went: their last session.
    Left(Member),
}

/// Who wants to know of every change.
pub trait PresenceEvents: fmt::Debug + Send + Sync + 'static {
    /// Takes note of a change, of each channel in its order. Must not wait.
    fn note(&self, channel: &ChannelName, event: PresenceEvent);
}

/// Not the user: logs are read by many.
impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Who").finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}
