//! One question for all who wait for the same answer, and none while an earlier answer holds.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Hooks;
use super::cache::{Cache, Key};
use super::call::Told;
use super::carried::Carried;
use super::decision::Decision;
use crate::protocol::{Hook, Wish, question};

/// Different questions that may wait for their turn or their answer. Beyond it there is a flood, and no answer.
const WAITING_MAX: usize = 16 * 1024;

/// What was decided, and what is being asked.
#[derive(Debug)]
pub(super) struct Known {
    cache: Cache<Decision>,
    under_way: HashMap<Key, Awaited>,
}

/// An answer that is to come.
type Awaited = watch::Receiver<Option<Arc<Decision>>>;

impl Known {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            cache: Cache::new(count_max),
            under_way: HashMap::new(),
        }
    }
}

/// Where an answer comes from.
enum Found {
    Known(Arc<Decision>),
    UnderWay(Awaited),
    /// Whoever found it has to ask, and to tell the others.
    Nowhere(watch::Sender<Option<Arc<Decision>>>, Awaited),
    NoRoom,
}

impl Hooks {
    /// What is decided about a wish that the same client may have again, or another like it.
    pub(super) async fn shared(
        self: &Arc<Self>,
        wish: Wish<'_>,
        user: Option<&str>,
        carried: Option<&Arc<Carried>>,
    ) -> Arc<Decision> {
        let hook = wish.hook();
        let key = self.key(wish, user, carried);
        let mut awaited = match self.find(hook, &key) {
            Found::Known(decision) => return decision,
            Found::UnderWay(awaited) => awaited,
            Found::NoRoom => return Arc::new(Decision::failure()),
            Found::Nowhere(tell, awaited) => {
                let body = question(wish, user, carried.and_then(|carried| carried.address));
                let (user, carried) = (user.map(Box::from), carried.cloned());
                let hooks = Arc::clone(self);
                // A task of its own: a client that leaves does not take the answer with it. It ends by its deadline.
                tokio::spawn(async move {
                    let decision = hooks.lead((hook, body), user, carried, key).await;
                    tell.send_replace(Some(decision));
                });
                awaited
            }
        };
        let decision = awaited.wait_for(Option::is_some).await;
        let decision = decision.ok().and_then(|decision| decision.clone());
        // The task has ended without a word; the runtime does.
        decision.unwrap_or_else(|| Arc::new(Decision::failure()))
    }

    async fn lead(
        &self,
        asked: (Hook, String),
        user: Option<Box<str>>,
        carried: Option<Arc<Carried>>,
        key: Key,
    ) -> Arc<Decision> {
        let until = Instant::now() + self.settings.time_max;
        let Some(_turn) = self.turn(asked.0, until).await else {
            self.lock().under_way.remove(&key);
            return Arc::new(Decision::failure());
        };
        let told = self.call(asked, user.as_deref(), carried.as_ref(), until).await;
        self.keep(key, told)
    }

    fn find(&self, hook: Hook, key: &Key) -> Found {
        let metrics = &self.around.metrics;
        let now = (self.around.clock)();
        let mut known = self.lock();
        if let Some(decision) = known.cache.get(key, now) {
            metrics.note_hook(hook.as_str(), "cached");
            return Found::Known(Arc::clone(decision));
        }
        if let Some(awaited) = known.under_way.get(key) {
            metrics.note_hook(hook.as_str(), "shared");
            return Found::UnderWay(awaited.clone());
        }
        if known.under_way.len() >= WAITING_MAX {
            metrics.note_hook(hook.as_str(), "failed");
            return Found::NoRoom;
        }
        let (tell, awaited) = watch::channel(None);
        known.under_way.insert(*key, awaited.clone());
        Found::Nowhere(tell, awaited)
    }

    /// What an earlier answer says, if it still holds.
    pub(super) fn look_up(&self, hook: Hook, key: &Key) -> Option<Arc<Decision>> {
        let now = (self.around.clock)();
        let known = self.lock().cache.get(key, now).cloned();
        if known.is_some() {
            self.around.metrics.note_hook(hook.as_str(), "cached");
        }
        known
    }

    /// Keeps what was decided, if it holds for the next one, too; at the same moment the question is no longer under
    /// way, so that nobody asks it again.
    pub(super) fn keep(&self, key: Key, told: Told) -> Arc<Decision> {
        let Told { decision, holds, bytes } = told;
        let decision = Arc::new(decision);
        if holds.is_zero() {
            self.lock().under_way.remove(&key);
            return decision;
        }
        // Most are a yes and nothing else.
        let decision = self.decisions.share(decision);
        let now = (self.around.clock)();
        let mut known = self.lock();
        known.under_way.remove(&key);
        known.cache.insert(key, Arc::clone(&decision), (now, holds), bytes);
        decision
    }

    pub(super) fn key(&self, wish: Wish<'_>, user: Option<&str>, carried: Option<&Arc<Carried>>) -> Key {
        key(self.salt, wish, user, carried)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who wants what, with all that the app is shown of it but a publication's payload: two questions of one key have one
/// answer.
fn key(salt: u128, wish: Wish<'_>, user: Option<&str>, carried: Option<&Arc<Carried>>) -> Key {
    let mut context = Context::new(&SHA256);
    // Each part with its length before it, so that no two sequences of parts are the same bytes.
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    };
    add(&salt.to_le_bytes());
    add(wish.hook().as_str().as_bytes());
    match wish {
        Wish::Connect => {}
        Wish::Subscribe(channel) => add(channel.as_bytes()),
        Wish::Publish(item) => add(item.channel.as_str().as_bytes()),
    }
    match user {
        None => add(b"nobody"),
        Some(user) => {
            add(b"user");
            add(user.as_bytes());
        }
    }
    if let Some(carried) = carried {
        add(carried
            .address
            .map(|address| address.to_string())
            .unwrap_or_default()
            .as_bytes());
        for (name, value) in &*carried.headers {
            add(name.as_bytes());
            add(value);
        }
    }
    let mut key = Key::default();
    let len = key.len();
    key.copy_from_slice(&context.finish().as_ref()[..len]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_app_is_shown_makes_another_key() {
        let carried = |name: &str, value: &str, address: Option<&str>| {
            Some(Arc::new(Carried {
                headers: Arc::from([(Arc::from(name), Box::from(value.as_bytes()))]),
                address: address.map(|address| address.parse().unwrap()),
                is_cookie_withheld: false,
            }))
        };
        let who = [
            (None, None),
            (Some("nobody"), None),
            (Some("ada"), None),
            (Some("ada"), carried("cookie", "a=b", None)),
            (Some("ada"), carried("cookie", "a=c", None)),
            (Some("ada"), carried("cookiea", "=b", None)),
            (Some("ada"), carried("cookie", "a=b", Some("192.0.2.1"))),
            (None, carried("cookie", "a=b", None)),
            (Some("adacookie"), carried("", "a=b", None)),
        ];
        let wishes = [
            Wish::Connect,
            Wish::Subscribe("a"),
            Wish::Subscribe("ada"),
            Wish::Subscribe("nobody"),
        ];
        let mut keys: Vec<Key> = wishes
            .into_iter()
            .flat_map(|wish| {
                who.iter()
                    .map(move |(user, carried)| key(7, wish, *user, carried.as_ref()))
            })
            .collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert_ne!(key(7, Wish::Connect, None, None), key(8, Wish::Connect, None, None));
    }
}
