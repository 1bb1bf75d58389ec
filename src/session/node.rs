//! This process as sessions and back ends see it: publish, read, register, drain.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::control::Control;
use super::hooks::{Carried, Hooks};
use super::identity::{Authority, Credential, Grants, Identity};
use super::occupancy::Occupancies;
use super::policy::{Policies, Policy};
use super::presence::{PresenceSettings, Presences};
use super::recent::Recent;
use super::registry::{Registered, Registry, draining};
use super::withdrawn::Vouching;
use crate::delivery::{ChannelName, Engine, Health, Listing, Outside, Shards};
use crate::metrics::Metrics;
use crate::protocol::{Code, Ending, Limits, Problem, Secret};

/// The least time after which a client that was sent away comes back.
const RETRY_MS_MIN: u64 = 500;

/// The least time after which a client that was refused comes back, and over how long those who were are spread.
const RETRY_MS_REFUSED: u64 = 1000;
const RETRY_MS_SPREAD: u64 = 2000;

/// How long a drain waits for publications that were accepted before it: an engine answers in far less.
const PUBLISHED_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a drain looks whether what it waits for is there.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// The engine, with what this node allows.
#[derive(Debug)]
pub struct Node {
    engine: Arc<dyn Engine>,
    outside: Arc<dyn Outside>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    limits: ArcSwap<Limits>,
    /// What each namespace allows; another value may take its place at any time.
    pub(super) policies: ArcSwap<Policies>,
    /// Requests to publish that were accepted and are not answered yet.
    pub(super) publishing: AtomicUsize,
    health: Option<Arc<dyn Health>>,
    /// Who may come in.
    pub(super) vouching: Arc<Vouching>,
    /// The app, where it decides; another may take its place at any time.
    hooks: ArcSwapOption<Hooks>,
    knows_nobody: Arc<Authority>,
    /// What is granted, mostly the same to many.
    grants: Recent<Grants>,
    /// Who came by a token: a page for everybody may have one token for all.
    identities: Recent<Identity>,
    anybody: Arc<Identity>,
    /// Who is on the channels.
    pub(super) presences: Arc<Presences>,
    pub(super) control: Control,
    pub(super) occupancies: OnceLock<Arc<Occupancies>>,
    pub(super) listing: Option<Arc<dyn Listing>>,
    anonymous: Arc<Identity>,
    itself: Arc<Identity>,
}

impl Node {
    /// A node without sessions.
    pub fn new(
        engine: Arc<dyn Engine>,
        outside: Arc<dyn Outside>,
        metrics: Arc<Metrics>,
        limits: Limits,
        policies: Policies,
    ) -> Self {
        let presences = Presences::new(PresenceSettings::default(), Arc::clone(&metrics), Vec::new());
        let registry = Arc::new(Registry::new());
        Self {
            engine,
            outside,
            metrics,
            vouching: Vouching::new(Arc::clone(&registry)),
            registry,
            limits: ArcSwap::from_pointee(limits),
            policies: ArcSwap::from_pointee(policies),
            publishing: AtomicUsize::new(0),
            health: None,
            hooks: ArcSwapOption::empty(),
            knows_nobody: Arc::default(),
            grants: Recent::default(),
            identities: Recent::default(),
            anybody: Arc::new(Identity::anybody()),
            control: Control::new(),
            occupancies: OnceLock::new(),
            listing: None,
            anonymous: Arc::new(Identity::anonymous()),
            itself: Arc::new(Identity::itself()),
            presences: Arc::new(presences),
        }
    }

    /// The same, which keeps who is on its channels in another way; somebody has to run it.
    #[must_use]
    pub fn with_presences(self, presences: Arc<Presences>) -> Self {
        Self { presences, ..self }
    }

    /// The same, for those alone who the authority lets in.
    #[must_use]
    pub fn with_authority(self, authority: Option<Authority>) -> Self {
        self.vouching.set(authority);
        self
    }

    /// Puts the app that decides in the place of the one that did. What it was asked before is forgotten.
    pub fn set_hooks(&self, hooks: Option<Arc<Hooks>>) {
        self.hooks.store(hooks);
    }

    /// The app, where it decides.
    pub fn hooks(&self) -> Option<Arc<Hooks>> {
        self.hooks.load_full()
    }

