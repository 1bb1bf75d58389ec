//! What a delivery costs in CPU time, beside a bare loop of `write()` in the same run, and what an idle connection
//! costs in memory.
//!
//! `cargo bench --bench fanout`; `THROUGHLINE_BENCH_SUBSCRIBERS` (1,000), `THROUGHLINE_BENCH_ROUNDS` (20),
//! `THROUGHLINE_BENCH_PUBLICATIONS` (50 a round) and `THROUGHLINE_BENCH_IDLE` (10,000) change its size.
//! One server has no configuration; another, in the same run, has everything on that guards and watches a service:
//! tokens, namespaces, presence, hooks, webhooks, origins and limits.
//! Deliveries are measured twice: with a server on one core and its subscribers on the others, which is like for like,
//! for the bare loop has one thread; and with all cores for all, as servers run, where a server of several threads also
//! pays for getting in the way of the subscribers.
//! Linux only: CPU time and memory are read from `/proc`. Speed is reported, never judged by the exit code; a delivery
//! that is lost or comes twice is a failure.
#![allow(clippy::print_stdout, reason = "a benchmark prints its report")]
#![allow(clippy::cast_precision_loss, reason = "figures for people to read")]

mod support;

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use support::cores::{self, Cores};
use support::memory::Kind;
use support::report::Placement;
use support::terms::{self, Crowd, Extent, Terms};
use support::{Options, bare, delivery, limits, memory, report};

fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some(bare::ARGUMENT) => bare::serve(),
        // `cargo test --all-targets` runs benches too, without this argument.
        _ if !env::args().any(|argument| argument == "--bench") => Ok(()),
        _ => bench(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<()> {
    let began = Instant::now();
    let options = Options::from_env()?;
    limits::raise_open_files(options.open_files())?;
    let all = cores::allowed()?;
    let (apart, shared) = (Cores::apart(&all), Cores::shared(&all));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        report::delivery_title(options);
        match &apart {
            Some(apart) => report::delivery(Placement::Apart, &delivery::measure(options, apart).await?),
            None => println!("There is one core only, so servers and subscribers cannot be kept apart."),
        }
        report::delivery(Placement::Shared, &delivery::measure(options, &shared).await?);
        report::memory_title(options);
        for kind in Kind::ALL {
            let open = memory::per_idle_connection(kind, options.idle, &shared, &terms::OPEN).await?;
            let guarded = Terms::guarded().await?;
            let guarded = memory::per_idle_connection(kind, options.idle, &shared, &guarded).await?;
            report::memory(kind, open, guarded);
        }
        report::parts_title();
        for crowd in [Crowd::OneUser, Crowd::Users] {
            let mut before = memory::per_idle_connection(Kind::WebSocket, options.idle, &shared, &terms::OPEN).await?;
            for extent in [Extent::Limits, Extent::Tokens, Extent::Presence, Extent::All] {
                let terms = Terms::with(extent, crowd).await?;
                let now = memory::per_idle_connection(Kind::WebSocket, options.idle, &shared, &terms).await?;
                report::part(crowd, extent, now - before);
                before = now;
            }
        }
        Ok::<_, io::Error>(())
    })?;
    println!(
        "\nEvery delivery arrived, once. {:.0} s.",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
