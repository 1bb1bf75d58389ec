//! Load over restarts: publishers with idempotency keys, and readers that come back when they are told to.
//!
//! Whatever is not an answer ends the test: a connection that is refused or reset, a request that is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::http;
use super::link::Receive;
use super::place::Place;
use super::poll::Poll;
use super::promise::Violation;
use super::promise::channels::{Channel, Load};
use super::promise::connection::{Arrival, Connection, Since, Transport};
use super::promise::history::{Ask, History, Told};
use super::promise::ledger::{Bell, Ledger, Sent};
use super::publisher::Publisher;
use super::push::Push;
use super::websocket::{Said, WebSocket};

/// Between two publications of a publisher, and before a request that was refused is repeated.
const PAUSE: Duration = Duration::from_millis(10);

/// More publications than a test makes.
const WINDOW: u64 = 50_000;

/// One channel's publishers and readers.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) ledger: Arc<Ledger>,
    phase: watch::Sender<Phase>,
    publishers: Vec<JoinHandle<Result<Refusals, Violation>>>,
    readers: Vec<JoinHandle<Result<Read, Violation>>>,
}

/// Until when it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Whoever is sent away comes back, until the test ends it.
    Ended,
    /// Whoever is sent away stays away.
    SentAway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Publishing,
    /// What is published by now is all.
    Published,
    /// All of it was answered.
    Answered,
}

/// How often a publisher was told to come back.
pub(crate) type Refusals = usize;

/// What a reader went through.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) transport: Transport,
    pub(crate) offset: u64,
    pub(crate) closings: usize,
}

/// The environment of a server whose window holds all of it.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("THROUGHLINE_WINDOW__COUNT", "50000"),
    ("THROUGHLINE_WINDOW__BYTES", "1000000000"),
    ("THROUGHLINE_DRAIN__WINDOW_MS", "300"),
];

impl Traffic {
    /// Publishers that keep their connection and such that do not, and a reader over each transport.
    pub(crate) fn begin(address: SocketAddr, name: &str, until: Until) -> Self {
        let channel = Channel {
            name: name.to_owned(),
            load: Load::Light,
        };
        let ledger = Arc::new(Ledger::new(channel, WINDOW, Bell::new(())));
        ledger.want(WINDOW);
        let phase = watch::Sender::new(Phase::Publishing);
        let publishers = [true, false].map(|keeps| {
            let desk = Desk {
                address,
                ledger: Arc::clone(&ledger),
                keeps,
                until,
            };
            tokio::spawn(desk.publish(phase.subscribe()))
        });
        let readers = Transport::ALL.map(|transport| {
            let life = Life {
                transport,
                address,
                name: name.to_owned(),
                history: History::new(Arc::clone(&ledger)),
                closings: 0,
                until,
            };
            tokio::spawn(life.live(phase.subscribe()))
        });
        Self {
            ledger,
            phase,
            publishers: publishers.into(),
            readers: readers.into(),
        }
    }

    /// Waits until so many more are published. Nobody ends meanwhile.
    pub(crate) async fn goes_on(&mut self, count: u64) {
        let publishers = select_all(&mut self.publishers);
        let readers = select_all(&mut self.readers);
        let count = self.ledger.acked() + count;
        tokio::select! {
            reached = self.ledger.reach(count) => reached.expect("publications are stored"),
            (ended, ..) = publishers => panic!("a publisher ended: {:?}", ok(ended)),
            (ended, ..) = readers => panic!("a reader ended: {:?}", ok(ended)),
        }
    }

    /// No more publications; readers end when they have all. Publishers give how often they were told to come back.
    pub(crate) async fn end(self) -> (Refusals, Vec<Read>) {
        let mut refusals = 0;
        self.phase.send_replace(Phase::Published);
        for publisher in self.publishers {
            refusals += ok(publisher.await);
        }
        self.phase.send_replace(Phase::Answered);
        let mut reads = Vec::new();
        for reader in self.readers {
            reads.push(ok(reader.await));
        }
        self.ledger.settle().expect("what was published is what there is");
        (refusals, reads)
    }

    /// Waits until everybody is sent away.
    pub(crate) async fn sent_away(self) -> Vec<Read> {
        for publisher in self.publishers {
            ok(publisher.await);
        }
        let mut reads = Vec::new();
        for reader in self.readers {
            reads.push(ok(reader.await));
        }
        reads
    }
}

/// Reads once. A close frame is what comes after a `closing`.
async fn read(connection: &mut Connection) -> io::Result<Vec<Arrival>> {
    let Connection::WebSocket(socket) = connection else {
        return connection.read().await;
    };
    let mut arrivals = Vec::new();
    for said in socket.read().await? {
        match (said, arrivals.last()) {
            (Said::Push(push), _) => arrivals.push(Arrival::Push(push)),
            (Said::Closed { code: 1012, .. }, Some(Arrival::Push(last))) if last.kind() == "closing" => {}
            (Said::Closed { code, reason }, _) => {
                return Err(io::Error::other(format!(
                    "closed with {code} {reason:?} before it was told"
                )));
            }
        }
    }
    Ok(arrivals)
}

fn ok<T>(ended: Result<Result<T, Violation>, tokio::task::JoinError>) -> T {
    ended.expect("no panic").unwrap_or_else(|broken| panic!("{broken}"))
}

/// A publisher.
struct Desk {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    /// Whether it keeps its connection.
    keeps: bool,
    until: Until,
}

