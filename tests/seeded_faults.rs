//! The promise's test, tested: the core is broken in every way there is, and each must be noticed.
//!
//! `THROUGHLINE_HISTORIES` sets how many histories a fault may go unnoticed for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says how each fault was noticed")]

mod support;

use support::promise::run::run;
use support::promise::tally::Happening;
use throughline::delivery::faults::{FAULTS, Fault, plant, struck};

/// Faults belong to the whole process: they are planted one after the other, in one test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_fault_is_noticed() {
    let histories = std::env::var("THROUGHLINE_HISTORIES").map_or(500, |count| count.parse().expect("a number"));
    plant(Fault::None);
    let outcome = run(histories / 2, None, fastrand::u64(..1 << 48)..).await;
    let tally = outcome.unwrap_or_else(|broken| panic!("without a fault: {broken}"));
    assert_eq!(struck(), 0);
    println!(
        "None: {} histories, and nothing to notice\n",
        tally.count(Happening::Histories)
    );
    for fault in FAULTS {
        plant(fault);
        let first = fastrand::u64(..1 << 48);
        let outcome = run(histories, None, first..).await;
        let struck = struck();
        assert!(struck > 0, "{fault:?} never struck: seeds from {first} on");
        let broken = outcome.expect_err(&format!(
            "{fault:?} struck {struck} times and went unnoticed: seeds from {first} on"
        ));
        let before = broken.tally.count(Happening::Histories);
        println!("{fault:?}: struck {struck} times, noticed after {before} whole histories\n{broken}\n");
    }
}
