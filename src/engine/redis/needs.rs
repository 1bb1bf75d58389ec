//! What is needed of a Redis: asked on each connection that is made, so that one that cannot do it is not taken for one
//! that can.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, ServerError, Value};
use tokio::time::timeout;

use super::keys::{Keys, Prefix};
use super::link::{PROBE_TIMEOUT, too_late};
use super::trouble::{Trouble, unknown_command};

/// Without these nothing is published or read.
const COMMANDS: [&str; 13] = [
    "PING", "ROLE", "SCRIPT", "EVALSHA", "TIME", "GET", "MGET", "SET", "XADD", "XRANGE", "XDEL", "PEXPIRE", "UNLINK",
];
/// How publications are told of, by one that is alone and by a Cluster's node.
const TELLING: [&str; 2] = ["PUBLISH", "SUBSCRIBE"];
const TELLING_BY_SLOT: [&str; 2] = ["SPUBLISH", "SSUBSCRIBE"];

/// Names that are no channels', spread over the slots: who answers for all of them is no part of a Cluster.
const NAMES_COUNT: usize = 32;

/// What the other side must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needs {
    /// One that keeps all keys, such as these.
    Alone(Vec<String>),
    /// One that tells of publications by slot, as Redis does from version 7 on.
    InCluster,
}

impl Needs {
    pub(super) fn alone(prefix: &Prefix, database: i64) -> Self {
        let names = (0..NAMES_COUNT).map(|number| format!("$check-{number}"));
        Self::Alone(names.map(|name| Keys::of_name(prefix, database, &name).top).collect())
    }

    /// Whether it is what is needed.
    ///
    /// # Errors
    /// If it is not, a [`Trouble`], or if it does not answer.
    pub(super) async fn try_on(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        match self {
            Self::Alone(_) => {
                must_know(connection, &[&COMMANDS[..], &TELLING].concat()).await?;
                self.try_keys(connection).await
            }
            Self::InCluster => {
                must_have_sharded_pubsub(connection).await?;
                must_know(connection, &[&COMMANDS[..], &TELLING_BY_SLOT].concat()).await
            }
        }
    }

    /// Whether it keeps all keys, where it should.
    ///
    /// # Errors
    /// As above.
    pub(super) async fn try_keys(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        match self {
            Self::Alone(keys) => must_keep_all(connection, keys).await,
            Self::InCluster => Ok(()),
        }
    }
}

async fn answers(connection: &mut MultiplexedConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    timeout(
        PROBE_TIMEOUT,
        connection.send_packed_commands(pipeline, 0, pipeline.len()),
    )
    .await
    .unwrap_or_else(|_| Err(too_late()))
}

async fn must_know(connection: &mut MultiplexedConnection, names: &[&str]) -> RedisResult<()> {
    let unknown = unknown_of(connection, names).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Trouble::Unknown(unknown.join(" ")).into())
}

/// All commands that are missing, where the user may ask for that.
pub(super) async fn unknown_of<'a>(
    connection: &mut MultiplexedConnection,
    names: &[&'a str],
) -> RedisResult<Vec<&'a str>> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("COMMAND").arg("INFO").arg(names);
    let answer = answers(connection, &pipeline).await?.into_iter().next();
    let Some(Value::Array(known)) = answer else {
        return Ok(Vec::new());
    };
    let unknown = names.iter().zip(&known).filter(|(_, known)| **known == Value::Nil);
    let unknown: Vec<_> = unknown.map(|(name, _)| *name).collect();
    // Who knows none at all answers something else.
    let is_answer = known.len() == names.len() && unknown.len() < names.len();
    Ok(if is_answer { unknown } else { Vec::new() })
}

/// A node of a Cluster sends on whoever asks for what another keeps.
async fn must_keep_all(connection: &mut MultiplexedConnection, keys: &[String]) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for key in keys {
        pipeline.cmd("GET").arg(key);
    }
    for answer in answers(connection, &pipeline).await? {
        let Value::ServerError(error) = answer else { continue };
        match error.code() {
            "MOVED" | "CLUSTERDOWN" => return Err(Trouble::InCluster.into()),
            // Nothing at all could be read.
            "NOPERM" => return Err(error.into()),
            // Whatever else is the matter with it is seen by probing.
            _ => {}
        }
    }
    Ok(())
}

/// A command that is known has a word to say about having no arguments.
async fn must_have_sharded_pubsub(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SPUBLISH");
    let answers = answers(connection, &pipeline).await?;
    let is_unknown = |error: &ServerError| error.details().and_then(unknown_command).is_some();
    if let Some(Value::ServerError(error)) = answers.first()
        && is_unknown(error)
    {
        return Err(Trouble::OldCluster.into());
    }
    Ok(())
}
