//! What operators decide, on every node: whose sessions end, and who is refused.
//!
//! A [`Removal`] is a publication on a reserved channel, which every node follows from its start (`follow`): so the
//! removals have one order, a node that was away catches up, and one that begins reads all that still count.
//! Who is refused is kept by each node (`denials`), and asked wherever somebody comes in or wants a channel.

mod denials;
mod follow;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::denials::Denials;
use super::identity::Identity;
use super::registry::Names;
use super::{Node, SessionId};
use crate::delivery::{Ack, ChannelName, Draft, EngineError, EngineErrorKind, LogPolicy, Position};
use crate::protocol::{Code, Problem, Removal};

/// The most removals that the log holds: what a node reads when it begins.
const REMOVALS_MAX: u32 = 65_536;

/// Room for what other nodes store meanwhile.
const REMOVALS_MARGIN: u32 = 256;

/// How much of the log is kept: all that may still count.
const LOG: LogPolicy = LogPolicy {
    count_max: REMOVALS_MAX as usize,
    // More than so many can take, each with a user's and a channel's name of 255 bytes.
    bytes_max: 256 * 1024 * 1024,
    // Beyond the longest denial, by more than clocks differ.
    age_ms_max: (Removal::DENY_S_MAX + 60 * 60) * 1000,
    position_ttl_ms: 24 * 60 * 60 * 1000,
};

/// How long somebody who may be refused waits until this node knows whether they are.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long whoever asks for a removal waits until this node has carried it out.
const CARRIED_OUT_TIMEOUT: Duration = Duration::from_secs(2);

/// Removals of which it is remembered how many sessions they met here.
const CARRIED_OUT_MAX: usize = 1024;

/// What this node knows of the removals.
#[derive(Debug)]
pub(super) struct Control {
    denials: RwLock<Denials>,
    /// How many denials there are: most of the time none, and then nobody needs the lock.
    count: AtomicUsize,
    /// The newest removals that were carried out here, and how many sessions each met.
    carried_out: Mutex<VecDeque<(Position, usize)>>,
    progress: watch::Sender<Progress>,
    task: OnceLock<AbortHandle>,
}

/// How far this node has followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// Whether everything is known that was decided before this node began.
    is_whole: bool,
    /// The newest removal that was carried out.
    at: Option<Position>,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Where it stands in the control channel's log: every node carries it out.
    pub position: Position,
    /// How many sessions it met on this node; `None` if it has not been carried out here yet.
    pub sessions: Option<usize>,
}

impl Control {
    pub(super) fn new() -> Self {
        Self {
            denials: RwLock::default(),
            count: AtomicUsize::new(0),
            carried_out: Mutex::default(),
            progress: watch::Sender::default(),
            task: OnceLock::new(),
        }
    }

