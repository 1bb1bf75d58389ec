//! How long anything is waited for.

use std::time::Duration;

use tokio::time;

use super::failure::Failure;

/// For an address to be looked up and a connection to it to stand.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// For the head of an answer to arrive after its request.
pub(crate) const HEAD_MAX: Duration = Duration::from_secs(10);
/// For the whole body of an answer to arrive after its head.
pub(crate) const BODY_MAX: Duration = Duration::from_secs(10);
/// For our answer to a WebSocket `Close` to be written.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long the server may hold a poll.
pub(crate) const POLL_WAIT: Duration = Duration::from_secs(25);
/// For the head of a poll's answer to arrive: the wait that was asked for, and 15 s more.
pub(crate) const POLL_HEAD_MAX: Duration = Duration::from_secs(POLL_WAIT.as_secs() + 15);
/// Before the next poll, where one brought nothing but refusals: the next would bring them at once.
pub(crate) const POLL_REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// For anything to arrive on a stream whose `welcome` has not said otherwise: two heartbeats of 25 s.
pub(crate) const SILENCE_MAX_DEFAULT: Duration = Duration::from_secs(2 * 25);

/// Does the work, unless it takes longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let too_long = |_| Failure::Broken(format!("no {what} within {} ms", limit.as_millis()));
    time::timeout(limit, work).await.map_err(too_long)
}
