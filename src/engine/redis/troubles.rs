//! What is in the way now, for whoever asks, and what of it was told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{ConnectionInfo, RedisError};
use tokio::task::JoinSet;

use super::look::look;
use super::told::Told;
use super::trouble::Trouble;

/// What looks said that are remembered.
const LOOKS_MAX: usize = 8;

/// Why something does not come about that is tried again and again.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: Mutex<Known>,
    told: Told,
    /// They end with this.
    looks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Known {
    /// As the last error says it.
    now: Option<Trouble>,
    /// What errors said, and what looks said of the same. Reasons may take turns: each has its own.
    looked: Vec<(Trouble, Trouble)>,
}

impl Known {
    fn now(&self) -> Option<&Trouble> {
        let now = self.now.as_ref()?;
        let looked = self.looked.iter().find(|(first, _)| first == now);
        Some(looked.map_or(now, |(_, looked)| looked))
    }

    fn forget(&mut self, first: &Trouble) {
        self.looked.retain(|(known, _)| known != first);
    }

    fn looked(&mut self, first: Trouble, looked: Trouble) {
        self.forget(&first);
        if self.looked.len() == LOOKS_MAX {
            self.looked.remove(0);
        }
        self.looked.push((first, looked));
    }
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stood in the way the last time, if anything still does.
    pub(super) fn now(&self) -> Option<Trouble> {
        self.known().now().cloned()
    }

    /// It came about.
    pub(super) fn are_over(&self) {
        self.known().now = None;
    }

    /// It did not come about, for this reason, which is told if it is news. Where a look has to be taken for that,
    /// nobody waits for it.
    pub(super) fn note(
        self: &Arc<Self>,
        error: &RedisError,
        info: &ConnectionInfo,
        tell: impl FnOnce(&Trouble) + Send + 'static,
    ) {
        let first = Trouble::of(error).at(info.addr());
        self.known().now = Some(first.clone());
        if !self.told.is_news(&first.to_string()) {
            return;
        }
        if !first.is_vague() {
            return tell(&first);
        }
        self.known().forget(&first);
        let (troubles, info) = (Arc::downgrade(self), info.clone());
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        while looks.try_join_next().is_some() {}
        looks.spawn(async move {
            let looked = look(first.clone(), &info).await;
            if let Some(troubles) = troubles.upgrade() {
                tell(&looked);
                troubles.known().looked(first, looked);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::redis::link::too_late;

    /// One connection meets this, another that: what a look said of the one was lost as soon as the other was met.
    #[test]
    fn reasons_that_take_turns_are_each_looked_at() {
        let mut known = Known {
            now: Some(Trouble::Late),
            ..Known::default()
        };
        known.looked(Trouble::HangsUp, Trouble::Stranger(None));
        assert_eq!(known.now(), Some(&Trouble::Late));
        known.looked(Trouble::Late, Trouble::Silent);
        assert_eq!(known.now(), Some(&Trouble::Silent));
        known.now = Some(Trouble::HangsUp);
        assert_eq!(known.now(), Some(&Trouble::Stranger(None)));
        for number in 0..100 {
            known.looked(Trouble::Unknown(number.to_string()), Trouble::Sentinel);
        }
        assert_eq!(known.looked.len(), LOOKS_MAX);
    }

    /// A look went on, and told what it saw of an engine that was gone.
    #[tokio::test]
    async fn a_look_ends_with_whom_it_is_taken_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        let troubles = Arc::new(Troubles::default());
        let (tell, told) = oneshot::channel();
        let info = url.into_connection_info().unwrap();
        troubles.note(&too_late(), &info, |trouble| tell.send(trouble.clone()).unwrap());
        assert_eq!(troubles.now(), Some(Trouble::Late));
        drop(troubles);
        assert!(told.await.is_err(), "it was told");
    }
}
