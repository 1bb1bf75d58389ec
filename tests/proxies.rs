//! The promise behind real reverse proxies, with the configurations that come with the project: the same random
//! histories, in which every connection goes through a proxy.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says how to repeat what failed")]

mod support;

use support::promise::run::run;
use support::proxy::Kind;

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
