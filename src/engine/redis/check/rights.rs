//! What the user may do: everything that the engine does is done once, on keys of the check's own.

use std::num::NonZeroU32;

use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, Value};

use super::super::RedisSettings;
use super::super::found::{Found, Kind};
use super::super::keys::Keys;
use super::{Finding, Weight, ask};

/// Where it is tried, and as whom.
#[derive(Debug)]
pub(super) struct Rights<'a> {
    client: &'a Client,
    user: &'a str,
    prefix: &'a str,
    keys: Keys,
    kind: Kind,
}

/// What may not be done.
#[derive(Debug, Default)]
struct Refused {
    commands: Vec<&'static str>,
    keys: bool,
    channels: bool,
    /// For other reasons: the first command, and what Redis said.
    otherwise: Option<(&'static str, RedisError)>,
}

impl<'a> Rights<'a> {
    pub(super) fn new(client: &'a Client, user: &'a str, settings: &'a RedisSettings, found: &Found) -> Self {
        let database = client.get_connection_info().redis_settings().db();
        Self {
            client,
            user,
            prefix: settings.prefix.as_str(),
            // No channel has this name, so nobody reads what is written here.
            keys: Keys::of_name(&settings.prefix, database, &found.own_name),
            kind: found.kind,
        }
    }

    /// Tries everything, and says what may not be done: with `WAIT`, if there are `replicas`, and then until so many
    /// have a write that are to be `waited_for`.
    pub(super) async fn findings(
        &self,
        connection: &mut MultiplexedConnection,
        (replicas, waited_for): (Option<NonZeroU32>, Option<NonZeroU32>),
    ) -> Vec<Finding> {
        let mut refused = Refused::default();
        let (top, log, hints) = (&*self.keys.top, &*self.keys.log, &*self.keys.hints);
        let script = match ask(connection, &["SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"]).await {
            Ok(Value::BulkString(sha)) => String::from_utf8(sha).unwrap_or_default(),
            Ok(_) => String::new(),
            Err(error) => {
                refused.note("SCRIPT", error);
                String::new()
            }
        };
        let tried: [&[&str]; 15] = [
            &["PING"],
            &["ROLE"],
            &[
                "SELECT",
                &self.client.get_connection_info().redis_settings().db().to_string(),
            ],
            &["TIME"],
            &["GET", top],
            &["MGET", top],
            &["SET", top, "check", "PX", "10000"],
            &["XADD", log, "MAXLEN", "5", "1-0", "p", "check"],
            &["XRANGE", log, "-", "+"],
            &["XDEL", log, "1-0"],
            &["PEXPIRE", log, "10000"],
            &["EVALSHA", &script, "1", top],
            &["PUBLISH", hints, "check"],
            &["WAIT", "0", "0"],
            &["UNLINK", top, log],
        ];
        let more = [self.of_presence(), self.in_cluster()].concat();
        for words in tried.into_iter().chain(more.iter().map(Vec::as_slice)) {
            let is_needed = match words[0] {
                "WAIT" => replicas.is_some(),
                "PUBLISH" => self.kind == Kind::Apart,
                // Without its script it cannot be tried.
                "EVALSHA" => !script.is_empty(),
                _ => true,
            };
            if !is_needed {
                continue;
            }
            if let Err(error) = ask(connection, words).await {
                refused.note(name(words[0]), error);
            }
        }
        if self.kind == Kind::Apart
            && let Err(error) = self.subscribe(hints).await
        {
            refused.note("SUBSCRIBE", error);
        }
        self.transact(&mut refused).await;
        let mut findings = refused.findings(self.user, self.prefix, self.kind);
        if findings.is_empty()
            && let Some(replicas) = waited_for
        {
            findings.extend(self.wait(connection, replicas).await);
        }
        findings
    }

    /// What a Cluster takes beside.
    fn in_cluster(&self) -> Vec<Vec<&str>> {
        let hints = &*self.keys.hints;
        match self.kind {
            Kind::Apart => Vec::new(),
            Kind::InCluster => vec![
                vec!["CLUSTER", "INFO"],
                vec!["CLUSTER", "NODES"],
                vec!["ASKING"],
                vec!["SPUBLISH", hints, "check"],
                vec!["SSUBSCRIBE", hints],
                vec!["SUNSUBSCRIBE", hints],
            ],
        }
    }

    /// What knowing who is on a channel takes.
    fn of_presence(&self) -> Vec<Vec<&str>> {
        let (nodes, sessions) = (&*self.keys.nodes, &*self.keys.sessions);
        vec![
            vec!["HSET", sessions, "check", "1"],
            vec!["HGET", sessions, "check"],
            vec!["HEXISTS", sessions, "check"],
            vec!["HGETALL", sessions],
            vec!["HINCRBY", sessions, "check", "1"],
            vec!["HDEL", sessions, "check"],
            vec!["ZADD", nodes, "1", "check"],
            vec!["ZRANGEBYSCORE", nodes, "-inf", "1"],
            vec!["ZREM", nodes, "check"],
            vec!["UNLINK", nodes, sessions],
        ]
    }

    /// On a connection of its own: one that may begin a transaction and not end it is of no more use.
    async fn transact(&self, refused: &mut Refused) {
        let Ok(mut connection) = self.client.get_multiplexed_async_connection().await else {
            return;
        };
        let is_begun = ask(&mut connection, &["MULTI"]).await;
        let is_begun = is_begun.map_err(|error| refused.note("MULTI", error)).is_ok();
        let Err(error) = ask(&mut connection, &["EXEC"]).await else {
            return;
        };
        // One that may not be ended is given up, and that is said of it.
        if error.to_string().contains("NOPERM") {
            refused.commands.push("EXEC");
        } else if is_begun {
            refused.note("EXEC", error);
        }
    }

