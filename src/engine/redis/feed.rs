//! What this node is told of publications by one Redis, over one connection, and what it wants to be told of.
//!
//! In a Cluster, hints go to those who listen at the shard that keeps the channel (sharded Pub/Sub); what a shard gives
//! away, it stops telling of by itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::channel::{Channel, Heard};
use super::entry::Top;
use super::link::{BREAK_MAX, probe};
use super::part::Part;
use super::redirect::Redirect;
use super::shard::Shard;
use super::trouble::Trouble;
use super::troubles::Troubles;
use super::{Shared, tops};
use crate::delivery::Offset;

/// Names in one go: what other clients of Redis wait for meanwhile.
const NAMES_MAX: usize = 50;

/// Logs that are begun in one go.
const BEGUN_MAX: usize = 16;

/// Changes that are remembered while Redis does not answer; of more it is only known that there were some.
const CHANGES_MAX: usize = 16_384;

/// How often it is asked whether the connection still is one.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether this node is told of publications now.
#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    is_cut: Notify,
    changed: Mutex<Changed>,
    changes: Notify,
    /// Those that this node has asked to be told of no more, where slots may be given away.
    leaving: Mutex<HashSet<String>>,
    /// Something is asked on the connection, and not answered yet.
    is_asking: AtomicBool,
    /// Answers on the connection may be mistaken for each other.
    is_astray: AtomicBool,
    /// When Redis began to tell of a channel, the last time.
    moved_at: Mutex<Instant>,
    /// Why it does not come about.
    pub(super) troubles: Arc<Troubles>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    is_up: bool,
    since: Instant,
}

/// What may have to be subscribed to, or no more.
#[derive(Debug, Default)]
enum Changed {
    /// There is no connection: when there is one, all that is wanted is subscribed to.
    #[default]
    Nobody,
    Some(HashSet<String>),
    All,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                is_up: false,
                since: Instant::now(),
            }),
            is_cut: Notify::new(),
            changed: Mutex::default(),
            changes: Notify::new(),
            leaving: Mutex::default(),
            is_asking: AtomicBool::new(false),
            is_astray: AtomicBool::new(false),
            moved_at: Mutex::new(Instant::now()),
            troubles: Arc::default(),
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state().is_up
    }

    /// Whether it has been down for longer than a short break takes: then it is of no use to wait.
    pub(super) fn is_away(&self) -> bool {
        let state = self.state();
        !state.is_up && state.since.elapsed() > BREAK_MAX
    }

    /// When Redis began to tell of a channel, the last time: whoever waits for one sees that others come before.
    pub(super) fn moved_at(&self) -> Instant {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_move(&self) {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_heard(&self) {
        self.change(State {
            is_up: true,
            ..self.state()
        });
    }

    fn is_gone(&self) {
        self.change(State {
            is_up: false,
            ..self.state()
        });
    }

    fn change(&self, to: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_up != to.is_up {
            let since = Instant::now();
            *state = State { since, ..to };
        }
    }

    /// Hints of a channel may be wanted from here, or no more.
    pub(super) fn note_change(&self, hints: String) {
        self.with_changed(|changed| match changed {
            Changed::Some(names) if names.len() < CHANGES_MAX => drop(names.insert(hints)),
            Changed::Some(_) => *changed = Changed::All,
            Changed::Nobody | Changed::All => {}
        });
        self.changes.notify_one();
    }

    fn take_changed(&self) -> Changed {
        let none = Changed::Some(HashSet::new());
        self.with_changed(|changed| std::mem::replace(changed, none))
    }

    fn with_changed<R>(&self, action: impl FnOnce(&mut Changed) -> R) -> R {
        action(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
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
                tell(&home, &error);
                failed += 1;
            }
        }
        home.feed.is_gone();
        home.feed.with_changed(|changed| *changed = Changed::Nobody);
        for channel in shared.wanted_on(&home) {
            channel.is_unheard();
        }
        shared.look_again.notify_one();
        home.place.pause(failed).await;
    }
}

