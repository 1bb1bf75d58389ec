//! A subscription: join, catch up, follow, end. Subscribing and resuming are one function.
//!
//! (1) Attach to the tail. (2) Read the log after the cursor. (3) Yield what was read, then follow the tail.
//! Whenever the tail does not continue right after the cursor, go back to (2).
//! Only a (2) that comes back incomplete is a gap.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::future::BoxFuture;

use super::{Backlog, ChannelName, Engine, EngineError, Gap, Page, Position, Publication, Since, Tail};

/// How many publications a reader that catches up takes from the log at a time.
const PAGE_COUNT_MAX: usize = 64;

/// How a subscription began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// No position was given.
    Fresh,
    /// Everything after the given position follows.
    Complete,
    /// Something after the given position is lost; the first delivery says what.
    Gap,
}

/// Where a subscription begins, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The next publication is the one after this; the given position, where one was given.
    pub position: Position,
    /// What became of the given position.
    pub resume: Resume,
}

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The publication right after the last one, or after the last gap.
    Publication(Arc<Publication>),
    /// What is lost to this reader.
    Gap(Gap),
    /// The subscription is over; nothing follows.
    Ended(EndReason),
}

/// Why a subscription ended by itself.
#[derive(Debug, Clone)]
pub enum EndReason {
    /// The engine could not say what comes next.
    Engine(EngineError),
}

/// Subscribes to `channel` from `since` on.
///
/// Cancel safe: dropping the future leaves nothing behind.
///
/// # Errors
/// What the engine says.
pub async fn subscribe(
    engine: Arc<dyn Engine>,
    channel: ChannelName,
    since: Since,
) -> Result<(Joined, Subscription), EngineError> {
    #[cfg(feature = "seeded-faults")]
    let since = super::faults::alter_since(since);
    let (tail, backlog) = engine.join(&channel, since, PAGE_COUNT_MAX).await?;
    let joined = match (since, backlog.gap) {
        (Since::After(position), None) => Joined {
            position,
            resume: Resume::Complete,
        },
        (Since::After(position), Some(_)) => Joined {
            position,
            resume: Resume::Gap,
        },
        _ => Joined {
            position: backlog.after,
            resume: Resume::Fresh,
        },
    };
    let subscription = Subscription {
        engine,
        channel,
        tail,
        cursor: joined.position,
        stage: Stage::CatchUp(Box::new(backlog.into())),
        #[cfg(feature = "seeded-faults")]
        held: None,
    };
    Ok((joined, subscription))
}

/// One reader's cursor over one channel. Cancel safe: the cursor moves with what is yielded, and with nothing else.
pub struct Subscription {
    engine: Arc<dyn Engine>,
    channel: ChannelName,
    tail: Tail,
    cursor: Position,
    stage: Stage,
    #[cfg(feature = "seeded-faults")]
    held: Option<Delivery>,
}

enum Stage {
    /// Riding the tail.
    Follow,
    /// The log is being asked what follows the cursor.
    Read(BoxFuture<'static, Result<Page, EngineError>>),
    /// The log has answered.
    CatchUp(Box<Left>),
    Ended,
}

/// What is left of a backlog.
struct Left {
    gap: Option<Gap>,
    publications: std::vec::IntoIter<Arc<Publication>>,
}

impl From<Backlog> for Left {
    fn from(backlog: Backlog) -> Self {
        Left {
            gap: backlog.gap,
            publications: backlog.publications.into_iter(),
        }
    }
}

impl Subscription {
    /// Everything up to here was yielded, or said to be lost.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// The channel that is read.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    fn read_log(&self) -> Stage {
        let (engine, channel, since) = (
            Arc::clone(&self.engine),
            self.channel.clone(),
            Since::After(self.cursor),
        );
        Stage::Read(Box::pin(async move {
            engine.history(&channel, since, PAGE_COUNT_MAX).await
        }))
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            match &mut self.stage {
                Stage::Follow => match ready!(self.tail.poll_next(&self.cursor, cx)) {
                    Ok(publication) => return Poll::Ready(Some(self.advance(publication))),
                    Err(_behind) => self.stage = self.read_log(),
                },
                Stage::Read(page) => match ready!(page.as_mut().poll(cx)) {
                    Ok(page) => self.stage = Stage::CatchUp(Box::new(Backlog::from(page).into())),
                    Err(error) if error.is_retryable() => {
                        // The engine has waited before it gave up. The reader keeps its place and waits on; others get
                        // their turn first.
                        self.stage = self.read_log();
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Err(error) => {
                        self.stage = Stage::Ended;
                        return Poll::Ready(Some(Delivery::Ended(EndReason::Engine(error))));
                    }
                },
                Stage::CatchUp(left) => {
                    if let Some(gap) = left.gap.take() {
                        self.cursor = gap.to;
                        return Poll::Ready(Some(Delivery::Gap(gap)));
                    }
                    match left.publications.next() {
                        Some(publication) => return Poll::Ready(Some(self.advance(publication))),
                        None => self.stage = Stage::Follow,
                    }
                }
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }

    fn advance(&mut self, publication: Arc<Publication>) -> Delivery {
        debug_assert!(
            self.cursor.precedes(&publication.position),
            "{:?} → {:?}",
            self.cursor,
            publication.position
        );
        self.cursor = publication.position;
        Delivery::Publication(publication)
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        #[cfg(feature = "seeded-faults")]
        {
            let mut held = self.held.take();
            let polled = super::faults::alter(&mut held, || self.poll_delivery(cx));
            self.held = held;
            polled
        }
        #[cfg(not(feature = "seeded-faults"))]
        self.poll_delivery(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
