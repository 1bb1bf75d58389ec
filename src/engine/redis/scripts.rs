//! The scripts: what they are called with, and what they answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, RedisResult, Script, ServerError, Value};
use sha1::{Digest, Sha1};

use super::keys::Keys;
use super::presence::whose;
use super::redirect::Manner;
use super::transaction::{Loading, runs, transact};
use crate::delivery::{
    Ack, Claim, Draft, EngineError, EngineErrorKind, Epoch, Offset, Places, Position, Publication, Published, Report,
    Tag,
};

/// For how long an idempotency key is remembered, in milliseconds.
const KEY_TTL_MS: u64 = 5 * 60 * 1000;

/// For how long a channel that never had a publication, and so no policy, keeps its epoch without readers.
const UNUSED_TTL_MS: u64 = 24 * 60 * 60 * 1000;

/// The most bytes that one reading takes of a log, unless its first two entries are larger: whoever needs more reads on.
const READING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The longest time that Redis is asked to keep something: ten years.
const TTL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// The scripts, which Redis knows by their fingerprints.
#[derive(Debug)]
pub(super) struct Scripts {
    publish: Known,
    read: Known,
    report: Known,
    others: Known,
    places: Known,
    claim: Known,
}

/// A script, and its text.
#[derive(Debug)]
struct Known {
    script: Script,
    text: String,
}

impl Known {
    fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            script: Script::new(&text),
            text,
        }
    }

    fn hash(&self) -> &str {
        self.script.get_hash()
    }
}

/// Whom the publishing script tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hints {
    /// Whoever listens, anywhere.
    Everywhere,
    /// In a Cluster: whoever listens at the shard that keeps the channel.
    BySlot,
}

impl Scripts {
    pub(super) fn new(hints: Hints) -> Self {
        let publish = include_str!("publish.lua");
        let publish = match hints {
            Hints::Everywhere => publish.to_owned(),
            Hints::BySlot => publish.replace("'PUBLISH'", "'SPUBLISH'"),
        };
        Self {
            publish: Known::new(publish),
            read: Known::new(include_str!("read.lua")),
            report: Known::new(include_str!("report.lua")),
            others: Known::new(include_str!("others.lua")),
            places: Known::new(include_str!("places.lua")),
            claim: Known::new(include_str!("claim.lua")),
        }
    }

    fn known(&self) -> [&Known; 6] {
        let of_presence = [&self.report, &self.others, &self.places, &self.claim];
        let [report, others, places, claim] = of_presence;
        [&self.publish, &self.read, report, others, places, claim]
    }

    pub(super) fn all(&self) -> [&Script; 6] {
        self.known().map(|known| &known.script)
    }

    /// The command that makes the script known that a call names.
    pub(super) fn loading(&self, call: &Cmd) -> Cmd {
        let mut loading = redis::cmd("SCRIPT");
        loading.arg("LOAD");
        if let Some(Arg::Simple(hash)) = call.args_iter().nth(1)
            && let Some(known) = self.known().into_iter().find(|known| known.hash().as_bytes() == hash)
        {
            loading.arg(&known.text);
        }
        loading
    }

