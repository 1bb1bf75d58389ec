//! One client as the limits see it: whose buckets it draws from.

use std::net::IpAddr;
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
        }
    }

    /// The same client, once it is known who it is.
    #[must_use]
    pub fn identified(mut self, user: Option<Arc<str>>, api_key: Option<Arc<str>>) -> Self {
        if let Some(guest) = &mut self.guest {
            let guest = Arc::make_mut(guest);
            guest.user = user;
            guest.api_key = api_key;
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
        Ok(Seat(Some(Box::new(Limited {
            place,
            commands: guest.limits.command_bucket(),
            refused_in_a_row: 0,
        }))))
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
    commands: Option<Bucket>,
    refused_in_a_row: u8,
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
    fn admit(&self, publish_to: Option<&ChannelName>) -> Result<(), Problem> {
        let guest = &self.place.guest;
        let limits = &guest.limits;
        if let Some(commands) = &self.commands {
            limits.command(commands)?;
        }
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
    use super::*;

    #[test]
    fn a_connection_that_is_limited_costs_little_more() {
        // Its own box, and what it shares with nobody once its request is answered; the counts of an `Arc` come to it.
        let bytes = size_of::<Limited>() + size_of::<Guest>() + 2 * size_of::<usize>();
        assert!(bytes <= 150, "{bytes}");
        assert_eq!(size_of::<Seat>(), size_of::<usize>());
    }
}