    /// Whether somebody is refused here and now, as far as this node knows.
    ///
    /// # Errors
    /// `denied`, and for how long.
    pub(super) fn check(
        &self,
        identity: &Identity,
        session: Option<Names>,
        place: (Option<&ChannelName>, u64),
    ) -> Result<(), Problem> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let denials = self.denials.read().unwrap_or_else(PoisonError::into_inner);
        match denials.left_ms(identity, session, place) {
            None => Ok(()),
            Some(left_ms) => Err(denied(left_ms, place.0)),
        }
    }

    /// Returns when this node knows everything that was decided before it began.
    async fn is_whole(&self) -> Result<(), Problem> {
        const RETRY_MS: u64 = 1000;
        if self.progress.borrow().is_whole {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let known = tokio::time::timeout(KNOWN_TIMEOUT, progress.wait_for(|progress| progress.is_whole)).await;
        if matches!(known, Ok(Ok(_))) {
            return Ok(());
        }
        let detail =
            "this node does not know yet whom operators have sent away, for its engine does not answer; try again";
        Err(Problem::new(Code::EngineUnavailable, detail).retry_after_ms(RETRY_MS))
    }

    /// Changes who is refused.
    fn change(&self, change: impl FnOnce(&mut Denials)) -> usize {
        let mut denials = self.denials.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut denials);
        let count = denials.count();
        self.count.store(count, Ordering::SeqCst);
        count
    }

    /// Whether the log has room for one more, so that none that still counts is lost.
    fn check_room(&self, now_ms: u64) -> Result<(), Problem> {
        let Some(top) = self.progress.borrow().at else {
            return Ok(());
        };
        let denials = self.denials.read().unwrap_or_else(PoisonError::into_inner);
        let Some((oldest, until_ms)) = denials.oldest() else {
            return Ok(());
        };
        if top.offset.saturating_sub(oldest) < u64::from(REMOVALS_MAX - REMOVALS_MARGIN) {
            return Ok(());
        }
        let left_ms = until_ms.saturating_sub(now_ms).max(1000);
        let detail = format!(
            "{REMOVALS_MAX} removals are remembered, and the oldest still counts for {} s; take it back, or try again then",
            left_ms / 1000
        );
        Err(Problem::new(Code::Overloaded, detail).retry_after_ms(left_ms))
    }

    fn sessions_met(&self, position: &Position) -> Option<usize> {
        let carried_out = self.carried_out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = carried_out.iter().rev();
        newest.find(|(at, _)| at == position).map(|(_, sessions)| *sessions)
    }

    fn note_carried_out(&self, position: Position, sessions: usize) {
        let mut carried_out = self.carried_out.lock().unwrap_or_else(PoisonError::into_inner);
        if carried_out.len() == CARRIED_OUT_MAX {
            carried_out.pop_front();
        }
        carried_out.push_back((position, sessions));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Node {
    /// Follows what operators decide, from now on and for as long as this node is there. Must be called inside a tokio
    /// runtime, and once.
    pub fn follow_control(self: &Arc<Self>) {
        let following = follow::follow(Arc::downgrade(self), Arc::clone(self.engine()));
        let task = tokio::spawn(following).abort_handle();
        if let Err(second) = self.control.task.set(task) {
            second.abort();
        }
    }

    /// Ends sessions or subscriptions on every node, and refuses them from then on.
    ///
    /// Once it has answered, this node has carried it out unless the answer says otherwise; the others do as soon as
    /// they hear of it.
    ///
    /// # Errors
    /// `draining`, `overloaded`, or what the engine says: an outcome that is unknown is made sure by asking again.
    pub async fn remove(&self, removal: &Removal) -> Result<Removed, Problem> {
        if self.registry().is_draining() {
            return Err(self.draining());
        }
        self.control.is_whole().await?;
        self.control.check_room(self.now_ms())?;
        let position = self.tell(removal).await?;
        let mut progress = self.control.progress.subscribe();
        let is_done = |_: &Progress| self.control.sessions_met(&position).is_some();
        let _late = tokio::time::timeout(CARRIED_OUT_TIMEOUT, progress.wait_for(is_done)).await;
        Ok(Removed {
            position,
            sessions: self.control.sessions_met(&position),
        })
    }

    /// Tells all nodes, this one too.
    async fn tell(&self, removal: &Removal) -> Result<Position, EngineError> {
        let draft = Draft {
            channel: ChannelName::control(),
            data: removal.to_json().into(),
            event: Some(removal.verb().into()),
            sender: None,
            key: None,
            policy: LOG,
            ack: Ack::Stored,
        };
        let stored = self.engine().publish(&[draft]).await;
        let stored = stored.into_iter().next();
        stored
            .unwrap_or_else(|| Err(EngineErrorKind::Unavailable.into()))
            .map(|published| published.position)
    }

    /// Whether an operator has sent away whoever this is, everywhere or from a channel. Waits until this node can know.
    ///
    /// # Errors
    /// `denied`; `engine_unavailable`, if this node cannot know.
    pub(super) async fn check_denied(&self, identity: &Identity, channel: Option<&ChannelName>) -> Result<(), Problem> {
        // Nobody but a user can be sent away who has not come yet.
        if identity.user().is_none() {
            return Ok(());
        }
        self.control.is_whole().await?;
        self.control.check(identity, None, (channel, self.now_ms()))
    }
}

impl Node {
    /// A poll comes under a name. If an operator has sent that away when no poll was there, it is only now known what it
    /// comes with: that is refused from now on, as it is of a session that was met.
    pub(super) fn refuse_behind(self: &Arc<Self>, identity: &Identity, session: SessionId, channels: &[ChannelName]) {
        if self.control.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let now_ms = self.now_ms();
        for channel in std::iter::once(None).chain(channels.iter().map(Some)) {
            let denials = self.control.denials.read().unwrap_or_else(PoisonError::into_inner);
            let left_ms = denials.left_ms_of(session, channel, now_ms);
            drop(denials);
            if let Some(left_ms) = left_ms {
                follow::refuse_behind_poll(self, identity, channel, left_ms);
            }
        }
    }
}

/// What somebody is told who is refused for so long.
fn denied(left_ms: u64, channel: Option<&ChannelName>) -> Problem {
    let seconds = left_ms.div_ceil(1000);
    let detail = match channel {
        None => format!("an operator has sent you away; you are refused for {seconds} s more"),
        Some(channel) => format!("an operator has sent you away from {channel}; you are refused for {seconds} s more"),
    };
    Problem::new(Code::Denied, detail)
}
