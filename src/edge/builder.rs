//! From what an edge is made.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Edge, Kept, Terms, clocks};
use crate::delivery::{Engine, Health, Listing, LogPolicy, Outside, Presence, PresenceEvents};
use crate::engine::{MemoryEngine, MeteredEngine, Snapshot, SnapshotError, System};
use crate::http::{Door, Hosts, HttpClient, Origins, Rules};
use crate::metrics::Metrics;
use crate::protocol::Limits;
use crate::session::Node;
use crate::session::hooks::{HookSettings, Hooks, Surroundings};
use crate::session::identity::Authority;
use crate::session::limits::{Clock, RateLimits, RateSettings, system_clock};
use crate::session::outgoing::Ask;
use crate::session::policy::{Policies, Policy};
use crate::session::presence::{Nodes, PresenceSettings, Presences};
use crate::session::webhooks::{WebhookSettings, Webhooks};
use crate::transport::{Timings, Transports};

/// 1,000 publications, 1 MiB and 5 minutes; positions live for a day.
pub(crate) const DEFAULT_WINDOW: LogPolicy = LogPolicy {
    count_max: 1_000,
    bytes_max: 1024 * 1024,
    age_ms_max: 5 * 60 * 1000,
    position_ttl_ms: 24 * 60 * 60 * 1000,
};

/// What an [`Edge`] is made from.
#[derive(Default)]
pub struct Builder {
    engine: Option<Arc<dyn Engine>>,
    kept: Option<Kept>,
    health: Option<Arc<dyn Health>>,
    listing: Option<Arc<dyn Listing>>,
    window: Option<LogPolicy>,
    policies: Option<Policies>,
    limits: Limits,
    timings: Timings,
    rates: Option<RateSettings>,
    clock: Option<Clock>,
    rules: Rules,
    authority: Option<Authority>,
    presence: Option<PresenceSettings>,
    presence_events: Option<Arc<dyn PresenceEvents>>,
    presence_port: Option<Arc<dyn Presence>>,
    hooks: Option<HookSettings>,
    webhooks: Option<WebhookSettings>,
    ask: Option<Arc<dyn Ask>>,
}

impl Builder {
    /// Keeps the logs elsewhere than in this process's memory. An engine of its own keeps them in its own way: a
    /// [snapshot](Builder::snapshot) belongs to the memory engine, and of the two the one that is named last counts.
    #[must_use]
    pub fn engine(self, engine: Arc<dyn Engine>) -> Self {
        Self {
            engine: Some(engine),
            kept: None,
            ..self
        }
    }

    /// Goes on with the logs of the snapshot in `file`, if there is one, and lets [`Edge::save`] write the next one.
    /// The snapshot is loaded now, and gone then: it is good for one life. To be called last, when nothing else can
    /// fail any more.
    ///
    /// # Errors
    /// If the file is damaged, if another process has it, or if nothing can be written there.
    pub fn snapshot(self, file: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let snapshot = Snapshot::hold(file)?;
        let (engine, loaded) = snapshot.load(Arc::new(System))?;
        let kept = Kept {
            snapshot,
            engine: Arc::new(engine),
            loaded,
        };
        Ok(Self {
            engine: None,
            kept: Some(kept),
            ..self
        })
    }

    /// The node is ready only while its engine is.
    #[must_use]
    pub fn health(self, health: Arc<dyn Health>) -> Self {
        Self {
            health: Some(health),
            ..self
        }
    }

    /// Who tells which channels are followed on this node, where the engine is not this edge's own.
    #[must_use]
    pub fn listing(self, listing: Arc<dyn Listing>) -> Self {
        Self {
            listing: Some(listing),
            ..self
        }
    }

    /// How much of each channel's log is kept, where no [policies](Builder::policies) say it.
    #[must_use]
    pub fn window(self, window: LogPolicy) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    /// What each namespace allows, and how much of its channels' logs is kept; unless told, everything for those to
    /// whom it was granted.
    #[must_use]
    pub fn policies(self, policies: Policies) -> Self {
        Self {
            policies: Some(policies),
            ..self
        }
    }

    /// What clients may send.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How long the transports wait.
    #[must_use]
    pub fn timings(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// How much each client may do; without this, whatever it wants.
    ///
    /// Where the router is mounted in an app, limits by address need the extension [`Peer`](crate::http::Peer) in each
    /// request.
    #[must_use]
    pub fn rates(self, rates: RateSettings) -> Self {
        Self {
            rates: Some(rates),
            ..self
        }
    }

    /// By which clock the limits refill; the machine's, unless told.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// The proxies whose word on their clients' addresses counts.
    #[must_use]
    pub fn trusted_proxies(mut self, trusted_proxies: Vec<IpNet>) -> Self {
        self.rules.trusted_proxies = trusted_proxies;
        self
    }

    /// The origins whose pages may ask from browsers; unless told, those of the same origin.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.rules.origins = origins;
        self
    }

