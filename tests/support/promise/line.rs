//! A reader's connection, and what it was asked for on it: takes what arrives, and judges what stands around the pushes.

use std::io;

use fastrand::Rng;
use serde_json::json;

use super::Violation;
use super::connection::{Arrival, Connection};
use super::history::{Ask, History, Told};
use crate::support::poll::Answer;
use crate::support::push::Push;
use crate::support::websocket::WebSocket;

/// One connection and the channels that it carries.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Connection,
    /// Which histories, in the order in which the request named their channels.
    pub(super) asked: Vec<usize>,
    was_welcomed: bool,
    /// The number of the last command.
    command: u64,
    /// How long the poll that is on its way may wait, and whether all that it was given were positions.
    poll: (u64, bool),
}

/// What one arrival was, to which history.
pub(super) type News = (usize, Told);

impl Line {
    pub(super) fn new(connection: Connection, asked: Vec<usize>) -> Self {
        Self {
            connection,
            asked,
            was_welcomed: false,
            command: 0,
            poll: (0, false),
        }
    }

    /// Asks the next poll, if this is a long-poll and none is on its way.
    pub(super) async fn prepare(&mut self, histories: &mut [History], rng: &mut Rng) -> io::Result<()> {
        let Connection::Poll(poll) = &mut self.connection else {
            return Ok(());
        };
        if poll.is_asking() {
            return Ok(());
        }
        let asks: Vec<_> = self.asked.iter().map(|index| ask_of(&histories[*index], rng)).collect();
        let cursor = cursor_text(&asks);
        // Where nothing will come, it is not waited for long.
        let is_idle = self.asked.iter().all(|index| histories[*index].ledger.is_idle());
        let wait_s = if is_idle { 1 } else { rng.u64(1..=25) };
        self.poll = (wait_s, asks.iter().all(|ask| matches!(ask, Ask::After(_))));
        for (index, ask) in self.asked.iter().zip(asks) {
            histories[*index].ask_poll(ask);
        }
        let wait = wait_s.to_string();
        let mut query: Vec<_> = self
            .asked
            .iter()
            .map(|index| ("channel", &*histories[*index].ledger.channel.name))
            .collect();
        query.extend([("since", &*cursor), ("wait", &*wait)]);
        poll.get(&query).await
    }

    /// Says `subscribe` on a WebSocket.
    pub(super) async fn subscribe(&mut self, index: usize, history: &mut History, ask: Ask) -> io::Result<()> {
        self.command += 1;
        let (id, channel) = (self.command, history.ledger.channel.name.clone());
        let command = json!({"type": "subscribe", "id": id, "channel": channel, "since": ask.to_string()});
        history.ask(ask);
        if !self.asked.contains(&index) {
            self.asked.push(index);
        }
        self.socket()?.command(&command).await
    }

    /// Says `unsubscribe` on a WebSocket.
    pub(super) async fn unsubscribe(&mut self, history: &mut History) -> io::Result<()> {
        self.command += 1;
        let command = json!({"type": "unsubscribe", "id": self.command, "channel": history.ledger.channel.name});
        history.leave();
        self.socket()?.command(&command).await
    }

    fn socket(&mut self) -> io::Result<&mut WebSocket> {
        match &mut self.connection {
            Connection::WebSocket(socket) => Ok(socket),
            Connection::EventSource(_) | Connection::Poll(_) => Err(io::Error::other("not a WebSocket")),
        }
    }

    /// Takes what arrived.
    pub(super) fn take(&mut self, arrival: Arrival, histories: &mut [History]) -> Result<Vec<News>, Violation> {
        match arrival {
            Arrival::Push(push) => Ok(self.take_push(&push, histories)?.into_iter().collect()),
            Arrival::Event { push, kind, id } => {
                let news = self.take_push(&push, histories)?;
                let expected = if push.kind() == "publication" {
                    "message"
                } else {
                    push.kind()
                };
                must!(kind == expected, "an event {kind:?} for {}", push.shown());
                self.judge_id(id.as_deref(), news, histories)
                    .map_err(|Violation(what)| Violation(format!("{what}, at {}", push.shown())))?;
                Ok(news.into_iter().collect())
            }
            Arrival::Answer(answer) => self.take_answer(&answer, histories),
        }
    }

    fn take_push(&mut self, push: &Push, histories: &mut [History]) -> Result<Option<News>, Violation> {
        match push.kind() {
            "welcome" => {
                must!(!self.was_welcomed, "welcomed twice");
                self.was_welcomed = true;
                Ok(None)
            }
            "heartbeat" => Ok(None),
            "subscribed" | "publication" | "gap" | "unsubscribed" => {
                let is_poll = matches!(self.connection, Connection::Poll(_));
                must!(self.was_welcomed != is_poll, "not welcomed as it should be");
                let named = |index: &&usize| histories[**index].ledger.channel.name == push.channel();
                let index = self.asked.iter().find(named).copied();
                let index = index.ok_or_else(|| Violation(format!("nobody asked for {}", push.shown())))?;
                Ok(Some((index, histories[index].take(push)?)))
            }
            _ => Err(Violation(format!("not to be expected: {}", push.shown()))),
        }
    }

    /// The id is the whole cursor, on every publication and gap and on the last `subscribed`, and on nothing else.
    fn judge_id(&self, id: Option<&str>, news: Option<News>, histories: &[History]) -> Result<(), Violation> {
        let carries = match news {
            Some((_, Told::Publication | Told::Gap { .. })) => true,
            Some((index, Told::Fresh | Told::Complete | Told::ResumesInGap)) => self.asked.last() == Some(&index),
            Some((_, Told::Unsubscribed)) | None => false,
        };
        let expected = carries.then(|| self.cursor(histories));
        must!(
            id == expected.as_deref(),
            "the id is {id:?}, and should be {expected:?}"
        );
        Ok(())
    }

    fn take_answer(&mut self, answer: &Answer, histories: &mut [History]) -> Result<Vec<News>, Violation> {
        let mut all = Vec::new();
        for push in &answer.pushes {
            all.extend(self.take_push(push, histories)?);
        }
        let expected = self.cursor(histories);
        must!(
            answer.cursor == expected,
            "the cursor is {}, and should be {expected}",
            answer.cursor
        );
        let (wait_s, is_positions) = self.poll;
        let is_early = answer.pushes.is_empty() && (!is_positions || answer.waited.as_secs() < wait_s);
        must!(!is_early, "nothing was answered after {:?}", answer.waited);
        Ok(all)
    }

    fn cursor(&self, histories: &[History]) -> String {
        let place = |index: &usize| histories[*index].cursor().map_or("?".to_owned(), ToString::to_string);
        self.asked.iter().map(place).collect::<Vec<_>>().join(".")
    }
}

/// A position, where there is one; else any of the words.
pub(super) fn ask_of(history: &History, rng: &mut Rng) -> Ask {
    match history.cursor() {
        Some(place) => Ask::After(place.clone()),
        None => match rng.u8(..3) {
            0 => Ask::Now,
            1 => Ask::Start,
            _ => Ask::Last(rng.u64(..30)),
        },
    }
}

pub(super) fn cursor_text(asks: &[Ask]) -> String {
    asks.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
