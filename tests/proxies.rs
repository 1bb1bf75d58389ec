//! The promise behind real reverse proxies, with the configurations that come with the project: the same random
//! histories, in which every connection goes through a proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says how to repeat what failed")]

mod support;

use std::time::Duration;

use support::deadline::{until, until_told};
use support::folder::Folder;
use support::http::{Head, get};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::promise::run::run;
use support::proxy::{Kind, Proxy, free_address};
use support::service::{Service, Start, copy_of, kept_socket};

/// Enough that each transport is used, lagged on and left hundreds of times.
const HISTORIES: u64 = 150;

async fn keeps_the_promise_behind(kind: Kind) {
    let first = fastrand::u64(..1 << 48);
    println!("seeds from {first} on");
    let tally = run(HISTORIES, Some(kind), first..).await;
    let tally = tally.unwrap_or_else(|broken| panic!("{broken}\n\nbefore that:\n{}", broken.tally));
    println!("{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promise_is_kept_behind_nginx() {
    keeps_the_promise_behind(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promise_is_kept_behind_haproxy() {
    keeps_the_promise_behind(Kind::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promise_is_kept_behind_caddy() {
    keeps_the_promise_behind(Kind::Caddy).await;
}

/// Far below a heartbeat of these nodes, the idle time-out of the proxies (75 s) and the wait of a poll (55 s): what
/// ends within it ends because the client left.
const LEAVING_MAX: Duration = Duration::from_secs(30);

async fn reads_until(link: &mut Link, what: &str) {
    while !String::from_utf8_lossy(&link.input).contains(what) {
        assert!(link.read().await.unwrap(), "the end before {what:?}: {link:?}");
    }
}

async fn becomes(node: &Node, sessions: usize, what: &str) {
    let is_so = async {
        while node.sessions() != sessions {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(LEAVING_MAX, is_so).await;
    assert!(in_time.is_ok(), "{what}: {} sessions, not {sessions}", node.sessions());
}

/// A poll that waits, and an event stream on which nothing happens.
async fn quiet(proxy: &Proxy, node: &Node) -> Vec<(&'static str, Link)> {
    let mut poll = Link::connect(proxy.address, Receive::Usual).await.unwrap();
    poll.send(&get("/v1/poll?channel=a", &[])).await.unwrap();
    reads_until(&mut poll, "\"pushes\":[").await;
    let answer = String::from_utf8_lossy(&poll.input).into_owned();
    let (_, cursor) = answer.split_once("\"cursor\":\"").unwrap();
    let (cursor, _) = cursor.split_once('"').unwrap();
    becomes(node, 0, "an answered poll").await;
    // On a connection of its own, for the answer may not have come to its end.
    let mut poll = Link::connect(proxy.address, Receive::Usual).await.unwrap();
    let target = format!("/v1/poll?channel=a&wait=55&since={cursor}");
    poll.send(&get(&target, &[])).await.unwrap();
    becomes(node, 1, "a poll that waits").await;
    let mut stream = Link::connect(proxy.address, Receive::Usual).await.unwrap();
    stream.send(&get("/v1/sse?channel=a", &[])).await.unwrap();
    reads_until(&mut stream, "subscribed").await;
    becomes(node, 2, "an event stream beside it").await;
    vec![("a poll", poll), ("an event stream", stream)]
}

async fn whoever_leaves_is_gone_behind(kind: Kind) {
    let node = Node::start(Setup::default());
    let proxy = kind.start(node.address).await;
    for leave in [drop, Link::reset] {
        let mut left = 2;
        for (what, link) in quiet(&proxy, &node).await {
            leave(link);
            left -= 1;
            becomes(&node, left, what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_a_quiet_connection_leaves_the_node_behind_nginx() {
    whoever_leaves_is_gone_behind(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_a_quiet_connection_leaves_the_node_behind_haproxy() {
    whoever_leaves_is_gone_behind(Kind::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_a_quiet_connection_leaves_the_node_behind_caddy() {
    whoever_leaves_is_gone_behind(Kind::Caddy).await;
}

/// The status of an answer to somebody who shows nothing.
async fn status_through(proxy: &Proxy) -> u16 {
    let mut link = Link::connect(proxy.address, Receive::Usual).await.unwrap();
    link.send(&get("/v1/poll?channel=a", &[])).await.unwrap();
    Head::read(&mut link).await.unwrap().expect("an answer").status
}

/// The proxy is there first and sees that the node is not; then the node begins, with the production configuration.
async fn production_is_found_behind(kind: Kind) {
    let (socket, node) = kept_socket();
    let health = free_address();
    let proxy = kind.start_checking(node, health).await;
    match kind {
        Kind::Nginx => {}
        Kind::Haproxy => until("a node that is down", || proxy.log().contains("is DOWN")).await,
        Kind::Caddy => until("a node that is down", || proxy.log().contains("health_checker.active")).await,
    }
    let folder = Folder::new("production");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/production.toml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    assert!(shipped.contains("127.0.0.1:9000"));
    let text = shipped.replace("127.0.0.1:9000", &health.to_string());
    let text = text.replace("/var/lib/throughline", folder.path().to_str().unwrap());
    let file = folder.path().join("production.toml");
    std::fs::write(&file, text).unwrap();
    let mut service = Service::start(Start {
        handed_over: Some(copy_of(&socket)),
        environment: &[("THROUGHLINE_CONFIG", file.to_str().unwrap())],
        ..Start::default()
    });
    service.says("health").await;
    // The node itself says who is missing; a proxy that takes it for dead says 503.
    until_told("an answer of the node", async || status_through(&proxy).await == 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_production_configuration_is_found_behind_nginx() {
    production_is_found_behind(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_production_configuration_is_found_behind_haproxy() {
    production_is_found_behind(Kind::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_production_configuration_is_found_behind_caddy() {
    production_is_found_behind(Kind::Caddy).await;
}
