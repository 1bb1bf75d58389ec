//! Who is on a channel, as watchers of every transport see it: whatever happens, they end with the true set, and a
//! thousand who come at once are not a million messages.
#![expect(clippy::print_stdout, reason = "says what was told, for the record")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test, what is not as it should be is a panic"
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::deadline::{until_told, within};
use support::event_source::EventSource;
use support::http;
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::poll::Poll;
use support::process::{Process, command};
use support::push::Push;
use support::redis::Redis;
use support::tokens::token;
use support::websocket::{Said, WebSocket};
use throughline::session::presence::PresenceSettings;

const AUTH: &str = "[[issuers]]\nsecret = \"a secret for tests, of which everybody knows\"\n";

const LEASE: Duration = Duration::from_secs(2);
const DEBOUNCE: Duration = Duration::from_millis(500);

fn node() -> Node {
    Node::start(Setup {
        presence: Some(PresenceSettings {
            lease: LEASE,
            debounce: DEBOUNCE,
            ..PresenceSettings::default()
        }),
        ..Setup::auth(AUTH)
    })
}

fn bearer(user: &str) -> String {
    let grants = json!({"subscribe": ["*"], "presence": ["*"]});
    format!("Bearer {}", token(user, 3600, &grants))
}

/// The members as a client keeps them that knows nothing but the protocol.
#[derive(Debug, Default)]
struct View {
    users: BTreeSet<String>,
    count: Option<u64>,
    pushes: usize,
    bytes: usize,
    kinds: Vec<String>,
}

impl View {
    fn take(&mut self, push: &Push) {
        let user = |member: &Value| member["user"].as_str().unwrap().to_owned();
        match push.kind() {
            "members" => self.users = push.value["members"].as_array().unwrap().iter().map(user).collect(),
            "joined" => drop(self.users.insert(user(&push.value["member"]))),
            "left" => drop(self.users.remove(&user(&push.value["member"]))),
            _ => return,
        }
        self.kinds.push(push.kind().to_owned());
        self.count = push.value["count"].as_u64();
        self.pushes += 1;
        self.bytes += push.text.len();
    }

    fn is(&self, users: &BTreeSet<String>) -> bool {
        self.users == *users && self.count == Some(users.len() as u64)
    }
}

/// A watcher on one of the transports.
enum Watcher {
    WebSocket(WebSocket),
    EventSource(EventSource),
    Poll {
        poll: Poll,
        bearer: String,
        cursor: String,
        session: Option<String>,
        polls: usize,
    },
}

impl Watcher {
    async fn all(address: SocketAddr) -> Vec<(Self, View)> {
        let mut watchers = Vec::new();
        for transport in ["ws", "sse", "poll"] {
            watchers.push((
                Self::open(address, transport, &format!("{transport}-watcher")).await,
                View::default(),
            ));
        }
        watchers
    }

    async fn open(address: SocketAddr, transport: &str, user: &str) -> Self {
        let bearer = bearer(user);
        let query = [("channel", "room"), ("presence", "1")];
        let headers = [("authorization", &*bearer)];
        match transport {
            "ws" => Self::WebSocket(WebSocket::open_with(address, &query, &headers).await.unwrap()),
            "sse" => {
                let request = http::get(&http::target("/v1/sse", &query), &headers);
                Self::EventSource(EventSource::send(address, Receive::Usual, &request).await.unwrap())
            }
            _ => Self::Poll {
                poll: Poll::new(address, Receive::Usual),
                bearer,
                cursor: String::new(),
                session: None,
                polls: 0,
            },
        }
    }

    async fn pushes(&mut self) -> Vec<Push> {
        match self {
            Self::WebSocket(socket) => vec![socket.push().await.unwrap()],
            Self::EventSource(stream) => vec![Push::parse(stream.event().await.unwrap().data).unwrap()],
            Self::Poll {
                poll,
                bearer,
                cursor,
                session,
                polls,
            } => {
                let session_given = session.clone().unwrap_or_default();
                let query = [
                    ("channel", "room"),
                    ("presence", "1"),
                    ("wait", "20"),
                    ("since", cursor),
                    ("session", &session_given),
                ];
                if !poll.is_asking() {
                    *polls += 1;
                    let request = http::get(&http::target("/v1/poll", &query), &[("authorization", &*bearer)]);
                    poll.ask(request).await.unwrap();
                }
                let answer = poll.answer().await.unwrap();
                *cursor = answer.cursor;
                *session = answer.session;
                assert!(session.is_some(), "where presence is on, an answer has a session");
                answer.pushes
            }
        }
    }

