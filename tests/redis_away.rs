//! What clients meet while the Redis of some of their channels, or of all, does not answer: they are told so on every
//! transport, they have what is there, nobody spins, and what was away comes back by itself, with nothing lost.
//!
//! Each test first proves that its fault took place.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::{TRANSPORTS, ask};
use support::deadline::{until_told, within};
use support::edge::Edge;
use support::event_source::EventSource;
use support::http;
use support::link::{Link, Receive};
use support::poll::Poll;
use support::push::Push;
use support::redis::Redis;
use support::websocket::WebSocket;
use tokio::time::Instant;

/// How a Redis goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It keeps its connections, and answers nothing.
    Stopped,
    /// It is gone, and comes back with its data.
    Killed,
}

const FAULTS: [Fault; 2] = [Fault::Stopped, Fault::Killed];

/// A node with two Redis, a channel on each, and three publications in both. The Redis of `far` is the one that goes.
struct World {
    edge: Edge,
    _steady: Redis,
    flighty: Redis,
    near: String,
    far: String,
    /// Another one there, for what is stopped may carry out later what it was asked.
    probe: String,
    /// Behind the first publication of both.
    since: [String; 2],
    fault: Fault,
}

impl World {
    async fn start(fault: Fault) -> Self {
        let steady = Redis::start(&[]).await;
        let flighty = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        let edge = Edge::start(format!("{} {}", steady.url(), flighty.url()));
        edge.becomes_ready().await;
        support::deadline::until("both", || {
            throughline::delivery::Health::shards(&*edge.engine).down == 0
        })
        .await;
        let address = edge.node.address;
        let (near, first_near) = channel_on(address, &steady, "near").await;
        let (far, first_far) = channel_on(address, &flighty, "far").await;
        let (probe, _) = channel_on(address, &flighty, "probe").await;
        for channel in [&near, &far] {
            for number in [2, 3] {
                publish(address, channel, number).await.unwrap();
            }
        }
        Self {
            edge,
            _steady: steady,
            flighty,
            near,
            far,
            probe,
            since: [first_near, first_far],
            fault,
        }
    }

    /// Its Redis goes: whoever publishes there is refused, while the other takes what comes.
    async fn goes(&mut self) {
        match self.fault {
            Fault::Stopped => self.flighty.freeze(),
            Fault::Killed => self.flighty.kill(),
        }
        let began = Instant::now();
        while publish(self.address(), &self.probe, 0).await.is_ok() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{:?} changes nothing",
                self.fault
            );
        }
    }

    async fn comes_back(&mut self) {
        match self.fault {
            Fault::Stopped => self.flighty.thaw(),
            Fault::Killed => {
                self.flighty.launch();
                assert!(self.flighty.is_answering().await);
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.edge.node.address
    }

    async fn readers(&self, channels: &[&str], since: &str) -> Vec<Reader> {
        let mut readers = Vec::new();
        for transport in TRANSPORTS {
            readers.push(Reader::open(self.address(), transport, channels, since).await);
        }
        readers
    }
}

/// A channel that this Redis keeps, and the position of its first publication.
async fn channel_on(address: SocketAddr, redis: &Redis, prefix: &str) -> (String, String) {
    for number in 0..1_000 {
        let name = format!("{prefix}-{number}-");
        let position = publish(address, &name, 1).await.unwrap();
        let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{name}*")]).await;
        if !keys.is_empty() {
            return (name, position);
        }
    }
    panic!("a thousand channels, and none of them there");
}

/// Publishes a number; its position, or the code of the refusal.
async fn publish(address: SocketAddr, channel: &str, number: u32) -> Result<String, String> {
    let body = json!({"channel": channel, "data": number}).to_string();
    let (status, answer) = ask(address, &http::post("/v1/publish", &[], body.as_bytes())).await;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    if status == 200 {
        Ok(text("position"))
    } else {
        Err(text("code"))
    }
}

/// Publishes until it is taken.
async fn publish_surely(address: SocketAddr, channel: &str, number: u32) {
    until_told("a publication that is taken", async || {
        publish(address, channel, number).await.is_ok()
    })
    .await;
}

/// A client that knows nothing but its transport, and keeps what it was told.
struct Reader {
    transport: &'static str,
    way: Way,
    told: Vec<Push>,
}

enum Way {
    Ws(WebSocket),
    Sse(Box<EventSource>, String),
    Poll(Box<Poll>, Vec<(String, String)>, String),
}

impl Reader {
    async fn open(address: SocketAddr, transport: &'static str, channels: &[&str], since: &str) -> Self {
        let mut query: Vec<_> = channels.iter().map(|channel| ("channel", *channel)).collect();
        query.push(("since", since));
        let way = match transport {
            "ws" => Way::Ws(WebSocket::open_with(address, &query, &[]).await.unwrap()),
            "sse" => {
                let stream = EventSource::open(address, Receive::Usual, &query).await;
                Way::Sse(Box::new(stream.unwrap()), String::new())
            }
            _ => {
                query.pop();
                let query = query
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()));
                Way::Poll(
                    Box::new(Poll::new(address, Receive::Usual)),
                    query.collect(),
                    since.to_owned(),
                )
            }
        };
        Self {
            transport,
            way,
            told: Vec::new(),
        }
    }

    /// Takes the next push, or all of the next answer.
    async fn take(&mut self) {
        match &mut self.way {
            Way::Ws(socket) => self.told.push(socket.push().await.unwrap()),
            Way::Sse(stream, last_event_id) => {
                let event = stream.event().await.unwrap();
                last_event_id.clone_from(&event.last_event_id);
                self.told.push(Push::parse(event.data).unwrap());
            }
            Way::Poll(poll, query, cursor) => {
                if !poll.is_asking() {
                    let mut query: Vec<_> = query.iter().map(|(name, value)| (&**name, &**value)).collect();
                    query.extend([("since", &**cursor), ("wait", "5")]);
                    poll.get(&query).await.unwrap();
                }
                let answer = poll.answer().await.unwrap();
                *cursor = answer.cursor;
                let says_only_that = answer.pushes.iter().all(|push| push.kind() == "unsubscribed");
                assert!(
                    !says_only_that || answer.waited >= Duration::from_secs(5),
                    "an answer without news after {:?}",
                    answer.waited
                );
                self.told.extend(answer.pushes);
            }
        }
    }

    /// Follows until it has these publications of a channel, in order and each once.
    async fn until(&mut self, channel: &str, numbers: &[u64]) {
        while self.numbers(channel).last() != numbers.last() {
            self.take().await;
        }
        assert_eq!(self.numbers(channel), numbers, "{} {channel}", self.transport);
    }

    fn numbers(&self, channel: &str) -> Vec<u64> {
        let of_channel = |push: &&Push| push.kind() == "publication" && push.channel() == channel;
        let numbers = self.told.iter().filter(of_channel);
        numbers
            .map(|push| push.data.as_ref().unwrap().parse().unwrap())
            .collect()
    }

    /// Follows until it was told that a channel is away.
    async fn until_away(&mut self, channel: &str) {
        let is_it = |push: &Push| push.kind() == "unsubscribed" && push.channel() == channel;
        while !self.told.iter().any(is_it) {
            self.take().await;
        }
        let push = self.told.iter().find(|push| is_it(push)).unwrap();
        assert_eq!(push.text_of("code"), "engine_unavailable", "{}", self.transport);
        assert!(
            push.value["retry_ms"].as_u64().is_some_and(|ms| ms >= 1000),
            "{}",
            push.text
        );
    }

    fn lost_nothing(&self) {
        let gap = self.told.iter().find(|push| push.kind() == "gap");
        assert!(gap.is_none(), "{}: {:?}", self.transport, gap.map(|push| &push.text));
    }
}

