//! What a service manager is told (`sd_notify(3)`), where there is one.

use std::time::Duration;

use sd_notify::NotifyState;

/// Everything listens, and what was kept is loaded. From now on it is told at half of the time that it asks for
/// (`WATCHDOG_USEC`) that the runtime still runs its tasks.
pub(crate) fn is_ready() {
    tell(NotifyState::Ready);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(watch(limit / 2));
    }
}

/// The configuration is read again, until [`has_reloaded`].
pub(crate) fn is_reloading() {
    // The time is what systemd tells this notification by from an older one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_all(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
    }
}

/// It was, with this outcome.
pub(crate) fn has_reloaded(status: &str) {
    tell_all(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The drain begins, and may take so long.
pub(crate) fn is_stopping(drain: Duration) {
    tell(NotifyState::Stopping);
    needs(drain);
}

/// A snapshot may take longer to write than a stop usually takes.
pub(crate) fn needs(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    tell(NotifyState::ExtendTimeoutUsec(micros));
}

async fn watch(period: Duration) {
    let mut interval = tokio::time::interval(period.max(Duration::from_millis(1)));
    loop {
        interval.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    tell_all(&[state]);
}

fn tell_all(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
