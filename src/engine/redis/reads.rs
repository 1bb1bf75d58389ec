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
use crate::delivery::{ChannelName, EngineError, EngineErrorKind, Offset, Page, Position, Since};

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
    /// That another publication stands at its place was seen: it is not looked at again, for that may change.
    is_lost: bool,
    /// Where it goes on then, if that is known; else from the log's start.
    fork: Option<Position>,
    /// It was read for, and what was read did not reach it: the next reading begins at its place.
    is_alone: bool,
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
        is_lost: false,
        fork,
        is_alone: false,
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
                let left = answer_all(&channel.name, &part, asks);
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

/// Answers whom it can; gives back those for whom another part has to be read.
fn answer_all(channel: &ChannelName, part: &Part, asks: Vec<Ask>) -> Vec<Ask> {
    let lead = asks.iter().position(|ask| wanted(ask).is_some());
    let left = asks.into_iter().enumerate().filter_map(|(nth, ask)| {
        let ask = answer(part, ask)?;
        if Some(nth) == lead {
            insist(channel, ask)
        } else {
            Some(ask)
        }
    });
    left.collect()
}

/// Answers, or gives back whoever another part has to be read for.
fn answer(part: &Part, mut ask: Ask) -> Option<Ask> {
    if let Since::After(given) = ask.since {
        if !ask.is_lost && part.contradicts(&given) {
            (ask.is_lost, ask.is_alone) = (true, false);
        }
        if ask.is_lost && ask.fork.is_some_and(|fork| part.contradicts(&fork)) {
            (ask.fork, ask.is_alone) = (None, false);
        }
    }
    let page = match (ask.since, ask.fork) {
        (Since::After(given), Some(fork)) if ask.is_lost => part.page_after_fork(given, fork, ask.limit),
        (Since::After(given), None) if ask.is_lost => part.page_after_gap(given, ask.limit),
        (since, _) => part.page(since, ask.limit),
    };
    let Some(page) = page else { return Some(ask) };
    // Who does not wait any more does not mind.
    let _ = ask.answer.send(Ok(page));
    None
}

/// It was read for whoever has waited longest, and did not reach them: then the next reading begins where they are. If
/// that was so already, none will do, and they are told so.
fn insist(channel: &ChannelName, mut ask: Ask) -> Option<Ask> {
    if ask.is_alone {
        tracing::error!(%channel, "a log was read, and does not say what follows a position in it");
        let _ = ask.answer.send(Err(EngineErrorKind::Unavailable.into()));
        return None;
    }
    ask.is_alone = true;
    Some(ask)
}

/// From which offset on it must be read, or how many of the newest. `None`: whatever is read will do.
enum Wanted {
    From(Offset),
    Newest(u64),
}

fn wanted(ask: &Ask) -> Option<Wanted> {
    match ask.since {
        Since::Now => None,
        Since::Start => Some(Wanted::From(0)),
        Since::Last(count) => Some(Wanted::Newest(count)),
        // The publication at the position itself, too: its tag is compared.
        Since::After(position) if !ask.is_lost => Some(Wanted::From(position.offset)),
        Since::After(_) => Some(Wanted::From(ask.fork.map_or(0, |fork| fork.offset))),
    }
}

/// What one reading takes: from an offset on, or so many of the newest, but at most so many.
///
/// Whoever has waited longest is served in any case, so nobody waits for ever, however many come behind; and with them
/// all whose places are near.
fn span(asks: &[Ask]) -> (Offset, Option<u64>, usize) {
    let wanting = || asks.iter().filter_map(|ask| Some((wanted(ask)?, ask)));
    let Some((place, lead)) = wanting().next() else {
        return (Offset::MAX, None, 0);
    };
    let mut count = asks.iter().map(|ask| ask.limit).max().unwrap_or(0) + 1;
    if asks.len() > 1 {
        count = count.max(SHARED_COUNT_MAX);
    }
    // So much may be read besides what the first one needs.
    let room = if lead.is_alone {
        0
    } else {
        u64::try_from(count - lead.limit - 1).unwrap_or(0)
    };
    match place {
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
    Part::read(&channel.name, answer).ok_or_else(|| {
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
            is_lost: false,
            fork: None,
            is_alone: false,
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

    /// A log of 1000 with all of its entries, as `read.lua` reads it: so many bytes each, at most 1000 at a time.
    fn log_part(asks: &[Ask], bytes: usize) -> Part {
        let (from, newest, count) = span(asks);
        let from = newest.map_or(from, |newest| from.min(1001_u64.saturating_sub(newest)));
        let bulk = |text: String| redis::Value::BulkString(text.into_bytes());
        let entry = |offset: u64| {
            let tag = |offset: u64| {
                if offset == 0 {
                    "-".to_owned()
                } else {
                    format!("t{offset}")
                }
            };
            format!("e-{offset}-t{offset} {} 1 0 - -", tag(offset - 1))
        };
        let last = (from.max(1).saturating_add(count.min((1000 / bytes).max(2)) as u64 - 1)).min(1000);
        let end = if last == 1000 { "end" } else { "" };
        let head = [
            "e-1000-t1000 1 0 0 1 1 1".to_owned(),
            entry(1),
            from.to_string(),
            end.to_owned(),
        ];
        let entries = (from.max(1)..=last).map(|offset| bulk(format!("{}\n1", entry(offset))));
        let answer = head.into_iter().map(bulk).chain(entries).collect();
        Part::read(&ChannelName::parse("c").unwrap(), redis::Value::Array(answer)).unwrap()
    }

    #[test]
    fn every_position_is_answered_after_few_readings_whatever_stands_at_its_place() {
        let channel = ChannelName::parse("c").unwrap();
        for bytes in [1, 100, 1000] {
            for offset in 0..=1001_u64 {
                for (tag, has_gap) in [
                    (format!("-t{offset}"), false),
                    ("-forged".to_owned(), true),
                    (String::new(), true),
                ] {
                    let is_true = if offset == 0 {
                        tag.is_empty()
                    } else {
                        !has_gap && offset <= 1000
                    };
                    let since = format!("e-{offset}{tag}");
                    let mut waiting = asks(&[&since, "start", "last:500", "e-900-t900"]);
                    let (answer, mut answered) = oneshot::channel();
                    waiting[0].answer = answer;
                    let mut readings = 0;
                    let page = loop {
                        if let Ok(page) = answered.try_recv() {
                            break page.unwrap();
                        }
                        readings += 1;
                        assert!(readings <= 4, "{since}: read again and again");
                        let part = log_part(&waiting, bytes);
                        waiting = answer_all(&channel, &part, waiting);
                    };
                    assert_eq!(page.gap.is_none(), is_true, "{since}");
                    let after = if is_true { offset } else { 0 };
                    let first = page.publications.first().map(|first| first.position.offset);
                    assert_eq!(first, (after < 1000).then_some(after + 1), "{since}");
                }
            }
        }
    }
}
