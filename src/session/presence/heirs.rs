//! The sessions of a node that crashed, on channels that no other node looks at: whoever is left ends them, so that it is
//! told that they went.
//!
//! Each node says on which channels it has sessions, before it reports them, and for as long as its lease. What a node
//! has said whose lease ended others share among them, a few channels at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::channel::PresentChannel;
use super::nodes::{CONCURRENT_MAX, NAMES_MAX, PAUSE, SETTLING_MIN};
use super::{Presences, TICK, lock};
use crate::delivery::{ChannelName, Claim, EngineError, EngineErrorKind, Heirs, Known, Places, Settled};

/// Channels that are taken over at once.
const CLAIMED_MAX: usize = 100;

/// Channels that were taken over and are not settled yet.
const INHERITED_MAX: usize = 1_000;

/// How long it is waited until what was said is known: nothing is reported meanwhile.
const SAYING_MAX: Duration = Duration::from_millis(500);

/// What this node has said to its heirs, and what it has inherited.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// The channels of which it has said that it has sessions there.
    said: HashSet<ChannelName>,
    inherited: Vec<Inherited>,
    /// When it has to say that it lives, and look who does not.
    look_at: Option<Instant>,
    /// Not to be tried before.
    pause_until: Option<Instant>,
    is_cut_off: bool,
    /// Other nodes may have been cut off, too, and not have said again that they live: until then they do.
    settled_at: Option<Instant>,
}

/// A channel of a node that crashed.
#[derive(Debug)]
struct Inherited {
    node: Arc<str>,
    channel: ChannelName,
    /// When it has to be looked at.
    look_at: Instant,
    /// When the last lease on it has ended that was not renewed since it was taken over.
    until: Instant,
    is_settled: bool,
}

impl Presences {
    /// Says where this node has sessions, these channels among them, and ends those of nodes that crashed.
    pub(super) async fn mind_heirs(&self, heirs: &dyn Heirs, estate: &mut Estate, channels: &[Arc<PresentChannel>]) {
        if estate.pause_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let minded = async {
            if let Some(known) = self.say(heirs, estate, channels).await? {
                self.inherit(heirs, estate, known).await?;
            }
            if estate.is_sure() {
                self.settle(heirs, estate).await?;
            }
            Ok::<_, EngineError>(())
        };
        if let Err(error) = minded.await {
            tracing::debug!(%error, "where sessions are was not said; it is tried again");
            estate.is_cut_off = true;
            estate.pause_until = Some(Instant::now() + PAUSE);
        }
    }

    /// Says what is new, and from time to time all the rest; what is known of all nodes, if that was it.
    async fn say(
        &self,
        heirs: &dyn Heirs,
        estate: &mut Estate,
        channels: &[Arc<PresentChannel>],
    ) -> Result<Option<Known>, EngineError> {
        let now = Instant::now();
        let is_time = estate.look_at.is_none_or(|at| at <= now);
        let (mut came, mut went) = (Vec::new(), Vec::new());
        if is_time {
            let known = lock(&self.channels);
            went.extend(estate.said.iter().filter(|name| !known.contains_key(*name)).cloned());
            came.extend(known.values().filter_map(|channel| estate.to_say(channel)));
        } else {
            came.extend(channels.iter().filter_map(|channel| estate.to_say(channel)));
        }
        let mut known = None;
        let (mut came, mut went) = (came.chunks(NAMES_MAX), went.chunks(NAMES_MAX));
        loop {
            let (some, others) = (came.next(), went.next());
            if some.is_none() && others.is_none() && (known.is_some() || !is_time) {
                return Ok(known.filter(|_| is_time));
            }
            let places = Places {
                came: some.unwrap_or_default().to_vec(),
                went: others.unwrap_or_default().to_vec(),
            };
            let said = timeout(SAYING_MAX, heirs.say(&places)).await;
            let said = said.unwrap_or_else(|_| Err(EngineErrorKind::Unavailable.into()))?;
            if is_time {
                estate.look_at = Some(now + (self.settings.lease / 10).max(TICK));
            }
            estate.note_said(places, &said, self.settings.debounce);
            known = Some(said);
        }
    }

    /// Takes over channels of nodes that crashed, and gives back those that are settled.
    async fn inherit(&self, heirs: &dyn Heirs, estate: &mut Estate, known: Known) -> Result<(), EngineError> {
        for node in known.ended {
            if !estate.is_sure() {
                break;
            }
            let is_settled_one = |one: &mut Inherited| one.is_settled && *one.node == *node;
            let settled = estate.inherited.extract_if(.., is_settled_one);
            let claim = Claim {
                settled: settled.map(|one| one.channel).collect(),
                count_max: CLAIMED_MAX.min(INHERITED_MAX - estate.inherited.len().min(INHERITED_MAX)),
                node,
            };
            let claimed = heirs.claim(&claim).await?;
            let now = Instant::now();
            if !claimed.is_empty() {
                // There may be more.
                estate.look_at = Some(now);
            }
            let node: Arc<str> = claim.node.into();
            estate.inherited.extend(claimed.into_iter().map(|channel| Inherited {
                node: Arc::clone(&node),
                channel,
                look_at: now,
                until: now + self.settings.lease,
                is_settled: false,
            }));
        }
        // Its node has come back, or another one has given it back.
        estate.inherited.retain(|one| !one.is_settled);
        Ok(())
    }

