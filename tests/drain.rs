//! The end of a process: everybody is told, nothing that was accepted is lost, and it ends whatever clients do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says what happened")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use support::deadline::within;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::publisher::Publisher;
use support::service::{Service, Start};
use support::traffic::{self, ENVIRONMENT, Traffic, Until};
use support::websocket::{Said, WebSocket};

/// What is promised for a stop, whatever clients do.
const STOP_TIME: Duration = Duration::from_secs(30);

async fn status(link: &mut Link, request: &[u8]) -> Head {
    link.send(request).await.unwrap();
    let head = Head::read(link).await.unwrap().expect("an answer");
    head.body().unwrap().read_to_end(link).await.unwrap();
    head
}

/// Publishers publish until they are refused; every reader must have all that was acknowledged before it was sent away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_reaches_everybody_before_the_end() {
    let mut process = Service::start(Start {
        environment: &ENVIRONMENT,
        ..Start::default()
    });
    let address = process.address().await;
    let mut traffic = Traffic::begin(address, "drained", Until::SentAway);
    traffic.goes_on(50).await;
    let ledger = std::sync::Arc::clone(&traffic.ledger);
    process.signal("TERM").await;
    let reads = traffic.sent_away().await;
    assert!(process.ends().await.success(), "{}", process.said());
    for read in reads {
        assert_eq!(read.offset, ledger.acked(), "over {:?}", read.transport);
    }
}

/// Kolmogorov and Smirnov: how far what came is from evenly spread, at most, as a share of all.
fn unevenness(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let (least, span) = (samples[0], samples[samples.len() - 1] - samples[0]);
    let count = f64::from(u32::try_from(samples.len()).unwrap());
    let distances = samples.iter().zip(0_u32..).map(|(sample, rank)| {
        let expected = (sample - least) / span;
        let rank = f64::from(rank);
        (expected - rank / count)
            .abs()
            .max((expected - (rank + 1.0) / count).abs())
    });
    distances.fold(0.0, f64::max)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_sent_away_evenly_and_come_back_evenly() {
    const SESSIONS: u32 = 200;
    const WINDOW: Duration = Duration::from_secs(2);
    let setup = Setup {
        drain_window: WINDOW,
        ..Setup::default()
    };
    let mut node = Node::start(setup);
    let mut sockets = Vec::new();
    for _ in 0..SESSIONS {
        let mut socket = WebSocket::open(node.address, Receive::Usual, &[]).await.unwrap();
        assert_eq!(socket.push().await.unwrap().kind(), "welcome");
        sockets.push(socket);
    }
    node.begin_shutdown();
    let began = Instant::now();
    let told = sockets.into_iter().map(|mut socket| {
        tokio::spawn(async move {
            let push = socket.push().await.unwrap();
            let told = (
                began.elapsed().as_secs_f64() * 1000.0,
                traffic::retry_ms(&push).unwrap(),
            );
            match socket.next().await.unwrap() {
                Said::Closed { code, .. } => assert_eq!(code, 1012),
                Said::Push(push) => panic!("{} after its closing", push.text),
            }
            told
        })
    });
    let (mut retries, mut returns) = (Vec::new(), Vec::new());
    for told in told.collect::<Vec<_>>() {
        let (at_ms, retry_ms) = told.await.unwrap();
        assert!((500..=2_500).contains(&retry_ms), "{retry_ms}");
        retries.push(f64::from(u32::try_from(retry_ms).unwrap()));
        returns.push(at_ms + retries[retries.len() - 1]);
    }
    node.stopped().await;
    // 1.36/√n is what chance alone would exceed once in twenty times.
    let bound = 1.36 / f64::from(SESSIONS).sqrt();
    let (retries, returns) = (unevenness(retries), unevenness(returns));
    assert!(retries < bound, "the delays: {retries:.3}, at most {bound:.3}");
    // Batches, and a machine that is slow, are added to it.
    assert!(
        returns < 2.0 * bound,
        "the returns: {returns:.3}, at most {:.3}",
        2.0 * bound
    );
    println!("unevenness of the delays {retries:.3}, of the returns {returns:.3}");
}

async fn draining_with_sessions(window_ms: &str) -> (Service, SocketAddr, Vec<WebSocket>) {
    let mut process = Service::start(Start {
        environment: &[("THROUGHLINE_DRAIN__WINDOW_MS", window_ms)],
        ..Start::default()
    });
    let address = process.address().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = WebSocket::open(address, Receive::Usual, &[]).await.unwrap();
        socket.push().await.unwrap();
        sockets.push(socket);
    }
    (process, address, sockets)
}

