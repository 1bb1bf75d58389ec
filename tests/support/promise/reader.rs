//! A reader's life: it joins, reads, lags, drops in the middle of things, comes back, and in the end reads to the top.

use std::sync::Arc;

use fastrand::Rng;

use super::Violation;
use super::connection::{Arrival, Connection, Since, Transport};
use super::history::{Ask, History, Told};
use super::line::{Line, News, ask_of, cursor_text};
use super::tally::{Happening, Tally};
use super::world::World;
use crate::support::link::Receive;
use crate::support::poll::Poll;
use crate::support::websocket::WebSocket;

pub(super) fn not_connected() -> Violation {
    Violation("not connected".to_owned())
}

/// The kernel's receive buffer of readers that mean to lag.
const RECEIVE_BUFFER_BYTES: u32 = 8 * 1024;

/// One reader, and its history on each of its channels.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) world: Arc<World>,
    pub(super) rng: Rng,
    pub(super) histories: Vec<History>,
    pub(super) line: Option<Line>,
    pub(super) tally: Tally,
    /// Over which transport it read before, and on which node.
    before: Option<(Transport, usize)>,
}

impl Reader {
    pub(super) fn new(world: Arc<World>, mut rng: Rng) -> Self {
        let mut ledgers = world.ledgers.clone();
        rng.shuffle(&mut ledgers);
        ledgers.truncate(rng.usize(1..=ledgers.len().min(3)));
        Self {
            histories: ledgers.into_iter().map(History::new).collect(),
            world,
            rng,
            line: None,
            tally: Tally::default(),
            before: None,
        }
    }

    pub(super) async fn live(mut self) -> Result<Tally, Violation> {
        for _ in 0..self.rng.usize(2..=4) {
            let some = self.rng.usize(1..=self.histories.len());
            self.join(some).await?;
            for _ in 0..self.rng.usize(1..=2) {
                self.act().await?;
            }
            self.drop_line().await?;
            self.be_away().await?;
        }
        self.join(self.histories.len()).await?;
        self.read_to_the_end().await?;
        for history in &self.histories {
            self.tally.add(Happening::Histories);
            if history.ledger.is_idle() {
                self.tally.add(Happening::IdleHistories);
            }
        }
        Ok(self.tally)
    }

    /// Connects to any node over any transport, and asks for so many of its channels.
    async fn join(&mut self, count: usize) -> Result<(), Violation> {
        let transport = Transport::ALL[self.rng.usize(..Transport::ALL.len())];
        let node = self.rng.usize(..self.world.nodes.len());
        let mut asked: Vec<_> = (0..self.histories.len()).collect();
        self.rng.shuffle(&mut asked);
        asked.truncate(count);
        if let Some((transport_before, node_before)) = self.before.replace((transport, node)) {
            self.tally.add(Happening::Reconnects);
            self.tally
                .add_many(Happening::TransportChanges, u64::from(transport != transport_before));
            self.tally
                .add_many(Happening::NodeChanges, u64::from(node != node_before));
        }
        let receive = if self.rng.bool() {
            Receive::Usual
        } else {
            Receive::Bytes(RECEIVE_BUFFER_BYTES)
        };
        let mut line = match transport {
            Transport::WebSocket => self.join_web_socket(node, receive, asked).await?,
            Transport::EventSource => self.join_event_source(node, receive, asked).await?,
            Transport::Poll => Line::new(Connection::Poll(Poll::new(self.world.nodes[node], receive)), asked),
        };
        if self.rng.u8(..4) == 0 {
            line.connection.sip(self.rng.usize(200..3_000));
        }
        self.line = Some(line);
        Ok(())
    }

