//! What the limits are to a session, for as long as it lives.

use std::sync::Arc;

use super::RateLimits;
use super::network::Network;
use super::rate::Bucket;
use super::standing::Tally;
use super::visitor::{Caller, Guest};
use crate::delivery::ChannelName;
use crate::protocol::Problem;

/// A session's share of the limits: its place among the open connections, and its commands. Dropping it leaves.
/// The default has no limits.
#[derive(Debug, Default)]
pub struct Seat(Option<Box<Limited>>);

/// There is one for each session that is limited, so it is kept small.
#[derive(Debug)]
struct Limited {
    place: Place,
    /// From its first command on: most sessions never send one.
    commands: Option<Box<Commands>>,
}

/// A session's own bucket for its commands.
#[derive(Debug)]
pub(super) struct Commands {
    /// `None` where there is no limit.
    pub(super) bucket: Option<Bucket>,
    /// Of which of all rates that is.
    pub(super) generation: u16,
    pub(super) refused_in_a_row: u8,
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

    /// A place that has just been taken.
    pub(super) fn at(place: Place) -> Self {
        Self(Some(Box::new(Limited { place, commands: None })))
    }

    /// Admits one command of the session's client; for a publication, `publish_to` says where it goes.
    ///
    /// # Errors
    /// `rate_limited`, and whether that has gone on for long enough.
    pub fn command(&mut self, caller: Caller<'_>, publish_to: Option<&ChannelName>) -> Result<(), Over> {
        let Some(limited) = &mut self.0 else {
            return Ok(());
        };
        limited.admit(caller, publish_to)
    }
}

impl Limited {
    fn admit(&mut self, caller: Caller<'_>, publish_to: Option<&ChannelName>) -> Result<(), Over> {
        let Place { limits, network, .. } = &self.place;
        let commands = limits.commands(&mut self.commands);
        let guest = Guest {
            network: *network,
            caller,
        };
        let publish = |channel| limits.publish(guest, channel, &mut Tally::default());
        let admitted = limits
            .command(commands)
            .and_then(|()| publish_to.map_or(Ok(()), publish));
        let Err(problem) = admitted else {
            commands.refused_in_a_row = 0;
            return Ok(());
        };
        commands.refused_in_a_row = commands.refused_in_a_row.saturating_add(1);
        Err(if commands.refused_in_a_row >= Seat::REFUSED_MAX {
            Over::Enough(problem)
        } else {
            Over::Refused(problem)
        })
    }
}

/// A place among the open connections of an address, and of the network around it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) limits: Arc<RateLimits>,
    /// `None` where nobody said from where it comes.
    pub(super) network: Option<Network>,
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
        let Some(network) = self.network else { return };
        if self.holds != Holds::Nothing {
            self.limits.open().leave(network);
        }
        if self.holds == Holds::ClientAndSite
            && let Some(site) = network.site()
        {
            self.limits.open().leave(site);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::super::{Arrival, Rate, RateSettings, Visitor};
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_session_keeps_its_place_and_draws_from_its_users_bucket() {
        let settings = RateSettings {
            user_publications: Rate::new(1, 2),
            ip_open_connections_max: 1,
            ..RateSettings::default()
        };
        let limits = Arc::new(RateLimits::new(settings, Arc::new(|| Duration::ZERO), &Metrics::new()));
        let visitor = || Visitor::new(Arc::clone(&limits), Some(IpAddr::from([192, 0, 2, 1])));
        let channel = ChannelName::parse("a").unwrap();
        let ada = Caller {
            user: Some("ada"),
            api_key: None,
        };
        let mut seat = visitor().arrive(Arrival::Connection).unwrap();
        assert!(visitor().arrive(Arrival::Connection).is_err());
        let outcomes = [(); 3].map(|()| seat.command(ada, Some(&channel)).is_ok());
        assert_eq!(outcomes, [true, true, false]);
        assert!(
            visitor().identified(ada).publish(&channel).is_err(),
            "it is the same bucket"
        );
        assert!(seat.command(Caller::default(), Some(&channel)).is_ok());
        drop(seat);
        assert!(visitor().arrive(Arrival::Poll).is_ok());
    }

    #[test]
    fn a_connection_that_is_limited_costs_little_more() {
        assert!(size_of::<Limited>() <= 32, "{}", size_of::<Limited>());
        assert_eq!(size_of::<Seat>(), size_of::<usize>());
    }
}
