//! One client as the limits see it: whose buckets it draws from.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::network::Network;
use super::rate::Bucket;
use super::standing::Tally;
use super::{Arrival, RateLimits};
use crate::delivery::ChannelName;
use crate::protocol::Problem;

/// Who asks, and how the limits stand that the answer has to do with. Cheap to clone; the default has no limits.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    guest: Option<Arc<Guest>>,
    tally: Arc<Mutex<Tally>>,
    has_arrived: Arc<AtomicBool>,
}

/// A client that is limited.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) limits: Arc<RateLimits>,
    /// `None` where nobody said from where it comes.
    pub(super) network: Option<Network>,
    pub(super) user: Option<Arc<str>>,
    pub(super) api_key: Option<Arc<str>>,
}

impl Guest {
    fn identify(&mut self, user: Option<Arc<str>>, api_key: Option<Arc<str>>) {
        self.user = user;
        self.api_key = api_key;
    }
}

impl Visitor {
    /// A client that `limits` govern.
    pub fn new(limits: Arc<RateLimits>, address: Option<IpAddr>) -> Self {
        let guest = Guest {
            limits,
            network: address.map(Network::client),
            user: None,
            api_key: None,
        };
        Self {
            guest: Some(Arc::new(guest)),
            tally: Arc::default(),
            has_arrived: Arc::default(),
        }
    }

    /// The same client, once it is known who it is.
    #[must_use]
    pub fn identified(mut self, user: Option<Arc<str>>, api_key: Option<Arc<str>>) -> Self {
        if let Some(guest) = &mut self.guest {
            Arc::make_mut(guest).identify(user, api_key);
        }
        self
    }

    /// Admits a new connection or a poll, for as long as what is returned is kept.
    ///
    /// # Errors
    /// `rate_limited` or `too_many_connections`.
    pub fn arrive(&self, arrival: Arrival) -> Result<Seat, Problem> {
        let Some(guest) = &self.guest else {
            return Ok(Seat::default());
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let place = guest.limits.enter(guest, &mut tally)?;
        guest.limits.admit(guest, arrival, &mut tally)?;
        self.has_arrived.store(true, Ordering::Relaxed);
        Ok(Seat(Some(Box::new(Limited {
            place,
            commands: None,
            refused_in_a_row: 0,
        }))))
    }

    /// Admits a request that makes the app be asked who this is: as a poll, unless it was admitted as what it is.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn may_ask(&self) -> Result<(), Problem> {
        let Some(guest) = &self.guest else { return Ok(()) };
        if self.has_arrived.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        guest.limits.admit(guest, Arrival::Poll, &mut tally)
    }

    /// Admits one publication.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn publish(&self, channel: &ChannelName) -> Result<(), Problem> {
        let Some(guest) = &self.guest else { return Ok(()) };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        guest.limits.publish(guest, channel, &mut tally)
    }

    /// Whether one more publication would be admitted from where this comes, whatever it says.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn may_publish(&self) -> Result<(), Problem> {
        let Some(guest) = &self.guest else { return Ok(()) };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        guest.limits.may_publish(guest, &mut tally)
    }

    /// Admits a request that is no publication, as if it were one from the same address.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn request(&self) -> Result<(), Problem> {
        let Some(guest) = &self.guest else { return Ok(()) };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        guest.limits.request(guest, &mut tally)
    }

    /// The same by who it is, once that is known.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn keyed_request(&self) -> Result<(), Problem> {
        let Some(guest) = &self.guest else { return Ok(()) };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        guest.limits.keyed_request(guest, &mut tally)
    }

    /// The values of `RateLimit-Policy` and `RateLimit` for what was asked so far.
    pub fn fields(&self) -> Option<(String, String)> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).fields()
    }
}

/// A session's share of the limits: its place among the open connections, and its commands. Dropping it leaves.
/// The default has no limits.
#[derive(Debug, Default)]
pub struct Seat(Option<Box<Limited>>);