/// Says why this node is told of nothing though its other connections are well. Where they are not, it is said of them.
fn tell(home: &Shard, error: &RedisError) {
    let place = home.place.clone();
    if !home.reading.is_up() {
        tracing::debug!(redis = %place, error = %Trouble::of(error), "Redis does not tell of publications");
        return;
    }
    home.feed.troubles.note(error, place.info(), {
        let place = place.clone();
        move |trouble| {
            let fix = trouble.fix();
            tracing::warn!(
                redis = %place,
                error = %trouble,
                fix,
                "Redis does not tell this node of publications, so nobody can subscribe; trying on. `throughline check \
                 --connect` says what it needs"
            );
        }
    });
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
    // From here on changes are noted; what was wanted before is seen now.
    home.feed.take_changed();
    let mut ear = Ear {
        shared,
        home,
        connection,
        told: HashSet::new(),
        refused: HashSet::new(),
    };
    ear.follow(Changed::All).await?;
    home.feed.is_heard();
    home.feed.troubles.are_over();
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
            let error = Trouble::of(&error);
            tracing::warn!(redis = %home.place, %error, "the connection on which Redis tells of publications broke");
            return Ok(());
        }
    }
}

/// The connection, and what Redis tells on it.
struct Ear<'a> {
    shared: &'a Arc<Shared>,
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
        self.follow(Changed::Some(refused)).await
    }

    async fn probe(&mut self) -> RedisResult<()> {
        if self.home.feed.is_astray.load(Ordering::SeqCst) {
            return Err(Trouble::GivenAway.into());
        }
        self.home.feed.is_asking.store(true, Ordering::SeqCst);
        let answered = probe(&mut self.connection).await;
        self.home.feed.is_asking.store(false, Ordering::SeqCst);
        answered
    }

    /// Brings what Redis tells in line with what is wanted now.
    async fn follow(&mut self, changed: Changed) -> RedisResult<()> {
        let names = match changed {
            Changed::Nobody => return Ok(()),
            Changed::Some(names) => names,
            Changed::All => {
                let wanted = self.shared.wanted_on(self.home);
                let wanted = wanted.iter().map(|channel| channel.keys.hints.clone());
                wanted.chain(self.told.iter().cloned()).collect()
            }
        };
        let (wanted, unwanted): (Vec<_>, Vec<_>) = names.into_iter().partition(|hints| self.wanted(hints).is_some());
        let unwanted: Vec<_> = unwanted.into_iter().filter(|hints| self.told.remove(hints)).collect();
        for names in unwanted.chunks(NAMES_MAX) {
            if self.shared.is_cluster {
                let leaving = names.iter().cloned();
                self.home.feed.with_leaving(|all| all.extend(leaving));
            }
            self.say(Verb::Leave, names).await?;
        }
        for names in wanted.chunks(NAMES_MAX) {
            let are_told = self.say(Verb::Enter, names).await?;
            let told = names.iter().zip(are_told).filter(|(_, is_told)| *is_told);
            let told: Vec<_> = told.map(|(hints, _)| hints).collect();
            self.told.extend(told.iter().map(ToString::to_string));
            self.begin(told.into_iter().filter_map(|hints| self.wanted(hints)).collect())
                .await?;
        }
        Ok(())
    }

    /// The channel that has this name, if hints of it are wanted from here.
    fn wanted(&self, hints: &str) -> Option<Arc<Channel>> {
        let found = self.shared.channels.find(hints.as_bytes())?;
        (found.is_wanted() && self.shared.is_on(&found.name, self.home)).then_some(found)
    }

    /// Redis tells of these from now on. Where each ended at this moment is asked for all at once: whoever waits for it
    /// does not have to read the log.
    async fn begin(&mut self, channels: Vec<Arc<Channel>>) -> RedisResult<()> {
        let (old, new): (Vec<_>, Vec<_>) = channels.into_iter().partition(|channel| channel.live.get().is_some());
        for channel in &old {
            self.is_told(channel, None);
        }
        // They have readers, and come from elsewhere: what was told meanwhile, was told to nobody.
        if !old.is_empty() {
            self.home.compare_now.notify_one();
        }
        if new.is_empty() {
            return Ok(());
        }
        let asking = tops::asking(self.shared, &new);
        let answers = self.ask(&asking).await?;
        let mut tops = tops::read(self.shared, answers).unwrap_or_default().into_iter();
        let mut unknown = Vec::new();
        for channel in new {
            if let Some(top) = tops.next().flatten() {
                self.is_told(&channel, Some(top));
            } else {
                unknown.push(channel);
            }
        }
        for some in unknown.chunks(BEGUN_MAX) {
            self.begin_logs(some).await?;
        }
        Ok(())
    }

    /// Logs that are not there, or not known to be, get an epoch as by reading them.
    async fn begin_logs(&mut self, channels: &[Arc<Channel>]) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        for channel in channels {
            let (keys, epoch) = (&channel.keys, self.shared.epoch());
            let wanted = (Offset::MAX, None, 0);
            pipeline.add_command(self.shared.scripts.read(keys, epoch, wanted));
        }
        let answers = self.ask(&pipeline).await?;
        for (channel, answer) in channels.iter().zip(answers) {
            // What is refused is asked for again by whoever waits for it, who sees why.
            let top = Part::read(&channel.name, answer).map(|part| part.top());
            self.is_told(channel, top);
        }
        Ok(())
    }

    fn is_told(&self, channel: &Channel, top: Option<Top>) {
        channel.heard.send_replace(Heard::From(top.map(Box::new)));
        self.home.feed.note_move();
    }

    async fn ask(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        self.home.feed.is_asking.store(true, Ordering::SeqCst);
        let answers = self.connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        self.home.feed.is_asking.store(false, Ordering::SeqCst);
        answers
    }

    /// Says the same of each name, and which of them it is carried out for.
    async fn say(&mut self, verb: Verb, names: &[String]) -> RedisResult<Vec<bool>> {
        if self.shared.is_cluster {
            return self.say_by_slot(verb, names).await;
        }
        match verb {
            Verb::Enter => self.connection.subscribe(names).await?,
            Verb::Leave => self.connection.unsubscribe(names).await?,
        }
        Ok(vec![true; names.len()])
    }

    /// Each is a command of its own: the names' slots differ.
    async fn say_by_slot(&mut self, verb: Verb, names: &[String]) -> RedisResult<Vec<bool>> {
        let mut pipeline = redis::pipe();
        for name in names {
            pipeline.cmd(match verb {
                Verb::Enter => "SSUBSCRIBE",
                Verb::Leave => "SUNSUBSCRIBE",
            });
            pipeline.arg(name);
        }
        let answers = self.ask(&pipeline).await?;
        let mut done = Vec::with_capacity(names.len());
        for (answer, name) in answers.into_iter().zip(names) {
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
            channel.is_unheard();
        }
    }
}

/// What is said of a name.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Enter,
    Leave,
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
        channel.is_unheard();
        home.feed.note_change(hints.to_owned());
    }
    // It looks like the answer to a question: if there is one, all later answers are those to other questions.
    if home.feed.is_asking.load(Ordering::SeqCst) {
        home.feed.is_astray.store(true, Ordering::SeqCst);
        home.feed.is_cut.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While there was no connection, the names of all channels that came and went were kept.
    #[test]
    fn changes_are_bounded() {
        let feed = Feed::new();
        feed.note_change("a".to_owned());
        assert!(feed.with_changed(|changed| matches!(changed, Changed::Nobody)));
        feed.take_changed();
        for number in 0..CHANGES_MAX {
            feed.note_change(number.to_string());
        }
        assert!(feed.with_changed(|changed| matches!(changed, Changed::Some(names) if names.len() == CHANGES_MAX)));
        feed.note_change("one more".to_owned());
        assert!(matches!(feed.take_changed(), Changed::All));
        assert!(matches!(feed.take_changed(), Changed::Some(names) if names.is_empty()));
    }
}
