//! Ten million clients: what the limits remember of them is bounded, and who is over its limit is not forgotten.
//!
//! A test binary of its own, for it reads the memory of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says the figure")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use throughline::delivery::ChannelName;
use throughline::metrics::Metrics;
use throughline::session::limits::{Limit, Outcome, Rate, RateLimits, RateSettings, Visitor};

const CLIENTS: u32 = 10_000_000;

/// What they may cost, in MiB.
const MEMORY_MIB_MAX: u64 = 96;

/// So many clients come each second, by the limits' clock: the table is full of hot keys most of the time.
const CLIENTS_PER_S: u64 = 5_000_000;

/// After so many, the one that is over its limit tries again.
const TRY_EVERY: u32 = 1_000;

#[cfg(target_os = "linux")]
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn ten_million_clients_cost_a_bounded_memory_and_a_hot_one_stays_limited() {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let settings = RateSettings {
        ip_publications: Rate::new(1, 2),
        channel_publications: Rate::new(0, 0),
        ..RateSettings::default()
    };
    let limits = RateLimits::new(
        settings,
        Arc::new(move || Duration::from_nanos(clock.load(Ordering::Relaxed))),
        &Metrics::new(),
    );
    let limits = Arc::new(limits);
    let channel = ChannelName::parse("a").unwrap();
    let publish = |address: u32| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(address));
        Visitor::new(Arc::clone(&limits), Some(address))
            .publish(&channel)
            .is_ok()
    };
    let hot = u32::MAX;
    let mut hot_admitted = 0;
    let before = resident_kib();
    let mut most = before;
    for n in 0..CLIENTS {
        publish(n);
        now.fetch_add(1_000_000_000 / CLIENTS_PER_S, Ordering::Relaxed);
        if n % TRY_EVERY == 0 {
            hot_admitted += u32::from(publish(hot));
        }
        if n % (CLIENTS / 100) == 0 {
            most = most.max(resident_kib());
        }
    }
    let mib = (most - before).div_ceil(1024);
    println!("{CLIENTS} clients: {mib} MiB more; the hot one was admitted {hot_admitted} times in 2 s");
    assert!(mib <= MEMORY_MIB_MAX, "{mib} MiB");
    // Two at once, and one in each of the two seconds, of which the last may just be over.
    assert!((3..=4).contains(&hot_admitted), "{hot_admitted}");
    assert!(limits.hits().of(Limit::IpPublish, Outcome::Refused) > u64::from(CLIENTS / TRY_EVERY));
}
