//! One reader of one channel, which comes back with its position whenever its connection ends, and judges what it is told.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Ground, channel_name};
use crate::support::link::Receive;
use crate::support::place::Place;
use crate::support::poll::Poll;
use crate::support::promise::connection::{Arrival, Connection, Since, Transport};
use crate::support::push::Push;
use crate::support::websocket::WebSocket;

/// What one reader saw.
pub(crate) struct Seen {
    pub(crate) number: usize,
    pub(crate) channel: usize,
    pub(crate) transport: Transport,
    /// How often its connection ended.
    pub(crate) cuts: AtomicU64,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    cursor: Option<String>,
    told: Vec<Told>,
    wrong: Option<String>,
    /// Why the last connection ended.
    end: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Publication(String, u64),
    Gap(String, String),
}

impl Seen {
    pub(super) fn new(number: usize, channel: usize, transport: Transport) -> Self {
        Self {
            number,
            channel,
            transport,
            cuts: AtomicU64::new(0),
            life: Mutex::default(),
        }
    }

    pub(crate) fn cursor(&self) -> Option<String> {
        self.life.lock().unwrap().cursor.clone()
    }

    pub(crate) fn must_be_well(&self) {
        let wrong = self.life.lock().unwrap().wrong.clone();
        assert_eq!(wrong, None, "{self:?}");
    }

    /// Positions and numbers.
    pub(crate) fn received(&self) -> Vec<(String, u64)> {
        let life = self.life.lock().unwrap();
        let publication = |told: &Told| match told {
            Told::Publication(position, number) => Some((position.clone(), *number)),
            Told::Gap(..) => None,
        };
        life.told.iter().filter_map(publication).collect()
    }

    pub(crate) fn gaps(&self) -> Vec<(String, String)> {
        let life = self.life.lock().unwrap();
        let gap = |told: &Told| match told {
            Told::Gap(from, to) => Some((from.clone(), to.clone())),
            Told::Publication(..) => None,
        };
        life.told.iter().filter_map(gap).collect()
    }

    /// What it was given and `held` does not have was lost, and so was what follows, up to a gap that says so.
    pub(super) fn must_have_been_told(&self, held: &BTreeSet<String>) {
        let life = self.life.lock().unwrap();
        let mut is_astray = false;
        for told in &life.told {
            match told {
                Told::Gap(..) => is_astray = false,
                Told::Publication(position, _) if held.contains(position) => {
                    assert!(
                        !is_astray,
                        "{self:?} went on to {position} after something that is lost, and was not told"
                    );
                }
                Told::Publication(..) => is_astray = true,
            }
        }
        assert!(
            !is_astray,
            "{self:?} ends with something that is lost, and was not told"
        );
        // After the last gap, everything that is held from there on.
        let last_gap = life.told.iter().rposition(|told| matches!(told, Told::Gap(..)));
        let after = last_gap.map_or(&life.told[..], |at| &life.told[at + 1..]);
        let received: BTreeSet<_> = after
            .iter()
            .filter_map(|told| match told {
                Told::Publication(position, _) => Some(position.clone()),
                Told::Gap(..) => None,
            })
            .collect();
        let from = last_gap.and_then(|at| match &life.told[at] {
            Told::Gap(_, to) => Place::parse(to),
            Told::Publication(..) => None,
        });
        let missing = held.iter().find(|position| {
            let place = Place::parse(position).unwrap();
            let is_later = from
                .as_ref()
                .is_some_and(|from| place.epoch == from.epoch && place.offset > from.offset);
            is_later && !received.contains(*position)
        });
        assert_eq!(missing, None, "{self:?} does not have it");
    }

    fn take(&self, push: &Push) -> Result<(), String> {
        let mut life = self.life.lock().unwrap();
        match push.kind() {
            "welcome" | "heartbeat" => {}
            "subscribed" => {
                let position = push.text_of("position").to_owned();
                match (&life.cursor, push.text_of("resume")) {
                    (None, "fresh") => life.cursor = Some(position),
                    (Some(cursor), "complete" | "gap") if *cursor == position => {}
                    (cursor, _) => return Err(format!("{} for {cursor:?}", push.shown())),
                }
            }
            "publication" => {
                let place = push.place("position").ok_or("no position")?;
                let cursor = life.cursor.as_deref().and_then(Place::parse).ok_or("no cursor")?;
                if place.epoch != cursor.epoch || place.offset != cursor.offset + 1 {
                    return Err(format!("{place} after {cursor}"));
                }
                let number = push
                    .data
                    .as_deref()
                    .and_then(|data| data.parse().ok())
                    .ok_or("no number")?;
                let position = place.to_string();
                life.told.push(Told::Publication(position.clone(), number));
                life.cursor = Some(position);
            }
            "gap" => {
                let (from, to) = (push.text_of("from").to_owned(), push.text_of("to").to_owned());
                if life.cursor.as_ref() != Some(&from) {
                    return Err(format!("{} but the cursor is {:?}", push.shown(), life.cursor));
                }
                life.cursor = Some(to.clone());
                life.told.push(Told::Gap(from, to));
            }
            "closing" | "unsubscribed" => life.end = push.shown(),
            _ => return Err(push.shown()),
        }
        Ok(())
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write!(
            f,
            "reader {} of {} over {:?} at {:?}, {} cuts ({}), in the end {:?}",
            self.number,
            channel_name(self.channel),
            self.transport,
            life.cursor,
            self.cuts.load(Ordering::SeqCst),
            life.end,
            life.told.iter().rev().take(6).collect::<Vec<_>>()
        )
    }
}

/// Reads for ever.
pub(super) async fn read(ground: Arc<Ground>, seen: Arc<Seen>) {
    for spread in seen.number.. {
        match stay(&ground, &seen, spread).await {
            Ok(wrong) => {
                seen.life.lock().unwrap().wrong = Some(wrong);
                return;
            }
            Err(error) => {
                let mut life = seen.life.lock().unwrap();
                life.end = format!("{} {error}", life.end);
            }
        }
        seen.cuts.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..250))).await;
    }
}

/// One connection's life; says what is wrong, or why it ended.
async fn stay(ground: &Ground, seen: &Seen, spread: usize) -> io::Result<String> {
    let (node, name) = (ground.node(spread), channel_name(seen.channel));
    let since = || seen.cursor().unwrap_or_else(|| "now".to_owned());
    let mut connection = match seen.transport {
        Transport::WebSocket => {
            let query = [("channel", &*name), ("since", &*since())];
            Connection::WebSocket(WebSocket::open(node, Receive::Usual, &query).await?)
        }
        Transport::EventSource => {
            Connection::event_source(node, Receive::Usual, Since::Query, &[&name], &since()).await?
        }
        Transport::Poll => Connection::Poll(Poll::new(node, Receive::Usual)),
    };
    loop {
        if let Connection::Poll(poll) = &mut connection
            && !poll.is_asking()
        {
            poll.get(&[("channel", &*name), ("since", &*since()), ("wait", "20")])
                .await?;
        }
        for arrival in connection.read().await? {
            let (pushes, cursor) = match arrival {
                Arrival::Push(push) | Arrival::Event { push, .. } => (vec![push], None),
                Arrival::Answer(answer) => (answer.pushes, Some(answer.cursor)),
            };
            for push in pushes {
                if let Err(wrong) = seen.take(&push) {
                    return Ok(wrong);
                }
            }
            if let Some(cursor) = cursor.filter(|cursor| seen.cursor().as_ref() != Some(cursor)) {
                return Ok(format!("the answer's cursor is {cursor}"));
            }
        }
    }
}
