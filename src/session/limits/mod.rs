//! How much a client may do: buckets that refill (GCRA), and a number of open connections. Per node.
//!
//! An address draws from the buckets of its own network: IPv4 by address, IPv6 by /64 and, more widely, by /48.
//! What one limit refuses is given back to the others, so a refusal counts nowhere.
//! Nothing here is on the way of a delivery.

mod clock;
mod limit;
mod network;
mod open;
mod rate;
mod settings;
mod standing;
mod table;
mod visitor;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::delivery::ChannelName;
use crate::metrics::Metrics;
use crate::protocol::{Code, Problem};

use clock::Ticks;
pub use clock::{Clock, system_clock};
pub use limit::{Hits, Limit, Outcome};
use network::Network;
use open::{AtMost, Entered, Open};
pub use rate::Bucket;
use rate::KeyedRate;
pub use settings::{NamespaceRates, Rate, RateSettings};
use standing::{Allowance, Standing, Tally};
pub use table::KEYS_MAX;
use table::{Key, Table};
use visitor::{Guest, Holds, Place};
pub use visitor::{Over, Seat, Visitor};

/// When whoever has too many open connections may ask again.
const OPEN_RETRY_MS: u64 = 5_000;

/// What arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A connection that stays: WebSocket or SSE.
    Connection,
    /// One poll of many.
    Poll,
}

/// A limit on one client, and the wider one on the network around it.
#[derive(Debug)]
struct Tiers {
    client: Option<KeyedRate>,
    site: Option<KeyedRate>,
}

/// The limits on publications in a namespace.
#[derive(Debug)]
struct NamespaceLimits {
    channels: Option<KeyedRate>,
    users: Option<KeyedRate>,
}

/// The rate limits of one node.
#[derive(Debug)]
pub struct RateLimits {
    settings: RateSettings,
    ticks: Ticks,
    table: Arc<Table>,
    open: Open,
    hits: Hits,
    connections: Tiers,
    polls: Tiers,
    publications: Tiers,
    users: Option<KeyedRate>,
    api_keys: Option<KeyedRate>,
    /// Of namespaces that are not among the named ones.
    rest: NamespaceLimits,
    namespaces: HashMap<Box<str>, NamespaceLimits>,
}

impl RateLimits {
    /// Limits that nobody has drawn from yet; `metrics` counts what hits them.
    pub fn new(settings: RateSettings, clock: Clock, metrics: &Metrics) -> Self {
        let ticks = Ticks::standing(clock);
        let table = Arc::new(Table::new(ticks.clone()));
        let keyed = |limit, rate| KeyedRate::new(limit, rate, &table, &ticks);
        let tiers = |client, site, rate: Rate| Tiers {
            client: keyed(client, rate),
            site: keyed(site, rate.times(settings.site_factor.max(1))),
        };
        let of_namespace = |rates: NamespaceRates| NamespaceLimits {
            channels: keyed(Limit::ChannelPublish, rates.channel_publications),
            users: keyed(Limit::UserPublish, rates.user_publications),
        };
        let of_all = NamespaceRates {
            channel_publications: settings.channel_publications,
            user_publications: Rate::new(0, 0),
        };
        let named = settings.namespaces.iter().filter(|(name, _)| &***name != "*");
        let limits = Self {
            connections: tiers(Limit::IpConnections, Limit::SiteConnections, settings.ip_connections),
            polls: tiers(Limit::IpPolls, Limit::SitePolls, settings.ip_polls),
            publications: tiers(Limit::IpPublish, Limit::SitePublish, settings.ip_publications),
            users: keyed(Limit::UserPublish, settings.user_publications),
            api_keys: keyed(Limit::KeyPublish, settings.key_publications),
            rest: of_namespace(settings.namespaces.get("*").copied().unwrap_or(of_all)),
            namespaces: named
                .map(|(name, rates)| (name.clone(), of_namespace(*rates)))
                .collect(),
            open: Open::new(),
            hits: Hits::of_node(metrics),
            ticks: ticks.clone(),
            table,
            settings,
        };
        ticks.run();
        limits
    }

