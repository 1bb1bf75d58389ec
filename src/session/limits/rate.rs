//! Buckets that refill at a rate (GCRA, by `governor`): one for each key, or one of a session's own.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::clock::{Clock, Ticks};
use super::limit::Limit;
use super::settings::Rate;
use super::standing::{Allowance, Standing};
use super::table::{Buckets, Key, Table};

/// `None` for a rate without limit.
fn quota(rate: Rate) -> Option<Quota> {
    let per_s = NonZeroU32::new(rate.per_s.min(Rate::PER_S_MAX))?;
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    Some(Quota::with_period(Duration::from_secs(1) / per_s.get())?.allow_burst(burst))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn standing(limit: Limit, quota: Quota, remaining: u32, more_in: Duration) -> Standing {
    let full_in = quota.burst_size_replenished_in();
    Standing {
        limit,
        allowance: Allowance::Bucket {
            quota: quota.burst_size().get(),
            window_s: millis(full_in).div_ceil(1000),
            more_in_ms: millis(more_in).max(1),
        },
        remaining,
    }
}

type Outcome = Result<StateSnapshot, NotUntil<Duration>>;

/// How the client stands after drawing one, or why it may not.
fn judge(limit: Limit, quota: Quota, outcome: Outcome, now: Duration) -> Result<Standing, Standing> {
    match outcome {
        Ok(state) => Ok(standing(
            limit,
            quota,
            state.remaining_burst_capacity(),
            quota.replenish_interval(),
        )),
        Err(over) => Err(standing(limit, quota, 0, over.wait_time_from(now))),
    }
}

/// A limit with a bucket for each key.
#[derive(Debug)]
pub(super) struct KeyedRate {
    limit: Limit,
    quota: Quota,
    buckets: Buckets,
    limiter: RateLimiter<Key, Buckets, Ticks, StateInformationMiddleware>,
}

impl KeyedRate {
    /// `None` for a rate without limit.
    pub(super) fn new(limit: Limit, rate: Rate, table: &Arc<Table>, ticks: &Ticks) -> Option<Self> {
        let quota = quota(rate)?;
        let buckets = Buckets::of(limit, table, quota.burst_size_replenished_in());
        let limiter = RateLimiter::new(quota, buckets.clone(), ticks.clone());
        Some(Self {
            limit,
            quota,
            buckets,
            limiter,
        })
    }

    pub(super) fn limit(&self) -> Limit {
        self.limit
    }

    /// Draws one, if there is one.
    pub(super) fn draw(&self, key: &Key) -> Result<Standing, Standing> {
        let outcome = self.limiter.check_key(key);
        judge(self.limit, self.quota, outcome, self.limiter.clock().now())
    }

    /// Takes back what was drawn.
    pub(super) fn give_back(&self, key: &Key) {
        self.buckets.give_back(key, self.quota.replenish_interval());
    }
}

/// One bucket, which lives with its owner: whatever fills the table, it is its own.
#[derive(Debug)]
pub struct Bucket(RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>);

impl Bucket {
    /// A full bucket; `None` for a rate without limit.
    pub fn new(rate: Rate, clock: Clock) -> Option<Self> {
        let ticks = Ticks::standing(clock);
        ticks.run();
        Self::of(rate, ticks)
    }

    pub(super) fn of(rate: Rate, ticks: Ticks) -> Option<Self> {
        Some(Self(RateLimiter::new(quota(rate)?, InMemoryState::default(), ticks)))
    }

    /// Draws one.
    ///
    /// # Errors
    /// In how many milliseconds there will be one.
    pub fn draw(&self) -> Result<(), u64> {
        let over = |over: NotUntil<Duration>| millis(over.wait_time_from(self.0.clock().now())).max(1);
        self.0.check().map(drop).map_err(over)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::table::KEYS_MAX;
    use super::*;

    struct World {
        now: Arc<AtomicU64>,
        ticks: Ticks,
        table: Arc<Table>,
    }

    impl World {
        fn new() -> Self {
            let now = Arc::new(AtomicU64::new(7_000));
            let read = Arc::clone(&now);
            let clock: Clock = Arc::new(move || Duration::from_nanos(read.load(Ordering::Relaxed)));
            let ticks = Ticks::standing(clock);
            let table = Arc::new(Table::new(ticks.clone()));
            Self { now, ticks, table }
        }

        fn rate(&self, per_s: u32, burst: u32) -> KeyedRate {
            KeyedRate::new(Limit::IpPublish, Rate::new(per_s, burst), &self.table, &self.ticks).unwrap()
        }

        fn pass(&self, time: Duration) {
            let nanos = u64::try_from(time.as_nanos()).unwrap();
            self.now.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    #[test]
    fn over_a_minute_what_is_admitted_is_within_a_hundredth_of_the_rate() {
        for (per_s, asked_per_ms) in [(100, 1), (37, 3), (1_000, 5), (9_999, 40)] {
            let world = World::new();
            let rate = world.rate(per_s, per_s / 4);
            world.ticks.run();
            let key = world.table.key("somebody");
            let ask = || {
                let asked = (0..asked_per_ms).filter(|_| rate.draw(&key).is_ok()).count();
                world.pass(Duration::from_millis(1));
                asked
            };
            // The burst comes first: after it, only the rate counts.
            let _burst: usize = (0..1_000).map(|_| ask()).sum();
            let admitted: usize = (0..60_000).map(|_| ask()).sum();
            let expected = f64::from(per_s) * 60.0;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let off = (admitted as f64 - expected).abs() / expected;
            assert!(off <= 0.01, "{per_s}/s: {admitted} admitted, {expected} expected");
        }
    }

    #[test]
    fn other_limits_forgive_nobody() {
        let world = World::new();
        let rate = world.rate(10, 20);
        world.ticks.run();
        let key = world.table.key("somebody");
        world.pass(Duration::from_secs(3));
        assert_eq!((0..99).filter(|_| rate.draw(&key).is_ok()).count(), 20);
        world.pass(Duration::from_millis(500));
        for (per_s, burst) in [(10, 20), (1, 1), (5, 10)] {
            let ticks = world.ticks.standing_again();
            let other = KeyedRate::new(Limit::IpPublish, Rate::new(per_s, burst), &world.table, &ticks).unwrap();
            ticks.run_along(&world.ticks);
            let admitted = (0..99).filter(|_| other.draw(&key).is_ok()).count();
            // Half a second gave five at the rate that was; what is not there yet is there for nobody.
            assert_eq!(admitted, if burst == 20 { 5 } else { 0 }, "{per_s}/s, {burst}");
            assert!(other.draw(&world.table.key(("somebody else", burst))).is_ok());
        }
        world.pass(Duration::from_secs(2));
        assert!(rate.draw(&key).is_ok());
    }

    /// What was drawn at one a second was to come back for five minutes: a limit that was raised shut its clients out.
    #[test]
    fn whose_limit_is_raised_waits_for_no_more_than_an_empty_bucket() {
        let world = World::new();
        let slow = world.rate(1, 1_000);
        world.ticks.run();
        let key = world.table.key("somebody");
        assert_eq!((0..301).filter(|_| slow.draw(&key).is_ok()).count(), 301);
        let ticks = world.ticks.standing_again();
        let fast = KeyedRate::new(Limit::IpPublish, Rate::new(100, 1_000), &world.table, &ticks).unwrap();
        ticks.run_along(&world.ticks);
        assert_eq!(fast.draw(&key).unwrap_err().retry_ms(), 10);
        for _ in 0..3 {
            world.pass(Duration::from_millis(10));
            assert!(fast.draw(&key).is_ok());
            assert!(fast.draw(&key).is_err());
        }
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_comes_back_at_the_rate() {
        let world = World::new();
        let rate = world.rate(10, 5);
        world.ticks.run();
        let key = world.table.key("somebody");
        let remaining: Vec<_> = (0..5).map(|_| rate.draw(&key).unwrap().remaining).collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0]);
        let over = rate.draw(&key).unwrap_err();
        let expected = Allowance::Bucket {
            quota: 5,
            window_s: 1,
            more_in_ms: 100,
        };
        assert_eq!((over.allowance, over.remaining), (expected, 0));
        world.pass(Duration::from_millis(99));
        assert!(rate.draw(&key).is_err());
        world.pass(Duration::from_millis(1));
        assert!(rate.draw(&key).is_ok());
        rate.give_back(&key);
        assert!(rate.draw(&key).is_ok());
        assert!(rate.draw(&key).is_err());
    }

    #[test]
    fn idle_keys_are_forgotten_and_hot_ones_never() {
        let world = World::new();
        let rate = world.rate(1_000, 2);
        let slow = world.rate(1, 1);
        world.ticks.run();
        let hot = world.table.key("hot");
        slow.draw(&hot).unwrap();
        for n in 0..400_000_u32 {
            rate.draw(&world.table.key(n)).unwrap();
            world.pass(Duration::from_micros(1));
            assert!(n % 1_000 != 0 || slow.draw(&hot).is_err(), "{n}");
        }
        // A key is idle after a millisecond: of all that came, those that are left are few.
        assert!(world.table.count() < 40_000, "{}", world.table.count());
    }

    #[test]
    fn when_all_places_are_hot_unknown_keys_share_one_bucket() {
        let world = World::new();
        let rate = world.rate(1, 1);
        world.ticks.run();
        let mut admitted = 0;
        let count = u32::try_from(KEYS_MAX + KEYS_MAX / 4).unwrap();
        for n in 0..count {
            admitted += usize::from(rate.draw(&world.table.key(n)).is_ok());
        }
        assert!(world.table.count() <= KEYS_MAX);
        // One more than there are places: the bucket that is shared had one, too.
        assert_eq!(admitted, world.table.count() + 1);
        assert!(rate.draw(&world.table.key(count)).is_err());
        world.pass(Duration::from_secs(1));
        assert!(rate.draw(&world.table.key(count)).is_ok());
        assert!(
            world.table.count() < KEYS_MAX,
            "those that are full again are forgotten"
        );
    }
}
