//! Which Redis keeps a channel's log.
//!
//! A [`Map`] says it: a constant one for a Redis alone or several side by side, among which the channels are spread by
//! their names; one that Sentinels (`sentinel`) or the nodes of a Cluster (`cluster`) change.
//! Whatever changes, it is the map that is replaced, as a whole, and a [`Shard`] that begins or ends: nothing else knows
//! where Redis is.

use std::hash::Hasher;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::Shared;
use super::link::Link;
use super::redirect::Manner;
use super::shard::Shard;
use super::slot::{SLOTS, slot_of};
use super::url::Site;
use crate::delivery::{ChannelName, EngineError, EngineErrorKind};

/// Who keeps which channels.
#[derive(Debug, Clone)]
pub(super) struct Map {
    members: Vec<Member>,
    route: Route,
}

/// One of those that keep logs.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// What channels are spread by.
    pub(super) name: Arc<str>,
    pub(super) database: i64,
    /// `None` until it is known where it is.
    pub(super) home: Option<Arc<Shard>>,
}

/// What tells the member that keeps a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The channel's and the members' names.
    Names,
    /// By slot, an index among the members, or [`NOBODY`].
    Slots(Box<[u16]>),
}

/// The slots that no member has.
pub(super) const NOBODY: u16 = u16::MAX;

impl Member {
    /// One of several, which is not found yet.
    pub(super) fn of(site: &Site) -> Self {
        Self {
            name: Arc::clone(&site.name),
            database: site.database,
            home: None,
        }
    }
}

impl Member {
    pub(super) fn is_up(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.is_up())
    }
}

impl Route {
    /// No slot has an owner that is known.
    pub(super) fn nobodys() -> Self {
        Self::Slots(vec![NOBODY; SLOTS].into())
    }

    /// Who has a slot, among the members.
    pub(super) fn owner(&self, slot: usize) -> Option<usize> {
        let Self::Slots(owners) = self else { return None };
        owners
            .get(slot)
            .filter(|owner| **owner != NOBODY)
            .map(|owner| usize::from(*owner))
    }
}

impl Map {
    pub(super) fn new(members: Vec<Member>, route: Route) -> Self {
        Self { members, route }
    }

    /// The same, with another place for one member, or none.
    pub(super) fn with(&self, index: usize, home: Option<Arc<Shard>>) -> Self {
        let mut map = self.clone();
        map.members[index].home = home;
        map
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether the same members keep the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let names = |map: &Self| {
            map.members
                .iter()
                .map(|member| Arc::clone(&member.name))
                .collect::<Vec<_>>()
        };
        self.route == other.route && names(self) == names(other)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.members.iter().filter_map(|member| member.home.as_ref())
    }

    fn member(&self, channel: &ChannelName) -> Option<&Member> {
        match &self.route {
            Route::Names if self.members.len() == 1 => self.members.first(),
            Route::Names => self.members.iter().max_by_key(|member| weight(&member.name, channel)),
            Route::Slots(owners) => self.members.get(usize::from(owners[slot_of(channel)])),
        }
    }

    /// Where a channel's log is, if that is known.
    pub(super) fn shard(&self, channel: &ChannelName) -> Option<&Arc<Shard>> {
        self.member(channel)?.home.as_ref()
    }

    /// The database in which a channel's keys are.
    pub(super) fn database(&self, channel: &ChannelName) -> i64 {
        self.member(channel).map_or(0, |member| member.database)
    }

    fn at(&self, address: &str) -> Option<&Arc<Shard>> {
        self.shards().find(|home| home.place.is_at(address))
    }

    pub(super) fn target(&self, channel: &ChannelName, target: &Target) -> Option<&Arc<Shard>> {
        match target {
            Target::Owner => self.shard(channel),
            Target::At { address, .. } => self.at(address),
        }
    }
}

/// How much a channel is drawn to a member: the one that draws most keeps it (rendezvous hashing). So a member that is
/// added takes its share from all others alike, and nothing else moves.
fn weight(member: &str, channel: &ChannelName) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(member.as_bytes());
    // No name has this byte, so a member's and a channel's cannot be confused.
    hasher.write(&[0]);
    hasher.write(channel.as_str().as_bytes());
    hasher.finish()
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To whom the map says.
    Owner,
    /// To whom another node of the Cluster has said.
    At { address: String, manner: Manner },
}

