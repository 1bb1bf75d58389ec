//! The app decides: it is asked over HTTP when a client comes, subscribes or publishes.
//!
//! Its answers hold for a while, are asked for once however many wait for them, and are bounded in number and in time.
//! Where there is none, nobody is let in.

mod cache;
mod call;
mod carried;
mod decision;
mod shared;
mod signature;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use carried::{Carried, CarriedHeader};
use decision::{Decision, Granted};
use shared::Known;
use signature::Signing;

use super::identity::{Action, Identity};
use super::limits::Clock;
use super::outgoing::Ask;
use super::recent::Recent;
use crate::delivery::{ChannelName, Outside};
use crate::metrics::Metrics;
use crate::protocol::{Code, Hook, Item, Limits, Problem, Secret, Wish, question};

/// How far the returns of those who were refused for want of an answer are spread, in milliseconds.
const RETRY_SPREAD_MS: u64 = 2000;

/// What is asked where, and within which bounds.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// Who is asked when a client comes.
    pub connect_url: Option<String>,
    /// Who is asked when a client subscribes.
    pub subscribe_url: Option<String>,
    /// Who is asked when a client publishes.
    pub publish_url: Option<String>,
    /// How long an answer may take, the wait for a turn included.
    pub time_max: Duration,
    /// How long an answer holds that does not say it, in seconds; for `connect` and `subscribe`.
    pub cache_s: u64,
    /// Answers that are kept.
    pub cache_count_max: usize,
    /// Questions of each hook that are on their way at once.
    pub in_flight_max: usize,
    /// What questions are signed with.
    pub secret: Option<Secret>,
    /// The headers of a client that go along, in lower case.
    pub headers: Box<[Arc<str>]>,
    /// Whether its address does.
    pub sends_address: bool,
    /// The largest `data` of a publication, in bytes of compact JSON.
    pub publication_bytes_max: usize,
}

impl Default for HookSettings {
    /// Nobody is asked; as soon as somebody is, within bounds that suit most apps.
    fn default() -> Self {
        Self {
            connect_url: None,
            subscribe_url: None,
            publish_url: None,
            time_max: Duration::from_secs(2),
            cache_s: 10,
            cache_count_max: 50_000,
            in_flight_max: 64,
            secret: None,
            headers: Box::default(),
            sends_address: false,
            publication_bytes_max: Limits::default().publication_bytes_max,
        }
    }
}

impl HookSettings {
    fn url(&self, hook: Hook) -> Option<&str> {
        let url = match hook {
            Hook::Connect => &self.connect_url,
            Hook::Subscribe => &self.subscribe_url,
            Hook::Publish => &self.publish_url,
        };
        url.as_deref()
    }
}

/// What the hooks need of the node and of the world.
#[derive(Clone)]
pub struct Surroundings {
    /// Sends the questions.
    pub ask: Arc<dyn Ask>,
    /// By which clock answers grow old.
    pub clock: Clock,
    /// The wall clock, and chance.
    pub outside: Arc<dyn Outside>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// The app, as this node asks it.
#[derive(Debug)]
pub struct Hooks {
    settings: HookSettings,
    signing: Option<Signing>,
    around: Surroundings,
    known: Mutex<Known>,
    /// So that nobody outside can tell which questions have the same key.
    salt: u128,
    /// What was decided, and which headers go along: mostly the same for many.
    decisions: Recent<Decision>,
    headers: Recent<[CarriedHeader]>,
    /// For each hook, the places for questions that are on their way: so a flood of publications keeps nobody from
    /// connecting.
    turns: [Semaphore; Hook::ALL.len()],
    /// For each hook, whether the newest question had no answer.
    are_unwell: [AtomicBool; Hook::ALL.len()],
    /// Whether the newest client that the app let in was let in until a time that was over.
    is_over: AtomicBool,
}

impl Hooks {
    /// Nothing is asked yet, and nothing known.
    pub fn new(settings: HookSettings, around: Surroundings) -> Arc<Self> {
        let secret = settings.secret.as_ref();
        Arc::new(Self {
            signing: secret.map(|secret| Signing::new(secret.reveal().as_bytes())),
            known: Mutex::new(Known::new(settings.cache_count_max)),
            salt: u128::from(around.outside.random()) << 64 | u128::from(around.outside.random()),
            decisions: Recent::default(),
            headers: Recent::default(),
            turns: Hook::ALL.map(|_| Semaphore::new(settings.in_flight_max.min(Semaphore::MAX_PERMITS))),
            are_unwell: Default::default(),
            is_over: AtomicBool::new(false),
            settings,
            around,
        })
    }

    /// The headers of a client that go along, in lower case.
    pub fn headers(&self) -> &[Arc<str>] {
        &self.settings.headers
    }

