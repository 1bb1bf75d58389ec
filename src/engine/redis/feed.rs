//! What this node is told of publications, over one connection, and what it wants to be told of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Shared;
use super::link::probe;

/// Names in one command.
const NAMES_MAX: usize = 200;

/// How often it is asked whether the connection still is one, and which channels nobody uses.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether this node is told of publications now.
#[derive(Debug)]
pub(super) struct Feed {
    up: watch::Sender<bool>,
    is_cut: Notify,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            up: watch::Sender::new(false),
            is_cut: Notify::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }
}

/// Hears for as long as this future lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut failed = 0;
    loop {
        match hear(&shared).await {
            Ok(()) => failed = 0,
            Err(error) => {
                tracing::debug!(%error, "Redis does not tell of publications");
                failed += 1;
            }
        }
        shared.feed.up.send_replace(false);
        for channel in shared.channels.wanted() {
            channel.is_heard.send_replace(false);
        }
        shared.place.pause(failed).await;
        shared.channels.sweep(Instant::now());
    }
}

/// One connection's life. An error is one that did not come about.
async fn hear(shared: &Arc<Shared>) -> RedisResult<()> {
    let listener = Arc::clone(shared);
    let config = AsyncConnectionConfig::new().set_push_sender(move |push: PushInfo| {
        take(&listener, push);
        Ok::<(), redis::aio::SendError>(())
    });
    let mut connection = shared.place.connect(config).await?;
    let mut subscribed = HashSet::new();
    let all = shared
        .channels
        .wanted()
        .iter()
        .map(|channel| channel.keys.hints.clone())
        .collect();
    shared.channels.take_changed();
    follow_changes(shared, &mut connection, &mut subscribed, all).await?;
    shared.feed.up.send_replace(true);
    // Whatever was told meanwhile, was told to nobody.
    shared.compare_now.notify_one();
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = shared.feed.is_cut.notified() => probe(&mut connection).await,
            () = shared.channels.changes.notified() => {
                let changed = shared.channels.take_changed();
                follow_changes(shared, &mut connection, &mut subscribed, changed).await
            }
            _ = clock.tick() => {
                shared.channels.sweep(Instant::now());
                probe(&mut connection).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the connection on which Redis tells of publications broke");
            return Ok(());
        }
    }
}

/// Brings what Redis tells in line with what is wanted now.
async fn follow_changes(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    subscribed: &mut HashSet<String>,
    changed: HashSet<String>,
) -> RedisResult<()> {
    let is_wanted = |hints: &String| {
        shared
            .channels
            .find(hints.as_bytes())
            .is_some_and(|channel| channel.is_wanted())
    };
    let (wanted, unwanted): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_wanted);
    let unwanted: Vec<_> = unwanted.into_iter().filter(|hints| subscribed.remove(hints)).collect();
    for names in unwanted.chunks(NAMES_MAX) {
        connection.unsubscribe(names).await?;
    }
    for names in wanted.chunks(NAMES_MAX) {
        connection.subscribe(names).await?;
        for hints in names {
            subscribed.insert(hints.clone());
            if let Some(channel) = shared.channels.find(hints.as_bytes()) {
                channel.is_heard.send_replace(true);
            }
        }
    }
    Ok(())
}

/// Takes what Redis pushes, on the task that reads the connection: it must never wait.
fn take(shared: &Arc<Shared>, push: PushInfo) {
    if push.kind == PushKind::Disconnection {
        shared.feed.is_cut.notify_one();
    } else if push.kind == PushKind::Message {
        let mut parts = push.data.into_iter();
        if let (Some(Value::BulkString(hints)), Some(Value::BulkString(bytes))) = (parts.next(), parts.next())
            && let Some(channel) = shared.channels.find(&hints)
        {
            channel.hear(shared, bytes);
        }
    }
}
