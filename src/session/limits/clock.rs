//! The time by which buckets refill: from outside, and from one zero for all.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use governor::clock;

/// Tells how much time went by since some moment of its own; never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The machine's monotonic clock.
pub fn system_clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

/// A clock that stands at zero until it is told to run.
///
/// A limiter counts from the moment in which it is made. All of them share one table, whose states must mean the same
/// moments: so they are made while the clock stands.
#[derive(Clone)]
pub(super) struct Ticks(Arc<Running>);

struct Running {
    clock: Clock,
    zero: OnceLock<Duration>,
}

impl Ticks {
    pub(super) fn standing(clock: Clock) -> Self {
        let zero = OnceLock::new();
        Self(Arc::new(Running { clock, zero }))
    }

    /// Runs from now on, unless it runs already.
    pub(super) fn run(&self) {
        self.0.zero.get_or_init(&*self.0.clock);
    }

    /// Another one by the same clock, which stands.
    pub(super) fn standing_again(&self) -> Self {
        Self::standing(Arc::clone(&self.0.clock))
    }

    /// Runs from now on as if it had begun to when the other one did.
    pub(super) fn run_along(&self, other: &Self) {
        self.0.zero.get_or_init(|| *other.0.zero.get_or_init(&*other.0.clock));
    }

    pub(super) fn since_zero(&self) -> Duration {
        let zero = self.0.zero.get();
        zero.map_or(Duration::ZERO, |zero| (self.0.clock)().saturating_sub(*zero))
    }
}

impl clock::Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.since_zero()
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticks").field(&self.since_zero()).finish()
    }
}