    /// Ends the sessions whose leases ended, on channels that were taken over.
    async fn settle(&self, heirs: &dyn Heirs, estate: &mut Estate) -> Result<(), EngineError> {
        let now = Instant::now();
        let is_due = |(_, one): &(usize, &Inherited)| !one.is_settled && one.look_at <= now;
        let due = estate.inherited.iter().enumerate().filter(is_due).take(CLAIMED_MAX);
        let due: Vec<_> = due.map(|(at, one)| (at, one.channel.clone())).collect();
        let settling = stream::iter(due).map(|(at, channel)| async move { (at, heirs.settle(&channel).await) });
        let mut settling = settling.buffer_unordered(CONCURRENT_MAX);
        let mut result = Ok(());
        while let Some((at, settled)) = settling.next().await {
            let one = &mut estate.inherited[at];
            match settled {
                Ok(Settled { events, lease_ms }) => {
                    for event in events {
                        self.tell(&one.channel, &event);
                    }
                    // Whoever is alive has renewed its lease since.
                    one.is_settled = lease_ms.is_none() || now >= one.until;
                    let lease = Duration::from_millis(lease_ms.unwrap_or_default());
                    one.look_at = (now + lease).min(one.until);
                }
                Err(error) => {
                    one.look_at = now + PAUSE;
                    result = Err(error);
                }
            }
        }
        result
    }
}

impl Estate {
    /// A channel of which it has to be said that sessions are there.
    fn to_say(&self, channel: &PresentChannel) -> Option<ChannelName> {
        let is_new = !self.said.contains(&channel.name) && channel.state().roster.has_here();
        is_new.then(|| channel.name.clone())
    }

    /// What was said is known, of which the others said this.
    fn note_said(&mut self, places: Places, known: &Known, debounce: Duration) {
        for channel in &places.went {
            self.said.remove(channel);
        }
        let now = Instant::now();
        let is_forgotten = !known.is_known && !self.said.is_empty();
        if is_forgotten {
            self.said.clear();
            self.look_at = Some(now);
        }
        self.said.extend(places.came);
        if std::mem::take(&mut self.is_cut_off) || is_forgotten {
            self.settled_at = Some(now + debounce.max(SETTLING_MIN));
        }
    }

    /// Whether a lease that ended means that its node has crashed.
    fn is_sure(&self) -> bool {
        self.settled_at.is_none_or(|at| at <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::metrics::Metrics;
    use crate::session::presence::PresenceSettings;

    /// One node whose lease ended, and what is asked about it; `None`: nobody answers.
    #[derive(Debug)]
    struct OneEnded(Mutex<Option<Vec<String>>>);

    impl OneEnded {
        fn answer<'a, T: Send + 'a>(&self, asked: String, answer: T) -> BoxFuture<'a, Result<T, EngineError>> {
            let mut all = lock(&self.0);
            Box::pin(ready(match &mut *all {
                Some(all) => {
                    all.push(asked);
                    Ok(answer)
                }
                None => Err(EngineErrorKind::Unavailable.into()),
            }))
        }
    }

    impl Heirs for OneEnded {
        fn say<'a>(&'a self, _: &'a Places) -> BoxFuture<'a, Result<Known, EngineError>> {
            let ended = vec!["ended".to_owned()];
            self.answer("say".to_owned(), Known { is_known: true, ended })
        }

        fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<ChannelName>, EngineError>> {
            let channel = ChannelName::parse("c").unwrap();
            let is_settled = claim.settled.contains(&channel);
            let claimed = if is_settled { Vec::new() } else { vec![channel] };
            self.answer(format!("claim {} {}", claim.node, claim.settled.len()), claimed)
        }

        fn settle<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Settled, EngineError>> {
            self.answer(format!("settle {channel}"), Settled::default())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whose_lease_ended_while_nobody_could_renew_it_has_not_crashed() {
        let (heirs, mut estate) = (OneEnded(Mutex::new(None)), Estate::default());
        let settings = PresenceSettings::default();
        let presences = Presences::new(settings, Arc::new(Metrics::new()), Vec::new());
        let mut look = async || {
            presences.mind_heirs(&heirs, &mut estate, &[]).await;
            tokio::time::advance(settings.lease / 10).await;
            lock(&heirs.0).as_mut().map(std::mem::take)
        };
        assert_eq!(look().await, None);
        *lock(&heirs.0) = Some(Vec::new());
        let mut waited = Duration::ZERO;
        while waited < settings.debounce.max(SETTLING_MIN) {
            assert_eq!(look().await.unwrap(), ["say"], "after {waited:?}");
            waited += settings.lease / 10;
        }
        assert_eq!(look().await.unwrap(), ["say", "claim ended 0", "settle c"]);
        assert_eq!(look().await.unwrap(), ["say", "claim ended 1"]);
    }
}
