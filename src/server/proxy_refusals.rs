//! Why connections are refused where the PROXY protocol is spoken, and when that is said: once for each change, for
//! behind a proxy that is set up wrong it is every connection.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::Peer;

/// How long the same is not said again, though connections that are well came between.
const QUIET: Duration = Duration::from_secs(60);

/// What a header of version 1 begins with.
const VERSION_1: &[u8] = b"PROXY ";

/// Why a connection is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its sender is in none of the networks.
    Stranger,
    /// It says something, and that is no header.
    Headerless,
    /// It has a header of version 1.
    OldVersion,
    /// Its header cannot be read.
    Malformed(String),
    /// It says nothing, as a probe does that only connects.
    Silent,
    /// It broke.
    Broken(io::Error),
}

impl Refusal {
    /// What begins with something else than a header of version 2.
    pub(super) fn of_other(bytes: &[u8]) -> Self {
        if bytes.starts_with(VERSION_1) {
            Self::OldVersion
        } else {
            Self::Headerless
        }
    }

    /// What the operator has to do about it, where there is something; and its place among the notes.
    fn fix(&self) -> Option<(usize, &'static str)> {
        match self {
            Self::Stranger => Some((
                0,
                "if this address is a proxy of yours, add its network to connections.proxy_protocol_from; else close \
                 this port to everybody but the proxies",
            )),
            Self::Headerless => Some((
                1,
                "let the proxy send a PROXY protocol header of version 2 (HAProxy: `send-proxy-v2`), or set \
                 connections.proxy_protocol = \"off\"",
            )),
            Self::OldVersion => Some((
                2,
                "let the proxy send version 2 of the PROXY protocol instead of 1 (HAProxy: `send-proxy-v2`)",
            )),
            Self::Malformed(_) => Some((
                3,
                "let the proxy send PROXY protocol headers of version 2 as they are specified",
            )),
            Self::Silent | Self::Broken(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => f.write_str("its sender is not in connections.proxy_protocol_from"),
            Self::Headerless => f.write_str("it begins without a PROXY protocol header"),
            Self::OldVersion => f.write_str("it begins with a PROXY protocol header of version 1"),
            Self::Malformed(why) => write!(f, "its PROXY protocol header cannot be read: {why}"),
            Self::Silent => f.write_str("no PROXY protocol header came"),
            Self::Broken(error) => write!(f, "before its PROXY protocol header: {error}"),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidData, refusal.to_string())
    }
}

/// What was said of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// When each was said last.
    at: [Option<Instant>; 4],
    /// What was said last, until a connection is let in.
    now: Option<usize>,
    /// How many were refused that nothing was said of.
    unsaid: u64,
}

impl Refusals {
    /// A connection is let in.
    pub(super) fn note_none(&self) {
        if let Some(refused) = self.said().ends() {
            tracing::info!(
                refused,
                "a connection has its PROXY protocol header, after others were refused"
            );
        }
    }

    /// A connection from `peer` is refused.
    pub(super) fn note(&self, refusal: &Refusal, peer: Peer) {
        let Some((kind, fix)) = refusal.fix() else { return };
        let Some(before) = self.said().is_news(kind, Instant::now()) else {
            return;
        };
        let peer = peer.ip.map(tracing::field::display);
        tracing::warn!(peer, before, why = %refusal, fix, "a connection is refused, and so is every one like it");
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// Counts a refusal; if it is to be said, says how many were not. What is kept back is news still, later.
    fn is_news(&mut self, kind: usize, now: Instant) -> Option<u64> {
        let is_old = self.now == Some(kind) || self.at[kind].is_some_and(|at| now - at < QUIET);
        if is_old {
            self.unsaid += 1;
            return None;
        }
        self.now = Some(kind);
        self.at[kind] = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// The refusals have an end; if they were said, says how many were not.
    fn ends(&mut self) -> Option<u64> {
        self.now.take()?;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once_and_nothing_oftener_than_once_a_minute() {
        let (mut said, start) = (Said::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(said.ends(), None);
        assert_eq!(said.is_news(1, at(0)), Some(0));
        assert_eq!(said.is_news(1, at(1)), None);
        assert_eq!(said.is_news(1, at(1000)), None, "nothing has changed");
        assert_eq!(said.is_news(0, at(1001)), Some(2));
        assert_eq!(said.is_news(1, at(1002)), Some(0));
        assert_eq!(said.ends(), Some(0));
        assert_eq!(said.ends(), None);
        assert_eq!(said.is_news(1, at(1003)), None, "it was said a second ago");
        assert_eq!(said.is_news(1, at(1062)), Some(1), "and goes on");
    }
}
