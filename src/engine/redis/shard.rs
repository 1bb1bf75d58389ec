//! One Redis that keeps logs: the connections to it, and the tasks that live as long as it is where it is.

use std::sync::Arc;

use redis::{RedisError, ServerError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Shared;
use super::feed::{self, Feed};
use super::link::{Link, Place};
use super::replicated::Replicated;
use super::told::Told;
use super::tops;
use super::trouble::Trouble;
use super::troubles::Troubles;

/// A primary at an address.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) place: Place,
    /// Publications go out on a connection of their own, so that no long answer to a reader holds them up.
    pub(super) publishing: Link,
    /// Those that replicas must have go out on connections of their own, which wait for that.
    pub(super) replicated: Replicated,
    pub(super) reading: Link,
    pub(super) feed: Feed,
    /// Why publishing or reading does not come about.
    pub(super) troubles: Arc<Troubles>,
    /// Why replicas cannot be waited for.
    waiting_troubles: Arc<Troubles>,
    /// Why it refused to answer.
    refusals: Told,
    /// There is a reason to compare tops now.
    pub(super) compare_now: Notify,
}

impl Shard {
    /// Connects from now on, by tasks that end with `tasks`. Hints are told to those whom the map leads here.
    pub(super) fn start(shared: &Arc<Shared>, place: Place, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let home = Arc::new(Self {
            place,
            publishing: Link::new(),
            replicated: Replicated::default(),
            reading: Link::new(),
            feed: Feed::new(),
            troubles: Arc::default(),
            waiting_troubles: Arc::default(),
            refusals: Told::default(),
            compare_now: Notify::new(),
        });
        let links: [fn(&Self) -> &Link; 2] = [|home| &home.publishing, |home| &home.reading];
        for link in links {
            let (keeper, shared) = (Arc::clone(&home), Arc::clone(shared));
            tasks.spawn(async move {
                let scripts = shared.scripts.all();
                link(&keeper).keep(&keeper, &scripts, &shared.look_again).await;
            });
        }
        tasks.spawn(feed::run(Arc::clone(shared), Arc::clone(&home)));
        tasks.spawn(tops::run(Arc::clone(shared), Arc::clone(&home)));
        home
    }

    /// A connection came about.
    pub(super) fn end_trouble(&self) {
        // Where the other one does not come about, that is still the matter.
        if self.publishing.is_up() && self.reading.is_up() {
            self.troubles.are_over();
        }
    }

    /// A connection did not come about: says why, but not for each of many.
    pub(super) fn tell_trouble(&self, error: &RedisError) {
        let place = self.place.clone();
        self.troubles.note(error, self.place.info(), move |trouble| {
            let fix = trouble.fix();
            tracing::warn!(redis = %place, error = %trouble, fix, "Redis cannot be used; trying on");
        });
    }

    /// A connection did not come about on which replicas are waited for: the others may be well.
    /// Where they are not, it is said of them.
    pub(super) fn tell_trouble_with_waiting(&self, error: &RedisError) {
        let place = self.place.clone();
        if !self.publishing.is_up() {
            tracing::debug!(redis = %place, error = %Trouble::of(error), "replicas cannot be waited for");
            return;
        }
        self.waiting_troubles.note(error, self.place.info(), move |trouble| {
            let fix = trouble.fix();
            tracing::warn!(
                redis = %place,
                error = %trouble,
                fix,
                "no connection for publications that replicas must have (ack = \"replicated\"), so they are refused; \
                 trying on"
            );
        });
    }

    /// It refused what it was asked: says so, but not for each of many.
    pub(super) fn tell_refusal(&self, error: &ServerError) {
        let redis = &self.place;
        // What Redis says of a key may have a channel's name in it: told is its word for it, or ours.
        tracing::debug!(%redis, ?error, "a call was refused");
        let trouble = Trouble::of_refusal(error);
        let is_of_command = if let Trouble::Denied(why) = &trouble {
            why.contains(" to run ")
        } else {
            matches!(trouble, Trouble::Unknown(_) | Trouble::InCluster)
        };
        let why = if is_of_command {
            trouble.to_string()
        } else {
            error.code().to_owned()
        };
        if self.refusals.is_news(&why) {
            tracing::warn!(
                %redis,
                code = error.code(),
                error = why,
                "Redis refuses what this node asks; `throughline check --connect` says what it needs"
            );
        }
    }

    /// Whether everything that it is needed for can be done.
    pub(super) fn is_up(&self) -> bool {
        self.publishing.is_up() && self.reading.is_up() && self.feed.is_up()
    }
}