    /// Follows until its view is this.
    async fn until(&mut self, view: &mut View, users: &BTreeSet<String>) {
        while !view.is(users) {
            for push in self.pushes().await {
                view.take(&push);
            }
        }
    }
}

fn users(of: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let watchers = ["ws-watcher", "sse-watcher", "poll-watcher"].map(str::to_owned);
    of.into_iter().chain(watchers).collect()
}

/// Everybody follows at the same time, for some of them are told only while they wait.
async fn all_until(watchers: &mut [(Watcher, View)], what: &str, users: &BTreeSet<String>) {
    let following = watchers.iter_mut().map(|(watcher, view)| watcher.until(view, users));
    within(what, futures_util::future::join_all(following)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_join_and_leave_and_every_watcher_ends_with_the_true_set() {
    const COUNT: usize = 1_000;
    let node = node();
    let mut watchers = Watcher::all(node.address).await;
    all_until(&mut watchers, "the watchers themselves", &users([])).await;

    let names: Vec<_> = (0..COUNT).map(|at| format!("user-{at:04}")).collect();
    let mut sessions = Vec::new();
    for batch in names.chunks(50) {
        let open = batch.iter().map(async |user| {
            let bearer = bearer(user);
            let headers = [("authorization", &*bearer)];
            WebSocket::open_with(node.address, &[("channel", "room")], &headers).await
        });
        sessions.extend(futures_util::future::try_join_all(open).await.unwrap());
    }
    // The thousand are less than a list holds, the watchers themselves are three more: of those beyond it, only the
    // number is told.
    let everybody: BTreeSet<_> = users(names.clone());
    let there: BTreeSet<_> = everybody.iter().take(1_000).cloned().collect();
    let following = watchers.iter_mut().map(async |(watcher, view)| {
        while view.count != Some(everybody.len() as u64) {
            for push in watcher.pushes().await {
                view.take(&push);
            }
        }
        assert_eq!(view.users, there);
    });
    within("all who came", futures_util::future::join_all(following)).await;

    // Half of them go: what is left fits into a list.
    sessions.truncate(COUNT / 2);
    all_until(&mut watchers, "half of them", &users(names[..COUNT / 2].to_vec())).await;
    drop(sessions);
    all_until(&mut watchers, "the end", &users([])).await;
    for (watcher, view) in &watchers {
        println!("{} pushes, {} bytes", view.pushes, view.bytes);
        // One by one it would have been two thousand changes for each.
        assert!(view.pushes < COUNT, "{} pushes", view.pushes);
        if let Watcher::Poll { polls, .. } = watcher {
            assert!(*polls <= view.pushes + 2, "{polls} polls for {} pushes", view.pushes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_join_as_watchers_and_the_pushes_are_not_their_square() {
    const COUNT: usize = 200;
    let node = node();
    let names: Vec<_> = (0..COUNT).map(|at| format!("user-{at:04}")).collect();
    let mut watchers = Vec::new();
    for name in &names {
        watchers.push((Watcher::open(node.address, "ws", name).await, View::default()));
    }
    let everybody: BTreeSet<_> = names.into_iter().collect();
    all_until(&mut watchers, "everybody", &everybody).await;
    let pushes: usize = watchers.iter().map(|(_, view)| view.pushes).sum();
    println!("{COUNT} watchers who join: {pushes} pushes");
    assert!(pushes < COUNT * COUNT / 4, "{pushes} pushes for {COUNT} who joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnect_within_the_debounce_makes_neither_joined_nor_left() {
    let node = node();
    let mut watchers = Watcher::all(node.address).await;
    let mut ada = Some(Watcher::open(node.address, "ws", "ada").await);
    let with_ada = users(["ada".to_owned()]);
    all_until(&mut watchers, "ada", &with_ada).await;
    let before: Vec<_> = watchers.iter().map(|(_, view)| view.pushes).collect();
    for transport in ["sse", "ws", "sse", "ws"] {
        drop(ada.take());
        ada = Some(Watcher::open(node.address, transport, "ada").await);
    }
    // Somebody else comes after all that: had anything been told of it, it would have been told before.
    let bob = Watcher::open(node.address, "ws", "bob").await;
    let with_both = users(["ada".to_owned(), "bob".to_owned()]);
    all_until(&mut watchers, "bob", &with_both).await;
    for ((_, view), before) in watchers.iter().zip(before) {
        // A poll that came back in between is told the whole.
        assert!(view.kinds[before..].iter().all(|kind| kind != "left"), "{view:?}");
        assert_eq!(view.pushes, before + 1, "{view:?}");
    }
    drop((ada, bob));
    all_until(&mut watchers, "both gone", &users([])).await;
}

/// Of many that are told at once, each says how many users and sessions there are after it.
#[tokio::test]
async fn of_changes_that_come_at_once_each_says_what_there_is_after_it() {
    const USERS: u64 = 6;
    let node = node();
    let (query, token) = ([("channel", "room"), ("presence", "1")], bearer("watcher"));
    let watcher = WebSocket::open_with(node.address, &query, &[("authorization", &token)]).await;
    let mut watcher = watcher.unwrap();
    // What it is told: how many users and sessions there were, and how many there are.
    let mut told: Vec<(String, String, u64, u64)> = Vec::new();
    let mut until_count = async |count: u64| {
        let began = told.len();
        loop {
            let push = within("a push", watcher.push()).await.unwrap();
            let [users, sessions] = ["count", "sessions"].map(|name| push.value[name].as_u64());
            if let (Some(users), Some(sessions)) = (users, sessions) {
                let user = push.value["member"]["user"].as_str().unwrap_or_default().to_owned();
                told.push((push.kind().to_owned(), user, users, sessions));
                if users == count {
                    return told.split_off(began);
                }
            }
        }
    };
    until_count(1).await;
    let mut sessions = Vec::new();
    for at in 0..USERS {
        for _ in 0..2 {
            let query = [("channel", "room")];
            let bearer = bearer(&format!("u{at}"));
            sessions.push(
                WebSocket::open_with(node.address, &query, &[("authorization", &bearer)])
                    .await
                    .unwrap(),
            );
        }
    }
    // Not all may have come within one tick; nothing is told that cannot be.
    let mut users = 1;
    let came = until_count(USERS + 1).await;
    for (kind, _, count, sessions) in &came {
        users += 1;
        assert_eq!((kind.as_str(), *count), ("joined", users), "{came:?}");
        assert!((users..=users * 2 - 1).contains(sessions), "{came:?}");
    }
    drop(sessions);
    let went = until_count(1).await;
    for (kind, _, count, sessions) in &went {
        users -= 1;
        assert_eq!((kind.as_str(), *count), ("left", users), "{went:?}");
        assert!((users..=users * 2 - 1).contains(sessions), "{went:?}");
    }
}

async fn ask(address: SocketAddr, target: &str, user: &str) -> Value {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    let bearer = bearer(user);
    link.send(&http::get(target, &[("authorization", &*bearer)]))
        .await
        .unwrap();
    let head = http::Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

async fn poll(node: &Node, user: &str, session: &str) -> Value {
    let target = http::target("/v1/poll", &[("channel", "room"), ("wait", "0"), ("session", session)]);
    ask(node.address, &target, user).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_is_there_between_two_requests_once_and_gone_after_the_lease() {
    let node = node();
    let first = poll(&node, "ada", "").await;
    let session = first["session"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let again = poll(&node, "ada", &session).await;
        assert_eq!(again["session"], session.as_str());
    }
    // For longer than the debounce, and still one session.
    let began = tokio::time::Instant::now();
    while began.elapsed() < DEBOUNCE * 2 {
        let there = ask(node.address, "/v1/presence?channel=room", "bob").await;
        if began.elapsed() < LEASE {
            assert_eq!(there["members"], json!([{"user": "ada", "sessions": 1}]));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until_told("the end of the lease", async || there(node.address).await["count"] == 0).await;
}

/// Whoever hands back no session does not become many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_that_hand_nothing_back_are_one_session_of_their_user() {
    let node = node();
    for _ in 0..20 {
        poll(&node, "ada", "").await;
    }
    let there = ask(node.address, "/v1/presence?channel=room", "bob").await;
    assert_eq!(there["sessions"], 1, "{there}");
}

/// A session that was overheard is of no use to anybody else: neither to be taken for its user, nor to end it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_somebody_else_hands_back_is_a_new_one() {
    let node = node();
    let first = poll(&node, "ada", "").await;
    let session = first["session"].as_str().unwrap().to_owned();
    poll(&node, "ada", &session).await;
    let stolen = poll(&node, "eve", &session).await;
    assert_ne!(stolen["session"], session.as_str());
    let there = ask(node.address, "/v1/presence?channel=room", "bob").await;
    let users: Vec<_> = there["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| &member["user"])
        .collect();
    assert_eq!(users, ["ada", "eve"]);
    for forged in [
        "x",
        "'; drop",
        &"f".repeat(32),
        &"0".repeat(100_000 / 8),
        "\u{0}\u{202e}",
    ] {
        let new = poll(&node, "eve", forged).await;
        assert_eq!(new["session"].as_str().unwrap().len(), 32, "{forged:?}");
    }
}

/// Presence is a state: whoever does not read while hundreds come and go is told how it stands, not all that happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_ends_with_the_true_set_and_costs_no_queue() {
    const ROUNDS: usize = 40;
    let node = node();
    let mut slow = Watcher::open(node.address, "ws", "slow").await;
    let mut view = View::default();
    within("itself", slow.until(&mut view, &BTreeSet::from(["slow".to_owned()]))).await;
    let padding = "x".repeat(200);
    let mut sessions = Vec::new();
    for round in 0..ROUNDS {
        sessions.clear();
        for at in 0..20 {
            let bearer = bearer(&format!("{padding}-{round}-{at}"));
            let headers = [("authorization", &*bearer)];
            let open = WebSocket::open_with(node.address, &[("channel", "room")], &headers).await;
            sessions.push(open.unwrap());
        }
    }
    let last = (0..20).map(|at| format!("{padding}-{}-{at}", ROUNDS - 1));
    let expected: BTreeSet<_> = last.chain(["slow".to_owned()]).collect();
    within("the true set", slow.until(&mut view, &expected)).await;
    println!(
        "{} came and went: {} pushes, {} bytes",
        ROUNDS * 20,
        view.pushes,
        view.bytes
    );
    let Watcher::WebSocket(mut socket) = slow else { return };
    socket.command(&json!({"type": "ping"})).await.unwrap();
    loop {
        match within("the pong", socket.next()).await.unwrap() {
            Said::Push(push) if push.kind() == "pong" => break,
            Said::Push(push) => view.take(&push),
            Said::Closed { code, reason } => panic!("closed with {code} {reason}"),
        }
    }
    assert!(view.is(&expected));
}

/// A node as a process of its own, on a Redis that others share.
async fn process(redis: &Redis) -> Process {
    process_with(redis, LEASE, DEBOUNCE).await
}

async fn process_with(redis: &Redis, lease: Duration, debounce: Duration) -> Process {
    let mut command = command(&[], &["serve", "--listen", "127.0.0.1:0"]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/config/presence.toml");
    command
        .env("THROUGHLINE_CONFIG", config)
        .env("THROUGHLINE_ENGINE__KIND", "redis")
        .env("THROUGHLINE_ENGINE__REDIS__URL", redis.url())
        .env("THROUGHLINE_PRESENCE__ENABLED", "true")
        .env("THROUGHLINE_PRESENCE__LEASE_S", lease.as_secs().to_string())
        .env("THROUGHLINE_PRESENCE__DEBOUNCE_MS", debounce.as_millis().to_string());
    let process = Process::start(command).await;
    until_told("a node that is ready", async || {
        status(process.address, "/readyz").await == 200
    })
    .await;
    process
}

/// Who is in the room, as a node answers it.
async fn there(address: SocketAddr) -> Value {
    ask(address, "/v1/presence?channel=room", "bob").await
}

async fn status(address: SocketAddr, target: &str) -> u16 {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(&http::get(target, &[])).await.unwrap();
    http::Head::read(&mut link).await.unwrap().unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_no_ghost_after_its_lease() {
    let redis = Redis::start(&[]).await;
    // A poll's first answer is not handed back while others are waited for: its user is kept for that long.
    let (mut first, second) = tokio::join!(process_with(&redis, LEASE, LEASE), process_with(&redis, LEASE, LEASE));
    let mut watchers = Watcher::all(second.address).await;
    let mut ada = Watcher::open(first.address, "ws", "ada").await;
    let bob = Watcher::open(second.address, "sse", "bob").await;
    let both = users(["ada".to_owned(), "bob".to_owned()]);
    all_until(&mut watchers, "both, of two nodes", &both).await;
    within("the same at the other node", ada.until(&mut View::default(), &both)).await;
    let there = ask(first.address, "/v1/presence?channel=room", "x").await;
    assert_eq!(there["count"], 5, "{there}");

    let began = tokio::time::Instant::now();
    first.child.kill().await.unwrap();
    assert!(first.child.try_wait().unwrap().is_some(), "the node is gone");
    all_until(&mut watchers, "the end of the ghost", &users(["bob".to_owned()])).await;
    println!("no ghost {:?} after the kill, of a lease of {LEASE:?}", began.elapsed());
    let there = ask(second.address, "/v1/presence?channel=room", "x").await;
    assert_eq!(there["count"], 4, "{there}");
    for (_, view) in &watchers {
        assert!(
            view.kinds.iter().filter(|kind| *kind == "left").count() <= 1,
            "{view:?}"
        );
    }
    drop((ada, bob));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_to_another_node_has_neither_left_nor_joined() {
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    let mut watchers = Watcher::all(second.address).await;
    let mut ada = Some(Watcher::open(first.address, "ws", "ada").await);
    all_until(&mut watchers, "ada", &users(["ada".to_owned()])).await;
    let before: Vec<_> = watchers.iter().map(|(_, view)| view.pushes).collect();
    for address in [second.address, first.address, second.address] {
        drop(ada.take());
        ada = Some(Watcher::open(address, "ws", "ada").await);
    }
    let bob = Watcher::open(first.address, "ws", "bob").await;
    all_until(&mut watchers, "bob", &users(["ada".to_owned(), "bob".to_owned()])).await;
    for ((_, view), before) in watchers.iter().zip(before) {
        assert_eq!(view.pushes, before + 1, "{view:?}");
    }
    drop((ada, bob));
    all_until(&mut watchers, "nobody", &users([])).await;
}

/// A poll goes from node to node and is one session, wherever it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_on_two_nodes_in_turn_is_one_session() {
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    let mut session = String::new();
    for address in [first.address, second.address, first.address, second.address] {
        let target = http::target("/v1/poll", &[("channel", "room"), ("wait", "0"), ("session", &session)]);
        let answer = ask(address, &target, "ada").await;
        let given = answer["session"].as_str().unwrap().to_owned();
        assert!(session.is_empty() || session == given, "{session} {given}");
        session = given;
    }
    for address in [first.address, second.address] {
        until_told("one session", async || {
            let there = there(address).await;
            assert_eq!(there["count"], 1, "{there}");
            there["sessions"] == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_everything_knows_who_is_there_again() {
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    let ada = Watcher::open(first.address, "ws", "ada").await;
    let seen = async |what: &str, count: u64| {
        until_told(what, async || there(second.address).await["count"] == count).await;
    };
    seen("ada", 1).await;
    redis.ask::<()>(&["FLUSHALL"]).await;
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]).await, 0, "all is lost");
    seen("ada again", 1).await;
    drop(ada);
    seen("nobody", 0).await;
}

/// All leases end meanwhile, for nobody can renew them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_longer_than_a_lease_sends_nobody_away() {
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    let mut watchers = Watcher::all(second.address).await;
    // Not the one that polls: it has to come back within its own lease.
    watchers.truncate(2);
    let mut ada = Watcher::open(first.address, "ws", "ada").await;
    let bob = Watcher::open(second.address, "ws", "bob").await;
    let users = |of: &[&str]| -> BTreeSet<_> {
        let watchers = ["ws-watcher", "sse-watcher"];
        watchers.iter().chain(of).map(|user| (*user).to_owned()).collect()
    };
    let both = users(&["ada", "bob"]);
    all_until(&mut watchers, "both, of two nodes", &both).await;
    redis.freeze();
    tokio::time::sleep(3 * LEASE).await;
    redis.thaw();
    // Whoever comes now is seen, and that tells when all nodes have spoken to each other again.
    let eve = Watcher::open(first.address, "ws", "eve").await;
    let all = users(&["ada", "bob", "eve"]);
    all_until(&mut watchers, "who came after it", &all).await;
    tokio::time::sleep(2 * LEASE).await;
    drop(eve);
    all_until(&mut watchers, "who went long after it", &both).await;
    for (_, view) in &watchers {
        let left = view.kinds.iter().filter(|kind| *kind == "left").count();
        assert!(left <= 1, "nobody but the one that went: {view:?}");
    }
    within("the same at the other node", ada.until(&mut View::default(), &both)).await;
    drop(bob);
}

/// All tabs of a user go from two nodes at once, and come back later at the other node: at no moment was the user away.
/// Each node let the last one there go at once, for it knew of one elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_that_swap_their_nodes_have_neither_left_nor_joined() {
    /// Whoever comes back, comes back before that on any machine, and so does who polls.
    const LONG: Duration = Duration::from_secs(600);
    let redis = Redis::start(&[]).await;
    let process = || process_with(&redis, LONG, LONG);
    let (first, second) = tokio::join!(process(), process());
    let nodes = [first.address, second.address];
    let sessions = async |what: &str, is_so: &dyn Fn(u64) -> bool| {
        for node in nodes {
            until_told(what, async || is_so(there(node).await["sessions"].as_u64().unwrap())).await;
        }
    };
    let mut watchers = Watcher::all(second.address).await;
    // Two at each node: that one of them is gone tells that the node has seen them go.
    let mut tabs = Vec::new();
    for node in [nodes, nodes].concat() {
        tabs.push(Watcher::open(node, "ws", "ada").await);
    }
    all_until(&mut watchers, "ada", &users(["ada".to_owned()])).await;
    sessions("all tabs, at both nodes", &|count| count == 3 + 4).await;
    let before: Vec<_> = watchers.iter().map(|(_, view)| view.pushes).collect();
    tabs.clear();
    sessions("the end of the tabs, at both nodes", &|count| count <= 3 + 2).await;
    // Who comes after that is told after that.
    let bob = Watcher::open(first.address, "ws", "bob").await;
    for node in nodes {
        let mut members = Value::Null;
        until_told("bob, at both nodes", async || {
            members = there(node).await["members"].take();
            members.to_string().contains("\"bob\"")
        })
        .await;
        assert!(members.to_string().contains("\"ada\""), "{members}");
    }
    all_until(&mut watchers, "bob", &users(["ada".to_owned(), "bob".to_owned()])).await;
    for node in nodes {
        tabs.push(Watcher::open(node, "ws", "ada").await);
    }
    let eve = Watcher::open(second.address, "ws", "eve").await;
    let all = users(["ada".to_owned(), "bob".to_owned(), "eve".to_owned()]);
    all_until(&mut watchers, "eve", &all).await;
    for ((_, view), before) in watchers.iter().zip(before) {
        assert_eq!(view.pushes, before + 2, "{view:?}");
    }
    drop((tabs, bob, eve));
}

/// What is kept of a channel is let go of when nobody is on it any more, on both nodes; else a server that runs for long
/// keeps all that ever were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_nobody_is_on_are_forgotten_on_every_node() {
    const CHANNELS: usize = 50;
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    let kept = async |address: SocketAddr| {
        let mut link = Link::connect(address, Receive::Usual).await.unwrap();
        let key = support::tokens::api_key('O');
        link.send(&http::get("/metrics", &[("x-api-key", &key)])).await.unwrap();
        let head = http::Head::read(&mut link).await.unwrap().unwrap();
        let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
        let text = String::from_utf8(body).unwrap();
        let value = |line: &str| {
            line.strip_prefix("throughline_presence_channels ")?
                .parse::<usize>()
                .ok()
        };
        text.lines()
            .find_map(value)
            .unwrap_or_else(|| panic!("no such metric: {} {text}", head.status))
    };
    let mut sessions = Vec::new();
    for at in 0..CHANNELS {
        let channel = format!("room-{at}");
        let bearer = bearer("ada");
        for (address, query) in [
            (first.address, vec![("channel", &*channel)]),
            (second.address, vec![("channel", &*channel), ("presence", "1")]),
        ] {
            let socket = WebSocket::open_with(address, &query, &[("authorization", &bearer)]).await;
            sessions.push(socket.unwrap());
        }
    }
    for address in [first.address, second.address] {
        until_told("all channels", async || kept(address).await >= CHANNELS).await;
    }
    drop(sessions);
    for address in [first.address, second.address] {
        until_told("none of them", async || kept(address).await == 0).await;
    }
}

/// A token of this user of whom this is said.
fn saying(user: &str, info: &Value, seconds: u64) -> String {
    let grants = json!({"subscribe": ["*"], "presence": ["*"], "info": info});
    token(user, seconds, &grants)
}

/// Waits until a watcher is told of this user with this `info`, and of nobody who left.
async fn until_said(watcher: &mut Watcher, user: &str, info: &Value, count: u64) {
    let told = async {
        loop {
            for push in watcher.pushes().await {
                assert!(
                    push.kind() != "left" || push.value["member"]["user"] != user,
                    "{}",
                    push.text
                );
                let of_user = |member: &Value| member["user"] == user && member["info"] == *info;
                let is_told = match push.kind() {
                    "joined" => of_user(&push.value["member"]),
                    "members" => push.value["members"].as_array().unwrap().iter().any(of_user),
                    _ => false,
                };
                if is_told {
                    assert_eq!(push.value["count"], count, "{}", push.text);
                    return;
                }
            }
        }
    };
    within("what is said of the user", told).await;
}

/// All of them at the same time, for a poll is there only as long as it comes back.
async fn all_until_said(watchers: &mut [(Watcher, View)], info: &Value) {
    let following = watchers
        .iter_mut()
        .map(|(watcher, _)| until_said(watcher, "ada", info, 4));
    futures_util::future::join_all(following).await;
}

async fn what_is_said_is_seen(here: SocketAddr, there: SocketAddr) {
    let mut watchers = Watcher::all(there).await;
    let first = format!("Bearer {}", saying("ada", &json!({"status": "here"}), 600));
    let headers = [("authorization", &*first)];
    let mut ada = WebSocket::open_with(here, &[("channel", "room")], &headers)
        .await
        .unwrap();
    all_until(&mut watchers, "ada", &users(["ada".to_owned()])).await;
    // By a new token: she has not left, and is as many as before.
    let refresh = saying("ada", &json!({"status": "away"}), 700);
    ada.command(&json!({"type": "refresh", "id": 1, "token": refresh}))
        .await
        .unwrap();
    all_until_said(&mut watchers, &json!({"status": "away"})).await;
    // By another session, and when that goes.
    let other = format!("Bearer {}", saying("ada", &json!({"status": "phone"}), 600));
    let headers = [("authorization", &*other)];
    let phone = WebSocket::open_with(here, &[("channel", "room")], &headers)
        .await
        .unwrap();
    all_until_said(&mut watchers, &json!({"status": "phone"})).await;
    drop(phone);
    all_until_said(&mut watchers, &json!({"status": "away"})).await;
    let listed = ask(there, "/v1/presence?channel=room", "ws-watcher").await;
    let ada = listed["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["user"] == "ada");
    assert_eq!(
        ada.unwrap(),
        &json!({"user": "ada", "sessions": 1, "info": {"status": "away"}})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_token_says_of_its_user_is_seen_and_nobody_has_left() {
    let node = node();
    what_is_said_is_seen(node.address, node.address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_token_says_of_its_user_is_seen_at_other_nodes() {
    let redis = Redis::start(&[]).await;
    let (first, second) = tokio::join!(process(&redis), process(&redis));
    what_is_said_is_seen(first.address, second.address).await;
}

/// A poll that comes back with another token is the same session, of which something else is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_with_a_new_token_says_something_else() {
    let node = node();
    let mut watcher = Watcher::open(node.address, "ws", "watcher").await;
    let mut session = String::new();
    for status in ["here", "away", "back"] {
        let info = json!({"status": status});
        let bearer = format!("Bearer {}", saying("ada", &info, 600));
        let query = [("channel", "room"), ("wait", "0"), ("session", &*session)];
        let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
        link.send(&http::get(
            &http::target("/v1/poll", &query),
            &[("authorization", &bearer)],
        ))
        .await
        .unwrap();
        let head = http::Head::read(&mut link).await.unwrap().unwrap();
        let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let given = answer["session"].as_str().unwrap().to_owned();
        assert!(session.is_empty() || session == given);
        session = given;
        until_said(&mut watcher, "ada", &info, 2).await;
    }
}
