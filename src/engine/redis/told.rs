//! What an operator was told of what goes wrong: each reason at once, and again only after a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For how long a reason is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// Reasons that are remembered. More of them within so short a time are told no more.
const REASONS_MAX: usize = 8;

/// The reasons that were told, and when.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Vec<(String, Instant)>>);

impl Told {
    /// Whether this has to be told now; if so, it counts as told.
    pub(super) fn is_news(&self, reason: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| at.elapsed() < QUIET);
        let is_news = told.len() < REASONS_MAX && told.iter().all(|(known, _)| known != reason);
        if is_news {
            told.push((reason.to_owned(), Instant::now()));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_once_a_minute_and_few_are_told_at_all() {
        let told = Told::default();
        assert!(told.is_news("NOPERM") && !told.is_news("NOPERM") && told.is_news("timed out"));
        tokio::time::advance(QUIET).await;
        assert!(told.is_news("NOPERM"));
        let news = (0..100).filter(|number| told.is_news(&number.to_string())).count();
        assert_eq!(news, REASONS_MAX - 1);
    }
}