    /// Whether an address is not limited.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.settings.allow.iter().any(|network| network.contains(&address))
    }

    /// How often each limit was hit.
    pub fn hits(&self) -> &Hits {
        &self.hits
    }

    fn open(&self) -> &Open {
        &self.open
    }

    fn command_bucket(&self) -> Option<Bucket> {
        Bucket::of(self.settings.session_commands, self.ticks.clone())
    }

    /// Counts an open connection, for as long as what is returned is kept.
    fn enter(&self, guest: &Arc<Guest>, tally: &mut Tally) -> Result<Place, Problem> {
        let mut place = Place {
            guest: Arc::clone(guest),
            holds: Holds::Nothing,
        };
        let max = self.settings.ip_open_connections_max;
        let Some(network) = guest.network.filter(|_| max > 0) else {
            return Ok(place);
        };
        self.enter_one(network, (Limit::IpOpenConnections, max), tally)?;
        place.holds = Holds::Client;
        if let Some(site) = network.site() {
            let max = max.saturating_mul(self.settings.site_factor.max(1));
            self.enter_one(site, (Limit::SiteOpenConnections, max), tally)?;
            place.holds = Holds::ClientAndSite;
        }
        Ok(place)
    }

    fn enter_one(&self, network: Network, (limit, max): (Limit, u32), tally: &mut Tally) -> Result<(), Problem> {
        let standing = |remaining| Standing {
            limit,
            allowance: Allowance::Concurrent { quota: max },
            remaining,
        };
        let at_most = if self.settings.dry_run {
            AtMost::Tell(max)
        } else {
            AtMost::Refuse(max)
        };
        match self.open.enter(network, at_most) {
            Entered::Within(open) => {
                if !self.settings.dry_run {
                    tally.note(standing(max - open));
                }
                Ok(())
            }
            Entered::Beyond => {
                self.hits.count(limit, Outcome::PassedDry);
                Ok(())
            }
            Entered::Refused => {
                self.hits.count(limit, Outcome::Refused);
                tally.note(standing(0));
                let detail = format!(
                    "{}: there are {max}, the most that there may be ({}); close one, or come back",
                    limit.name(),
                    limit.what()
                );
                Err(Problem::new(Code::TooManyConnections, detail).retry_after_ms(OPEN_RETRY_MS))
            }
        }
    }

    /// Admits what arrives at the rate at which it may.
    fn admit(&self, guest: &Guest, arrival: Arrival, tally: &mut Tally) -> Result<(), Problem> {
        let tiers = match arrival {
            Arrival::Connection => &self.connections,
            Arrival::Poll => &self.polls,
        };
        self.draw(self.by_network(tiers, guest), tally)
    }

    fn publish(&self, guest: &Guest, channel: &ChannelName, tally: &mut Tally) -> Result<(), Problem> {
        let namespace = channel.namespace();
        let of_namespace = self.namespaces.get(namespace).unwrap_or(&self.rest);
        let (user, everywhere) = (guest.user.as_deref(), None);
        let by_name = [
            (&self.users, user, everywhere),
            (&self.api_keys, guest.api_key.as_deref(), everywhere),
            (&of_namespace.channels, Some(channel.as_str()), everywhere),
            (&of_namespace.users, user, Some(namespace)),
        ];
        let by_name = by_name
            .into_iter()
            .filter_map(|(rate, name, place)| Some((rate.as_ref()?, name?, place)))
            .map(|(rate, name, place)| (rate, self.table.key((rate.limit(), name, place))));
        self.draw(self.by_network(&self.publications, guest).chain(by_name), tally)
    }

    fn may_publish(&self, guest: &Guest, tally: &mut Tally) -> Result<(), Problem> {
        if self.settings.dry_run {
            return Ok(());
        }
        self.draw(self.by_network(&self.publications, guest), tally)?;
        for (rate, key) in self.by_network(&self.publications, guest) {
            rate.give_back(&key);
        }
        *tally = Tally::default();
        Ok(())
    }

    fn request(&self, guest: &Guest, tally: &mut Tally) -> Result<(), Problem> {
        self.draw(self.by_network(&self.publications, guest), tally)
    }

    fn keyed_request(&self, guest: &Guest, tally: &mut Tally) -> Result<(), Problem> {
        let by_key = self.api_keys.as_ref().zip(guest.api_key.as_deref());
        let by_key = by_key.map(|(rate, name)| (rate, self.table.key((rate.limit(), name))));
        self.draw(by_key.into_iter(), tally)
    }

    /// A command of a session, which has `retry_ms` to wait if there are too many.
    fn command(&self, commands: &Bucket) -> Result<(), Problem> {
        let Err(retry_ms) = commands.draw() else { return Ok(()) };
        let limit = Limit::SessionCommands;
        if self.settings.dry_run {
            self.hits.count(limit, Outcome::PassedDry);
            return Ok(());
        }
        self.hits.count(limit, Outcome::Refused);
        Err(too_fast(limit, retry_ms))
    }

    fn by_network<'a>(
        &'a self,
        tiers: &'a Tiers,
        guest: &Guest,
    ) -> impl Iterator<Item = (&'a KeyedRate, Key)> + use<'a> {
        let client = guest.network;
        let tiers = [(&tiers.client, client), (&tiers.site, client.and_then(Network::site))];
        tiers
            .into_iter()
            .filter_map(|(rate, network)| Some((rate.as_ref()?, network?)))
            .map(|(rate, network)| (rate, self.table.key((rate.limit(), network))))
    }

    /// Draws one from every bucket, or from none.
    fn draw<'a>(&self, asked: impl Iterator<Item = (&'a KeyedRate, Key)>, tally: &mut Tally) -> Result<(), Problem> {
        let mut drawn = Vec::new();
        for (rate, key) in asked {
            match rate.draw(&key) {
                Ok(standing) => drawn.push((rate, key, standing)),
                Err(_) if self.settings.dry_run => self.hits.count(rate.limit(), Outcome::PassedDry),
                Err(over) => {
                    for (rate, key, _) in &drawn {
                        rate.give_back(key);
                    }
                    self.hits.count(rate.limit(), Outcome::Refused);
                    tally.note(over);
                    return Err(too_fast(rate.limit(), over.retry_ms()));
                }
            }
        }
        if !self.settings.dry_run {
            for (_, _, standing) in drawn {
                tally.note(standing);
            }
        }
        Ok(())
    }
}

fn too_fast(limit: Limit, retry_ms: u64) -> Problem {
    let detail = format!("{}: too many {}; wait {retry_ms} ms", limit.name(), limit.what());
    Problem::new(Code::RateLimited, detail).retry_after_ms(retry_ms)
}
