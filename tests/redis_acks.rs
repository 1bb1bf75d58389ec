//! Publications that replicas must have before they are acknowledged: nothing is said to be replicated that is not.
//!
//! The replica is a real one, which is stopped (`SIGSTOP`) or cut off, and asked what it has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::deadline::{PATIENCE, until, until_told, within};
use support::http;
use support::link::Receive;
use support::node::{Node, Setup};
use support::publisher::Publisher;
use support::redis::{Redis, engine};
use support::redis_proxy::Proxy;
use support::served::Served;
use support::websocket::{Said, WebSocket};
use throughline::delivery::{
    Ack, ChannelName, Draft, Engine, EngineErrorKind, IdempotencyKey, LogPolicy, Published, Replicas, Shortfall, Since,
};
use throughline::engine::{MemoryEngine, RedisEngine, System};
use tokio::time::Instant;

/// A primary, its replica, and what lies between them.
struct Pair {
    primary: Redis,
    replica: Redis,
    link: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let primary = Redis::start(&[]).await;
        let link = Proxy::start(primary.port).await;
        let port = link.port.to_string();
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
        let pair = Self { primary, replica, link };
        pair.is_linked().await;
        pair
    }

    /// How many replicas have what is written now. It has to be asked over the connection that wrote.
    async fn reached(&self) -> u32 {
        let mut connection = self.primary.try_connect().await.unwrap();
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("SET")
            .arg("probe")
            .arg(1)
            .ignore()
            .cmd("WAIT")
            .arg(1)
            .arg(100);
        let (reached,) = pipeline.query_async(&mut connection).await.unwrap();
        reached
    }

    /// Waits until the replica has what is written.
    async fn is_linked(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.reached().await < 1 {
            assert!(Instant::now() < deadline, "no replication");
        }
    }

    async fn engine(&self) -> Arc<RedisEngine> {
        engine(&self.primary.url()).await
    }

    /// A node that acknowledges what one replica has.
    async fn node(&self) -> (Node, Arc<RedisEngine>) {
        let engine = self.engine().await;
        let setup = Setup {
            engine: Some(Arc::clone(&engine) as Arc<dyn Engine>),
            ..Setup::default()
        };
        let node = Node::start(setup.acknowledging(replicated(1, 300)));
        (node, engine)
    }
}

fn replicated(count: u32, timeout_ms: u64) -> Ack {
    Ack::Replicated(Replicas {
        count: NonZeroU32::new(count).unwrap(),
        timeout_ms,
    })
}

fn draft(channel: &str, data: &str, key: Option<&str>, ack: Ack) -> Draft {
    Draft {
        channel: ChannelName::parse(channel).unwrap(),
        data: data.to_owned().into(),
        event: None,
        sender: None,
        key: key.map(|key| IdempotencyKey {
            publisher: "".into(),
            key: key.into(),
            nth: 0,
        }),
        policy: LogPolicy {
            count_max: 1_000,
            bytes_max: 1 << 20,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack,
    }
}

async fn publish(engine: &dyn Engine, draft: Draft) -> Result<Published, EngineErrorKind> {
    engine.publish(&[draft]).await.remove(0).map_err(|error| error.kind())
}

/// Repeats, as a publisher does, until it is acknowledged: a machine may be slow.
async fn publish_until_acknowledged(engine: &dyn Engine, batch: &[Draft]) -> Vec<Published> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let results: Result<Vec<_>, _> = engine.publish(batch).await.into_iter().collect();
        match results {
            Ok(published) => return published,
            Err(error) => assert!(Instant::now() < deadline && error.is_retryable(), "{error}"),
        }
    }
}

async fn holds(engine: &dyn Engine, channel: &str) -> usize {
    let channel = ChannelName::parse(channel).unwrap();
    let page = engine.history(&channel, Since::Start, 1_000).await.unwrap();
    page.publications.len()
}

