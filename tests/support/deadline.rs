//! No wait without an end: long enough for any machine, short enough to say what did not come.

use std::future::Future;
use std::io;
use std::time::Duration;

/// How long anything may take that is sure to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `what`, and fails by its name when it does not come.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(PATIENCE, coming).await;
    come.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let coming = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, coming).await;
}

/// Waits until something is true for which somebody else has to be asked.
pub(crate) async fn until_told(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let coming = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, coming).await;
}

/// Waits for what the other side sends or takes; an error of its own kind tells that it did not.
pub(crate) async fn in_time<T>(what: &str, coming: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let come = tokio::time::timeout(PATIENCE, coming).await;
    come.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} did not come within {PATIENCE:?}"),
        ))
    })
}
