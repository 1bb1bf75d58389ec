//! Publications per second at the Redis engine, beside `redis-benchmark` running the same script with the same
//! concurrency and pipelining, one after the other in one run.
//!
//! `cargo bench --bench redis_engine`; needs `redis-server`, `redis-cli` and `redis-benchmark`.
//! `THROUGHLINE_BENCH_SECONDS` (5) is how long each measurement takes. Speed is reported, never judged.
#![allow(clippy::print_stdout, reason = "a benchmark prints its report")]
#![allow(clippy::cast_precision_loss, reason = "figures for people to read")]

mod redis_server;

use std::io;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use throughline::delivery::{Ack, ChannelName, Draft, Engine, LogPolicy};

use redis_server::Redis;

/// Requests on their way at once, and publications in each.
const CONCURRENCY: usize = 64;
const PIPELINE: usize = 16;

const DATA_BYTES: usize = 128;

const POLICY: LogPolicy = LogPolicy {
    count_max: 1_000,
    bytes_max: 1024 * 1024,
    age_ms_max: 5 * 60 * 1000,
    position_ttl_ms: 24 * 60 * 60 * 1000,
};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<()> {
    let seconds = std::env::var("THROUGHLINE_BENCH_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    let redis = Redis::start()?;
    let runtime = tokio::runtime::Runtime::new()?;
    println!(
        "{CONCURRENCY} requests at once, {PIPELINE} publications each, {DATA_BYTES} bytes of data, {seconds} s each"
    );
    for round in 1..=3 {
        let bare = benchmark(&redis, seconds)?;
        println!("round {round}: redis-benchmark with the same script, 1 channel: {bare:>8.0} publications/s");
        for channels in [1, 1_000] {
            let rate = runtime.block_on(measure(&redis.url(), channels, Duration::from_secs(seconds)))?;
            println!(
                "round {round}: the engine, {channels:>4} channels: {rate:>8.0} publications/s, {:.2} of redis-benchmark",
                rate / bare
            );
        }
    }
    Ok(())
}

async fn measure(url: &str, channels: usize, time: Duration) -> io::Result<f64> {
    let engine = redis_server::engine(url).await?;
    let began = Instant::now();
    let publishers = (0..CONCURRENCY).map(|publisher| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let drafts: Vec<_> = (0..PIPELINE)
                .map(|item| draft((publisher * PIPELINE + item) % channels))
                .collect();
            let mut stored = 0;
            while began.elapsed() < time {
                stored += engine
                    .publish(&drafts)
                    .await
                    .iter()
                    .filter(|result| result.is_ok())
                    .count();
            }
            stored
        })
    });
    let mut stored = 0;
    for publisher in publishers.collect::<Vec<_>>() {
        stored += publisher.await.map_err(io::Error::other)?;
    }
    Ok(stored as f64 / began.elapsed().as_secs_f64())
}

#[expect(clippy::expect_used, reason = "the name is a good one")]
fn draft(channel: usize) -> Draft {
    Draft {
        channel: ChannelName::parse(&format!("bench:{channel}")).expect("a name"),
        data: vec![b'1'; DATA_BYTES].into(),
        event: None,
        sender: None,
        key: None,
        policy: POLICY,
        ack: Ack::Stored,
    }
}

/// Publications per second that `redis-benchmark` gets through the script.
fn benchmark(redis: &Redis, seconds: u64) -> io::Result<f64> {
    let sha = redis.cli(&["SCRIPT", "LOAD", include_str!("../src/engine/redis/publish.lua")])?;
    let data = "1".repeat(DATA_BYTES);
    let call = [
        "EVALSHA",
        sha.trim(),
        "2",
        "bare:{1}:top",
        "bare:{1}:log",
        "epoch",
        "tag",
        "- -",
        &data,
        "800",
        "1000",
        "1048576",
        "300000",
        "86700000",
        "bare:{1}:hints",
    ];
    let requests = (seconds * 40_000).to_string();
    let (port, clients, pipeline) = (redis.port.to_string(), CONCURRENCY.to_string(), PIPELINE.to_string());
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-c", &clients, "-P", &pipeline, "-n", &requests, "--csv"])
        .args(call)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text
        .lines()
        .last()
        .and_then(|line| line.rsplit_once("\",\"").map(|_| line.split("\",\"").nth(1)));
    let rate = rate.flatten().and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.ok_or_else(|| io::Error::other(format!("redis-benchmark said {text}")))
}
