//! Keys that an issuer publishes at a URL: kept, looked for again when one is unknown, and never more often than now
//! and then.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Algorithm, Key};

/// The largest JWK set, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// How long after the last attempt keys are fetched again at the earliest, in milliseconds.
const REFRESH_MS_MIN: u64 = 30_000;

/// How old keys may be before they are fetched again although none is missing, so that a withdrawn one goes.
const KEYS_AGE_MS_MAX: u64 = 10 * 60_000;

/// How long one attempt may take.
const FETCH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Fetches a document of at most [`JWKS_BYTES_MAX`]. It follows no redirects.
pub trait FetchKeys: Send + Sync + fmt::Debug + 'static {
    /// The document at `url`, or why it cannot be had. May be dropped at any time.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// The keys at a URL, which comes from the configuration and from nowhere else.
#[derive(Debug)]
pub struct RemoteKeys {
    url: String,
    fetch: Arc<dyn FetchKeys>,
    known: RwLock<Known>,
    /// Held by whoever fetches; those who wait for it find what was fetched.
    fetching: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// `None` until they could be had once.
    keys: Option<Arc<[Key]>>,
    fetched_ms: u64,
    tried_ms: Option<u64>,
}

impl RemoteKeys {
    /// Keys that are fetched when the first token asks for them.
    pub fn new(url: String, fetch: Arc<dyn FetchKeys>) -> Arc<Self> {
        Arc::new(Self {
            url,
            fetch,
            known: RwLock::default(),
            fetching: Mutex::default(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What is known is old: it is asked for again when it is next needed, if that was not done just now.
    pub(super) fn forget_age(&self) {
        self.write(|known| known.fetched_ms = 0);
    }

    /// The keys among which one that fits should be; `None` if they could never be had.
    pub(super) async fn keys(self: &Arc<Self>, wanted: (Algorithm, Option<&str>), now_ms: u64) -> Option<Arc<[Key]>> {
        let (algorithm, id) = wanted;
        let has_it = |known: &Known| {
            let is_fresh = now_ms.saturating_sub(known.fetched_ms) < KEYS_AGE_MS_MAX;
            let mut keys = known.keys.iter().flat_map(|keys| keys.iter());
            is_fresh && keys.any(|key| key.fits(algorithm, id))
        };
        let may_try = |known: &Known| {
            known
                .tried_ms
                .is_none_or(|tried| now_ms.saturating_sub(tried) >= REFRESH_MS_MIN)
        };
        let known = self.known();
        if has_it(&known) {
            return known.keys;
        }
        let _turn = self.fetching.lock().await;
        let known = self.known();
        if has_it(&known) || !may_try(&known) {
            return known.keys;
        }
        // A task of its own: a client that leaves does not take the attempt with it. It ends by its deadline.
        let fetching = tokio::spawn(Arc::clone(self).refresh(now_ms));
        let _ = fetching.await;
        self.known().keys
    }

    async fn refresh(self: Arc<Self>, now_ms: u64) {
        self.write(|known| known.tried_ms = Some(now_ms));
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch.fetch(&self.url)).await;
        let read = match fetched {
            Ok(Ok(document)) if document.len() > JWKS_BYTES_MAX => Err(format!("more than {JWKS_BYTES_MAX} bytes")),
            Ok(Ok(document)) => Key::from_jwks(&document).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())),
        };
        match read {
            Ok(keys) => self.write(|known| {
                known.keys = Some(keys.into());
                known.fetched_ms = now_ms;
            }),
            Err(error) => {
                tracing::warn!(url = %self.url, %error, "an issuer's keys cannot be had; those that are known stay");
            }
        }
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers what it is told to, and counts.
    #[derive(Debug)]
    struct Scripted {
        answer: std::sync::Mutex<Result<Vec<u8>, String>>,
        asked: AtomicUsize,
    }

    impl Scripted {
        fn say(&self, answer: Result<&str, &str>) {
            *self.answer.lock().unwrap() = answer.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned);
        }
    }

    impl FetchKeys for Scripted {
        fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
            assert_eq!(url, "https://issuer.example/keys");
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answer.lock().unwrap().clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                answer
            })
        }
    }

    fn named(id: &str) -> String {
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
        )
    }

    fn remote() -> (Arc<Scripted>, Arc<RemoteKeys>) {
        let scripted = Arc::new(Scripted {
            answer: std::sync::Mutex::new(Err("nobody there".to_owned())),
            asked: AtomicUsize::new(0),
        });
        let fetch: Arc<dyn FetchKeys> = Arc::clone(&scripted) as Arc<dyn FetchKeys>;
        let remote = RemoteKeys::new("https://issuer.example/keys".to_owned(), fetch);
        (scripted, remote)
    }

    async fn has(remote: &Arc<RemoteKeys>, id: &str, now_ms: u64) -> Option<bool> {
        let keys = remote.keys((Algorithm::EdDsa, Some(id)), now_ms).await?;
        Some(keys.iter().any(|key| key.fits(Algorithm::EdDsa, Some(id))))
    }

    #[tokio::test]
    async fn an_unknown_key_is_looked_for_once_in_half_a_minute() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a", 0).await, Some(true));
        for now_ms in [1, 1_000, 29_999] {
            assert_eq!(has(&remote, "b", now_ms).await, Some(false));
        }
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
        scripted.say(Ok(&named("b")));
        assert_eq!(has(&remote, "b", 30_000).await, Some(true));
        assert_eq!(has(&remote, "a", 30_001).await, Some(false), "it was withdrawn");
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_ask_once() {
        let (scripted, remote) = remote();
        scripted.say(Ok(&named("a")));
        let asking = (0..100).map(|_| has(&remote, "a", 0));
        assert!(
            futures_util::future::join_all(asking)
                .await
                .iter()
                .all(|found| *found == Some(true))
        );
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn keys_that_may_be_old_are_asked_for_again_and_hold_until_they_come() {
        let (scripted, remote) = remote();
        let at = |ms: u64| 1_700_000_000_000 + ms;
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a", at(0)).await, Some(true));
        scripted.say(Err("gone"));
        remote.forget_age();
        assert_eq!(has(&remote, "a", at(1_000)).await, Some(true), "not yet");
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
        assert_eq!(has(&remote, "a", at(30_000)).await, Some(true), "it failed");
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 2);
        scripted.say(Ok(&named("b")));
        assert_eq!(has(&remote, "a", at(60_000)).await, Some(false), "it was withdrawn");
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_fails_leaves_what_is_known() {
        let (scripted, remote) = remote();
        assert_eq!(
            has(&remote, "a", 0).await,
            None,
            "nothing is known, so nothing is decided"
        );
        scripted.say(Ok(&named("a")));
        assert_eq!(has(&remote, "a", 1_000).await, None, "a failure counts as an attempt");
        assert_eq!(has(&remote, "a", 30_000).await, Some(true));
        let long = "x".repeat(JWKS_BYTES_MAX + 1);
        for (at_ms, answer) in [
            (700_000, Err("gone")),
            (800_000, Ok("no JSON")),
            (900_000, Ok(long.as_str())),
        ] {
            scripted.say(answer);
            assert_eq!(has(&remote, "a", at_ms).await, Some(true), "{answer:?}");
        }
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 5);
    }
}
