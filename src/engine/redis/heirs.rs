//! Where nodes have sessions: a set of channels for each node, and a lease for each node that has any, all in one place,
//! so that whoever is left finds what a node had that crashed.

use std::str;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::keys::Keys;
use super::presence::{RedisPresence, read_reported, unreadable};
use crate::delivery::{ChannelName, Claim, EngineError, Heirs, Known, Places, Report, Settled};

/// For how many leases a channel is left to whoever has taken it over: the last lease on it ends within one.
const CLAIM_LEASES: u32 = 2;

impl RedisPresence {
    /// The keys of all nodes together: beside those of the channel on which they tell each other where something changed.
    fn shared_keys(&self) -> Keys {
        self.engine.shared.keys(&ChannelName::presence())
    }
}

impl Heirs for RedisPresence {
    fn say<'a>(&'a self, places: &'a Places) -> BoxFuture<'a, Result<Known, EngineError>> {
        async move {
            let scripts = &self.engine.shared.scripts;
            let call = scripts.places(&self.shared_keys(), &self.node, self.lease, places);
            let answer = self
                .call(&ChannelName::presence(), |home| &home.publishing, &call)
                .await?;
            let mut words = answer.into_iter().map(String::from_utf8);
            let is_known = words.next().ok_or_else(unreadable)?.is_ok_and(|word| word == "known");
            Ok(Known {
                is_known,
                ended: words.collect::<Result<_, _>>().map_err(|_| unreadable())?,
            })
        }
        .boxed()
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Vec<ChannelName>, EngineError>> {
        async move {
            let scripts = &self.engine.shared.scripts;
            let call = scripts.claim(&self.shared_keys(), self.lease * CLAIM_LEASES, claim);
            let answer = self
                .call(&ChannelName::presence(), |home| &home.publishing, &call)
                .await?;
            let channel = |name: Vec<u8>| ChannelName::parse(str::from_utf8(&name).ok()?).ok();
            answer
                .into_iter()
                .map(channel)
                .collect::<Option<_>>()
                .ok_or_else(unreadable)
        }
        .boxed()
    }

    fn settle<'a>(&'a self, channel: &'a ChannelName) -> BoxFuture<'a, Result<Settled, EngineError>> {
        async move {
            let shared = &self.engine.shared;
            let call = shared
                .scripts
                .report(&shared.keys(channel), "", self.lease, &Report::default());
            let mut answer = self.call(channel, |home| &home.publishing, &call).await?;
            let mut lease_ms = None;
            if let [.., word, lease] = &answer[..]
                && word == b"lease"
            {
                let lease = str::from_utf8(lease).ok().and_then(|lease| lease.parse().ok());
                lease_ms = Some(lease.ok_or_else(unreadable)?);
                answer.truncate(answer.len() - 2);
            }
            let reported = read_reported(&answer).ok_or_else(unreadable)?;
            Ok(Settled {
                events: reported.events,
                lease_ms,
            })
        }
        .boxed()
    }
}
