//! When to come back after a failure: jittered back-off, unless the server says when.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::Comeback;

const DELAY_MS_MIN: u64 = 500;
const DELAY_MS_MAX: u64 = 20_000;
/// A connection that lasted this long makes up for the failures before it.
const STABLE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    connected_at: Option<Instant>,
    delay_min: Duration,
}

impl Backoff {
    pub(crate) fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
    }

    /// The stream asks not to be opened again sooner than this.
    pub(crate) fn at_least(&mut self, delay: Duration) {
        self.delay_min = delay;
    }

    /// The delay before the next connection, or `None` if there is to be none.
    pub(crate) fn after(&mut self, comeback: Comeback) -> Option<Duration> {
        let connected = self.connected_at.take().map_or(Duration::ZERO, |at| at.elapsed());
        if connected >= STABLE_AFTER {
            self.failures = 0;
        }
        let delay_min = std::mem::take(&mut self.delay_min);
        let own = delay(self.failures, random());
        self.failures = self.failures.saturating_add(1);
        match comeback {
            Comeback::Never => None,
            Comeback::Backoff => Some(own.max(delay_min)),
            // The server's word counts, but for one that would make this client a burden.
            Comeback::After(delay) => Some(delay.max(Duration::from_millis(DELAY_MS_MIN))),
        }
    }
}

/// `min + rand(0, min(max, min * 2^failures))`
fn delay(failures: u32, random: u64) -> Duration {
    let spread_ms = DELAY_MS_MIN
        .saturating_mul(2_u64.saturating_pow(failures))
        .min(DELAY_MS_MAX);
    Duration::from_millis(DELAY_MS_MIN + random % (spread_ms + 1))
}

/// Without randomness from the system there is a delay all the same, only no jitter.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(failures: u32, random: u64) -> u128 {
        delay(failures, random).as_millis()
    }

    #[test]
    fn the_spread_doubles_up_to_its_bound() {
        assert_eq!(millis(0, 0), 500);
        assert_eq!(millis(0, 500), 1_000);
        assert_eq!(millis(1, 1_000), 1_500);
        assert_eq!(millis(5, 16_000), 16_500);
        assert_eq!(millis(6, 20_000), 20_500);
        assert_eq!(millis(u32::MAX, 20_000), 20_500);
        assert_eq!(millis(u32::MAX, 0), 500);
    }

    #[test]
    fn the_server_wins() {
        let mut backoff = Backoff::default();
        backoff.at_least(Duration::from_secs(60));
        let told = |seconds| Comeback::After(Duration::from_secs(seconds));
        assert_eq!(backoff.after(told(7)), Some(Duration::from_secs(7)));
        let least = Some(Duration::from_millis(DELAY_MS_MIN));
        assert_eq!(
            backoff.after(told(0)),
            least,
            "a server that asks for a storm gets none"
        );
        assert_eq!(backoff.after(Comeback::Never), None);
    }

    #[test]
    fn the_streams_own_retry_is_the_least_delay_and_counts_once() {
        let mut backoff = Backoff::default();
        backoff.at_least(Duration::from_secs(60));
        assert_eq!(backoff.after(Comeback::Backoff), Some(Duration::from_secs(60)));
        assert!(backoff.after(Comeback::Backoff).unwrap() <= Duration::from_millis(1_500));
    }

    #[test]
    fn only_a_connection_that_lasts_resets_it() {
        let mut backoff = Backoff {
            failures: 9,
            ..Backoff::default()
        };
        backoff.connected();
        backoff.after(Comeback::Backoff);
        assert_eq!(backoff.failures, 10);
        backoff.connected_at = Instant::now().checked_sub(STABLE_AFTER);
        backoff.after(Comeback::Backoff);
        assert_eq!(backoff.failures, 1);
    }
}