impl Desk {
    async fn publish(self, phase: watch::Receiver<Phase>) -> Result<Refusals, Violation> {
        let (mut rng, mut refusals) = (Rng::new(), 0);
        let mut publisher = Publisher::new(self.address);
        while *phase.borrow() == Phase::Publishing && self.ledger.claim() {
            let data = self.ledger.channel.data(&mut rng);
            let body = format!(r#"{{"channel":"{}","data":{data}}}"#, self.ledger.channel.name);
            let key = format!("{:x}", rng.u64(..));
            let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
            let request = http::post("/v1/publish", &headers, body.as_bytes());
            let answer = loop {
                if !self.keeps {
                    publisher = Publisher::new(self.address);
                }
                match publisher.send(&request).await? {
                    (200, answer) => break answer,
                    (503, _) if self.until == Until::SentAway => return Ok(1),
                    (503, _) => refusals += 1,
                    (status, answer) => return Err(Violation(format!("answered {status}: {answer}"))),
                }
                tokio::time::sleep(PAUSE).await;
            };
            // A duplicate would be one that was stored and whose answer was cut.
            must!(answer["duplicate"] == false, "stored before it was answered: {answer}");
            let place = answer["position"].as_str().and_then(Place::parse);
            let place = place.ok_or_else(|| Violation(format!("no position in {answer}")))?;
            self.ledger.record(&place, Sent { data, event: None })?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(refusals)
    }
}

/// A reader that follows one transport over all restarts.
struct Life {
    transport: Transport,
    address: SocketAddr,
    name: String,
    history: History,
    closings: usize,
    until: Until,
}

impl Life {
    async fn live(mut self, mut phase: watch::Receiver<Phase>) -> Result<Read, Violation> {
        let mut connection = self.connect().await?;
        loop {
            let is_all = *phase.borrow_and_update() == Phase::Answered;
            if is_all && self.history.offset() == self.history.ledger.acked() {
                return Ok(self.read());
            }
            let arrivals = tokio::select! {
                arrivals = read(&mut connection) => arrivals?,
                Ok(()) = phase.changed() => continue,
            };
            if let Some(retry_ms) = self.take(&arrivals)? {
                self.closings += 1;
                if self.until == Until::SentAway {
                    return Ok(self.read());
                }
                self.history.hang_up("sent away");
                tokio::time::sleep(Duration::from_millis(retry_ms)).await;
                connection = self.connect().await?;
            } else if let Connection::Poll(poll) = &mut connection
                && !poll.is_asking()
            {
                self.poll(poll).await?;
            }
        }
    }

    fn read(&self) -> Read {
        Read {
            transport: self.transport,
            offset: self.history.offset(),
            closings: self.closings,
        }
    }

    /// Where it stands.
    fn since(&self) -> Ask {
        self.history
            .cursor()
            .map_or(Ask::Start, |place| Ask::After(place.clone()))
    }

    /// A connection that was accepted when the drain began is answered 503; nothing else may happen to it.
    async fn connect(&mut self) -> Result<Connection, Violation> {
        loop {
            match self.connect_once().await {
                Err(Violation(why)) if why.contains("status: 503") => tokio::time::sleep(PAUSE).await,
                connected => return connected,
            }
        }
    }

    async fn connect_once(&mut self) -> Result<Connection, Violation> {
        let ask = self.since();
        let since = ask.to_string();
        let query = [("channel", &*self.name), ("since", &*since)];
        Ok(match self.transport {
            Transport::WebSocket => {
                let socket = WebSocket::open(self.address, Receive::Usual, &query).await?;
                self.history.ask(ask);
                Connection::WebSocket(socket)
            }
            Transport::EventSource => {
                let channels = [&*self.name];
                let stream =
                    Connection::event_source(self.address, Receive::Usual, Since::Header, &channels, &since).await?;
                self.history.ask(ask);
                stream
            }
            Transport::Poll => {
                let mut poll = Poll::new(self.address, Receive::Usual);
                self.poll(&mut poll).await?;
                Connection::Poll(poll)
            }
        })
    }

    async fn poll(&mut self, poll: &mut Poll) -> io::Result<()> {
        let ask = self.since();
        let since = ask.to_string();
        self.history.ask_poll(ask);
        poll.get(&[("channel", &self.name), ("since", &since), ("wait", "2")])
            .await
    }

    /// Judges what came; a delay is what a `closing` names.
    fn take(&mut self, arrivals: &[Arrival]) -> Result<Option<u64>, Violation> {
        let pushes = arrivals.iter().flat_map(|arrival| match arrival {
            Arrival::Push(push) | Arrival::Event { push, .. } => std::slice::from_ref(push),
            Arrival::Answer(answer) => &answer.pushes,
        });
        let mut closing = None;
        for push in pushes {
            match push.kind() {
                "welcome" | "heartbeat" => {}
                "closing" => closing = Some(retry_ms(push)?),
                _ => {
                    let told = self.history.take(push)?;
                    let is_loss = matches!(told, Told::Gap { .. } | Told::ResumesInGap);
                    must!(!is_loss, "{:?}: {}", self.transport, push.text);
                }
            }
        }
        Ok(closing)
    }
}

pub(crate) fn retry_ms(push: &Push) -> Result<u64, Violation> {
    must!(push.text_of("code") == "draining", "{}", push.text);
    let retry_ms = push.value["retry_ms"].as_u64();
    retry_ms.ok_or_else(|| Violation(format!("no `retry_ms` in {}", push.text)))
}
