//! Presence over several nodes: what this one reports of its sessions, and what it knows of the others'.
//!
//! Each node reports its own sessions, for as long as its lease, and says on a channel of the server's own where
//! something changed. Whoever watches such a channel reads it again: the hint says that there is something, the reading
//! says what. A hint that was lost is made good when the first lease ends that the last reading saw.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::channel::PresentChannel;
use super::heirs::Estate;
use super::{Presences, TICK, lock};
use crate::delivery::{
    Ack, ChannelName, Delivery, Draft, Engine, EngineError, LogPolicy, Presence, Report, Since, subscribe,
};

/// Channels of which is reported, or read, at once.
pub(super) const CONCURRENT_MAX: usize = 16;

/// Sessions in one report.
const SESSIONS_MAX: usize = 500;

/// Names in one hint.
pub(super) const NAMES_MAX: usize = 500;

/// How long to wait after what did not succeed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The least time for which nobody is taken for gone, after nothing could be exchanged: all nodes try again within a
/// [pause](PAUSE), and have to be read after that.
pub(super) const SETTLING_MIN: Duration = Duration::from_secs(3);

/// The hints need not be kept for long: whoever missed some reads everything again.
const HINTS: LogPolicy = LogPolicy {
    count_max: 1_000,
    bytes_max: 1024 * 1024,
    age_ms_max: 60 * 1000,
    position_ttl_ms: 60 * 60 * 1000,
};

/// How this node and the others know of each other.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// Where the sessions are reported to.
    pub port: Arc<dyn Presence>,
    /// What carries the hints.
    pub engine: Arc<dyn Engine>,
    /// This node among them.
    pub node: u64,
}

/// What a channel owes to other nodes, and they to it.
#[derive(Debug, Default)]
pub(super) struct Ties {
    /// The last report that was taken.
    taken: Option<u64>,
    number: u64,
    /// When the lease has to be renewed.
    renew_at: Option<Instant>,
    /// When the others have to be read, unless a hint comes before.
    read_at: Option<Instant>,
    /// Whether the others are known.
    pub(super) is_read: bool,
    /// Not to be tried before.
    pause_until: Option<Instant>,
    /// Nothing could be exchanged the last time.
    is_cut_off: bool,
    /// It could not for some time, and the others may not have said again who they have: until then nobody is gone.
    settled_at: Option<Instant>,
    /// When somebody watched last.
    pub(super) watched_at: Option<Instant>,
}

/// Where something changed, as nodes tell each other.
#[derive(Debug, Serialize, Deserialize)]
struct Hint {
    node: u64,
    channels: Vec<String>,
}

impl Ties {
    /// The others have to be read: something changed there.
    pub(super) fn note_stale(&mut self, now: Instant) {
        self.read_at = Some(now);
    }
}

impl Presences {
    /// Reports and reads for as long as somebody else holds these.
    pub async fn exchange(presences: Weak<Self>) {
        let Some(nodes) = presences.upgrade().and_then(|held| held.nodes.clone()) else {
            return;
        };
        let mut hears = None;
        let mut estate = Estate::default();
        let mut look_at_all_from = Instant::now();
        while let Some(held) = presences.upgrade() {
            let now = Instant::now();
            let mut channels = std::mem::take(&mut *lock(&held.tied));
            if now >= look_at_all_from {
                channels = lock(&held.channels).values().cloned().collect();
                look_at_all_from = now + (held.settings.lease / 20).max(TICK);
            }
            // A server whose channels have no presence leaves no trace.
            if !channels.is_empty() && hears.is_none() {
                hears = Some(tokio::spawn(Self::hear(presences.clone(), nodes.clone())));
            }
            if let Some(heirs) = nodes.port.heirs() {
                held.mind_heirs(heirs, &mut estate, &channels).await;
            }
            let due: Vec<_> = channels
                .into_iter()
                .filter(|channel| {
                    let is_due = held.is_due(channel, now);
                    if !is_due {
                        held.forget(channel);
                    }
                    is_due
                })
                .collect();
            let exchanging = futures_util::stream::iter(due).map(|channel| held.exchange_one(&nodes, channel));
            let changed: Vec<_> = exchanging
                .buffer_unordered(CONCURRENT_MAX)
                .filter_map(|changed| async move { changed })
                .collect()
                .await;
            for names in changed.chunks(NAMES_MAX) {
                nodes.hint(names).await;
            }
            drop(held);
            tokio::time::sleep(TICK).await;
        }
        if let Some(hears) = hears {
            hears.abort();
        }
    }

    fn is_due(&self, channel: &PresentChannel, now: Instant) -> bool {
        let state = channel.state();
        let is = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let ties = &state.ties;
        let may_try = ties.pause_until.is_none_or(|until| until <= now);
        let must_report = state.roster.has_unreported() || (is(ties.renew_at) && state.roster.has_here());
        may_try && (must_report || (is(ties.read_at) && channel.is_followed(ties.watched_at, self.settings.lease, now)))
    }

