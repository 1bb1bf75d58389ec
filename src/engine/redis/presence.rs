//! Who is on a channel, over all nodes: a hash of sessions beside the channel's log, and a lease for each node on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Value;
use tokio::time::Instant;

use super::RedisEngine;
use super::ask::{Way, ask};
use super::entry::bytes_of;
use super::link::ANSWER_TIMEOUT;
use crate::delivery::{
    ChannelName, EngineError, EngineErrorKind, Heirs, Member, Others, Presence, PresenceEvent, Present, Report,
    Reported, SessionKey, Who,
};

/// The presence of one node in a Redis that several share.
#[derive(Debug)]
pub struct RedisPresence {
    pub(super) engine: Arc<RedisEngine>,
    /// This life of this process: what an earlier one reported is another node's.
    pub(super) node: String,
    pub(super) lease: Duration,
}

impl RedisPresence {
    /// What the node reports holds for `lease`.
    pub fn new(engine: Arc<RedisEngine>, lease: Duration) -> Self {
        let outside = &engine.shared.outside;
        let node = format!("{:016x}{:016x}", outside.random(), outside.random());
        Self { engine, node, lease }
    }

    pub(super) async fn call(
        &self,
        channel: &ChannelName,
        way: Way,
        call: &redis::Cmd,
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let answer = ask(&self.engine.shared, (channel, way), call, deadline).await?;
        let Value::Array(parts) = answer else {
            return Err(unreadable());
        };
        parts
            .into_iter()
            .map(bytes_of)
            .collect::<Option<_>>()
            .ok_or_else(unreadable)
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

    fn heirs(&self) -> Option<&dyn Heirs> {
        Some(self)
    }
}

pub(super) fn unreadable() -> EngineError {
    tracing::error!("what Redis holds of presence cannot be read; are its keys used by others?");
    EngineErrorKind::Unavailable.into()
}

/// Whose a session is, as the scripts have it.
pub(super) fn whose(who: Option<&Who>) -> String {
    match who {
        None => "-".to_owned(),
        Some(who) => match who.info() {
            None => format!("+{}", who.user()),
            Some(info) => format!("+{}\n{info}", who.user()),
        },
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
            Ok(Some(Who::new(user, info)))
        }
    }
}

pub(super) fn read_reported(answer: &[Vec<u8>]) -> Option<Reported> {
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
        let who = |user: &str, info: Option<&str>| Some(Who::new(user, info));
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
