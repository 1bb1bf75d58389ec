//! Keys that an issuer publishes at a URL: kept, kept young, and looked for again when one is unknown, never more often
//! than now and then. Who shows a key that is known does not wait for its issuer.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::Instant;

use super::{Algorithm, Key};
use crate::session::outgoing::without_secrets;

/// The largest JWK set, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// How long after the last attempt keys are fetched again at the earliest.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// How old keys may be before they are fetched again although none is missing, so that a withdrawn one goes.
const KEYS_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// How long one attempt may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches a document of at most [`JWKS_BYTES_MAX`]. It follows no redirects.
pub trait FetchKeys: Send + Sync + fmt::Debug + 'static {
    /// The document at `url`, or why it cannot be had. May be dropped at any time.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// Somebody who has let others in by published keys.
pub(in crate::session) trait KeysWithdrawn: Send + Sync + fmt::Debug {
    /// Keys are gone, which do not count any more: whoever was let in by one has to leave. Says how many have.
    fn keys_are_withdrawn(&self) -> usize;
}

/// The keys at a URL, which comes from the configuration and from nowhere else.
#[derive(Debug)]
pub struct RemoteKeys {
    url: String,
    fetch: Arc<dyn FetchKeys>,
    known: RwLock<Known>,
    /// Held by whoever fetches; those who wait for it find what was fetched.
    fetching: Arc<Turns<()>>,
    /// Whether somebody sees to it that they stay young.
    is_followed: AtomicBool,
    told: Mutex<Vec<Weak<dyn KeysWithdrawn>>>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// `None` until they could be had once.
    keys: Option<Arc<[Key]>>,
    /// When; `None` where they may be old, whenever that was.
    fetched: Option<Instant>,
    tried: Option<Instant>,
    /// To be asked for once more, whatever an attempt that is on its way brings.
    again: bool,
}

impl Known {
    fn has(&self, (algorithm, id): (Algorithm, Option<&str>)) -> bool {
        let mut keys = self.keys.iter().flat_map(|keys| keys.iter());
        keys.any(|key| key.fits(algorithm, id))
    }

    fn is_due(&self) -> bool {
        let is_old = self.fetched.is_none_or(|at| at.elapsed() >= KEYS_AGE_MAX);
        self.again || (is_old && self.may_try())
    }

    fn may_try(&self) -> bool {
        self.again || self.tried.is_none_or(|at| at.elapsed() >= REFRESH_MIN)
    }

    /// How long to wait before it is looked whether they are due.
    fn due_in(&self) -> Duration {
        let left =
            |at: Option<Instant>, least: Duration| at.map_or(Duration::ZERO, |at| least.saturating_sub(at.elapsed()));
        left(self.fetched, KEYS_AGE_MAX).max(left(self.tried, REFRESH_MIN))
    }
}