    /// Some channels are asked for in the query, the others by commands.
    async fn join_web_socket(&mut self, node: usize, receive: Receive, asked: Vec<usize>) -> Result<Line, Violation> {
        let (in_query, by_command) = asked.split_at(self.rng.usize(..=asked.len()));
        let cursor = self.ask(in_query);
        let mut query: Vec<_> = in_query.iter().map(|index| ("channel", self.name(*index))).collect();
        if !query.is_empty() {
            query.push(("since", &cursor));
        }
        let socket = WebSocket::open(self.world.nodes[node], receive, &query).await?;
        let mut line = Line::new(Connection::WebSocket(socket), in_query.to_vec());
        for index in by_command {
            let ask = ask_of(&self.histories[*index], &mut self.rng);
            line.subscribe(*index, &mut self.histories[*index], ask).await?;
        }
        Ok(line)
    }

    async fn join_event_source(&mut self, node: usize, receive: Receive, asked: Vec<usize>) -> Result<Line, Violation> {
        let since = [Since::Query, Since::Header, Since::Body][self.rng.usize(..3)];
        let cursor = self.ask(&asked);
        let channels: Vec<_> = asked.iter().map(|index| self.name(*index)).collect();
        let address = self.world.nodes[node];
        let connection = Connection::event_source(address, receive, since, &channels, &cursor).await?;
        Ok(Line::new(connection, asked))
    }

    /// Asks for channels, and gives the cursor that does so.
    fn ask(&mut self, asked: &[usize]) -> String {
        let asks: Vec<Ask> = asked
            .iter()
            .map(|index| ask_of(&self.histories[*index], &mut self.rng))
            .collect();
        for (index, ask) in asked.iter().zip(&asks) {
            self.histories[*index].ask(ask.clone());
        }
        cursor_text(&asks)
    }

    fn name(&self, index: usize) -> &str {
        &self.histories[index].ledger.channel.name
    }

    pub(super) fn line(&mut self) -> Result<&mut Line, Violation> {
        self.line.as_mut().ok_or_else(not_connected)
    }

    /// Reads once, and takes what that brings.
    pub(super) async fn read(&mut self) -> Result<Vec<News>, Violation> {
        self.prepare().await?;
        let arrivals = self.line()?.connection.read().await;
        let arrivals = arrivals.map_err(|error| self.explain(&error.into()))?;
        self.take(arrivals)
    }

    /// Asks for what is read next, where that has to be asked for.
    pub(super) async fn prepare(&mut self) -> Result<(), Violation> {
        let line = self.line.as_mut().ok_or_else(not_connected)?;
        Ok(line.prepare(&mut self.histories, &mut self.rng).await?)
    }

    fn take(&mut self, arrivals: Vec<Arrival>) -> Result<Vec<News>, Violation> {
        let mut all = Vec::new();
        for arrival in arrivals {
            let line = self.line.as_mut().ok_or_else(not_connected)?;
            let transport = line.connection.transport();
            let news = line.take(arrival, &mut self.histories);
            let news = news.map_err(|Violation(what)| Violation(format!("over {transport:?}: {what}")))?;
            for (_, told) in &news {
                self.count(*told);
            }
            all.extend(news);
        }
        Ok(all)
    }

    fn count(&mut self, told: Told) {
        let is_poll = matches!(&self.line, Some(line) if line.connection.transport() == Transport::Poll);
        match told {
            Told::Fresh => self.tally.add(Happening::ResumesFresh),
            Told::Complete => self.tally.add(Happening::ResumesComplete),
            Told::ResumesInGap => self.tally.add(Happening::ResumesGap),
            Told::Publication => self.tally.add(Happening::Publications),
            Told::Gap { .. } => {
                self.tally.add(Happening::Gaps);
                self.tally.add_many(Happening::GapsByPoll, u64::from(is_poll));
            }
            Told::Unsubscribed => self.tally.add(Happening::Resubscriptions),
        }
    }

    /// What is wrong, with the end of every history: a reader for which nothing comes does not know on which channel.
    fn explain(&self, violation: &Violation) -> Violation {
        let transport = self.line.as_ref().map(|line| line.connection.transport());
        let first = Violation(format!("over {transport:?}: {violation}"));
        self.histories
            .iter()
            .fold(first, |violation, history| history.explain(&violation))
    }