async fn send(publisher: &mut Publisher, key: &str) -> (u16, Value) {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let request = http::post("/v1/publish", &headers, br#"{"channel":"a","data":1}"#);
    within("an answer", publisher.send(&request)).await.unwrap()
}

/// The same over HTTP.
async fn send_until_acknowledged(publisher: &mut Publisher, key: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match send(publisher, key).await {
            (200, answer) => return answer,
            (503, answer) => assert!(Instant::now() < deadline, "{answer}"),
            (status, answer) => panic!("{status}: {answer}"),
        }
    }
}

const NONE_OF_ONE: EngineErrorKind = EngineErrorKind::NotReplicated(Shortfall { reached: 0, wanted: 1 });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_has_is_acknowledged_as_replicated_on_every_way_to_publish() {
    let pair = Pair::start().await;
    let (node, engine) = pair.node().await;
    let mut publisher = Publisher::new(node.address);
    let first = send_until_acknowledged(&mut publisher, "k").await;
    assert_eq!(first["ack"], "replicated", "{first}");
    // The replica's word for it, not the primary's.
    let on_replica: Vec<String> = pair.replica.ask(&["KEYS", "*{a}:*"]).await;
    assert_eq!(on_replica.len(), 3, "a top, a log and a key: {on_replica:?}");
    let again = send_until_acknowledged(&mut publisher, "k").await;
    assert_eq!(
        (&again["duplicate"], &again["ack"]),
        (&json!(true), &json!("replicated"))
    );
    assert_eq!(again["position"], first["position"]);

    let batch = json!([{"channel": "a", "data": 2}, {"channel": "b", "data": 3}]).to_string();
    let request = http::post("/v1/publish", &[("content-type", "application/json")], batch.as_bytes());
    let (status, answer) = publisher.send(&request).await.unwrap();
    let acks: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["ack"])
        .collect();
    assert_eq!((status, acks), (200, vec![&json!("replicated"); 2]), "{answer}");

    let mut websocket = WebSocket::open(node.address, Receive::Usual, &[]).await.unwrap();
    let command = json!({"type": "publish", "id": 7, "channel": "a", "data": 4});
    websocket.command(&command).await.unwrap();
    let reply = reply(&mut websocket, "published").await;
    assert_eq!(
        (&reply["ack"], &reply["id"]),
        (&json!("replicated"), &json!(7)),
        "{reply}"
    );
    assert_eq!(holds(&*engine, "a").await, 3);
}