    /// Reports what there is to be reported of a channel, and reads it if it is followed; says if something was new to
    /// the others.
    async fn exchange_one(&self, nodes: &Nodes, channel: Arc<PresentChannel>) -> Option<ChannelName> {
        let mut is_new = false;
        let done = async {
            while let Some(report) = Self::next_report(&channel) {
                self.report(nodes, &channel, report).await?;
                is_new |= channel.state().roster.take_is_changed();
            }
            self.read_if_due(nodes, &channel).await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "presence was not exchanged; it is tried again");
            let ties = &mut channel.state().ties;
            ties.pause_until = Some(Instant::now() + PAUSE);
            ties.is_cut_off = true;
        }
        self.forget(&channel);
        is_new.then(|| channel.name.clone())
    }

    fn next_report(channel: &PresentChannel) -> Option<Report> {
        let now = Instant::now();
        let mut state = channel.state();
        let must_renew = state.ties.renew_at.is_some_and(|at| at <= now) && state.roster.has_here();
        if !state.roster.has_unreported() && !must_renew {
            return None;
        }
        // Who was not heard says all at once: in parts, the first part would say that the rest is gone.
        let count_max = if state.ties.taken.is_some() {
            SESSIONS_MAX
        } else {
            state.roster.forget_reports();
            usize::MAX
        };
        let (came, went) = state.roster.take_unreported(count_max);
        state.ties.number += 1;
        Some(Report {
            came,
            went,
            after: state.ties.taken,
            number: state.ties.number,
        })
    }

    async fn report(&self, nodes: &Nodes, channel: &PresentChannel, report: Report) -> Result<(), EngineError> {
        let reported = nodes.port.report(&channel.name, &report).await;
        let mut state = channel.state();
        let is_taken = reported.as_ref().is_ok_and(|reported| reported.is_taken);
        if is_taken {
            state.ties.taken = Some(report.number);
            state.ties.renew_at = Some(Instant::now() + self.settings.lease / 3);
            state.ties.pause_until = None;
        } else {
            // Whether it took effect is not known, or known not to be: all of it is said again.
            state.ties.taken = None;
            state.roster.forget_reports();
            state.ties.renew_at = Some(Instant::now());
        }
        drop(state);
        for event in reported?.events {
            self.tell(&channel.name, &event);
        }
        Ok(())
    }

    async fn read_if_due(&self, nodes: &Nodes, channel: &Arc<PresentChannel>) -> Result<(), EngineError> {
        let now = Instant::now();
        let is_due = {
            let state = channel.state();
            let is_due = state.ties.read_at.is_some_and(|at| at <= now);
            is_due && channel.is_followed(state.ties.watched_at, self.settings.lease, now)
        };
        if is_due {
            self.read(nodes, channel).await
        } else {
            Ok(())
        }
    }

    /// Reads who is on a channel at other nodes.
    pub(super) async fn read(&self, nodes: &Nodes, channel: &Arc<PresentChannel>) -> Result<(), EngineError> {
        // Lowered first: a hint that comes while this is read asks for another reading.
        channel.state().ties.read_at = None;
        let others = nodes.port.others(&channel.name).await;
        let now = Instant::now();
        let mut state = channel.state();
        let others = match others {
            Ok(others) => others,
            Err(error) => {
                state.ties.read_at = Some(now);
                return Err(error);
            }
        };
        // A node that is alive renews its lease well before it ends; then the next reading finds a later end.
        let until = others.lease_ms.map_or(self.settings.lease, |ms| {
            Duration::from_millis(ms).min(self.settings.lease) + TICK
        });
        let read_at = state.ties.read_at.map_or(now + until, |at| at.min(now + until));
        state.ties.read_at = Some(read_at);
        state.ties.is_read = true;
        if std::mem::take(&mut state.ties.is_cut_off) {
            state.ties.settled_at = Some(now + self.settings.debounce.max(SETTLING_MIN));
        }
        match state.ties.settled_at.filter(|at| now < *at) {
            // Leases may have ended only because nobody could renew them.
            Some(settled_at) => {
                state.ties.read_at = Some(settled_at);
                state.roster.meet(others.sessions);
            }
            None => state.roster.set_others(others.sessions),
        }
        drop(state);
        self.activate(channel);
        Ok(())
    }

    /// Knows who is on a channel at other nodes, before it is told.
    ///
    /// # Errors
    /// If that cannot be known.
    pub(super) async fn follow(&self, channel: &Arc<PresentChannel>) -> Result<(), EngineError> {
        let Some(nodes) = &self.nodes else { return Ok(()) };
        let is_known = {
            let mut state = channel.state();
            state.ties.watched_at = Some(Instant::now());
            state.ties.is_read
        };
        if is_known {
            Ok(())
        } else {
            self.read(nodes, channel).await
        }
    }

    /// Follows the hints of the other nodes.
    async fn hear(presences: Weak<Self>, nodes: Nodes) {
        while presences.strong_count() > 0 {
            if let Ok((_, mut hints)) = subscribe(Arc::clone(&nodes.engine), ChannelName::presence(), Since::Now).await
            {
                // What was said before nobody heard.
                Self::note_stale(&presences, None);
                while let Some(delivery) = hints.next().await {
                    match delivery {
                        Delivery::Publication(publication) => match serde_json::from_slice::<Hint>(&publication.data) {
                            Ok(hint) if hint.node == nodes.node => {}
                            Ok(hint) => Self::note_stale(&presences, Some(&hint.channels)),
                            Err(_) => Self::note_stale(&presences, None),
                        },
                        Delivery::Gap(_) => Self::note_stale(&presences, None),
                        Delivery::Ended(_) => break,
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Something changed on these channels, or maybe on all.
    fn note_stale(presences: &Weak<Self>, names: Option<&[String]>) {
        let Some(held) = presences.upgrade() else { return };
        let names: Option<HashSet<&str>> = names.map(|names| names.iter().map(String::as_str).collect());
        let channels: Vec<_> = lock(&held.channels).values().cloned().collect();
        let now = Instant::now();
        for channel in channels {
            if names.as_ref().is_none_or(|names| names.contains(channel.name.as_str())) {
                channel.state().ties.note_stale(now);
                lock(&held.tied).push(channel);
            }
        }
    }
}

impl PresentChannel {
    /// Whether it has to be known who is on it at other nodes: for watchers, and for polls between two requests.
    pub(super) fn is_followed(&self, watched_at: Option<Instant>, lease: Duration, now: Instant) -> bool {
        self.watching.load(Ordering::SeqCst) > 0 || watched_at.is_some_and(|at| now < at + lease)
    }
}

impl Nodes {
    async fn hint(&self, channels: &[ChannelName]) {
        let hint = Hint {
            node: self.node,
            channels: channels.iter().map(|name| name.as_str().to_owned()).collect(),
        };
        let Ok(data) = serde_json::to_vec(&hint) else { return };
        let draft = Draft {
            channel: ChannelName::presence(),
            data: data.into(),
            event: None,
            key: None,
            sender: None,
            policy: HINTS,
            ack: Ack::Stored,
        };
        // One that does not arrive is made good by the lease.
        if let Some(Err(error)) = self.engine.publish(&[draft]).await.pop() {
            tracing::debug!(%error, "other nodes were not told where sessions came and went");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::delivery::{EngineErrorKind, Others, Present, Reported, SessionKey};
    use crate::engine::{MemoryEngine, System};
    use crate::metrics::Metrics;
    use crate::session::presence::PresenceSettings;

    /// The sessions of other nodes; `None`: nobody answers.
    #[derive(Debug)]
    struct Port(Mutex<Option<Vec<Present>>>);

    impl Presence for Port {
        fn report<'a>(
            &'a self,
            _: &'a ChannelName,
            _: &'a Report,
        ) -> futures_util::future::BoxFuture<'a, Result<Reported, EngineError>> {
            let is_there = lock(&self.0).is_some();
            let reported = Reported {
                is_taken: true,
                events: Vec::new(),
            };
            let answer = if is_there {
                Ok(reported)
            } else {
                Err(EngineErrorKind::Unavailable.into())
            };
            Box::pin(std::future::ready(answer))
        }

        fn others<'a>(
            &'a self,
            _: &'a ChannelName,
        ) -> futures_util::future::BoxFuture<'a, Result<Others, EngineError>> {
            let sessions = lock(&self.0).clone();
            let answer = sessions.map(|sessions| Others {
                sessions,
                lease_ms: None,
            });
            Box::pin(std::future::ready(answer.ok_or(EngineErrorKind::Unavailable.into())))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whose_lease_ended_while_nobody_could_renew_it_is_not_gone_at_once() {
        let port = Arc::new(Port(Mutex::new(Some(vec![(SessionKey(1), None)]))));
        let nodes = Nodes {
            port: Arc::clone(&port) as Arc<dyn Presence>,
            engine: Arc::new(MemoryEngine::new(Arc::new(System))),
            node: 1,
        };
        let settings = PresenceSettings::default();
        let presences = Presences::new(settings, Arc::new(Metrics::new()), Vec::new());
        let presences = Arc::new(presences.with_nodes(Some(nodes.clone())));
        let channel = presences.channel(&ChannelName::parse("c").unwrap());
        presences.follow(&channel).await.unwrap();
        let there = || channel.state().roster.counts().count;
        let look = async || {
            channel.state().ties.note_stale(Instant::now());
            presences.exchange_one(&nodes, Arc::clone(&channel)).await;
            there()
        };
        assert_eq!(look().await, 1);
        *lock(&port.0) = None;
        assert_eq!(look().await, 1, "nobody answers");
        *lock(&port.0) = Some(Vec::new());
        assert_eq!(look().await, 1, "it may not have said again that it is there");
        assert_eq!(look().await, 1);
        tokio::time::advance(settings.debounce).await;
        assert_eq!(look().await, 0);
        *lock(&port.0) = Some(vec![(SessionKey(2), None)]);
        assert_eq!(look().await, 1);
        *lock(&port.0) = Some(Vec::new());
        assert_eq!(look().await, 0, "as ever");
    }
}