impl RemoteKeys {
    /// Keys that are fetched when the first token asks for them, and from then on as often as they get old.
    pub fn new(url: String, fetch: Arc<dyn FetchKeys>) -> Arc<Self> {
        Arc::new(Self {
            url,
            fetch,
            known: RwLock::default(),
            fetching: Arc::default(),
            is_followed: AtomicBool::new(false),
            told: Mutex::default(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whoever is told when keys are withdrawn, as long as it is there.
    pub(super) fn tell(&self, who: &Weak<dyn KeysWithdrawn>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|known| known.strong_count() > 0 && !known.ptr_eq(who));
        told.push(Weak::clone(who));
    }

    /// What is known may be old: it is asked for again at once, and counts until then. Outside of a runtime that waits
    /// for the next who needs it.
    pub(super) fn look_again(self: &Arc<Self>) {
        // Those that nobody has asked for yet are not worth it.
        if self.known().tried.is_none() {
            return;
        }
        self.write(|known| {
            known.fetched = None;
            known.again = true;
        });
        if Handle::try_current().is_ok() {
            self.refresh_beside();
        }
    }

    /// The keys that are known now; `None` if they could never be had.
    pub(super) fn known_keys(&self) -> Option<Arc<[Key]>> {
        self.known().keys
    }

    /// The keys among which one that fits should be; `None` if they could never be had. At once, if there is one that
    /// fits; else after an attempt to have others, if there may be one.
    pub(super) async fn keys(self: &Arc<Self>, wanted: (Algorithm, Option<&str>)) -> Option<Arc<[Key]>> {
        let known = self.known();
        if known.has(wanted) {
            if known.is_due() {
                self.refresh_beside();
            }
            return known.keys;
        }
        let turn = Arc::clone(&self.fetching).lock_owned().await;
        let known = self.known();
        if !known.again && (known.has(wanted) || !known.may_try()) {
            return known.keys;
        }
        let _ = self.refresh_with(turn).await;
        self.known().keys
    }

    /// Unless that is under way.
    fn refresh_beside(self: &Arc<Self>) {
        if let Ok(turn) = Arc::clone(&self.fetching).try_lock_owned() {
            self.refresh_with(turn);
        }
    }

    /// A task of its own: a client that leaves does not take the attempt with it. It ends by its deadline.
    fn refresh_with(self: &Arc<Self>, turn: OwnedMutexGuard<()>) -> tokio::task::JoinHandle<()> {
        if !self.is_followed.swap(true, Ordering::SeqCst) {
            tokio::spawn(follow(Arc::downgrade(self)));
        }
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let mut turn = turn;
            loop {
                own.refresh().await;
                drop(turn);
                // Somebody has asked for more meanwhile, and found that one was under way.
                match Arc::clone(&own.fetching).try_lock_owned() {
                    Ok(next) if own.known().again => turn = next,
                    _ => break,
                }
            }
        })
    }

    async fn refresh(&self) {
        self.write(|known| {
            known.tried = Some(Instant::now());
            known.again = false;
        });
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch.fetch(&self.url)).await;
        let read = match fetched {
            Ok(Ok(document)) => read(&document),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())),
        };
        match read {
            Ok(keys) => self.go_on_with(keys),
            Err(error) => {
                let url = without_secrets(&self.url);
                tracing::warn!(url, %error, "an issuer's keys cannot be had; those that are known stay");
            }
        }
    }

    fn go_on_with(&self, keys: Vec<Key>) {
        let mut before = None;
        let keys: Arc<[Key]> = keys.into();
        self.write(|known| {
            before = known.keys.replace(Arc::clone(&keys));
            known.fetched = Some(Instant::now());
        });
        let before = before.iter().flat_map(|before| before.iter());
        let gone = before.filter(|old| !keys.iter().any(|key| key.is_same(old))).count();
        if gone == 0 {
            return;
        }
        // Not under the lock: they have much to do.
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = told.iter().filter_map(Weak::upgrade);
        let sessions: usize = told.map(|who| who.keys_are_withdrawn()).sum();
        let url = without_secrets(&self.url);
        tracing::info!(
            url,
            keys = gone,
            sessions,
            "an issuer has withdrawn keys; sessions that they had let in end"
        );
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Sees to it that keys that were asked for once do not get old, so that one that is withdrawn goes though nobody comes.
/// Ends when nobody has them any more.
async fn follow(keys: Weak<RemoteKeys>) {
    loop {
        let Some(wait) = keys.upgrade().map(|keys| keys.known().due_in()) else {
            return;
        };
        // Not at once after what was tried right now, and not the instant before it is due.
        tokio::time::sleep(wait + Duration::from_millis(1)).await;
        let Some(keys) = keys.upgrade() else { return };
        if keys.known().is_due() {
            keys.refresh_beside();
        }
    }
}

/// A set without a key that could check anything is a mistake, and would send everybody away.
fn read(document: &[u8]) -> Result<Vec<Key>, String> {
    if document.len() > JWKS_BYTES_MAX {
        return Err(format!("more than {JWKS_BYTES_MAX} bytes"));
    }
    let keys = Key::from_jwks(document).map_err(|error| error.to_string())?;
    if keys.is_empty() {
        return Err("no key in it is for RS256, ES256 or EdDSA signatures".to_owned());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    /// What stands for an issuer that takes the question and says nothing.
    const SILENCE: &str = "silence";

    /// Answers what it is told to, and counts.
    #[derive(Debug)]
    struct Scripted {
        answer: Mutex<Result<Vec<u8>, String>>,
        asked: AtomicUsize,
    }

    impl Scripted {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn say(&self, answer: Result<&str, &str>) {
            *self.answer.lock().unwrap() = answer.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned);
        }
    }

    impl FetchKeys for Scripted {
        fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
            assert_eq!(url, "https://issuer.example/keys");
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answer.lock().unwrap().clone();
            let is_silent = answer.as_ref().is_err_and(|why| why == SILENCE);
            Box::pin(async move {
                tokio::task::yield_now().await;
                if is_silent {
                    std::future::pending::<()>().await;
                }
                answer
            })
        }
    }

    /// Of this name, and other names' keys are others.
    fn named(id: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode([id.as_bytes()[0]; 32]);
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#)
    }

    fn remote() -> (Arc<Scripted>, Arc<RemoteKeys>) {
        let scripted = Arc::new(Scripted {
            answer: Mutex::new(Err("nobody there".to_owned())),
            asked: AtomicUsize::new(0),
        });
        let fetch: Arc<dyn FetchKeys> = Arc::clone(&scripted) as Arc<dyn FetchKeys>;
        let remote = RemoteKeys::new("https://issuer.example/keys".to_owned(), fetch);
        (scripted, remote)
    }

    async fn has(remote: &Arc<RemoteKeys>, id: &str) -> Option<bool> {
        let keys = remote.keys((Algorithm::EdDsa, Some(id))).await?;
        Some(keys.iter().any(|key| key.fits(Algorithm::EdDsa, Some(id))))
    }

    async fn later(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    /// Lets what runs beside come to its end.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Counts how often it was told.
    #[derive(Debug, Default)]
    struct Told(AtomicUsize);

    impl KeysWithdrawn for Told {
        fn keys_are_withdrawn(&self) -> usize {
            self.0.fetch_add(1, Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_looked_for_once_in_half_a_minute() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a").await, Some(true));
        for _ in 0..3 {
            later(9).await;
            assert_eq!(has(&remote, "b").await, Some(false));
        }
        assert_eq!(scripted.asked(), 1);
        scripted.say(Ok(&named("b")));
        later(3).await;
        assert_eq!(has(&remote, "b").await, Some(true));
        assert_eq!(has(&remote, "a").await, Some(false), "it was withdrawn");
        assert_eq!(scripted.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_ask_once() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        let asking = (0..100).map(|_| has(&remote, "a"));
        let found = futures_util::future::join_all(asking).await;
        assert!(found.iter().all(|found| *found == Some(true)));
        assert_eq!(scripted.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_a_known_key_does_not_wait_for_an_issuer_that_is_silent() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a").await, Some(true));
        scripted.say(Err(SILENCE));
        remote.look_again();
        settle().await;
        assert_eq!(scripted.asked(), 2, "a silent issuer was asked");
        let begun = Instant::now();
        assert_eq!(has(&remote, "a").await, Some(true));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // An unknown one waits for the answer that may know it, and no longer than that may take.
        let asking = (0..100).map(|_| has(&remote, "b"));
        let found = futures_util::future::join_all(asking).await;
        assert!(found.iter().all(|found| *found == Some(false)));
        assert!(begun.elapsed() < FETCH_TIMEOUT + Duration::from_millis(100));
        assert_eq!(scripted.asked(), 2);
        // So it is when the set is old.
        later(11 * 60).await;
        let begun = Instant::now();
        assert_eq!(has(&remote, "a").await, Some(true));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        settle().await;
        assert!(scripted.asked() > 2, "it is asked beside");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_kept_young_though_nobody_comes_and_who_has_let_in_by_one_is_told_that_it_went() {
        let (scripted, remote) = remote();
        let told = Arc::new(Told::default());
        let weak: Weak<dyn KeysWithdrawn> = Arc::downgrade(&told) as Weak<dyn KeysWithdrawn>;
        remote.tell(&weak);
        remote.tell(&weak);
        let count = || told.0.load(Ordering::SeqCst);
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a").await, Some(true));
        tokio::time::sleep(KEYS_AGE_MAX + Duration::from_secs(1)).await;
        assert_eq!((scripted.asked(), count()), (2, 0), "the same keys");
        scripted.say(Err("gone"));
        tokio::time::sleep(KEYS_AGE_MAX).await;
        assert_eq!((scripted.asked(), count()), (3, 0), "it failed");
        scripted.say(Ok(r#"{"keys":[]}"#));
        tokio::time::sleep(REFRESH_MIN).await;
        assert_eq!((scripted.asked(), count()), (4, 0), "no keys are a mistake");
        scripted.say(Ok(&named("b")));
        tokio::time::sleep(REFRESH_MIN).await;
        assert_eq!((scripted.asked(), count()), (5, 1));
        assert_eq!(has(&remote, "a").await, Some(false), "it was withdrawn");
        // Nobody has them any more, and nobody asks.
        drop(remote);
        tokio::time::sleep(KEYS_AGE_MAX * 3).await;
        assert_eq!(scripted.asked(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_may_be_old_are_asked_for_at_once_and_hold_until_they_come() {
        let (scripted, remote) = remote();
        remote.look_again();
        settle().await;
        assert_eq!(scripted.asked(), 0, "nobody has needed them yet");
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a").await, Some(true));
        scripted.say(Err("gone"));
        remote.look_again();
        settle().await;
        assert_eq!(scripted.asked(), 2, "however short ago the last attempt was");
        assert_eq!(has(&remote, "a").await, Some(true), "it failed");
        later(29).await;
        assert_eq!(has(&remote, "a").await, Some(true));
        assert_eq!(scripted.asked(), 2);
        scripted.say(Ok(&named("b")));
        later(1).await;
        assert_eq!(has(&remote, "a").await, Some(true), "it is asked for beside");
        settle().await;
        assert_eq!(has(&remote, "a").await, Some(false), "it was withdrawn");
        assert_eq!(scripted.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_changed_while_an_attempt_is_on_its_way_is_found_by_another() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a").await, Some(true));
        scripted.say(Err(SILENCE));
        remote.look_again();
        settle().await;
        remote.look_again();
        scripted.say(Ok(&named("b")));
        assert_eq!(has(&remote, "b").await, Some(true));
        assert_eq!(scripted.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_leaves_what_is_known() {
        let (scripted, remote) = remote();
        assert_eq!(has(&remote, "a").await, None, "nothing is known, so nothing is decided");
        scripted.say(Ok(&named("a")));
        later(1).await;
        assert_eq!(has(&remote, "a").await, None, "a failure counts as an attempt");
        later(29).await;
        assert_eq!(has(&remote, "a").await, Some(true));
        let long = "x".repeat(JWKS_BYTES_MAX + 1);
        for answer in [Err("gone"), Ok("no JSON"), Ok(r#"{"keys":[]}"#), Ok(long.as_str())] {
            let asked = scripted.asked();
            scripted.say(answer);
            later(700).await;
            assert_eq!(has(&remote, "a").await, Some(true));
            settle().await;
            assert_eq!(has(&remote, "a").await, Some(true), "{:.20}", format!("{answer:?}"));
            assert_eq!(scripted.asked(), asked + 1);
        }
    }
}
