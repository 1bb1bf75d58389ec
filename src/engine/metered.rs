//! An engine whose calls are counted and timed.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::delivery::{
    Backlog, ChannelName, Draft, Engine, EngineError, EngineErrorKind, Page, Published, Since, Tail,
};
use crate::metrics::Metrics;

/// Passes everything on to another engine.
#[derive(Debug)]
pub struct MeteredEngine {
    engine: Arc<dyn Engine>,
    metrics: Arc<Metrics>,
}

impl MeteredEngine {
    /// Counts the calls to `engine`.
    pub fn new(engine: Arc<dyn Engine>, metrics: Arc<Metrics>) -> Self {
        Self { engine, metrics }
    }

    fn note<T>(&self, call: &'static str, began: Instant, result: &Result<T, EngineError>) {
        let outcome = result.as_ref().map_or_else(|error| word(error.kind()), |_| "ok");
        self.metrics.note_engine(call, outcome, began.elapsed().as_secs_f64());
    }
}

fn word(kind: EngineErrorKind) -> &'static str {
    match kind {
        EngineErrorKind::Unavailable => "unavailable",
        EngineErrorKind::Unanswered => "unanswered",
        EngineErrorKind::NotReplicated(_) => "not_replicated",
        EngineErrorKind::Full => "full",
        EngineErrorKind::KeyMismatch => "key_mismatch",
    }
}

impl Engine for MeteredEngine {
    /// A batch counts as one call, with the first outcome that was not `ok`.
    fn publish<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Vec<Result<Published, EngineError>>> {
        async move {
            let began = Instant::now();
            let results = self.engine.publish(batch).await;
            let failed = results.iter().find_map(|result| result.as_ref().err().cloned());
            self.note("publish", began, &failed.map_or(Ok(()), Err));
            results
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        channel: &'a ChannelName,
        after: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, EngineError>> {
        async move {
            let began = Instant::now();
            let result = self.engine.history(channel, after, limit).await;
            self.note("history", began, &result);
            if let (Since::After(_), Ok(page)) = (after, &result) {
                self.metrics.note_lag(page.top.offset.saturating_sub(page.after.offset));
            }
            result
        }
        .boxed()
    }

    fn attach<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Tail, EngineError>> {
        async move {
            let began = Instant::now();
            let result = self.engine.attach(channel).await;
            self.note("attach", began, &result);
            result
        }
        .boxed()
    }

    /// Counts as an `attach`, with the time that what was missed took.
    fn join<'a>(
        &'a self,
        channel: &'a ChannelName,
        since: Since,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Tail, Backlog), EngineError>> {
        async move {
            let began = Instant::now();
            let result = self.engine.join(channel, since, limit).await;
            self.note("attach", began, &result);
            if let (Since::After(_), Ok((_, backlog))) = (since, &result) {
                self.metrics
                    .note_lag(backlog.top.offset.saturating_sub(backlog.after.offset));
            }
            result
        }
        .boxed()
    }
}