    /// The call that stores a draft.
    pub(super) fn publish(&self, keys: &Keys, draft: &Draft, epoch: Epoch, tag: Tag) -> Cmd {
        let bytes = Publication::new(draft, Position::origin(epoch), 0).bytes_max();
        let age_ms = draft.policy.age_ms_max.min(TTL_MS_MAX);
        let ttl_ms = age_ms.saturating_add(draft.policy.position_ttl_ms).clamp(1, TTL_MS_MAX);
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.publish.hash());
        match &draft.key {
            None => call.arg(2).arg(&keys.top).arg(&keys.log),
            Some(key) => call.arg(3).arg(&keys.top).arg(&keys.log).arg(keys.idempotency(key)),
        };
        call.arg(epoch.as_str()).arg(tag.as_str());
        let (lengths, written) = written(draft);
        call.arg(lengths)
            .arg(written)
            .arg(bytes)
            .arg(draft.policy.count_max)
            .arg(draft.policy.bytes_max)
            .arg(age_ms)
            .arg(ttl_ms)
            .arg(&keys.hints);
        if draft.key.is_some() {
            call.arg(fingerprint(draft)).arg(KEY_TTL_MS);
            if draft.ack != Ack::Stored {
                call.arg("replicated");
            }
        }
        call
    }

    /// The call that reads from an offset on, or so many of the newest, but at most so many.
    pub(super) fn read(&self, keys: &Keys, epoch: Epoch, wanted: (Offset, Option<u64>, usize)) -> Cmd {
        let (from, newest, count) = wanted;
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.read.hash()).arg(2).arg(&keys.top).arg(&keys.log);
        call.arg(epoch.as_str()).arg(UNUSED_TTL_MS).arg(from);
        match newest {
            None => call.arg("-1"),
            Some(newest) => call.arg(newest),
        };
        call.arg(count).arg(READING_BYTES_MAX);
        call
    }

    /// The call that reports a node's sessions on a channel.
    pub(super) fn report(&self, keys: &Keys, node: &str, lease: Duration, report: &Report) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.report.hash())
            .arg(2)
            .arg(&keys.nodes)
            .arg(&keys.sessions)
            .arg(node)
            .arg(ms(lease));
        match report.after {
            None => call.arg("-"),
            Some(number) => call.arg(number),
        };
        call.arg(report.number).arg(report.went.len());
        for session in &report.went {
            call.arg(format!("{:032x}", { session.0 }));
        }
        for (session, who) in &report.came {
            call.arg(format!("{:032x}", { session.0 })).arg(whose(who.as_ref()));
        }
        call
    }

    /// The call that reads the other nodes' sessions on a channel.
    pub(super) fn others(&self, keys: &Keys, node: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.others.hash())
            .arg(2)
            .arg(&keys.nodes)
            .arg(&keys.sessions)
            .arg(node);
        call
    }

    /// The call that says where a node has sessions; `keys` are those of all nodes together.
    pub(super) fn places(&self, keys: &Keys, node: &str, lease: Duration, places: &Places) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.places.hash())
            .arg(2)
            .arg(&keys.nodes)
            .arg(keys.channels(node))
            .arg(node)
            .arg(ms(lease))
            .arg(places.went.len());
        for channel in places.went.iter().chain(&places.came) {
            call.arg(channel.as_str());
        }
        call
    }

    /// The call that takes over channels of a node whose lease ended, for so long.
    pub(super) fn claim(&self, keys: &Keys, time: Duration, claim: &Claim) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.claim.hash())
            .arg(2)
            .arg(&keys.nodes)
            .arg(keys.channels(&claim.node))
            .arg(&claim.node)
            .arg(ms(time))
            .arg(claim.count_max);
        for channel in &claim.settled {
            call.arg(channel.as_str());
        }
        call
    }

    /// Calls one script, and answers as Redis does; if Redis has forgotten the scripts, it is told them again.
    ///
    /// # Errors
    /// If the answer did not come.
    pub(super) async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        call: &Cmd,
        manner: Manner,
    ) -> RedisResult<Value> {
        let answers = self.call_all(connection, &[call], manner).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Calls several scripts in one go, and answers in their order.
    ///
    /// Those on the same keys are one transaction: whatever happens to Redis' scripts meanwhile, none of them is carried
    /// out before one that stands before it.
    ///
    /// # Errors
    /// If the answers did not come: each call may have been carried out or not.
    pub(super) async fn call_all(
        &self,
        connection: &mut MultiplexedConnection,
        calls: &[&Cmd],
        manner: Manner,
    ) -> RedisResult<Vec<Value>> {
        let mut answers = vec![Value::Nil; calls.len()];
        let mut due = runs(calls);
        for loading in [Loading::No, Loading::First(self)] {
            transact(connection, (calls, &due), (manner, loading), &mut answers).await?;
            // Where transactions are not allowed, some of a run may be done: what stands before them is too late.
            for run in &mut due {
                let done = run.iter().rposition(|at| !is_forgotten(&answers[*at]));
                run.drain(..done.map_or(0, |done| done + 1));
            }
            due.retain(|run| !run.is_empty());
            if due.is_empty() {
                break;
            }
        }
        Ok(answers)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(TTL_MS_MAX).min(TTL_MS_MAX)
}

fn is_forgotten(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// What is written of a draft as it is: how long its event and its sender are, or `-`, and both of them and the data.
fn written(draft: &Draft) -> (String, Vec<u8>) {
    let words = [draft.event.as_deref(), draft.sender.as_deref()];
    let lengths = words.map(|word| word.map_or("-".to_owned(), |word| word.len().to_string()));
    let words = words.map(|word| word.unwrap_or_default().as_bytes());
    (lengths.join(" "), [words[0], words[1], &draft.data].concat())
}

/// Tells payloads apart, on every node alike.
fn fingerprint(draft: &Draft) -> String {
    let mut hasher = Sha1::new();
    if let Some(event) = &draft.event {
        hasher.update(b"+");
        hasher.update(event.as_bytes());
    }
    // No JSON has this byte, so event and data cannot be confused.
    hasher.update([0]);
    hasher.update(&draft.data);
    URL_SAFE_NO_PAD.encode(hasher.finalize())
}

/// Reads the answer to [`Scripts::publish`].
pub(super) fn read_published(answer: &Value) -> Result<Published, EngineError> {
    if let Value::ServerError(error) = answer {
        return Err(refused(error));
    }
    let text = if let Value::BulkString(bytes) = answer {
        str::from_utf8(bytes).unwrap_or_default()
    } else {
        ""
    };
    let published = |position: &str, duplicate| {
        let position = position.parse();
        position.map(|position| Published {
            position,
            duplicate,
            replicated: false,
        })
    };
    match text.split_at_checked(1) {
        Some(("+", position)) => published(position, false),
        Some(("=", position)) => published(position, true),
        Some(("!", "")) => return Err(EngineErrorKind::KeyMismatch.into()),
        _ => published("", false),
    }
    .map_err(|_| {
        tracing::error!(?answer, "Redis answered a publication with what cannot be read");
        EngineErrorKind::Unanswered.into()
    })
}

fn refused(error: &ServerError) -> EngineError {
    // These are said before a script begins, or by its first write: nothing was done.
    const BEFORE: [&str; 14] = [
        "READONLY",
        "LOADING",
        "MOVED",
        "ASK",
        "TRYAGAIN",
        "CROSSSLOT",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "NOSCRIPT",
        "NOPERM",
        "BUSY",
        "EXECABORT",
    ];
    match error.code() {
        "OOM" => EngineErrorKind::Full.into(),
        code if BEFORE.contains(&code) => EngineErrorKind::Unavailable.into(),
        _ => EngineErrorKind::Unanswered.into(),
    }
}