impl Target {
    pub(super) fn manner(&self) -> Manner {
        match self {
            Self::Owner => Manner::Plain,
            Self::At { manner, .. } => *manner,
        }
    }
}

impl Shared {
    /// The map of now.
    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    /// Where a channel's log is, if that is known.
    pub(super) fn shard(&self, channel: &ChannelName) -> Option<Arc<Shard>> {
        self.map.borrow().shard(channel).cloned()
    }

    pub(super) fn is_on(&self, channel: &ChannelName, home: &Arc<Shard>) -> bool {
        self.map.borrow().shard(channel).is_some_and(|on| Arc::ptr_eq(on, home))
    }

    /// From now on, another map counts. Channels that are kept elsewhere now are heard of there.
    pub(super) fn change_map(&self, change: impl FnOnce(&Map) -> Map) {
        let (mut before, mut map) = (self.map(), self.map());
        self.map.send_modify(|current| {
            map = Arc::new(change(current));
            before = std::mem::replace(current, Arc::clone(&map));
        });
        // After the map, so that whoever begins to want a channel meanwhile either knows the new one or is seen here.
        for channel in self.channels.wanted() {
            let (left, entered) = (before.shard(&channel.name), map.shard(&channel.name));
            if left.map(Arc::as_ptr) == entered.map(Arc::as_ptr) {
                continue;
            }
            channel.is_unheard();
            for home in [left, entered].into_iter().flatten() {
                home.feed.note_change(channel.keys.hints.clone());
            }
        }
    }

    /// A connection to where a channel's log is, for which it waits until `deadline`, wherever that is by then.
    pub(super) async fn connection(
        &self,
        (channel, target): (&ChannelName, &Target),
        link: fn(&Shard) -> &Link,
        deadline: Instant,
    ) -> Result<(Arc<Shard>, MultiplexedConnection), EngineError> {
        let mut map = self.map.subscribe();
        loop {
            let home = map.borrow_and_update().target(channel, target).cloned();
            let connecting = async {
                let Some(home) = &home else {
                    tokio::time::sleep_until(deadline).await;
                    return Err(EngineErrorKind::Unavailable.into());
                };
                link(home).connection(deadline).await
            };
            tokio::select! {
                connected = connecting => {
                    let connection = connected?;
                    let home = home.ok_or(EngineErrorKind::Unavailable)?;
                    return Ok((home, connection));
                }
                Ok(()) = map.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &[&str]) -> Map {
        let member = |name: &&str| Member {
            name: Arc::from(*name),
            database: 0,
            home: None,
        };
        Map::new(names.iter().map(member).collect(), Route::Names)
    }

    #[test]
    fn channels_are_spread_evenly_and_one_more_takes_its_share_and_moves_nothing_else() {
        let (three, four) = (map(&["a", "b", "c"]), map(&["d", "c", "b", "a"]));
        let (mut by_member, mut moved) = (std::collections::HashMap::new(), 0);
        for number in 0..12_000 {
            let channel = ChannelName::parse(&format!("chat:{number}")).unwrap();
            let before = Arc::clone(&three.member(&channel).unwrap().name);
            let after = Arc::clone(&four.member(&channel).unwrap().name);
            if before != after {
                assert_eq!(&*after, "d", "nothing moves between those that were there");
                moved += 1;
            }
            *by_member.entry(before).or_insert(0) += 1;
        }
        assert!(
            by_member.values().all(|count| (3_700..4_300).contains(count)),
            "{by_member:?}"
        );
        assert!((2_700..3_300).contains(&moved), "{moved} of 12,000 moved to the fourth");
    }

    #[test]
    fn where_a_channel_lies_is_the_same_for_every_build() {
        let map = map(&["redis-1:6379/0", "redis-2:6379/0", "redis-3:6379/0"]);
        let owners = ["news", "chat:42", "user:7", "room:1", "a"].map(|name| {
            let channel = ChannelName::parse(name).unwrap();
            map.member(&channel).unwrap().name.chars().nth(6).unwrap()
        });
        assert_eq!(
            owners,
            ['1', '2', '1', '2', '2'],
            "changing this moves the channels of everybody"
        );
    }
}
