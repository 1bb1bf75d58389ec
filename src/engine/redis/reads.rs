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
use crate::delivery::{EngineError, EngineErrorKind, Offset, Page, Position, Since};

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
    /// What stands at its place is another publication, and where it has to go on is not known.
    is_from_start: bool,
    /// Where it goes on if what stands at its place is another publication.
    fork: Option<Position>,
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
    let fork = match since {
        Since::After(given) => channel.fork_of(&given),
        Since::Now | Since::Start | Since::Last(_) => None,
    };
    let ask = Ask {
        since,
        limit,
        is_from_start: false,
        fork,
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
                let left: Vec<_> = asks.into_iter().filter_map(|ask| answer(&part, ask)).collect();
                // Before those who came meanwhile: whoever has waited longest is read to next.
                channel.reads.with(|waiting| drop(waiting.asks.splice(0..0, left)));
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

/// Answers, or gives back whoever another part has to be read for.
fn answer(part: &Part, mut ask: Ask) -> Option<Ask> {
    let page = match (ask.since, ask.fork) {
        // That another publication stands at its place was seen before; where the log begins may not have been.
        (Since::After(given), _) if ask.is_from_start => part.page_after_gap(given, ask.limit),
        (Since::After(given), Some(fork)) if part.contradicts(&given) => part.page_after_fork(given, fork, ask.limit),
        (since, _) => part.page(since, ask.limit),
    };
    let Some(page) = page else {
        // What stands at its place is another publication: then it goes on from the start.
        ask.is_from_start |= matches!(ask.since, Since::After(given) if part.contradicts(&given));
        return Some(ask);
    };
    let _ = ask.answer.send(Ok(page));
    None
}

/// From which offset on it must be read, or how many of the newest. `None`: whatever is read will do.
enum Wanted {
    From(Offset),
    Newest(u64),
}

fn wanted(ask: &Ask) -> Option<Wanted> {
    match ask.since {
        _ if ask.is_from_start => Some(Wanted::From(0)),
        Since::Now => None,
        Since::Start => Some(Wanted::From(0)),
        Since::Last(count) => Some(Wanted::Newest(count)),
        // The publication at the position itself, too: its tag is compared.
        Since::After(position) => Some(Wanted::From(ask.fork.unwrap_or(position).offset)),
    }
}

/// What one reading takes: from an offset on, or so many of the newest, but at most so many.
///
/// Whoever has waited longest is served in any case, so nobody waits for ever, however many come behind; and with them
/// all whose places are near.
fn span(asks: &[Ask]) -> (Offset, Option<u64>, usize) {
    let wanting = || asks.iter().filter_map(|ask| Some((wanted(ask)?, ask.limit)));
    let Some((lead, limit)) = wanting().next() else {
        return (Offset::MAX, None, 0);
    };
    let mut count = asks.iter().map(|ask| ask.limit).max().unwrap_or(0) + 1;
    if asks.len() > 1 {
        count = count.max(SHARED_COUNT_MAX);
    }
    // So much may be read besides what the first one needs.
    let room = u64::try_from(count - limit - 1).unwrap_or(0);
    match lead {
        Wanted::From(from) => {
            let least = from.saturating_sub(room);
            let near = wanting().filter_map(|(wanted, _)| match wanted {
                Wanted::From(from) if from >= least => Some(from),
                Wanted::From(_) | Wanted::Newest(_) => None,
            });
            (near.min().unwrap_or(from), None, count)
        }
        Wanted::Newest(newest) => {
            let most = newest.saturating_add(room);
            let near = wanting().filter_map(|(wanted, _)| match wanted {
                Wanted::Newest(newest) if newest <= most => Some(newest),
                Wanted::From(_) | Wanted::Newest(_) => None,
            });
            (Offset::MAX, Some(near.max().unwrap_or(newest)), count)
        }
    }
}

async fn read_part(shared: &Shared, channel: &Channel, asks: &[Ask]) -> Result<Part, EngineError> {
    let (from, newest, count) = span(asks);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(all: &[&str]) -> Vec<Ask> {
        let ask = |since: &&str| Ask {
            since: since.parse().unwrap(),
            limit: 64,
            is_from_start: false,
            fork: None,
            answer: oneshot::channel().0,
        };
        all.iter().map(ask).collect()
    }

    #[test]
    fn whoever_has_waited_longest_is_read_to_and_all_who_are_near() {
        for (given, expected) in [
            (&["now", "now"][..], (u64::MAX, None, 0)),
            (&["e-500"], (500, None, 65)),
            // Those that read from the start do not keep away one that came before them.
            (&["e-500", "start", "start"], (500, None, 256)),
            (&["now", "start", "e-500"], (0, None, 256)),
            // All that can be read with it is.
            (&["e-500", "e-400", "e-309", "e-308", "e-900"], (309, None, 256)),
            (
                &["last:10", "start", "last:201", "last:202"],
                (u64::MAX, Some(201), 256),
            ),
            (&["start", "last:10"], (0, None, 256)),
        ] {
            assert_eq!(span(&asks(given)), expected, "{given:?}");
        }
    }
}
