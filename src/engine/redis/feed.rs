//! What this node is told of publications by one Redis, over one connection, and what it wants to be told of.
//!
//! In a Cluster, hints go to those who listen at the shard that keeps the channel (sharded Pub/Sub); what a shard gives
//! away, it stops telling of by itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::link::probe;
use super::redirect::Redirect;
use super::shard::Shard;

/// Names in one go.
const NAMES_MAX: usize = 200;

/// How often it is asked whether the connection still is one.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether this node is told of publications now.
#[derive(Debug)]
pub(super) struct Feed {
    up: watch::Sender<bool>,
    is_cut: Notify,
    /// Those that may have to be subscribed to, or no more.
    changed: Mutex<HashSet<String>>,
    changes: Notify,
    /// Those that this node has asked to be told of no more.
    leaving: Mutex<HashSet<String>>,
    /// Something is asked on the connection, and not answered yet.
    is_asking: AtomicBool,
    /// Answers on the connection may be mistaken for each other.
    is_astray: AtomicBool,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            up: watch::Sender::new(false),
            is_cut: Notify::new(),
            changed: Mutex::default(),
            changes: Notify::new(),
            leaving: Mutex::default(),
            is_asking: AtomicBool::new(false),
            is_astray: AtomicBool::new(false),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Hints of a channel may be wanted from here, or no more.
    pub(super) fn note_change(&self, hints: String) {
        self.changed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hints);
        self.changes.notify_one();
    }

    fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_leaving<R>(&self, action: impl FnOnce(&mut HashSet<String>) -> R) -> R {
        action(&mut self.leaving.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hears for as long as this future lives.
pub(super) async fn run(shared: Arc<Shared>, home: Arc<Shard>) {
    let mut failed = 0;
    loop {
        match hear(&shared, &home).await {
            Ok(()) => failed = 0,
            Err(error) => {
                tracing::debug!(redis = %home.place, %error, "Redis does not tell of publications");
                failed += 1;
            }
        }
        home.feed.up.send_replace(false);
        for channel in shared.wanted_on(&home) {
            channel.is_heard.send_replace(false);
        }
        shared.look_again.notify_one();
        home.place.pause(failed).await;
    }
}

/// One connection's life. An error is one that did not come about.
async fn hear(shared: &Arc<Shared>, home: &Arc<Shard>) -> RedisResult<()> {
    let listener = (Arc::clone(shared), Arc::clone(home));
    let config = AsyncConnectionConfig::new().set_push_sender(move |push: PushInfo| {
        take(&listener.0, &listener.1, push);
        Ok::<(), redis::aio::SendError>(())
    });
    let connection = home.place.connect(config).await?;
    home.feed.is_astray.store(false, Ordering::SeqCst);
    home.feed.with_leaving(HashSet::clear);
    home.feed.take_changed();
    let wanted = shared.wanted_on(home);
    let all = wanted.iter().map(|channel| channel.keys.hints.clone()).collect();
    let mut ear = Ear {
        shared,
        home,
        connection,
        told: HashSet::new(),
        refused: HashSet::new(),
    };
    ear.follow(all).await?;
    home.feed.up.send_replace(true);
    // Whatever was told meanwhile, was told to nobody.
    home.compare_now.notify_one();
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = home.feed.is_cut.notified() => ear.probe().await,
            () = home.feed.changes.notified() => ear.follow(home.feed.take_changed()).await,
            _ = clock.tick() => ear.check().await,
        };
        if let Err(error) = done {
            tracing::warn!(redis = %home.place, %error, "the connection on which Redis tells of publications broke");
            return Ok(());
        }
    }
}

/// The connection, and what Redis tells on it.
struct Ear<'a> {
    shared: &'a Shared,
    home: &'a Arc<Shard>,
    connection: MultiplexedConnection,
    told: HashSet<String>,
    /// Those that were not there when they were asked for, though the map leads here.
    refused: HashSet<String>,
}

