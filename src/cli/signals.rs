//! The signals that a server listens to: to stop, to stop at once, and to look at its files again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use super::reload::Reload;
use super::service_manager;

/// They are taken before anything is served, so that none is missed.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Ready at the first signal to stop; a second one ends the process at once. Until then, and for as long as the
    /// process lives, the configuration is read again at each SIGHUP.
    pub(crate) async fn told_to_stop(mut self, mut reload: Reload, drain: Duration) {
        let mut hangup = self.hangup;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload.again().await;
            }
        });
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        service_manager::is_stopping(drain);
        tracing::info!("draining; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            tracing::warn!("stopped by a second signal");
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}
