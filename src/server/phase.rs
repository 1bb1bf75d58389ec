//! How far the server is on its way from its start to its end, as its connections see it.

use tokio::sync::watch;

/// What connections are asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// To serve.
    Serving,
    /// HTTP/2 connections take no further streams: what comes next should go elsewhere.
    Draining,
    /// Every connection ends after what is under way.
    Ending,
    /// Every connection ends at once.
    Cut,
}

/// Where the phase is announced.
#[derive(Debug)]
pub(super) struct Phases(watch::Sender<Phase>);

/// Where one connection sees it. The server waits for the last of these to be dropped.
#[derive(Debug, Clone)]
pub(super) struct Watch(watch::Receiver<Phase>);

impl Phases {
    pub(super) fn new() -> (Self, Watch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Watch(receiver))
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Ready when nobody watches any more.
    pub(super) async fn is_over(&self) {
        self.0.closed().await;
    }
}

impl Watch {
    /// Ready in this phase and all later ones. Cancel safe.
    pub(super) async fn reached(&mut self, phase: Phase) {
        // An error is a server that is gone, which is the last of all phases.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