/// The next push of a type, as JSON.
async fn reply(websocket: &mut WebSocket, kind: &str) -> Value {
    within("a reply", async {
        loop {
            if let Said::Push(push) = websocket.next().await.unwrap()
                && push.kind() == kind
            {
                return push.value;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_finds_its_publication_stored_is_not_acknowledged_while_the_replica_is_away() {
    let pair = Pair::start().await;
    let (node, engine) = pair.node().await;
    let mut publisher = Publisher::new(node.address);
    send_until_acknowledged(&mut publisher, "before").await;
    for fault in ["stopped", "cut off"] {
        let stored = holds(&*engine, "a").await;
        if fault == "stopped" {
            pair.replica.freeze();
        } else {
            pair.link.lead_to(0);
        }
        // The fault takes place: what is written now does not arrive.
        assert_eq!(pair.reached().await, 0, "the replica is {fault}");
        for attempt in 0..3 {
            let (status, answer) = send(&mut publisher, fault).await;
            assert_eq!(
                (status, &answer["code"], &answer["outcome"]),
                (503, &json!("engine_unavailable"), &json!("stored")),
                "{fault}, attempt {attempt}: {answer}"
            );
            let detail = answer["detail"].as_str().unwrap();
            assert!(detail.contains("0 of 1 replicas"), "{detail}");
            assert_eq!(holds(&*engine, "a").await, stored + 1, "it was stored once");
        }
        pair.replica.thaw();
        pair.link.lead_to(pair.primary.port);
        pair.is_linked().await;
        let answer = send_until_acknowledged(&mut publisher, fault).await;
        let said = (&answer["duplicate"], &answer["ack"]);
        assert_eq!(said, (&json!(true), &json!("replicated")), "{fault}: {answer}");
        assert_eq!(holds(&*engine, "a").await, stored + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_writes_so_that_replicas_can_be_waited_for() {
    let pair = Pair::start().await;
    let engine = pair.engine().await;
    let key = "throughline:{a}:key:0:0::k";
    let keyed = |ack| draft("a", "1", Some("k"), ack);
    publish_until_acknowledged(&*engine, &[keyed(replicated(1, 800))]).await;
    for (ack, is_renewed) in [(Ack::Stored, false), (replicated(1, 800), true)] {
        pair.primary.pass_ms(60_000);
        let before: i64 = pair.primary.ask(&["PTTL", key]).await;
        assert!(
            (1..=240_000).contains(&before),
            "a minute has passed: {before} ms are left"
        );
        assert!(publish_until_acknowledged(&*engine, &[keyed(ack)]).await[0].duplicate);
        let after: i64 = pair.primary.ask(&["PTTL", key]).await;
        assert_eq!(after > 240_000, is_renewed, "{ack:?}: {before} ms became {after} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_replicas_holds_up_nobody_who_does_not_ask_for_them() {
    let pair = Pair::start().await;
    let engine = pair.engine().await;
    let deadline = Instant::now() + PATIENCE;
    // Once is enough: where others are held up, they come last each time.
    for round in 0.. {
        assert!(
            Instant::now() < deadline,
            "in {round} rounds, those who wait were answered first"
        );
        let channel = format!("many:{round}");
        // Two are asked for, and there is one. More publications than there are connections to wait on.
        let many = (0..16).map(|n| publish(&*engine, draft(&channel, &n.to_string(), None, replicated(2, 1_600))));
        let mut many = Box::pin(join_all(many));
        let others = async {
            until_told("what is waited for", async || holds(&*engine, &channel).await > 0).await;
            let stored = draft("other", "1", None, Ack::Stored);
            let replicated = draft("other", "2", Some(&channel), replicated(1, 800));
            let published = publish_until_acknowledged(&*engine, &[stored, replicated]).await;
            (published[0].replicated, published[1].replicated)
        };
        let are_first = tokio::select! {
            biased;
            results = &mut many => {
                none_was_acknowledged(&results);
                continue;
            }
            others = within("the others' answers", others) => others,
        };
        assert_eq!(are_first, (false, true));
        none_was_acknowledged(&many.await);
        return;
    }
}

/// One of two replicas had what was stored; those that found no connection in time were not stored.
fn none_was_acknowledged(results: &[Result<Published, EngineErrorKind>]) {
    let short = EngineErrorKind::NotReplicated(Shortfall { reached: 1, wanted: 2 });
    for result in results {
        let is_true = [
            Err(short),
            Err(EngineErrorKind::Unavailable),
            Err(EngineErrorKind::Unanswered),
        ]
        .contains(result);
        assert!(is_true, "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_in_its_order_whatever_each_asks_for() {
    let pair = Pair::start().await;
    let engine = pair.engine().await;
    let ack = |n: usize| {
        if n.is_multiple_of(3) {
            Ack::Stored
        } else {
            replicated(1, 100 + u64::try_from(n % 3).unwrap())
        }
    };
    let name = |n: usize| format!("{}", n % 3);
    let keyed = |n: usize| draft(&name(n), &n.to_string(), Some(&n.to_string()), ack(n));
    let batch: Vec<_> = (0..60).map(keyed).collect();
    for (n, published) in publish_until_acknowledged(&*engine, &batch).await.iter().enumerate() {
        let expected = (u64::try_from(n / 3 + 1).unwrap(), !n.is_multiple_of(3));
        assert_eq!((published.position.offset, published.replicated), expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_share_few_connections_and_few_waits() {
    let pair = Pair::start().await;
    let engine = pair.engine().await;
    let _: () = pair.primary.ask(&["CONFIG", "RESETSTAT"]).await;
    let drafts: Vec<_> = (0..400)
        .map(|n| {
            [draft(
                &format!("c{}", n % 7),
                "1",
                Some(&n.to_string()),
                replicated(1, 800),
            )]
        })
        .collect();
    let all = drafts.iter().map(|draft| publish_until_acknowledged(&*engine, draft));
    let results = join_all(all).await;
    assert!(results.iter().all(|published| published[0].replicated));
    let stats: String = pair.primary.ask(&["INFO", "commandstats"]).await;
    let calls = |name: &str| {
        let calls = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
        calls.unwrap().split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let (waits, stored) = (calls("cmdstat_wait"), calls("cmdstat_evalsha"));
    assert!(
        stored >= 400 && waits < stored / 2,
        "{waits} waits for {stored} publications"
    );
    let clients: String = pair.primary.ask(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    let waiting = clients.lines().filter(|line| line.contains("cmd=wait")).count();
    assert!((1..=4).contains(&waiting), "{clients}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_while_it_is_waited_for_is_answered_in_time_and_not_as_replicated() {
    let pair = Pair::start().await;
    let engine = pair.engine().await;
    let keyed = || draft("a", "1", Some("k"), replicated(1, 800));
    publish_until_acknowledged(&*engine, &[draft("a", "0", Some("0"), replicated(1, 800))]).await;
    pair.replica.freeze();
    let waiting = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { publish(&*engine, keyed()).await }
    });
    until_told("what is waited for", async || holds(&*engine, "a").await == 2).await;
    // It is stored and not replicated. If it was answered by now, it was answered with that.
    pair.primary.freeze();
    let answer = within("an answer", waiting).await.unwrap();
    assert!(
        [Err(EngineErrorKind::Unanswered), Err(NONE_OF_ONE)].contains(&answer),
        "{answer:?}"
    );
    let asked = Instant::now();
    let refused = within("an answer", publish(&*engine, keyed())).await;
    let is_known = [Err(EngineErrorKind::Unanswered), Err(EngineErrorKind::Unavailable)].contains(&refused);
    assert!(is_known, "{refused:?}");
    let took = asked.elapsed();
    // Two seconds, and what a slow machine needs beyond them.
    assert!(took < Duration::from_secs(4), "refused after {took:?}");
    pair.primary.thaw();
    pair.replica.thaw();
    let published = &publish_until_acknowledged(&*engine, &[keyed()]).await[0];
    assert!(published.duplicate && published.replicated);
    assert_eq!(holds(&*engine, "a").await, 2, "stored once");
}

/// Redis was said to be of no use at all.
#[tokio::test]
async fn where_only_waiting_for_replicas_fails_it_is_said_of_that() {
    let redis = Redis::start(&[]).await;
    let node = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &redis.url()),
        ("THROUGHLINE_PUBLISHING__ACK", "replicated"),
    ])
    .await;
    let mut publisher = Publisher::new(node.address);
    until_told("a node that is ready", async || {
        publisher.status(&http::get("/readyz", &[])).await.unwrap() == 200
    })
    .await;
    // Those that are there stay.
    let _: () = redis.ask(&["CONFIG", "SET", "maxclients", "1"]).await;
    let (status, _) = send(&mut publisher, "a").await;
    assert_eq!(status, 503);
    until("a reason", || {
        node.said().contains("it has as many connections as it may")
    })
    .await;
    let said = node.said();
    assert!(
        said.contains("publications that replicas must have") && !said.contains("Redis cannot be used"),
        "{said}"
    );
    assert_eq!(publisher.status(&http::get("/readyz", &[])).await.unwrap(), 200);
}

#[tokio::test]
async fn the_memory_engine_claims_no_replicas() {
    let engine = MemoryEngine::new(Arc::new(System));
    assert_eq!(
        publish(&engine, draft("a", "1", None, replicated(1, 100))).await,
        Err(NONE_OF_ONE)
    );
    let stored = publish(&engine, draft("a", "2", None, Ack::Stored)).await.unwrap();
    assert!(!stored.replicated && stored.position.offset == 2);
}