    async fn subscribe(&self, hints: &str) -> Result<(), RedisError> {
        let mut pubsub = self.client.get_async_pubsub().await?;
        pubsub.subscribe(hints).await?;
        pubsub.unsubscribe(hints).await
    }

    /// Whether replicas get what is written.
    async fn wait(&self, connection: &mut MultiplexedConnection, replicas: NonZeroU32) -> Option<Finding> {
        let top = &*self.keys.top;
        let written = ask(connection, &["SET", top, "check", "PX", "10000"]).await;
        let reached = ask(connection, &["WAIT", &replicas.to_string(), "1000"]).await;
        // It expires soon, if not by this.
        let _ = ask(connection, &["UNLINK", top]).await;
        match (written, reached) {
            (Ok(_), Ok(Value::Int(reached))) if reached >= i64::from(replicas.get()) => None,
            (Ok(_), Ok(Value::Int(reached))) => Some(Finding::new(
                Weight::Fault,
                format!("acks wait for {replicas} of its replicas, and {reached} had a write within 1 s"),
                "see whether its replicas stand still, and their links (INFO replication), or lower ack_replicas",
            )),
            (Err(error), _) | (_, Err(error)) => Some(Finding::new(
                Weight::Fault,
                format!("replicas cannot be waited for: {error}"),
                "see whether WAIT is there at all: proxies before Redis often lack it",
            )),
            (Ok(_), Ok(answer)) => Some(Finding::new(
                Weight::Fault,
                format!("WAIT is answered {answer:?}"),
                "see what stands between here and Redis",
            )),
        }
    }
}

/// The name of a command, as it is listed.
fn name(word: &str) -> &'static str {
    const NAMES: [&str; 29] = [
        "PING",
        "ROLE",
        "SELECT",
        "TIME",
        "GET",
        "MGET",
        "SET",
        "XADD",
        "XRANGE",
        "XDEL",
        "PEXPIRE",
        "EVALSHA",
        "PUBLISH",
        "WAIT",
        "UNLINK",
        "HSET",
        "HGET",
        "HEXISTS",
        "HGETALL",
        "HINCRBY",
        "HDEL",
        "ZADD",
        "ZRANGEBYSCORE",
        "ZREM",
        "CLUSTER",
        "ASKING",
        "SPUBLISH",
        "SSUBSCRIBE",
        "SUNSUBSCRIBE",
    ];
    NAMES.into_iter().find(|name| *name == word).unwrap_or("a command")
}

impl Refused {
    fn note(&mut self, command: &'static str, error: RedisError) {
        let is_right = error.code() == Some("NOPERM");
        let detail = error.detail().unwrap_or_default();
        if is_right && detail.contains("one of the keys") {
            self.keys = true;
        } else if is_right && detail.contains("one of the channels") {
            self.channels = true;
        } else if is_right {
            self.commands.push(command);
        } else if self.otherwise.is_none() {
            self.otherwise = Some((command, error));
        }
    }

    fn findings(self, user: &str, prefix: &str, kind: Kind) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut lacks = |what: String, grant: String| {
            let fix = format!("ACL SETUSER {user} {grant}");
            findings.push(Finding::new(
                Weight::Fault,
                format!("the user {user} may not {what}"),
                fix,
            ));
        };
        if !self.commands.is_empty() {
            let grants: Vec<_> = self
                .commands
                .iter()
                .map(|command| format!("+{}", command.to_lowercase()))
                .collect();
            lacks(format!("do {}", self.commands.join(" ")), grants.join(" "));
        }
        if self.keys {
            lacks(
                format!("read and write all keys that begin with {prefix:?} (engine.redis.prefix)"),
                format!("~{prefix}*"),
            );
        }
        if self.channels {
            lacks(
                format!("publish to and subscribe to all Pub/Sub channels that begin with {prefix:?}"),
                format!("&{prefix}*"),
            );
        }
        findings.extend(self.otherwise.map(|(command, error)| refusal(command, &error, kind)));
        findings
    }
}

/// What is to be done where something is refused that the user may do.
fn refusal(command: &str, error: &RedisError, kind: Kind) -> Finding {
    let (weight, fix) = match (error.code(), kind) {
        (Some("OOM"), _) => (
            Weight::Fault,
            "raise `maxmemory`, or make room: it is full, and publications are refused",
        ),
        (Some("MISCONF"), _) => (
            Weight::Fault,
            "it cannot write its snapshots to disk: see its log, and the room on that disk",
        ),
        (Some("NOREPLICAS"), _) => (
            Weight::Fault,
            "start replicas, or lower `min-replicas-to-write`: publications are refused",
        ),
        (Some("CLUSTERDOWN"), Kind::InCluster) => (
            Weight::Unreachable,
            "CLUSTER INFO and CLUSTER NODES say which slots have no primary, or whether this node is cut off: start what \
             has failed, or do CLUSTER FAILOVER TAKEOVER on its replica; with cluster-require-full-coverage no the other \
             slots go on meanwhile",
        ),
        (Some("MOVED" | "ASK" | "TRYAGAIN"), Kind::InCluster) => (
            Weight::Unreachable,
            "slots are being moved: check again when they have arrived",
        ),
        (Some("MOVED" | "CLUSTERDOWN" | "CROSSSLOT"), Kind::Apart) => (
            Weight::Fault,
            "this is a node of a Cluster: the URL begins with redis+cluster://",
        ),
        _ => (
            Weight::Fault,
            "see whether this is a Redis, and not something before it that lacks the command",
        ),
    };
    let why = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    Finding::new(weight, format!("{command} is refused: {why}"), fix)
}
