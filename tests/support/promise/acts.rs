//! What a reader does while it is connected, and while it is away.

use std::sync::Arc;

use super::Violation;
use super::channels::Load;
use super::connection::Transport;
use super::history::Told;
use super::line::ask_of;
use super::reader::{Reader, not_connected};
use super::tally::Happening;

/// So many of the large publications are more than what is on its way to a reader that does not read: the server's
/// batch, its HTTP buffer and both of the kernel's. What comes after them waits in the log.
const ON_ITS_WAY: u64 = 30;

impl Reader {
    pub(super) async fn act(&mut self) -> Result<(), Violation> {
        let Some(index) = self.busy_channel() else {
            return self.read_how_it_begins().await;
        };
        match self.rng.u8(..8) {
            0..=4 => self.read_some(index).await,
            5..=6 => self.lag(index).await,
            _ => self.resubscribe(index).await,
        }
    }

    /// One of the channels that it reads now to which anything is published.
    pub(super) fn busy_channel(&mut self) -> Option<usize> {
        let asked = self.line.as_ref().map(|line| line.asked.clone()).unwrap_or_default();
        let busy: Vec<_> = asked
            .into_iter()
            .filter(|index| !self.histories[*index].ledger.is_idle())
            .collect();
        (!busy.is_empty()).then(|| busy[self.rng.usize(..busy.len())])
    }

    /// Reads until it is known where every channel begins.
    async fn read_how_it_begins(&mut self) -> Result<(), Violation> {
        for index in self.line()?.asked.clone() {
            self.read_how_one_begins(index).await?;
        }
        Ok(())
    }

    pub(super) async fn read_how_one_begins(&mut self, index: usize) -> Result<(), Violation> {
        self.prepare().await?;
        while !self.histories[index].is_on() {
            self.read().await?;
        }
        Ok(())
    }

    async fn read_some(&mut self, index: usize) -> Result<(), Violation> {
        let history = &self.histories[index];
        let from = history.offset().max(history.ledger.acked());
        let goal = history
            .ledger
            .want(from + self.rng.u64(1..=history.ledger.channel.appetite()));
        while self.histories[index].offset() < goal {
            self.read().await?;
        }
        Ok(())
    }

    /// Reads nothing while much is published, then goes on: it missed nothing, or is told what.
    async fn lag(&mut self, index: usize) -> Result<(), Violation> {
        self.read_how_one_begins(index).await?;
        let transport = self.line()?.connection.transport();
        let ledger = Arc::clone(&self.histories[index].ledger);
        let blocks = ledger.channel.load == Load::Heavy && transport != Transport::Poll;
        let count = match (self.rng.bool(), blocks) {
            (true, true) => ledger.window.max(ON_ITS_WAY) + ON_ITS_WAY + self.rng.u64(0..ON_ITS_WAY),
            (false, true) => ON_ITS_WAY + self.rng.u64(1..=ledger.window),
            (true, false) => ledger.window + self.rng.u64(1..=ledger.window),
            (false, false) => self.rng.u64(1..=ledger.window),
        };
        let goal = ledger.acked() + count;
        ledger.reach(goal).await?;
        let mut was_lapped = false;
        while self.histories[index].offset() < goal {
            let news = self.read().await?;
            was_lapped |= news.contains(&(index, Told::Gap { announced: false }));
        }
        match (was_lapped, transport) {
            (true, Transport::WebSocket) => self.tally.add(Happening::LappedOverWebSocket),
            (true, Transport::EventSource) => self.tally.add(Happening::LappedOverEventSource),
            (true, Transport::Poll) => self.tally.add(Happening::LappedBetweenPolls),
            (false, _) if blocks => self.tally.add(Happening::LagsInTime),
            (false, _) => {}
        }
        Ok(())
    }

    /// Leaves a channel and comes back to it on the same WebSocket.
    async fn resubscribe(&mut self, index: usize) -> Result<(), Violation> {
        if self.line()?.connection.transport() != Transport::WebSocket {
            return self.read_some(index).await;
        }
        self.read_how_one_begins(index).await?;
        let history = &mut self.histories[index];
        self.line
            .as_mut()
            .ok_or_else(not_connected)?
            .unsubscribe(history)
            .await?;
        while !self.histories[index].is_off() {
            self.read().await?;
        }
        self.be_away().await?;
        let ask = ask_of(&self.histories[index], &mut self.rng);
        let history = &mut self.histories[index];
        self.line
            .as_mut()
            .ok_or_else(not_connected)?
            .subscribe(index, history, ask)
            .await?;
        self.read_how_one_begins(index).await
    }

    /// While it is away, nothing happens, or little, or so much that it is lapped.
    pub(super) async fn be_away(&mut self) -> Result<(), Violation> {
        if self.rng.u8(..3) == 0 {
            return Ok(());
        }
        let index = self.rng.usize(..self.histories.len());
        let ledger = Arc::clone(&self.histories[index].ledger);
        if ledger.is_idle() {
            return Ok(());
        }
        let count = self.rng.u64(1..=ledger.channel.appetite().max(ledger.window + 5));
        ledger.reach(ledger.acked() + count).await
    }
}
