//! What the user may do: everything that the engine does is done once, on keys of the check's own.

use std::num::NonZeroU32;

use redis::aio::MultiplexedConnection;
use redis::{Client, ProtocolVersion, RedisError, Value};

use super::super::RedisSettings;
use super::super::found::{Found, Kind};
use super::super::keys::Keys;
use super::super::needs::unknown_of;
use super::super::trouble::{Trouble, shown};
use super::reach::connect;
use super::{Finding, Weight, ask};

/// Where it is tried, and as whom.
#[derive(Debug)]
pub(super) struct Rights<'a> {
    client: &'a Client,
    database: i64,
    user: &'a str,
    prefix: &'a str,
    keys: Keys,
    kind: Kind,
}

/// What may not be done.
#[derive(Debug, Default)]
struct Refused {
    commands: Vec<String>,
    /// Those that are not known at all.
    unknown: Vec<String>,
    keys: bool,
    channels: bool,
    /// For other reasons: the first command, and what Redis said.
    otherwise: Option<(String, RedisError)>,
}

impl<'a> Rights<'a> {
    pub(super) fn new(
        (client, database): (&'a Client, i64),
        user: &'a str,
        settings: &'a RedisSettings,
        found: &Found,
    ) -> Self {
        Self {
            client,
            database,
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
        let database = self.database.to_string();
        let script = match ask(connection, &["SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"]).await {
            Ok(Value::BulkString(sha)) => String::from_utf8(sha).unwrap_or_default(),
            Ok(_) => String::new(),
            Err(error) => {
                refused.note("SCRIPT", error);
                // That this one is forgotten is no fault then.
                "0".repeat(40)
            }
        };
        let tried: [&[&str]; 16] = [
            &["HELLO", "3"],
            &["PING"],
            &["ROLE"],
            &["SELECT", &database],
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
                // Whoever uses the first database is in it.
                "SELECT" => self.database != 0,
                _ => true,
            };
            if !is_needed {
                continue;
            }
            if let Err(error) = ask(connection, words).await {
                let is_gone = error.is_io_error();
                refused.note(words[0], error);
                if is_gone {
                    return refused.findings(self.user, self.prefix, self.kind);
                }
            }
        }
        // On a connection of its own: one that may begin a transaction and not end it is of no more use.
        match connect(self.client).await {
            Ok(mut connection) => {
                self.subscribe(&mut connection, &mut refused).await;
                transact(&mut connection, &mut refused).await;
            }
            Err(error) => refused.note("a second connection", error),
        }
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

    async fn subscribe(&self, connection: &mut MultiplexedConnection, refused: &mut Refused) {
        if self.kind == Kind::InCluster {
            return;
        }
        let protocol = self.client.get_connection_info().redis_settings().protocol();
        if protocol == ProtocolVersion::RESP2 {
            // It would say nothing else on the connection from then on.
            let unknown = unknown_of(connection, &["PING", "SUBSCRIBE", "UNSUBSCRIBE"]).await;
            let unknown = unknown.unwrap_or_default().into_iter().filter(|name| *name != "PING");
            refused.unknown.extend(unknown.map(str::to_owned));
            return;
        }
        if let Err(error) = connection.subscribe(&self.keys.hints).await {
            refused.note("SUBSCRIBE", error);
        }
        if let Err(error) = connection.unsubscribe(&self.keys.hints).await {
            refused.note("UNSUBSCRIBE", error);
        }
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
                format!("replicas cannot be waited for: {}", Trouble::of(&error)),
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

async fn transact(connection: &mut MultiplexedConnection, refused: &mut Refused) {
    let is_begun = ask(connection, &["MULTI"]).await;
    let is_begun = is_begun.map_err(|error| refused.note("MULTI", error)).is_ok();
    let Err(error) = ask(connection, &["EXEC"]).await else {
        return;
    };
    // Where none was begun, that it cannot be ended is no news.
    let is_lacking = matches!(Trouble::of(&error), Trouble::Denied(_) | Trouble::Unknown(_));
    if is_begun || is_lacking {
        refused.note("EXEC", error);
    }
}

impl Refused {
    fn note(&mut self, command: &str, error: RedisError) {
        let trouble = Trouble::of(&error);
        if let Trouble::Denied(why) = &trouble {
            if is_of(why, "key") {
                self.keys = true;
            } else if is_of(why, "channel") {
                self.channels = true;
            } else {
                once(&mut self.commands, command);
            }
        } else if matches!(trouble, Trouble::Unknown(_)) {
            once(&mut self.unknown, command);
        } else if error.code() != Some("NOSCRIPT") {
            self.otherwise.get_or_insert_with(|| (command.to_owned(), error));
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
        if !self.unknown.is_empty() {
            findings.push(Finding::from(&Trouble::Unknown(self.unknown.join(" "))));
        }
        findings.extend(self.otherwise.map(|(command, error)| refusal(&command, &error, kind)));
        findings
    }
}

fn once(commands: &mut Vec<String>, command: &str) {
    if !commands.iter().any(|known| known == command) {
        commands.push(command.to_owned());
    }
}

/// Whether it is about a key, or a Pub/Sub channel, that the user may not use; each version has words of its own.
fn is_of(why: &str, what: &str) -> bool {
    let is_of_command = why.contains(" to run ");
    !is_of_command && why.contains("access") && why.contains(what)
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
        (Some("MOVED" | "CLUSTERDOWN" | "CROSSSLOT"), Kind::Apart) => return Finding::from(&Trouble::InCluster),
        _ => {
            let trouble = Trouble::of(error);
            if !matches!(trouble, Trouble::Refused(_)) {
                return Finding::from(&trouble);
            }
            (Weight::Fault, trouble.fix())
        }
    };
    let why = shown(error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    Finding::new(weight, format!("{command} is refused: {why}"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_right_is_about_is_known_in_the_words_of_each_version() {
        for (words, of) in [
            (
                "this user has no permissions to access one of the keys used as arguments",
                "key",
            ),
            ("No permissions to access a key", "key"),
            (
                "this user has no permissions to access one of the channels used as arguments",
                "channel",
            ),
            ("No permissions to access a channel", "channel"),
            ("this user has no permissions to run the 'xadd' command", "neither"),
            (
                "User access-key has no permissions to run the 'xadd' command",
                "neither",
            ),
        ] {
            assert_eq!(
                (is_of(words, "key"), is_of(words, "channel")),
                (of == "key", of == "channel"),
                "{words}"
            );
        }
    }
}