impl Ear<'_> {
    async fn check(&mut self) -> RedisResult<()> {
        self.probe().await?;
        let refused = std::mem::take(&mut self.refused);
        self.follow(refused).await
    }

    async fn probe(&mut self) -> RedisResult<()> {
        if self.home.feed.is_astray.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("a slot was given away in the middle of an answer").into());
        }
        self.home.feed.is_asking.store(true, Ordering::SeqCst);
        let answered = probe(&mut self.connection).await;
        self.home.feed.is_asking.store(false, Ordering::SeqCst);
        answered
    }

    /// Brings what Redis tells in line with what is wanted now.
    async fn follow(&mut self, changed: HashSet<String>) -> RedisResult<()> {
        let is_wanted = |hints: &String| {
            let found = self.shared.channels.find(hints.as_bytes());
            found.is_some_and(|channel| channel.is_wanted() && self.shared.is_on(&channel.name, self.home))
        };
        let (wanted, unwanted): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_wanted);
        let unwanted: Vec<_> = unwanted.into_iter().filter(|hints| self.told.remove(hints)).collect();
        let [enter, leave] = if self.shared.is_cluster {
            ["SSUBSCRIBE", "SUNSUBSCRIBE"]
        } else {
            ["SUBSCRIBE", "UNSUBSCRIBE"]
        };
        for names in unwanted.chunks(NAMES_MAX) {
            self.home
                .feed
                .with_leaving(|leaving| leaving.extend(names.iter().cloned()));
            self.ask(leave, names).await?;
        }
        for names in wanted.chunks(NAMES_MAX) {
            let are_told = self.ask(enter, names).await?;
            for (hints, _) in names.iter().zip(are_told).filter(|(_, is_told)| *is_told) {
                self.told.insert(hints.clone());
                let found = self.shared.channels.find(hints.as_bytes());
                if let Some(channel) = found.filter(|channel| self.shared.is_on(&channel.name, self.home)) {
                    channel.is_heard.send_replace(true);
                    // It has readers, and comes from elsewhere: what was told meanwhile, was told to nobody.
                    if channel.live.get().is_some() {
                        self.home.compare_now.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    /// Says the same of each name, and which of them it is carried out for. Each is a command of its own: the names'
    /// slots differ.
    async fn ask(&mut self, verb: &str, names: &[String]) -> RedisResult<Vec<bool>> {
        let mut pipeline = redis::pipe();
        for name in names {
            pipeline.cmd(verb).arg(name);
        }
        self.home.feed.is_asking.store(true, Ordering::SeqCst);
        let answers = self.connection.send_packed_commands(&pipeline, 0, names.len()).await;
        self.home.feed.is_asking.store(false, Ordering::SeqCst);
        let mut done = Vec::with_capacity(names.len());
        for (answer, name) in answers?.into_iter().zip(names) {
            let is_elsewhere = Redirect::of(&answer).is_some();
            if let Value::ServerError(error) = answer
                && !is_elsewhere
            {
                return Err(error.into());
            }
            if is_elsewhere {
                self.is_elsewhere(name);
            }
            done.push(!is_elsewhere);
        }
        Ok(done)
    }

    /// The map is not true, or not yet: it is looked at again, and the channel is tried again where that leads.
    fn is_elsewhere(&mut self, name: &str) {
        self.shared.look_again.notify_one();
        self.refused.insert(name.to_owned());
        if let Some(channel) = self.shared.channels.find(name.as_bytes()) {
            channel.is_heard.send_replace(false);
        }
    }
}

/// Takes what Redis pushes, on the task that reads the connection: it must never wait.
fn take(shared: &Arc<Shared>, home: &Shard, push: PushInfo) {
    let mut parts = push.data.into_iter();
    match (push.kind, parts.next(), parts.next()) {
        (PushKind::Disconnection, ..) => home.feed.is_cut.notify_one(),
        (PushKind::Message | PushKind::SMessage, Some(Value::BulkString(hints)), Some(Value::BulkString(bytes))) => {
            if let Some(channel) = shared.channels.find(&hints) {
                channel.hear(shared, bytes);
            }
        }
        (PushKind::SUnsubscribe, Some(Value::BulkString(hints)), _) => {
            let hints = String::from_utf8(hints).unwrap_or_default();
            if !home.feed.with_leaving(|leaving| leaving.remove(&hints)) {
                is_given_away(shared, home, &hints);
            }
        }
        _ => {}
    }
}

/// A slot has left this shard, and with it what this node was told from there.
fn is_given_away(shared: &Arc<Shared>, home: &Shard, hints: &str) {
    shared.look_again.notify_one();
    if let Some(channel) = shared.channels.find(hints.as_bytes()) {
        channel.is_heard.send_replace(false);
        home.feed.note_change(hints.to_owned());
    }
    // It looks like the answer to a question: if there is one, all later answers are those to other questions.
    if home.feed.is_asking.load(Ordering::SeqCst) {
        home.feed.is_astray.store(true, Ordering::SeqCst);
        home.feed.is_cut.notify_one();
    }
}
