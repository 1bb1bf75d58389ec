//! Publications that replicas must have before they are acknowledged.
//!
//! `WAIT` holds up its connection, so these go over connections of their own, which come with the first such publication
//! and go when there are none. Each carries one group at a time: what comes meanwhile is the next group, which shares
//! one `WAIT`. Those who ask for other replicas, or for another time, have other connections: nobody waits for replicas
//! that somebody else asked for.
//!
//! `WAIT` sees what was written over its own connection. A publication and its `WAIT` never part, then; and a
//! repetition, which would write nothing, renews its key (`publish.lua`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisResult};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::link::{load, probe};
use super::redirect::Manner;
use super::shard::Shard;
use super::store::{Outcome, outcome};
use super::trouble::Trouble;
use crate::delivery::{EngineErrorKind, Replicas};

/// The most connections on which one kind of replicas is waited for.
const CONNECTIONS_MAX: usize = 4;

/// The calls of a group are at most so many, but for a larger batch, which stays whole.
const GROUP_CALLS_MAX: usize = 512;

/// Within this a publisher is answered, whatever happens.
const PATIENCE: Duration = Duration::from_millis(1_900);

/// What storing takes, beside waiting for replicas.
const STORING_TIME: Duration = Duration::from_millis(200);

/// A connection that was not used for so long is asked first whether it still is one.
const FRESH_TIME: Duration = Duration::from_millis(500);

/// After so long without work a connection is closed.
const IDLE_TIME: Duration = Duration::from_secs(10);

type Outcomes = Vec<Outcome>;

/// What a connection is for: replicas, and how a node is asked for them.
type Purpose = (Replicas, Manner);

/// Who waits for replicas.
#[derive(Debug, Default)]
pub(super) struct Replicated(Mutex<HashMap<Purpose, Arc<Lane>>>);

/// Those who ask for the same.
#[derive(Debug, Default)]
struct Lane {
    queue: Mutex<Queue>,
    came: Notify,
}

/// As long as there are publishers who wait: it holds nothing else.
#[derive(Debug, Default)]
struct Queue {
    asks: VecDeque<Ask>,
    next_id: u64,
    workers: usize,
    idle: usize,
}

#[derive(Debug)]
struct Ask {
    id: u64,
    calls: Vec<Cmd>,
    answer: oneshot::Sender<Outcomes>,
}

impl Replicated {
    fn lane(&self, purpose: Purpose) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(purpose).or_default())
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next group; more may be left, for another connection.
    fn take(&self) -> Vec<Ask> {
        let mut queue = self.lock();
        let (mut group, mut calls) = (Vec::new(), 0);
        while let Some(ask) = queue.asks.front() {
            calls += ask.calls.len();
            if calls > GROUP_CALLS_MAX && !group.is_empty() {
                self.came.notify_one();
                break;
            }
            group.extend(queue.asks.pop_front());
        }
        group
    }

    /// Takes an ask back; `false` if it has gone out already.
    fn withdraw(&self, id: u64) -> bool {
        let mut queue = self.lock();
        let before = queue.asks.len();
        queue.asks.retain(|ask| ask.id != id);
        queue.asks.len() < before
    }

    /// Waits for work; `false` if there has been none for long, and whoever asked ends.
    async fn has_work(&self) -> bool {
        let deadline = Instant::now() + IDLE_TIME;
        self.lock().idle += 1;
        loop {
            let waited = timeout_at(deadline, self.came.notified());
            if !self.lock().asks.is_empty() {
                break;
            }
            let is_over = waited.await.is_err();
            // Judged under the lock: who asks next sees that nobody is left.
            let mut queue = self.lock();
            if is_over && queue.asks.is_empty() {
                queue.idle -= 1;
                queue.workers -= 1;
                return false;
            }
        }
        self.lock().idle -= 1;
        true
    }
}

/// Stores publications, and answers when replicas have them.
pub(super) async fn store(shared: &Arc<Shared>, home: &Arc<Shard>, purpose: Purpose, calls: Vec<Cmd>) -> Outcomes {
    let (count, now, replicas) = (calls.len(), Instant::now(), purpose.0);
    let all_are = |kind: EngineErrorKind| (0..count).map(|_| Outcome::Done(Err(kind.into()))).collect();
    let lane = home.replicated.lane(purpose);
    let (answer, mut answered) = oneshot::channel();
    let (id, is_short_of_workers) = {
        let mut queue = lane.lock();
        let id = queue.next_id;
        queue.next_id += 1;
        queue.asks.push_back(Ask { id, calls, answer });
        let is_short_of_workers = queue.idle == 0 && queue.workers < CONNECTIONS_MAX;
        queue.workers += usize::from(is_short_of_workers);
        (id, is_short_of_workers)
    };
    if is_short_of_workers {
        tokio::spawn(work(Arc::clone(shared), Arc::clone(home), Arc::clone(&lane), purpose));
    }
    lane.came.notify_one();
    let last_begin = now + PATIENCE.saturating_sub(STORING_TIME + Duration::from_millis(replicas.timeout_ms));
    if let Ok(results) = timeout_at(last_begin, &mut answered).await {
        return results.unwrap_or_else(|_| all_are(EngineErrorKind::Unanswered));
    }
    if lane.withdraw(id) {
        return all_are(EngineErrorKind::Unavailable);
    }
    let results = timeout_at(now + PATIENCE, answered).await;
    results
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| all_are(EngineErrorKind::Unanswered))
}

