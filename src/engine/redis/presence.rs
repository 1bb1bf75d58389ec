//! Who is on a channel, over all nodes: a hash of sessions beside the channel's log, and a lease for each node on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Value;
use tokio::time::{Instant, timeout_at};

use super::RedisEngine;
use super::entry::bytes_of;
use super::link::{ANSWER_TIMEOUT, Link};
use super::reads::ON_ITS_WAY;
use super::redirect::Redirect;
use super::shard::Shard;
use super::topology::Target;
use crate::delivery::{
    ChannelName, EngineError, EngineErrorKind, Member, Others, Presence, PresenceEvent, Present, Report, Reported,
    SessionKey, Who,
};

/// The presence of one node in a Redis that several share.
#[derive(Debug)]
pub struct RedisPresence {
    engine: Arc<RedisEngine>,
    /// This life of this process: what an earlier one reported is another node's.
    node: String,
    lease: Duration,
}

impl RedisPresence {
    /// What the node reports holds for `lease`.
    pub fn new(engine: Arc<RedisEngine>, lease: Duration) -> Self {
        let outside = &engine.shared.outside;
        let node = format!("{:016x}{:016x}", outside.random(), outside.random());
        Self { engine, node, lease }
    }

    /// Calls a script where the channel is kept, and where it has gone to meanwhile.
    async fn call(
        &self,
        channel: &ChannelName,
        link: fn(&Shard) -> &Link,
        call: &redis::Cmd,
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let answered = timeout_at(deadline, self.ask(channel, link, call, deadline)).await;
        let answer = answered.unwrap_or_else(|_| {
            if let Some(home) = self.engine.shared.shard(channel) {
                link(&home).doubt();
            }
            Err(EngineErrorKind::Unanswered.into())
        });
        let Value::Array(parts) = answer? else {
            return Err(unreadable());
        };
        parts
            .into_iter()
            .map(bytes_of)
            .collect::<Option<_>>()
            .ok_or_else(unreadable)
    }

    async fn ask(
        &self,
        channel: &ChannelName,
        link: fn(&Shard) -> &Link,
        call: &redis::Cmd,
        deadline: Instant,
    ) -> Result<Value, EngineError> {
        let shared = &self.engine.shared;
        let mut target = Target::Owner;
        loop {
            let (home, mut connection) = shared.connection((channel, &target), link, deadline).await?;
            let answer = shared.scripts.call(&mut connection, call, target.manner()).await;
            let redirect = answer.as_ref().ok().and_then(Redirect::of);
            match (answer, redirect) {
                (Ok(_), Some(redirect)) => {
                    target = shared.follow(redirect);
                    if target == Target::Owner {
                        tokio::time::sleep(ON_ITS_WAY).await;
                    }
                }
                (Ok(Value::ServerError(error)), None) => {
                    tracing::debug!(redis = %home.place, ?error, "presence was refused");
                    link(&home).doubt();
                    return Err(EngineErrorKind::Unavailable.into());
                }
                (Ok(answer), None) => return Ok(answer),
                (Err(error), _) => {
                    tracing::debug!(redis = %home.place, %error, "presence was not answered");
                    link(&home).doubt();
                    return Err(EngineErrorKind::Unanswered.into());
                }
            }
        }
    }
}

impl Presence for RedisPresence {
    fn report<'a>(
        &'a self,
        channel: &'a ChannelName,
        report: &'a Report,
    ) -> BoxFuture<'a, Result<Reported, EngineError>> {
        async move {
            let shared = &self.engine.shared;
            let call = shared
                .scripts
                .report(&shared.keys(channel), &self.node, self.lease, report);
            let answer = self.call(channel, |home| &home.publishing, &call).await?;
            read_reported(&answer).ok_or_else(unreadable)
        }
        .boxed()
    }

    fn others<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Others, EngineError>> {
        async move {
            let shared = &self.engine.shared;
            let call = shared.scripts.others(&shared.keys(channel), &self.node);
            let answer = self.call(channel, |home| &home.reading, &call).await?;
            read_others(&answer).ok_or_else(unreadable)
        }
        .boxed()
    }
}

fn unreadable() -> EngineError {
    tracing::error!("what Redis holds of presence cannot be read; are its keys used by others?");
    EngineErrorKind::Unavailable.into()
}

/// Whose a session is, as the scripts have it.
pub(super) fn whose(who: Option<&Who>) -> String {
    match who {
        None => "-".to_owned(),
        Some(Who { user, info: None }) => format!("+{user}"),
        Some(Who { user, info: Some(info) }) => format!("+{user}\n{info}"),
    }
}

/// What is none of the scripts' words.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

fn read_whose(bytes: &[u8]) -> Result<Option<Who>, Unreadable> {
    let text = str::from_utf8(bytes).map_err(|_| Unreadable)?;
    match text.strip_prefix('+') {
        None if text == "-" => Ok(None),
        None => Err(Unreadable),
        Some(text) => {
            let (user, info) = text
                .split_once('\n')
                .map_or((text, None), |(user, info)| (user, Some(info)));
            Ok(Some(Who {
                user: user.into(),
                info: info.map(Arc::from),
            }))
        }
    }
}

fn read_reported(answer: &[Vec<u8>]) -> Option<Reported> {
    let mut reported = Reported {
        is_taken: true,
        events: Vec::new(),
    };
    for pair in answer.chunks(2) {
        let [kind, whose] = pair else { return None };
        let member = |sessions| {
            Some(Member {
                who: read_whose(whose).ok()??,
                sessions,
            })
        };
        match &kind[..] {
            b"forgotten" => reported.is_taken = false,
            b"occupied" => reported.events.push(PresenceEvent::Occupied),
            b"vacated" => reported.events.push(PresenceEvent::Vacated),
            b"joined" => reported.events.push(PresenceEvent::Joined(member(1)?)),
            b"left" => reported.events.push(PresenceEvent::Left(member(0)?)),
            _ => return None,
        }
    }
    Some(reported)
}

fn read_others(answer: &[Vec<u8>]) -> Option<Others> {
    let (lease, sessions) = answer.split_first()?;
    let lease: i64 = str::from_utf8(lease).ok()?.parse().ok()?;
    let session = |pair: &[Vec<u8>]| -> Option<Present> {
        let [key, whose] = pair else { return None };
        let key = u128::from_str_radix(str::from_utf8(key).ok()?, 16).ok()?;
        Some((SessionKey(key), read_whose(whose).ok()?))
    };
    Some(Others {
        sessions: sessions.chunks(2).map(session).collect::<Option<_>>()?,
        lease_ms: u64::try_from(lease).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_session_is_comes_back_as_it_was() {
        let who = |user: &str, info: Option<&str>| {
            Some(Who {
                user: user.into(),
                info: info.map(Arc::from),
            })
        };
        for given in [
            None,
            who("ada", None),
            who("a +-b", Some("{\"name\":\"Ada\"}")),
            who("-", None),
        ] {
            let text = whose(given.as_ref());
            assert_eq!(read_whose(text.as_bytes()), Ok(given), "{text:?}");
        }
        assert_eq!(read_whose(b"x"), Err(Unreadable));
    }
}
