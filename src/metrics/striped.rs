//! Counters for the hot path: each thread adds to a stripe of its own, and whoever reads adds the stripes up.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Atomic;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Stripes of a counter; further threads share them.
const STRIPES: usize = 16;

thread_local! {
    /// The stripe of this thread; `STRIPES` until it has asked.
    static STRIPE: Cell<usize> = const { Cell::new(STRIPES) };
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let known = STRIPE.get();
    if known < STRIPES {
        return known;
    }
    let stripe = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    STRIPE.set(stripe);
    stripe
}

/// A cache line, and the one that the processor fetches with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A counter.
#[derive(Debug, Default)]
pub struct Striped([Line<AtomicU64>; STRIPES]);

impl Atomic<u64> for Striped {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, count: u64) -> u64 {
        self.0[stripe()].0.fetch_add(count, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// The upper bounds of a [`Latency`]'s buckets, in milliseconds: the wall clock, which it is taken from, is no finer.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// A histogram of milliseconds. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Latency(Arc<[Line<Counts>; STRIPES]>);

#[derive(Debug, Default)]
struct Counts {
    /// One for each bound, and one for what is above all.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Latency {
    /// Counts one.
    pub fn observe(&self, ms: u64) {
        let counts = &self.0[stripe()].0;
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound);
        counts.buckets[bucket.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        counts.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let total = |pick: &dyn Fn(&Counts) -> &AtomicU64| -> u64 {
            self.0.iter().map(|line| pick(&line.0).load(Ordering::Relaxed)).sum()
        };
        let bounds = BOUNDS_MS.iter().map(|ms| seconds(*ms)).chain([f64::MAX]);
        let buckets: Vec<_> = bounds
            .enumerate()
            .map(|(at, bound)| (bound, total(&|counts| &counts.buckets[at])))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(total(&|counts| &counts.sum_ms));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").finish_non_exhaustive()
    }
}

fn seconds(ms: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
    let ms = ms as f64;
    ms / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together() {
        let counter = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1_000).for_each(|_| _ = counter.inc()));
            }
        });
        assert_eq!(counter.get(), 20_000);
    }
}
