//! What keeps the logs: the port that every engine fills, and its contract.

use std::borrow::Cow;
use std::{error, fmt};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Backlog, ChannelName, Draft, Page, Position, Shortfall, Since, Tail};

/// Keeps the logs and carries publications between nodes. Knows no session.
///
/// *Order.* Publications of one channel have one order, that of their offsets, for every reader on every node.
///
/// *Truth.* [`Engine::publish`] answers `Ok` only for what is stored, and what its [`Ack`](super::Ack) asks for has come true.
/// [`Engine::history`] names a gap whenever something between `after` and its first publication is, or may be, gone,
/// and only then.
///
/// *No silent miss.* From the moment at which [`Engine::attach`] returns, a publication reaches the tail, or the tail
/// says that the reader is behind.
///
/// *Patience.* [`Engine::history`] fails for want of an answer only after it has waited for one: a reader that follows
/// asks again at once, for as long as it takes.
///
/// *Epochs.* A channel's log that was forgotten begins its next life in a new epoch.
///
/// *Cancellation.* A dropped `publish` may or may not have stored its drafts, each whole or not at all, and whatever
/// it stored reaches the readers. Dropping the other futures has no effect.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Appends, trims and fans out, as one step per channel. Answers, in order, where each draft landed.
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>>;

    /// What the log holds after a position: at most `limit`, oldest first. A limit of 0 asks for the top alone.
    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>>;

    /// The live tail on this node; dropping the last one of a channel detaches.
    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>>;

    /// Both, for a reader that begins: the live tail, and what the log holds that the tail may not. An engine that
    /// learns where the log ends by attaching need not read it for those who are there already.
    fn join<'a>(
        &'a self,
        channel: &'a ChannelName,
        since: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Tail, Backlog), EngineError>> {
        async move {
            let tail = self.attach(channel).await?;
            let page = self.history(channel, since, limit).await?;
            Ok((tail, page.into()))
        }
        .boxed()
    }
}

/// Whether an engine can do its work. A port of its own: an engine that is always there needs none.
pub trait Health: fmt::Debug + Send + Sync + 'static {
    /// What is missing, if anything.
    ///
    /// # Errors
    /// Why publications and new readers have to wait.
    fn check(&self) -> Result<(), Cow<'static, str>>;

    /// How many there are of those among which the channels are spread.
    fn shards(&self) -> Shards {
        let is_up = self.check().is_ok();
        Shards {
            up: usize::from(is_up),
            down: usize::from(!is_up),
        }
    }
}

/// How many of those among which an engine has spread the channels can do their work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards {
    /// They can.
    pub up: usize,
    /// They cannot: the channels that they keep have to wait.
    pub down: usize,
}

/// Time and chance, which come in from outside so that both can be simulated.
pub trait Outside: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, in Unix milliseconds.
    fn now_ms(&self) -> u64;
    /// 64 unpredictable bits.
    fn random(&self) -> u64;
}

/// Where a draft landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The position of the publication.
    pub position: Position,
    /// Whether it was there already, under the same idempotency key.
    pub duplicate: bool,
    /// Whether as many replicas have it as its [`Ack`](super::Ack) asked for; `false` where none were.
    pub replicated: bool,
}

/// Why an engine did not do what was asked.
#[derive(Debug, Clone)]
pub struct EngineError {
    kind: EngineErrorKind,
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// The engine cannot be reached; nothing was stored.
    Unavailable,
    /// It did not answer in time: what was asked may be done or not.
    Unanswered,
    /// It was stored, but fewer replicas than were asked for had it in time.
    NotReplicated(Shortfall),
    /// It holds as much as it may; nothing was stored.
    Full,
    /// The idempotency key was used for another payload; nothing was stored.
    KeyMismatch,
}

impl EngineError {
    /// What happened.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self.kind, EngineErrorKind::KeyMismatch)
    }
}

impl From<EngineErrorKind> for EngineError {
    fn from(kind: EngineErrorKind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EngineErrorKind::Unavailable => f.write_str("the engine is not available; try again later"),
            EngineErrorKind::Unanswered => f.write_str(
                "the engine did not answer in time, so this may have been done or not; repeat it, a publication with the \
                 same idempotency key",
            ),
            EngineErrorKind::NotReplicated(Shortfall { reached, wanted }) => write!(
                f,
                "this is stored, but {reached} of {wanted} replicas had it in time, and a failover may lose it; repeat it \
                 with the same idempotency key until it is acknowledged"
            ),
            EngineErrorKind::Full => f.write_str("the engine holds as much as it may; try again later"),
            EngineErrorKind::KeyMismatch => f.write_str(
                "this idempotency key was used for another payload on this channel; use a new key for new data",
            ),
        }
    }
}

impl error::Error for EngineError {}