    /// Leaves, in one way or another.
    async fn drop_line(&mut self) -> Result<(), Violation> {
        let manner = self.rng.u8(..8);
        let busy = self.busy_channel();
        if let (0..=3, Some(index)) = (manner, busy) {
            self.read_into_the_middle(index).await?;
        }
        if manner == 4 {
            self.close().await?;
        }
        if let Some(line) = self.line.take()
            && self.rng.bool()
        {
            line.connection.reset();
        }
        let how = if manner == 4 { "leaves" } else { "drops" };
        self.histories.iter_mut().for_each(|history| history.hang_up(how));
        Ok(())
    }

    /// Takes a few bytes at a time until something has come in part.
    async fn read_into_the_middle(&mut self, index: usize) -> Result<(), Violation> {
        let sip = self.rng.usize(1..=16);
        self.line()?.connection.sip(sip);
        while !self.line()?.connection.is_cut() {
            let ledger = &self.histories[index].ledger;
            ledger.want(self.histories[index].offset().max(ledger.acked()) + 1);
            self.read().await?;
        }
        let what = match self.line()?.connection.transport() {
            Transport::WebSocket => Happening::DropsMidFrame,
            Transport::EventSource => Happening::DropsMidEvent,
            Transport::Poll => Happening::DropsMidAnswer,
        };
        self.tally.add(what);
        Ok(())
    }

    /// Closes a WebSocket in good order; what comes before the server's close frame counts.
    async fn close(&mut self) -> Result<(), Violation> {
        let arrivals = self.line()?.connection.close().await?;
        self.take(arrivals).map(drop)
    }

    /// Reads all there is, waits for the very last publications, and finds that nothing follows them.
    async fn read_to_the_end(&mut self) -> Result<(), Violation> {
        for index in 0..self.histories.len() {
            self.read_how_one_begins(index).await?;
            while self.histories[index].offset() < self.histories[index].ledger.acked() {
                self.read().await?;
            }
        }
        self.world.ready.send_modify(|ready| *ready += 1);
        let world = Arc::clone(&self.world);
        let mut finals = world.finals.subscribe();
        while !self.is_at(&world, finals.borrow().as_deref()) {
            self.prepare().await?;
            tokio::select! {
                read = self.read() => read.map(drop)?,
                changed = finals.changed() => changed.map_err(std::io::Error::other)?,
            }
        }
        self.nothing_follows().await
    }

    /// Asks once more, over another connection, whether anything comes after the last publications.
    async fn nothing_follows(&mut self) -> Result<(), Violation> {
        let cursor = |history: &History| history.cursor().map(ToString::to_string).unwrap_or_default();
        let cursor = self.histories.iter().map(cursor).collect::<Vec<_>>().join(".");
        let mut query: Vec<_> = (0..self.histories.len())
            .map(|index| ("channel", self.name(index)))
            .collect();
        query.extend([("since", &*cursor), ("wait", "0")]);
        let mut poll = Poll::new(self.world.nodes[0], Receive::Usual);
        poll.get(&query).await?;
        let answer = poll.answer().await?;
        must!(
            answer.pushes.is_empty() && answer.cursor == cursor,
            "after the last publications, {cursor} was answered {answer:?}"
        );
        Ok(())
    }

    /// Whether every history has come to the last offset, if these are known.
    fn is_at(&self, world: &World, finals: Option<&[u64]>) -> bool {
        let Some(finals) = finals else { return false };
        let is_done = |history: &History| {
            let last = world
                .ledgers
                .iter()
                .zip(finals)
                .find(|(ledger, _)| Arc::ptr_eq(ledger, &history.ledger));
            last.is_some_and(|(_, last)| history.offset() >= *last)
        };
        self.histories.iter().all(is_done)
    }
}