#[tokio::test]
async fn a_draining_node_answers_who_asks_and_keeps_no_connection() {
    let (mut process, address, _sockets) = draining_with_sessions("600000").await;
    let mut kept = Link::connect(address, Receive::Usual).await.unwrap();
    let before = status(&mut kept, &http::get("/readyz", &[])).await;
    assert_eq!((before.status, before.header("connection")), (200, ""));
    process.signal("TERM").await;
    within("a node that is not ready", async {
        let mut head = before;
        while head.status != 503 {
            let mut link = Link::connect(address, Receive::Usual).await.unwrap();
            head = status(&mut link, &http::get("/readyz", &[])).await;
        }
    })
    .await;
    let refused = status(&mut kept, &http::get("/readyz", &[])).await;
    assert_eq!((refused.status, refused.header("connection")), (503, "close"));
    assert!(!kept.read().await.unwrap(), "and it is closed");
    for (target, expected) in [("/livez", 200), ("/readyz", 503), ("/v1/history?channel=a", 200)] {
        let mut link = Link::connect(address, Receive::Usual).await.unwrap();
        let head = status(&mut link, &http::get(target, &[])).await;
        assert_eq!(
            (head.status, head.header("connection")),
            (expected, "close"),
            "{target}"
        );
    }
    let publication = http::post(
        "/v1/publish",
        &[],
        json!({"channel": "a", "data": 1}).to_string().as_bytes(),
    );
    // A herd that is refused at the same moment does not come back at the same moment.
    let mut back_ms = std::collections::BTreeSet::new();
    within("different moments", async {
        while back_ms.len() < 5 {
            let mut link = Link::connect(address, Receive::Usual).await.unwrap();
            link.send(&publication).await.unwrap();
            let head = Head::read(&mut link).await.unwrap().unwrap();
            let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let retry_ms = problem["retry_ms"].as_u64().unwrap();
            let retry_after_s = retry_ms.div_ceil(1000).to_string();
            assert_eq!((head.status, head.header("retry-after")), (503, &*retry_after_s));
            back_ms.insert(retry_ms);
        }
    })
    .await;
    assert!(back_ms.iter().all(|ms| (1000..3000).contains(ms)), "{back_ms:?}");
    process.signal("TERM").await;
    assert_eq!(
        process.ends().await.code(),
        Some(130),
        "a second signal ends it at once"
    );
}

/// A reader that takes nothing, with more on its way than anybody holds for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_time_although_a_reader_takes_nothing() {
    let mut process = Service::start(Start {
        environment: &[ENVIRONMENT[0], ("THROUGHLINE_CONNECTIONS__WRITE_TIMEOUT_MS", "600000")],
        ..Start::default()
    });
    let address = process.address().await;
    let query = [("channel", "a")];
    let mut stuck = WebSocket::open(address, Receive::Bytes(4096), &query).await.unwrap();
    stuck.push().await.unwrap();
    let mut publisher = Publisher::new(address);
    for n in 0..100 {
        let body = json!({"channel": "a", "data": "x".repeat(200_000)}).to_string();
        publisher.publish(&body, &n.to_string()).await.unwrap();
    }
    let began = Instant::now();
    process.signal("TERM").await;
    let ended = process.ends().await;
    assert!(ended.success(), "{ended}");
    assert!(
        process.said().contains("are cut"),
        "the reader was not stuck: {}",
        process.said()
    );
    assert!(began.elapsed() < STOP_TIME, "{:?}", began.elapsed());
    drop(stuck);
}