/// All of them follow at the same time: a poll hears nothing while it does not ask.
async fn all_until(readers: &mut [Reader], channel: &str, numbers: &[u64]) {
    let following = readers.iter_mut().map(|reader| reader.until(channel, numbers));
    within("what was published", futures_util::future::join_all(following)).await;
}

async fn some_are_away_from_the_beginning(fault: Fault) {
    let mut world = World::start(fault).await;
    world.goes().await;
    let (near, far) = (world.near.clone(), world.far.clone());
    let mut readers = world
        .readers(&[&far, &near], &format!("{}.{}", world.since[1], world.since[0]))
        .await;
    // What is there is there at once, and goes on; of the other each is told.
    all_until(&mut readers, &near, &[2, 3]).await;
    for reader in &mut readers {
        within("word of the other", reader.until_away(&far)).await;
        assert_eq!(reader.numbers(&far), [0; 0]);
    }
    publish(world.address(), &near, 4).await.unwrap();
    all_until(&mut readers, &near, &[2, 3, 4]).await;
    world.comes_back().await;
    publish_surely(world.address(), &far, 4).await;
    all_until(&mut readers, &far, &[2, 3, 4]).await;
    for reader in &readers {
        reader.lost_nothing();
        let begins = reader
            .told
            .iter()
            .position(|push| push.kind() == "subscribed" && push.channel() == far);
        let first = reader
            .told
            .iter()
            .position(|push| push.kind() == "publication" && push.channel() == far);
        match &reader.way {
            Way::Poll(..) => assert_eq!(begins, None, "not worth an answer"),
            Way::Ws(_) | Way::Sse(..) => {
                let begins = begins.expect("it is told that it begins");
                assert!(Some(begins) < first);
                assert_eq!(reader.told[begins].text_of("resume"), "complete");
            }
        }
        if let Way::Sse(_, last_event_id) = &reader.way {
            assert_eq!(last_event_id.split('.').count(), 2, "{last_event_id}");
            // Whoever reconnects now has everything.
            let mut again = Reader::open(world.address(), "sse", &[&far, &near], last_event_id).await;
            publish(world.address(), &near, 5).await.unwrap();
            within("what came meanwhile", again.until(&near, &[5])).await;
            again.lost_nothing();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_whose_redis_is_away_from_the_beginning_come_when_it_is_back() {
    for fault in FAULTS {
        some_are_away_from_the_beginning(fault).await;
    }
}

async fn they_go_in_the_middle(fault: Fault) {
    let mut world = World::start(fault).await;
    let (near, far) = (world.near.clone(), world.far.clone());
    let mut readers = world.readers(&[&near, &far], &world.since.join(".")).await;
    all_until(&mut readers, &near, &[2, 3]).await;
    all_until(&mut readers, &far, &[2, 3]).await;
    world.goes().await;
    publish(world.address(), &near, 4).await.unwrap();
    all_until(&mut readers, &near, &[2, 3, 4]).await;
    world.comes_back().await;
    publish_surely(world.address(), &far, 4).await;
    all_until(&mut readers, &far, &[2, 3, 4]).await;
    for reader in &readers {
        reader.lost_nothing();
        let is_told = reader.told.iter().any(|push| push.kind() == "unsubscribed");
        // Only a poll has to ask anew.
        assert!(matches!(reader.way, Way::Poll(..)) || !is_told, "{}", reader.transport);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_whose_redis_goes_in_the_middle_go_on_when_it_is_back() {
    for fault in FAULTS {
        they_go_in_the_middle(fault).await;
    }
}

/// By a status, and not at once where that would make a client spin.
async fn requests_are_refused(world: &World) {
    let (address, far, since) = (world.address(), world.far.clone(), world.since[1].clone());
    let query = |wait| http::target("/v1/poll", &[("channel", &*far), ("since", &since), ("wait", wait)]);
    for (request, least) in [
        (http::get(&query("5"), &[]), Duration::from_secs(1)),
        (http::get(&query("0"), &[]), Duration::ZERO),
        (
            http::get(&http::target("/v1/sse", &[("channel", &*far)]), &[]),
            Duration::ZERO,
        ),
    ] {
        let began = Instant::now();
        let mut link = Link::connect(address, Receive::Usual).await.unwrap();
        link.send(&request).await.unwrap();
        let head = http::Head::read(&mut link).await.unwrap().unwrap();
        let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head.status, &problem["code"]), (503, &json!("engine_unavailable")));
        assert!(head.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(began.elapsed() >= least, "a client that comes back at once spins");
    }
    // To a browser's own EventSource any status but 200 would be final.
    let native = [("sec-fetch-mode", "cors"), ("accept", "text/event-stream")];
    let request = http::get(&http::target("/v1/sse", &[("channel", &*far)]), &native);
    let mut stream = EventSource::send(address, Receive::Usual, &request).await.unwrap();
    let closing = Push::parse(stream.event().await.unwrap().data).unwrap();
    assert_eq!(
        (closing.kind(), closing.text_of("code")),
        ("closing", "engine_unavailable")
    );
}

async fn all_are_away(fault: Fault) {
    let mut world = World::start(fault).await;
    world.goes().await;
    requests_are_refused(&world).await;
    let (address, far, since) = (world.address(), world.far.clone(), world.since[1].clone());
    // On a WebSocket, and on it alone, there is something else to do meanwhile.
    let mut socket = Reader::open(address, "ws", &[&far], &since).await;
    within("word of it", socket.until_away(&far)).await;
    let Way::Ws(asking) = &mut socket.way else {
        panic!("a WebSocket")
    };
    let subscribe = json!({"type": "subscribe", "id": 7, "channel": far, "since": since});
    asking.command(&subscribe).await.unwrap();
    let refused = asking.push().await.unwrap();
    assert_eq!(
        (refused.kind(), refused.text_of("code")),
        ("error", "engine_unavailable")
    );
    assert!(refused.value["retry_ms"].as_u64().is_some());
    let mut bare = Reader::open(address, "ws", &[&far], &since).await;
    within("word of it", bare.until_away(&far)).await;
    let mut leaving = Reader::open(address, "ws", &[&far], &since).await;
    within("word of it", leaving.until_away(&far)).await;
    let Way::Ws(left) = &mut leaving.way else {
        panic!("a WebSocket")
    };
    left.command(&json!({"type": "unsubscribe", "id": 8, "channel": far}))
        .await
        .unwrap();
    let requested = left.push().await.unwrap();
    assert_eq!(
        (requested.kind(), requested.text_of("code")),
        ("unsubscribed", "requested")
    );
    world.comes_back().await;
    // It comes by itself for whoever did nothing.
    within("what it missed", bare.until(&far, &[2, 3])).await;
    bare.lost_nothing();
    // Whoever asked is in charge, and so is who left: neither is subscribed already.
    for (reader, id) in [(&mut socket, 9), (&mut leaving, 10)] {
        let Way::Ws(socket) = &mut reader.way else {
            panic!("a WebSocket")
        };
        let subscribe = json!({"type": "subscribe", "id": id, "channel": far, "since": since});
        socket.command(&subscribe).await.unwrap();
        let subscribed = socket.push().await.unwrap();
        assert_eq!((subscribed.kind(), &subscribed.value["id"]), ("subscribed", &json!(id)));
        within("what it missed", reader.until(&far, &[2, 3])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_channels_are_away_each_transport_says_so_and_nobody_spins() {
    for fault in FAULTS {
        all_are_away(fault).await;
    }
}
