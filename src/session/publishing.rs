//! How something is published: it is asked whether it may be, which may take its time, and then the engine has it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};

use super::Node;
use super::identity::{Action, Identity};
use crate::delivery::{ChannelName, Draft, EngineError, EngineErrorKind, IdempotencyKey, Published};
use crate::protocol::{Item, Problem};

/// Of the publications of one request, so many are asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// The publications of one request, each of which may be published as far as was said, or is refused.
pub(super) struct Prepared(Vec<Result<Asked, Problem>>);

/// A publication that may be published.
struct Asked {
    draft: Draft,
    /// Whether the app was asked: then some time has passed.
    by_app: bool,
}

impl Node {
    /// Publishes one item.
    ///
    /// # Errors
    /// `draining`, `forbidden`, or what the engine says.
    pub async fn publish_one(&self, identity: &Identity, item: Item) -> Result<Published, Problem> {
        let prepared = self.prepare(identity, vec![item]).await?;
        self.store_one(identity, prepared).await
    }

    /// Publishes items, each of which is stored or refused by itself; answers in their order. What the publisher may
    /// not publish never comes to the engine.
    ///
    /// # Errors
    /// `draining`, for all of them.
    pub async fn publish(
        &self,
        identity: &Identity,
        items: Vec<Item>,
    ) -> Result<Vec<Result<Published, Problem>>, Problem> {
        let prepared = self.prepare(identity, items).await?;
        self.store(identity, prepared).await
    }

    /// Asks whether items may be published. May be dropped at any time: nothing is published by it.
    ///
    /// # Errors
    /// `draining`, for all of them.
    pub(super) async fn prepare(&self, identity: &Identity, items: Vec<Item>) -> Result<Prepared, Problem> {
        // Nobody is asked in vain.
        self.check_publishing(items.len())?;
        let asking = stream::iter(items.into_iter().map(|item| self.draft(identity, item)));
        Ok(Prepared(asking.buffered(ASKED_AT_ONCE).collect().await))
    }

    /// The same as [`Node::store`] for what is one item.
    pub(super) async fn store_one(&self, identity: &Identity, prepared: Prepared) -> Result<Published, Problem> {
        let mut results = self.store(identity, prepared).await?;
        results.pop().unwrap_or_else(|| Err(unanswered().into()))
    }

    /// Stores what may be published, unless it may not be any more. Whoever drops it does not know what is stored.
    ///
    /// # Errors
    /// `draining`, for all of them.
    pub(super) async fn store(
        &self,
        identity: &Identity,
        Prepared(items): Prepared,
    ) -> Result<Vec<Result<Published, Problem>>, Problem> {
        // Counted before it is checked: a drain that begins meanwhile either waits for it or refuses it.
        let _publishing = Counted::new(&self.publishing);
        self.check_publishing(items.len())?;
        let has_waited = items.iter().flatten().any(|asked| asked.by_app);
        let standing = if has_waited {
            self.check_standing(identity)
        } else {
            Ok(())
        };
        let mut drafts = Vec::with_capacity(items.len());
        let mut allow = |asked: Asked| {
            if has_waited {
                standing.clone()?;
                self.still_lets_publish(identity, &asked.draft.channel)?;
            }
            drafts.push(asked.draft);
            Ok(())
        };
        let allowed: Vec<_> = items.into_iter().map(|item| item.and_then(&mut allow)).collect();
        let stored = if drafts.is_empty() {
            Vec::new()
        } else {
            self.engine().publish(&drafts).await
        };
        let mut stored = stored.into_iter();
        let results = allowed.into_iter().map(|allowed: Result<(), Problem>| {
            let stored = allowed.and_then(|()| {
                let stored = stored.next().unwrap_or_else(|| Err(unanswered()));
                stored.map_err(Problem::from)
            });
            self.note_published(stored)
        });
        Ok(results.collect())
    }

    /// Whether so many publications may be asked for.
    fn check_publishing(&self, count: usize) -> Result<(), Problem> {
        if !self.registry().is_draining() {
            return Ok(());
        }
        let refused = self.draining();
        for _ in 0..count {
            self.metrics().note_published(refused.code.as_str());
        }
        Err(refused)
    }

    fn note_published(&self, result: Result<Published, Problem>) -> Result<Published, Problem> {
        self.metrics().note_published(match &result {
            Ok(Published { duplicate: false, .. }) => "stored",
            Ok(Published { duplicate: true, .. }) => "duplicate",
            Err(problem) => problem.code.as_str(),
        });
        result
    }

    /// What becomes of an item that may be published.
    async fn draft(&self, identity: &Identity, item: Item) -> Result<Asked, Problem> {
        let hooks = self.deciding_of(identity, Action::Publish, &item.channel).await?;
        let policy = **self.policies.load().of(&item.channel);
        policy.check_size(&item.channel, item.data.len())?;
        let by_app = hooks.is_some();
        let item = match hooks {
            Some(hooks) => {
                // Those before it may have waited for their answers.
                self.check_standing(identity)?;
                hooks.publish(identity, item).await?
            }
            None => item,
        };
        // Of what is published in its place, too.
        policy.check_size(&item.channel, item.data.len())?;
        let key = item.key.map(|key| IdempotencyKey {
            publisher: identity.publisher(),
            key: key.word,
            nth: key.nth,
        });
        let draft = Draft {
            channel: item.channel,
            data: item.data,
            event: item.event,
            sender: identity.user().map(Into::into),
            key,
            policy: policy.window,
            ack: policy.ack,
        };
        Ok(Asked { draft, by_app })
    }

    /// Whether somebody who was let in would still be, by what can be said at once.
    pub(super) fn check_standing(&self, identity: &Identity) -> Result<(), Problem> {
        let is_over = |ends_at_ms| self.now_ms() >= ends_at_ms;
        if identity
            .lifetime()
            .is_some_and(|lifetime| is_over(lifetime.ends_at_ms()))
        {
            return Err(identity.time_is_over());
        }
        self.withdrawn(identity).map_or(Ok(()), Err)
    }

    /// Whether operators and policies still let somebody publish what the app has allowed.
    fn still_lets_publish(&self, identity: &Identity, channel: &ChannelName) -> Result<(), Problem> {
        self.control.check(identity, None, (Some(channel), self.now_ms()))?;
        self.still_allows(identity, Action::Publish, channel)
    }
}

fn unanswered() -> EngineError {
    EngineErrorKind::Unavailable.into()
}

/// One among those that are counted, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
