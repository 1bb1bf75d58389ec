//! Reading a log: whoever asks while a reading is on its way waits for the next one, which serves them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Shared;
use super::ask::ask;
use super::channel::Channel;
use super::link::ANSWER_TIMEOUT;
use super::part::Part;
use crate::delivery::{EngineError, EngineErrorKind, Offset, Page, Since};

/// Readings of one channel: so many at once, and from then on one after each pause.
const BURST_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The entries that a reading takes which serves more than one.
const SHARED_COUNT_MAX: usize = 256;

/// Who waits to be read to, of one channel.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    asks: Vec<Ask>,
    is_served: bool,
    /// When the readings so far are paid for.
    paid_at: Option<Instant>,
}

#[derive(Debug)]
struct Ask {
    since: Since,
    limit: usize,
    /// It did not say enough to read from the middle.
    is_from_start: bool,
    answer: oneshot::Sender<Result<Page, EngineError>>,
}

impl Reads {
    fn with<R>(&self, action: impl FnOnce(&mut Waiting) -> R) -> R {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those to be served next, and how long to wait before. Nobody: the serving ends.
    fn take(&self) -> Option<(Vec<Ask>, Instant)> {
        self.with(|waiting| {
            waiting.asks.retain(|ask| !ask.answer.is_closed());
            waiting.is_served = !waiting.asks.is_empty();
            if !waiting.is_served {
                return None;
            }
            let now = Instant::now();
            let paid_at = waiting.paid_at.map_or(now, |paid_at| paid_at.max(now)) + PAUSE;
            waiting.paid_at = Some(paid_at);
            let asks = std::mem::take(&mut waiting.asks);
            Some((asks, paid_at.checked_sub(PAUSE * BURST_MAX).unwrap_or(now)))
        })
    }
}

/// Reads one page, from a reading that begins after this was called.
pub(super) async fn read(
    shared: &Arc<Shared>,
    channel: &Arc<Channel>,
    since: Since,
    limit: usize,
) -> Result<Page, EngineError> {
    let (answer, answered) = oneshot::channel();
    let ask = Ask {
        since,
        limit,
        is_from_start: false,
        answer,
    };
    let is_served = channel.reads.with(|waiting| {
        waiting.asks.push(ask);
        std::mem::replace(&mut waiting.is_served, true)
    });
    if !is_served {
        tokio::spawn(serve(Arc::clone(shared), Arc::clone(channel)));
    }
    answered
        .await
        .unwrap_or_else(|_| Err(EngineErrorKind::Unavailable.into()))
}

async fn serve(shared: Arc<Shared>, channel: Arc<Channel>) {
    while let Some((asks, not_before)) = channel.reads.take() {
        tokio::time::sleep_until(not_before).await;
        match read_part(&shared, &channel, &asks).await {
            Ok(part) => {
                channel.note_handed(part.top());
                for ask in asks {
                    answer(&channel, &part, ask);
                }
            }
            Err(error) => {
                for ask in asks {
                    // Who does not wait any more does not mind.
                    let _ = ask.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Answers, or sees to it that the next reading can.
fn answer(channel: &Channel, part: &Part, mut ask: Ask) {
    if let Some(page) = part.page(ask.since, ask.limit) {
        let _ = ask.answer.send(Ok(page));
    } else {
        // What stands at its place is another publication: then it goes on from the start.
        ask.is_from_start = matches!(ask.since, Since::After(given) if part.contradicts(&given));
        channel.reads.with(|waiting| waiting.asks.push(ask));
    }
}

/// From which offset on it must be read, and how many of the newest at least.
fn wanted(ask: &Ask) -> (Offset, Option<u64>) {
    match ask.since {
        _ if ask.is_from_start => (0, None),
        Since::Now => (Offset::MAX, None),
        Since::Start => (0, None),
        Since::Last(count) => (Offset::MAX, Some(count)),
        // The publication at the position itself, too: its tag is compared.
        Since::After(position) => (position.offset, None),
    }
}

async fn read_part(shared: &Shared, channel: &Channel, asks: &[Ask]) -> Result<Part, EngineError> {
    let from = asks.iter().map(|ask| wanted(ask).0).min().unwrap_or(Offset::MAX);
    let newest = asks.iter().filter_map(|ask| wanted(ask).1).max();
    let mut count = 0;
    if from < Offset::MAX || newest.is_some() {
        count = asks.iter().map(|ask| ask.limit).max().unwrap_or(0) + 1;
        if asks.len() > 1 {
            count = count.max(SHARED_COUNT_MAX);
        }
    }
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let call = shared
        .scripts
        .read(&channel.keys, shared.epoch(), (from, newest, count));
    let permit = tokio::time::timeout_at(deadline, shared.reading_permits.acquire()).await;
    let _permit = permit.map_err(|_| EngineErrorKind::Unavailable)?;
    let answer = ask(shared, (&channel.name, |home| &home.reading), &call, deadline).await?;
    Part::read(&channel.name, answer, count).ok_or_else(|| {
        tracing::error!(channel = %channel.name, "what Redis holds of a log cannot be read; are its keys used by others?");
        EngineErrorKind::Unavailable.into()
    })
}
