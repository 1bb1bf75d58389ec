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
mod rules;
mod seat;
mod settings;
mod standing;
mod table;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

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
use rules::Rules;
use seat::{Commands, Holds, Place};
pub use seat::{Over, Seat};
pub use settings::{NamespaceRates, Rate, RateSettings};
use standing::{Allowance, Standing, Tally};
pub use table::KEYS_MAX;
use table::{Key, Table};
use visitor::Guest;
pub use visitor::{Caller, Visitor};

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

/// The rate limits of one node.
#[derive(Debug)]
pub struct RateLimits {
    rules: ArcSwap<Rules>,
    ticks: Ticks,
    table: Arc<Table>,
    open: Open,
    hits: Hits,
}

impl RateLimits {
    /// Limits that nobody has drawn from yet; `metrics` counts what hits them.
    pub fn new(settings: RateSettings, clock: Clock, metrics: &Metrics) -> Self {
        let ticks = Ticks::standing(clock);
        let table = Arc::new(Table::new(ticks.clone()));
        let rules = Rules::new(settings, &table, &ticks);
        ticks.run();
        Self {
            rules: ArcSwap::from_pointee(rules),
            open: Open::new(),
            hits: Hits::of_node(metrics),
            ticks,
            table,
        }
    }

    /// From now on these hold. Nobody is forgiven by that: what a client has drawn stays drawn, and its bucket is full
    /// again at the moment at which it would have been, but no later than if it were empty now.
    pub fn set(&self, settings: RateSettings) {
        let ticks = self.ticks.standing_again();
        let mut rules = Rules::new(settings, &self.table, &ticks);
        ticks.run_along(&self.ticks);
        let before = self.rules.load();
        let is_other = before.settings.session_commands != rules.settings.session_commands;
        rules.commands_generation = before.commands_generation.wrapping_add(u16::from(is_other));
        self.rules.store(Arc::new(rules));
    }

    /// Whether an address is not limited.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        self.rules.load().is_allowed(address)
    }

    /// How often each limit was hit.
    pub fn hits(&self) -> &Hits {
        &self.hits
    }

    fn open(&self) -> &Open {
        &self.open
    }

    /// Counts an open connection, for as long as what is returned is kept.
    fn enter(self: &Arc<Self>, network: Option<Network>, tally: &mut Tally) -> Result<Place, Problem> {
        let mut place = Place {
            limits: Arc::clone(self),
            network,
            holds: Holds::Nothing,
        };
        let rules = self.rules.load();
        let settings = &rules.settings;
        let max = settings.ip_open_connections_max;
        let Some(network) = network.filter(|_| max > 0) else {
            return Ok(place);
        };
        self.enter_one(settings, network, (Limit::IpOpenConnections, max), tally)?;
        place.holds = Holds::Client;
        if let Some(site) = network.site() {
            let max = max.saturating_mul(settings.site_factor.max(1));
            self.enter_one(settings, site, (Limit::SiteOpenConnections, max), tally)?;
            place.holds = Holds::ClientAndSite;
        }
        Ok(place)
    }

    fn enter_one(
        &self,
        settings: &RateSettings,
        network: Network,
        (limit, max): (Limit, u32),
        tally: &mut Tally,
    ) -> Result<(), Problem> {
        let standing = |remaining| Standing {
            limit,
            allowance: Allowance::Concurrent { quota: max },
            remaining,
        };
        let at_most = if settings.dry_run {
            AtMost::Tell(max)
        } else {
            AtMost::Refuse(max)
        };
        match self.open.enter(network, at_most) {
            Entered::Within(open) => {
                if !settings.dry_run {
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
    fn admit(&self, guest: Guest<'_>, arrival: Arrival, tally: &mut Tally) -> Result<(), Problem> {
        let rules = self.rules.load();
        self.draw(&rules.settings, rules.arrivals(arrival).of(guest, &self.table), tally)
    }

    fn publish(&self, guest: Guest<'_>, channel: &ChannelName, tally: &mut Tally) -> Result<(), Problem> {
        let rules = self.rules.load();
        let by_network = rules.publications.of(guest, &self.table);
        let asked = by_network.chain(rules.by_name(guest, channel, &self.table));
        self.draw(&rules.settings, asked, tally)
    }

    fn may_publish(&self, guest: Guest<'_>, tally: &mut Tally) -> Result<(), Problem> {
        let rules = self.rules.load();
        if rules.settings.dry_run {
            return Ok(());
        }
        self.draw(&rules.settings, rules.publications.of(guest, &self.table), tally)?;
        for (rate, key) in rules.publications.of(guest, &self.table) {
            rate.give_back(&key);
        }
        *tally = Tally::default();
        Ok(())
    }

    fn request(&self, guest: Guest<'_>, tally: &mut Tally) -> Result<(), Problem> {
        let rules = self.rules.load();
        self.draw(&rules.settings, rules.publications.of(guest, &self.table), tally)
    }

    fn keyed_request(&self, guest: Guest<'_>, tally: &mut Tally) -> Result<(), Problem> {
        let rules = self.rules.load();
        let by_key = rules.api_keys.as_ref().zip(guest.caller.api_key);
        let by_key = by_key.map(|(rate, name)| (rate, self.table.key((rate.limit(), name))));
        self.draw(&rules.settings, by_key.into_iter(), tally)
    }

    /// A session's bucket for its commands, which is made when it is first needed.
    fn commands<'a>(&self, known: &'a mut Option<Box<Commands>>) -> &'a mut Commands {
        let rules = self.rules.load();
        // Another rate holds for sessions that are there, too.
        let valid = known
            .take()
            .filter(|known| known.generation == rules.commands_generation);
        known.insert(valid.unwrap_or_else(|| {
            Box::new(Commands {
                bucket: Bucket::of(rules.settings.session_commands, self.ticks.clone()),
                generation: rules.commands_generation,
                refused_in_a_row: 0,
            })
        }))
    }

    /// A command of a session, which has `retry_ms` to wait if there are too many.
    fn command(&self, commands: &Commands) -> Result<(), Problem> {
        let Some(Err(retry_ms)) = commands.bucket.as_ref().map(Bucket::draw) else {
            return Ok(());
        };
        let limit = Limit::SessionCommands;
        if self.rules.load().settings.dry_run {
            self.hits.count(limit, Outcome::PassedDry);
            return Ok(());
        }
        self.hits.count(limit, Outcome::Refused);
        Err(too_fast(limit, retry_ms))
    }

    /// Draws one from every bucket, or from none.
    fn draw<'a>(
        &self,
        settings: &RateSettings,
        asked: impl Iterator<Item = (&'a KeyedRate, Key)>,
        tally: &mut Tally,
    ) -> Result<(), Problem> {
        let mut drawn = Vec::new();
        for (rate, key) in asked {
            match rate.draw(&key) {
                Ok(standing) => drawn.push((rate, key, standing)),
                Err(_) if settings.dry_run => self.hits.count(rate.limit(), Outcome::PassedDry),
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
        if !settings.dry_run {
            for (_, _, standing) in drawn {
                tally.note(standing);
            }
        }
        Ok(())
    }
}

fn too_fast(limit: Limit, retry_ms: u64) -> Problem {
    let detail = format!("{}: too many {}", limit.name(), limit.what());
    Problem::new(Code::RateLimited, detail).retry_after_ms(retry_ms)
}