    /// Under which names it may be asked; unless told, under any. An edge without an authority on a loopback address is
    /// safe from pages of other hosts only with [`Hosts::OfThisMachine`].
    #[must_use]
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.rules.hosts = hosts;
        self
    }

    /// All of what may change later by [`Edge::apply`].
    #[must_use]
    pub fn terms(self, terms: Terms) -> Self {
        Self {
            authority: terms.authority,
            policies: Some(terms.policies),
            limits: terms.limits,
            rates: Some(terms.rates),
            rules: terms.rules,
            ..self
        }
    }

    /// Who may come in; unless told, everybody.
    #[must_use]
    pub fn authority(self, authority: Authority) -> Self {
        Self {
            authority: Some(authority),
            ..self
        }
    }

    /// How it is kept who is on a channel. Without [policies](Builder::policies) it is then told of every channel.
    #[must_use]
    pub fn presence(self, presence: PresenceSettings) -> Self {
        Self {
            presence: Some(presence),
            ..self
        }
    }

    /// An app that decides who may come in and what they may do. With it nothing is open any more that neither the app nor
    /// the [authority](Builder::authority) allows.
    #[must_use]
    pub fn hooks(self, settings: HookSettings) -> Self {
        Self {
            hooks: Some(settings),
            ..self
        }
    }

    /// How nodes that share an engine tell each other of their sessions; without this, each knows its own.
    #[must_use]
    pub fn presence_port(self, port: Arc<dyn Presence>) -> Self {
        Self {
            presence_port: Some(port),
            ..self
        }
    }

    /// An app is told what happens to channels.
    #[must_use]
    pub fn webhooks(self, settings: WebhookSettings) -> Self {
        Self {
            webhooks: Some(settings),
            ..self
        }
    }

    /// Who wants to know of every change to that.
    #[must_use]
    pub fn presence_events(self, events: Arc<dyn PresenceEvents>) -> Self {
        Self {
            presence_events: Some(events),
            ..self
        }
    }

    /// Who asks the app, and tells it; unless told, a client of its own.
    #[must_use]
    pub fn asking(self, ask: Arc<dyn Ask>) -> Self {
        Self { ask: Some(ask), ..self }
    }

    /// The edge. Must be called inside a tokio runtime, on which its two clocks run.
    pub fn build(self) -> Edge {
        let outside: Arc<dyn Outside> = Arc::new(System);
        let mut listing = self.listing;
        let engine = self.engine.unwrap_or_else(|| {
            let memory = in_memory(self.kept.as_ref(), &outside);
            listing = Some(Arc::clone(&memory) as Arc<dyn Listing>);
            memory
        });
        let metrics = Arc::new(Metrics::new());
        let engine = Arc::new(MeteredEngine::new(engine, Arc::clone(&metrics)));
        let window = self.window.unwrap_or(DEFAULT_WINDOW);
        let settings = self.presence.unwrap_or_default();
        let clock = self.clock.unwrap_or_else(system_clock);
        let around = Surroundings {
            ask: self.ask.unwrap_or_else(|| Arc::new(HttpClient::default())),
            clock: Arc::clone(&clock),
            outside: Arc::clone(&outside),
            metrics: Arc::clone(&metrics),
        };
        let webhooks = self
            .webhooks
            .map(|settings| Arc::new(Webhooks::start(settings, around.clone())));
        let told = self.presence_events.into_iter().collect();
        let presences = Presences::new(settings, Arc::clone(&metrics), told);
        let presences = Arc::new(presences.with_nodes(self.presence_port.map(|port| Nodes {
            port,
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            node: outside.random(),
        })));
        let policies = self.policies.unwrap_or_else(|| {
            let presence_on = self.presence.is_some();
            let policy = Policy::granted(window);
            Policies::uniform(Policy { presence_on, ..policy })
        });
        let node = Node::new(
            engine,
            Arc::clone(&outside),
            Arc::clone(&metrics),
            self.limits,
            policies,
        )
        .with_presences(Arc::clone(&presences));
        let node = node.with_health(self.health).with_listing(listing);
        let node = Arc::new(node.with_authority(self.authority));
        node.follow_control();
        if let Some(settings) = self.hooks {
            node.set_hooks(Some(Hooks::new(settings, around.clone())));
        }
        if let Some(webhooks) = &webhooks {
            node.tell_occupancy(Arc::clone(webhooks) as Arc<dyn PresenceEvents>);
        }
        tokio::spawn(Presences::run(Arc::downgrade(&presences)));
        tokio::spawn(Presences::exchange(Arc::downgrade(&presences)));
        let transports = Arc::new(Transports::new(Arc::clone(&node), self.timings, Arc::clone(&clock)));
        tokio::spawn(clocks::beat(Arc::downgrade(&transports)));
        let limits = self
            .rates
            .map(|settings| Arc::new(RateLimits::new(settings, clock, node.metrics())));
        Edge {
            node,
            transports,
            around,
            webhooks,
            door: Arc::new(Door::new(limits, self.rules)),
            kept: self.kept.map(Arc::new),
        }
    }
}

/// The engine whose logs are in this process, which lets go of what is too old.
fn in_memory(kept: Option<&Kept>, outside: &Arc<dyn Outside>) -> Arc<MemoryEngine> {
    let memory = match kept {
        Some(kept) => Arc::clone(&kept.engine),
        None => Arc::new(MemoryEngine::new(Arc::clone(outside))),
    };
    tokio::spawn(clocks::sweep(Arc::downgrade(&memory)));
    memory
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("window", &self.window)
            .field("limits", &self.limits)
            .field("timings", &self.timings)
            .field("rates", &self.rates)
            .finish_non_exhaustive()
    }
}