#[derive(Debug)]
struct Limited {
    place: Place,
    /// From its first command on: most sessions never send one.
    commands: Option<Box<Commands>>,
    refused_in_a_row: u8,
}

/// A session's own bucket for its commands.
#[derive(Debug)]
pub(super) struct Commands {
    /// `None` where there is no limit.
    pub(super) bucket: Option<Bucket>,
    /// Of which of all rates that is.
    pub(super) generation: u16,
}

/// Why a command may not be carried out.
#[derive(Debug)]
pub enum Over {
    /// Not now.
    Refused(Problem),
    /// Not now, and neither might those before it: this must end.
    Enough(Problem),
}

impl Seat {
    /// Commands in a row that a limit refused, after which the session is ended.
    pub const REFUSED_MAX: u8 = 64;

    /// The same place, once it is known whose it is: a client arrives before its token is read.
    #[must_use]
    pub fn identified(mut self, user: Option<Arc<str>>, api_key: Option<Arc<str>>) -> Self {
        if let Some(limited) = &mut self.0 {
            Arc::make_mut(&mut limited.place.guest).identify(user, api_key);
        }
        self
    }

    /// Admits one command; for a publication, `publish_to` says where it goes.
    ///
    /// # Errors
    /// `rate_limited`, and whether that has gone on for long enough.
    pub fn command(&mut self, publish_to: Option<&ChannelName>) -> Result<(), Over> {
        let Some(limited) = &mut self.0 else {
            return Ok(());
        };
        let Err(problem) = limited.admit(publish_to) else {
            limited.refused_in_a_row = 0;
            return Ok(());
        };
        limited.refused_in_a_row = limited.refused_in_a_row.saturating_add(1);
        Err(if limited.refused_in_a_row >= Self::REFUSED_MAX {
            Over::Enough(problem)
        } else {
            Over::Refused(problem)
        })
    }
}

impl Limited {
    fn admit(&mut self, publish_to: Option<&ChannelName>) -> Result<(), Problem> {
        let guest = &self.place.guest;
        let limits = &guest.limits;
        limits.command(&mut self.commands)?;
        match publish_to {
            Some(channel) => limits.publish(guest, channel, &mut Tally::default()),
            None => Ok(()),
        }
    }
}

/// A place among the open connections of an address, and of the network around it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) guest: Arc<Guest>,
    pub(super) holds: Holds,
}

/// What is counted for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    Client,
    ClientAndSite,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.guest.network else { return };
        if self.holds != Holds::Nothing {
            self.guest.limits.open().leave(network);
        }
        if self.holds == Holds::ClientAndSite
            && let Some(site) = network.site()
        {
            self.guest.limits.open().leave(site);
        }
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
                let visitor = from(&limits, *last).identified(user.map(Arc::from), key.map(Arc::from));
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

    #[test]
    fn a_session_that_is_identified_keeps_its_place_and_draws_from_its_users_bucket() {
        let (limits, channel) = (limits(), ChannelName::parse("a").unwrap());
        let seat = from(&limits, 1).arrive(Arrival::Connection).unwrap();
        let mut seat = seat.identified(Some(Arc::from("ada")), None);
        assert!(from(&limits, 1).arrive(Arrival::Connection).is_err());
        let outcomes = [(); 3].map(|()| seat.command(Some(&channel)).is_ok());
        assert_eq!(outcomes, [true, true, false]);
        drop(seat);
        assert!(from(&limits, 1).arrive(Arrival::Poll).is_ok());
    }

    #[test]
    fn a_connection_that_is_limited_costs_little_more() {
        // Its own box, and what it shares with nobody once its request is answered; the counts of an `Arc` come to it.
        let bytes = size_of::<Limited>() + size_of::<Guest>() + 2 * size_of::<usize>();
        assert!(bytes <= 104, "{bytes}");
        assert_eq!(size_of::<Seat>(), size_of::<usize>());
    }
}
