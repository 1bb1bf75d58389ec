//! What is in the way now, for whoever asks, and what of it was told.

use std::sync::{Arc, Mutex, PoisonError};

use redis::{ConnectionInfo, RedisError};

use super::look::look;
use super::told::Told;
use super::trouble::Trouble;

/// Why something does not come about that is tried again and again.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    now: Mutex<Option<Seen>>,
    told: Told,
}

/// What an error says, and what a look said of it.
#[derive(Debug, Clone)]
struct Seen {
    first: Trouble,
    looked: Trouble,
}

impl Troubles {
    /// What stood in the way the last time.
    pub(super) fn now(&self) -> Option<Trouble> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|seen| seen.looked.clone())
    }

    /// It did not come about, for this reason, which is told if it is news. Where a look has to be taken for that,
    /// nobody waits for it.
    pub(super) fn note(
        self: &Arc<Self>,
        error: &RedisError,
        info: &ConnectionInfo,
        tell: impl FnOnce(&Trouble) + Send + 'static,
    ) {
        let first = Trouble::of(error);
        self.see(&first);
        if !self.told.is_news(&first.to_string()) {
            return;
        }
        if !first.is_vague() {
            return tell(&first);
        }
        let (troubles, info) = (Arc::clone(self), info.clone());
        tokio::spawn(async move {
            let looked = look(first.clone(), &info).await;
            tell(&looked);
            troubles.looked(&first, looked);
        });
    }

    /// What was looked at is known until something else is in the way.
    fn see(&self, first: &Trouble) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref().is_none_or(|seen| seen.first != *first) {
            *now = Some(Seen {
                first: first.clone(),
                looked: first.clone(),
            });
        }
    }

    fn looked(&self, first: &Trouble, looked: Trouble) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = now.as_mut().filter(|seen| seen.first == *first) {
            seen.looked = looked;
        }
    }
}
