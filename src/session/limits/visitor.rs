//! One request's client as the limits see it: whose buckets it draws from.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::network::Network;
use super::seat::Seat;
use super::standing::Tally;
use super::{Arrival, RateLimits};
use crate::delivery::ChannelName;
use crate::protocol::Problem;

/// Who asks, and how the limits stand that the answer has to do with. Cheap to clone; the default has no limits.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    limited: Option<Arc<Limited>>,
    tally: Arc<Mutex<Tally>>,
    has_arrived: Arc<AtomicBool>,
}

/// A client that is limited.
#[derive(Debug, Clone)]
struct Limited {
    limits: Arc<RateLimits>,
    /// `None` where nobody said from where it comes.
    network: Option<Network>,
    user: Option<Arc<str>>,
    api_key: Option<Arc<str>>,
}

/// Who somebody is, where users and API keys are told apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// The user, if it is one.
    pub user: Option<&'a str>,
    /// The name of the API key, if it is one.
    pub api_key: Option<&'a str>,
}

/// From whose buckets something draws.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guest<'a> {
    pub(super) network: Option<Network>,
    pub(super) caller: Caller<'a>,
}

impl Limited {
    fn guest(&self) -> Guest<'_> {
        let caller = Caller {
            user: self.user.as_deref(),
            api_key: self.api_key.as_deref(),
        };
        Guest {
            network: self.network,
            caller,
        }
    }
}

impl Visitor {
    /// A client that `limits` govern.
    pub fn new(limits: Arc<RateLimits>, address: Option<IpAddr>) -> Self {
        let limited = Limited {
            limits,
            network: address.map(Network::client),
            user: None,
            api_key: None,
        };
        Self {
            limited: Some(Arc::new(limited)),
            tally: Arc::default(),
            has_arrived: Arc::default(),
        }
    }

    /// The same client, once it is known who it is.
    #[must_use]
    pub fn identified(mut self, caller: Caller<'_>) -> Self {
        if let Some(limited) = &mut self.limited {
            let limited = Arc::make_mut(limited);
            limited.user = caller.user.map(Arc::from);
            limited.api_key = caller.api_key.map(Arc::from);
        }
        self
    }

    /// Admits a new connection or a poll, for as long as what is returned is kept.
    ///
    /// # Errors
    /// `rate_limited` or `too_many_connections`.
    pub fn arrive(&self, arrival: Arrival) -> Result<Seat, Problem> {
        let Some(limited) = &self.limited else {
            return Ok(Seat::default());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let place = limited.limits.enter(limited.network, &mut tally)?;
        limited.limits.admit(limited.guest(), arrival, &mut tally)?;
        self.has_arrived.store(true, Ordering::Relaxed);
        Ok(Seat::at(place))
    }

    /// Admits a request that makes the app be asked who this is: as a poll, unless it was admitted as what it is.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn may_ask(&self) -> Result<(), Problem> {
        let Some(limited) = &self.limited else {
            return Ok(());
        };
        if self.has_arrived.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        limited.limits.admit(limited.guest(), Arrival::Poll, &mut tally)
    }

    /// Admits one publication.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn publish(&self, channel: &ChannelName) -> Result<(), Problem> {
        let Some(limited) = &self.limited else {
            return Ok(());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        limited.limits.publish(limited.guest(), channel, &mut tally)
    }

    /// Whether one more publication would be admitted from where this comes, whatever it says.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn may_publish(&self) -> Result<(), Problem> {
        let Some(limited) = &self.limited else {
            return Ok(());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        limited.limits.may_publish(limited.guest(), &mut tally)
    }

    /// Admits a request that is no publication, as if it were one from the same address.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn request(&self) -> Result<(), Problem> {
        let Some(limited) = &self.limited else {
            return Ok(());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        limited.limits.request(limited.guest(), &mut tally)
    }

    /// The same by who it is, once that is known.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn keyed_request(&self) -> Result<(), Problem> {
        let Some(limited) = &self.limited else {
            return Ok(());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        limited.limits.keyed_request(limited.guest(), &mut tally)
    }

    /// Counts a request to publish that will never be one, for what it shows or what it says, as if it were one: what
    /// costs nothing can be tried without end. What may be repeated is nobody's fault, and free.
    pub fn note_refused(&self, problem: &Problem) {
        if problem.retry_ms.is_none() {
            // If there is nothing left to draw, the next request hears of it.
            drop(self.request());
        }
    }

    /// The values of `RateLimit-Policy` and `RateLimit` for what was asked so far.
    pub fn fields(&self) -> Option<(String, String)> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).fields()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Hits, Limit, Outcome, Rate, RateSettings};
    use super::*;
    use crate::metrics::Metrics;

    /// A node on which a user may publish twice and a key three times, by a clock that stands still.
    fn limits() -> Arc<RateLimits> {
        let settings = RateSettings {
            user_publications: Rate::new(1, 2),
            key_publications: Rate::new(1, 3),
            ip_open_connections_max: 1,
            ..RateSettings::default()
        };
        Arc::new(RateLimits::new(settings, Arc::new(|| Duration::ZERO), &Metrics::new()))
    }

    fn from(limits: &Arc<RateLimits>, last: u8) -> Visitor {
        Visitor::new(Arc::clone(limits), Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn a_user_and_a_key_are_the_same_wherever_they_come_from() {
        let (limits, channel) = (limits(), ChannelName::parse("a").unwrap());
        let admitted = |user: Option<&str>, key: Option<&str>| {
            let each = (0..5).filter(|last| {
                let visitor = from(&limits, *last).identified(Caller { user, api_key: key });
                visitor.publish(&channel).is_ok()
            });
            each.count()
        };
        assert_eq!(admitted(Some("ada"), None), 2);
        assert_eq!(admitted(Some("bob"), None), 2);
        assert_eq!(admitted(None, Some("ada")), 3);
        assert_eq!(admitted(None, None), 5);
        let hits: &Hits = limits.hits();
        assert_eq!(hits.of(Limit::UserPublish, Outcome::Refused), 6);
        assert_eq!(hits.of(Limit::KeyPublish, Outcome::Refused), 2);
    }
}
