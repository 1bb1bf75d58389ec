//! For how long a request waits for Redis: one bound for all the steps that it takes.

use std::pin::pin;

use tokio::time::{Instant, timeout_at};

use super::link::ANSWER_TIMEOUT;
use crate::delivery::{EngineError, EngineErrorKind};

/// What a request has left. Attaching and reading the log wait out of the same one, and so does whoever has to let a
/// reading for others come first.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    /// That of a request which begins now.
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + ANSWER_TIMEOUT,
        }
    }

    /// Waits for one step, and gives up when it is at an end. With very many who wait, the others come first: as long as
    /// Redis gets on with theirs, the last time at `moved_at`, it is waited for, and then what is left is the whole again.
    ///
    /// # Errors
    /// What the step says, or that it did not come in time.
    pub(super) async fn wait<T>(
        &mut self,
        moved_at: impl Fn() -> Option<Instant>,
        step: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let mut step = pin!(step);
        let mut has_waited_for_others = false;
        loop {
            if let Ok(done) = timeout_at(self.until, &mut step).await {
                if has_waited_for_others {
                    *self = Self::begin();
                }
                return done;
            }
            match moved_at().map(|at| at + ANSWER_TIMEOUT) {
                Some(until) if until > self.until => (self.until, has_waited_for_others) = (until, true),
                _ => return Err(EngineErrorKind::Unavailable.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    async fn answered_after(took: Duration) -> Result<(), EngineError> {
        sleep(took).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn the_steps_of_a_request_share_one_bound() {
        let (began, mut patience) = (Instant::now(), Patience::begin());
        assert!(patience.wait(|| None, answered_after(ANSWER_TIMEOUT / 2)).await.is_ok());
        assert!(
            patience
                .wait(|| Some(began), answered_after(ANSWER_TIMEOUT))
                .await
                .is_err()
        );
        assert!(patience.wait(|| None, pending::<Result<(), _>>()).await.is_err());
        assert!(began.elapsed() <= ANSWER_TIMEOUT + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_others_gives_up_when_nothing_was_heard_for_the_bound() {
        let (began, mut patience) = (Instant::now(), Patience::begin());
        let last = began + ANSWER_TIMEOUT / 2;
        let moved_at = || Some(last);
        assert!(patience.wait(moved_at, pending::<Result<(), _>>()).await.is_err());
        assert!(began.elapsed() >= ANSWER_TIMEOUT * 3 / 2);
        assert!(began.elapsed() <= ANSWER_TIMEOUT * 3 / 2 + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_last_of_many_has_time_left_for_the_next_step() {
        let (began, mut patience) = (Instant::now(), Patience::begin());
        let busy = || Some(Instant::now());
        assert!(patience.wait(busy, answered_after(ANSWER_TIMEOUT * 5)).await.is_ok());
        assert!(
            patience
                .wait(|| Some(began), answered_after(ANSWER_TIMEOUT / 2))
                .await
                .is_ok()
        );
        assert!(patience.wait(|| None, ready(Ok(()))).await.is_ok());
        assert!(patience.wait(|| Some(began), pending::<Result<(), _>>()).await.is_err());
        assert!(began.elapsed() <= ANSWER_TIMEOUT * 6 + Duration::from_millis(1));
    }
}