    /// Who may come in; without one, everything is open. Where the app decides, nothing is: then it is one that knows
    /// nobody.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        let nobody = || self.hooks.load().as_ref().map(|_| Arc::clone(&self.knows_nobody));
        self.vouching.authority.load_full().or_else(nobody)
    }

    /// Whoever comes where everything is open.
    pub fn anybody(&self) -> &Arc<Identity> {
        &self.anybody
    }

    /// This process.
    pub(crate) fn itself(&self) -> &Identity {
        &self.itself
    }

    /// What a channel's namespace allows.
    pub fn policy(&self, channel: &ChannelName) -> Arc<Policy> {
        Arc::clone(self.policies.load().of(channel))
    }

    /// Puts other policies in the place of those that hold. What is asked for from now on is judged by these, and
    /// subscriptions that they do not allow end.
    pub fn set_policies(&self, policies: Policies) {
        if **self.policies.load() == policies {
            return;
        }
        self.policies.store(Arc::new(policies));
        self.presences.end_kept(|channel| self.policy(channel).presence_on);
        self.registry.tell_new_policies();
    }

    /// The channels that the server subscribes for somebody, in the order in which they come after those that a request
    /// names.
    /// `None` for whom it never does.
    pub fn channels_at_connect(&self, identity: &Identity) -> Option<Vec<ChannelName>> {
        let user = identity.user()?;
        Some(self.policies.load().channels_at_connect(identity, user))
    }

    /// Whether the server subscribes users to channels of their own, and this one cannot have any.
    pub fn lacks_personal_channel(&self, identity: &Identity) -> bool {
        self.policies.load().lacks_personal_channel(identity)
    }

    /// Who shows this. Whoever shows nothing is let in where there is something that needs no token.
    ///
    /// # Errors
    /// What [`Authority::identify`] says; `denied`, if an operator has sent them away.
    pub async fn identify(&self, credential: Option<&Credential>) -> Result<Arc<Identity>, Problem> {
        let identity = match (self.authority(), credential) {
            (None, _) => Arc::clone(&self.anybody),
            (Some(_), None) if self.policies.load().admit_anonymous() || self.hooks.load().is_some() => {
                Arc::clone(&self.anonymous)
            }
            (Some(authority), _) => {
                let identified = authority.identify(credential, self.now_ms()).await;
                let identity = identified.inspect_err(|refusal| self.metrics.note_unbelieved(refusal.reason()))?;
                Arc::new(identity.sharing(&self.grants))
            }
        };
        self.check_denied(&identity, None).await?;
        Ok(identity)
    }

    /// Lets in a client that was [identified](Node::identify), as whom the app says, where it is asked; `carried` is what
    /// it is shown of the client.
    ///
    /// # Errors
    /// The app's refusal; `overloaded`, if it says nothing; `denied`, if an operator has sent them away.
    pub async fn admit(
        &self,
        identity: Arc<Identity>,
        carried: Option<Arc<Carried>>,
    ) -> Result<Arc<Identity>, Problem> {
        let Some(hooks) = self.hooks() else { return Ok(identity) };
        let admitted = hooks.connect(identity, carried).await?;
        // It may be somebody else now.
        self.check_denied(&admitted, None).await?;
        Ok(admitted)
    }

    /// Who goes on with a new token: the same user.
    ///
    /// # Errors
    /// What [`Authority::verify`] and [`Node::admit`] say; `forbidden`, if it is somebody else's; `bad_request`, if
    /// tokens mean nothing here.
    pub(super) async fn refresh(&self, identity: &Identity, token: &Secret) -> Result<Arc<Identity>, Problem> {
        let Some(authority) = self.authority() else {
            let detail = "everything is open here: there is no token to be refreshed";
            return Err(Problem::new(Code::BadRequest, detail));
        };
        let verified = authority.verify(token.reveal(), self.now_ms()).await;
        let renewed = verified.inspect_err(|refusal| self.metrics.note_unbelieved(refusal.reason()))?;
        let renewed = renewed.sharing(&self.grants);
        self.check_denied(&renewed, None).await?;
        if renewed.user() == identity.user() {
            return self.admit(Arc::new(renewed), identity.carried().cloned()).await;
        }
        self.metrics.note_unbelieved("other_user");
        let detail = "the token belongs to another user than this session; open another connection";
        Err(Problem::new(Code::Forbidden, detail))
    }

    /// The same node, which is ready when its engine says so.
    #[must_use]
    pub fn with_health(self, health: Option<Arc<dyn Health>>) -> Self {
        Self { health, ..self }
    }

    /// Whether it takes new sessions and publications.
    ///
    /// # Errors
    /// Why not, and when to ask again.
    pub fn check_ready(&self) -> Result<(), Problem> {
        const RETRY_MS: u64 = 1000;
        if self.registry.is_draining() {
            return Err(self.draining());
        }
        let missing = self.health.as_ref().map_or(Ok(()), |health| health.check());
        missing.map_err(|why| Problem::new(Code::EngineUnavailable, why).retry_after_ms(RETRY_MS))
    }

    /// The refusal of whoever comes while this node drains. They are many, and come back each at a moment of their own.
    pub(super) fn draining(&self) -> Problem {
        draining(RETRY_MS_REFUSED + self.random_below(RETRY_MS_SPREAD))
    }

    /// The same problem, after which this one tries again at another moment than all the others that meet it now.
    pub(super) fn spread(&self, mut problem: Problem) -> Problem {
        if let Some(retry_ms) = &mut problem.retry_ms {
            *retry_ms += self.random_below(RETRY_MS_SPREAD);
        }
        problem
    }

    /// What clients may send.
    pub fn limits(&self) -> Limits {
        **self.limits.load()
    }

    /// What clients may send from now on. Connections that are open keep what holds for their messages.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// The same as [`Node::metrics`], with what is measured only when somebody asks.
    pub fn measure(&self) -> &Metrics {
        let alone = Shards { up: 1, down: 0 };
        let Shards { up, down } = self.health.as_ref().map_or(alone, |health| health.shards());
        self.metrics.set_engine_shards(up, down);
        &self.metrics
    }

    /// What is counted on this node.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The wall clock, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.outside.now_ms()
    }

    /// The sessions of this node.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// A number from `0` to `below`, the latter excluded.
    pub fn random_below(&self, below: u64) -> u64 {
        self.outside.random() % below.max(1)
    }

    /// Somebody who has a session, kept once with all that are the same.
    pub(super) fn one_of_many(&self, identity: Arc<Identity>) -> Arc<Identity> {
        if identity.mark().is_some() {
            self.identities.share(identity)
        } else {
            identity
        }
    }

    pub(super) fn register(&self, identity: Arc<Identity>) -> Registered {
        let bits = u128::from(self.outside.random()) << 64 | u128::from(self.outside.random());
        self.registry.register(bits, identity)
    }

    /// From now on, no new sessions and publications: what a drain begins with.
    pub fn refuse_new(&self) {
        self.registry.refuse_new();
    }

    /// Sends every session away over `window`, in batches, each with a delay of its own after which to come back.
    /// What was accepted before is published first, and so reaches every session before its end.
    /// Returns when all are gone; cancel safe.
    pub async fn drain(&self, window: Duration) {
        const BATCHES: usize = 50;
        self.refuse_new();
        if tokio::time::timeout(PUBLISHED_TIMEOUT, reaches_zero(&self.publishing))
            .await
            .is_err()
        {
            tracing::warn!("the engine takes long: sessions are sent away before all publications are answered");
        }
        let ids = self.registry.ids();
        let batch_len = ids.len().div_ceil(BATCHES).max(1);
        let spread_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(RETRY_MS_MIN);
        // Few sessions are spread over the whole window, too.
        let batches = u32::try_from(ids.len().div_ceil(batch_len)).unwrap_or(1);
        let pause = window / batches.max(1);
        for (at, batch) in ids.chunks(batch_len).enumerate() {
            if at > 0 {
                tokio::time::sleep(pause).await;
            }
            for (rank, id) in (at * batch_len..).zip(batch) {
                let retry_ms = self.retry_ms(rank, ids.len(), spread_ms);
                self.registry.end(*id, Ending::draining(retry_ms));
            }
        }
        while self.registry.count() > 0 {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// The delay of the `rank`th of so many sessions: one part of `spread_ms` for each, and chance within it. Whoever
    /// is sent away later waits longer, so that they come back as evenly as they leave.
    fn retry_ms(&self, rank: usize, count: usize, spread_ms: u64) -> u64 {
        let at = |rank: usize| spread_ms.saturating_mul(rank as u64) / count.max(1) as u64;
        RETRY_MS_MIN + at(rank) + self.random_below(at(rank + 1) - at(rank))
    }
}

async fn reaches_zero(count: &AtomicUsize) {
    while count.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(DRAIN_TICK).await;
    }
}