    /// The same headers, kept once with all that are equal.
    pub fn share_headers(&self, headers: Vec<CarriedHeader>) -> Arc<[CarriedHeader]> {
        if headers.is_empty() {
            return Arc::default();
        }
        self.headers.share(headers.into())
    }

    /// Whether its address goes along.
    pub fn sends_address(&self) -> bool {
        self.settings.sends_address
    }

    /// Whether the app decides about this, and not what was granted.
    pub(super) fn decides(&self, action: Action) -> bool {
        match action {
            Action::Subscribe => self.settings.subscribe_url.is_some(),
            Action::Publish => self.settings.publish_url.is_some(),
            Action::History | Action::Presence => false,
        }
    }

    /// Lets a client in whose token, if it showed one, was verified: as whom the app says.
    ///
    /// # Errors
    /// The app's refusal; `overloaded`, if there is no answer.
    pub(super) async fn connect(
        self: &Arc<Self>,
        identity: Arc<Identity>,
        carried: Option<Arc<Carried>>,
    ) -> Result<Arc<Identity>, Problem> {
        if identity.is_back_end() {
            return Ok(identity);
        }
        if self.settings.connect_url.is_none() {
            return Ok(match carried {
                None => identity,
                Some(_) => Arc::new(Identity::clone(&identity).carrying(carried)),
            });
        }
        let decision = self.shared(Wish::Connect, identity.user(), carried.as_ref()).await;
        let granted = self.granted(&decision, &identity, carried.as_deref())?;
        let now_ms = self.around.outside.now_ms();
        if granted
            .expires_at_ms
            .is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
        {
            self.note_over();
            return Err(identity.time_is_over());
        }
        self.is_over.store(false, Ordering::Relaxed);
        if carried.is_none() && granted.adds_nothing() {
            return Ok(identity);
        }
        let admitted = identity.admitted(
            granted.user.as_deref(),
            granted.grants.as_ref(),
            granted.expires_at_ms,
            now_ms,
        );
        Ok(Arc::new(admitted.carrying(carried)))
    }

    /// Whether the app lets a client subscribe.
    ///
    /// # Errors
    /// The app's refusal; `overloaded`, if there is no answer.
    pub(super) async fn subscribe(self: &Arc<Self>, identity: &Identity, channel: &ChannelName) -> Result<(), Problem> {
        let wish = Wish::Subscribe(channel.as_str());
        let decision = self.shared(wish, identity.user(), identity.carried()).await;
        self.granted(&decision, identity, identity.carried().map(|carried| &**carried))
            .map(|_| ())
    }

    /// Whether the app lets a client publish this; it may have said what to publish instead.
    ///
    /// Each publication is asked about by itself, unless an earlier answer holds for all of this client's to this
    /// channel.
    ///
    /// # Errors
    /// The app's refusal; `overloaded`, if there is no answer.
    pub(super) async fn publish(&self, identity: &Identity, item: Item) -> Result<Item, Problem> {
        let carried = identity.carried();
        let decision = self.about(&item, identity.user(), carried).await;
        let granted = self.granted(&decision, identity, carried.map(|carried| &**carried))?;
        Ok(Item {
            data: granted.data.clone().unwrap_or(item.data),
            event: granted.event.clone().or(item.event),
            ..item
        })
    }

    async fn about(&self, item: &Item, user: Option<&str>, carried: Option<&Arc<Carried>>) -> Arc<Decision> {
        let wish = Wish::Publish(item);
        let key = self.key(wish, user, carried);
        if let Some(known) = self.look_up(Hook::Publish, &key) {
            return known;
        }
        let until = Instant::now() + self.settings.time_max;
        let Some(_turn) = self.turn(Hook::Publish, until).await else {
            return Arc::new(Decision::failure());
        };
        // Only now, for what waits should not keep its payload twice.
        let body = question(wish, user, carried.and_then(|carried| carried.address));
        let told = self.call((Hook::Publish, body), user, carried, until).await;
        self.keep(key, told)
    }

    /// The yes; or the no, as this client is told it.
    fn granted<'a>(
        &self,
        decision: &'a Decision,
        identity: &Identity,
        carried: Option<&Carried>,
    ) -> Result<&'a Granted, Problem> {
        let refused = match &decision.decided {
            Ok(granted) => return Ok(granted),
            Err(refused) => refused,
        };
        if decision.is_failure {
            // Those who wait for the same answer should not come back at the same moment.
            let retry_ms = refused.retry_ms.unwrap_or_default() + self.around.outside.random() % RETRY_SPREAD_MS;
            return Err(refused.clone().retry_after_ms(retry_ms));
        }
        if identity.is_anonymous() && carried.is_some_and(|carried| carried.is_cookie_withheld) {
            let detail = "the app was not shown the cookie, which counts for pages of an allowed origin only: send `Origin`, \
                          or list it in `origins`";
            return Err(Problem::new(Code::OriginRefused, detail));
        }
        Err(refused.clone())
    }
}