/// One connection's worth of work, for as long as there is any.
async fn work(shared: Arc<Shared>, home: Arc<Shard>, lane: Arc<Lane>, purpose: Purpose) {
    let (mut known, mut failed) = (None, 0);
    while lane.has_work().await {
        let mut connection = match usable(&shared, &home, known.take()).await {
            Ok(connection) => connection,
            Err(error) => {
                home.tell_trouble_with_waiting(&error);
                failed += 1;
                // Whoever asked takes it back in time.
                home.place.pause(failed).await;
                continue;
            }
        };
        failed = 0;
        let group = lane.take();
        if !group.is_empty() && !serve((&shared, &home), &mut connection, purpose, group).await {
            home.publishing.doubt();
            continue;
        }
        known = Some((connection, Instant::now()));
    }
}

/// The connection that was used last, if it still is one, or a new one.
async fn usable(
    shared: &Shared,
    home: &Shard,
    known: Option<(MultiplexedConnection, Instant)>,
) -> RedisResult<MultiplexedConnection> {
    if let Some((mut connection, used_at)) = known
        && (used_at.elapsed() < FRESH_TIME || probe(&mut connection).await.is_ok())
    {
        return Ok(connection);
    }
    let mut connection = home.place.connect(AsyncConnectionConfig::new()).await?;
    load(&mut connection, &shared.scripts.all()).await?;
    Ok(connection)
}

/// Stores a group, waits for replicas, and answers; says whether the connection is still of use.
async fn serve(
    (shared, home): (&Shared, &Shard),
    connection: &mut MultiplexedConnection,
    (replicas, manner): Purpose,
    group: Vec<Ask>,
) -> bool {
    let calls: Vec<_> = group.iter().flat_map(|ask| &ask.calls).collect();
    let mut outcomes: Outcomes = match shared.scripts.call_all(connection, &calls, manner).await {
        Ok(answers) => answers.iter().map(|answer| outcome(shared, home, answer)).collect(),
        Err(error) => {
            tracing::debug!(redis = %home.place, %error, "publications were not answered");
            let unanswered = || Outcome::Done(Err(EngineErrorKind::Unanswered.into()));
            calls.iter().map(|_| unanswered()).collect()
        }
    };
    let mut is_well = !outcomes.iter().any(Outcome::is_odd);
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Done(Ok(_)))) {
        let reached = wait(connection, replicas).await;
        is_well &= reached.is_ok();
        judge(&mut outcomes, replicas, reached);
    }
    let mut outcomes = outcomes.into_iter();
    for ask in group {
        // Who has gone does not hear it.
        let _ = ask.answer.send(outcomes.by_ref().take(ask.calls.len()).collect());
    }
    is_well
}

/// How many replicas have everything that was written over this connection.
async fn wait(connection: &mut MultiplexedConnection, replicas: Replicas) -> Result<u32, ()> {
    let mut waiting = redis::cmd("WAIT");
    waiting.arg(replicas.count.get()).arg(replicas.timeout_ms);
    let patience = Duration::from_millis(replicas.timeout_ms) + STORING_TIME;
    match timeout(patience, waiting.query_async(connection)).await {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(error)) => {
            let error = Trouble::of(&error);
            tracing::warn!(%error, "Redis does not say how many replicas have a publication");
            Err(())
        }
        Err(_) => Err(()),
    }
}

/// What was stored is acknowledged if it reached enough replicas, and else answered with what is known of it.
fn judge(outcomes: &mut Outcomes, replicas: Replicas, reached: Result<u32, ()>) {
    let failure = match reached.map(|reached| replicas.missing(reached)) {
        Ok(None) => None,
        Ok(Some(shortfall)) => Some(EngineErrorKind::NotReplicated(shortfall)),
        Err(()) => Some(EngineErrorKind::Unanswered),
    };
    for outcome in outcomes {
        match (&mut *outcome, failure) {
            (Outcome::Done(Ok(published)), None) => published.replicated = true,
            (Outcome::Done(Ok(_)), Some(kind)) => *outcome = Outcome::Done(Err(kind.into())),
            (Outcome::Done(Err(_)) | Outcome::Again(_), _) => {}
        }
    }
}
