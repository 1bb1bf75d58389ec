//! The limits that hold now: replaced as a whole, while what was drawn stays in the [`Table`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Arrival;
use super::clock::Ticks;
use super::limit::Limit;
use super::network::Network;
use super::rate::KeyedRate;
use super::settings::{NamespaceRates, Rate, RateSettings};
use super::table::{Key, Table};
use super::visitor::Guest;
use crate::delivery::ChannelName;

/// A limit on one client, and the wider one on the network around it.
#[derive(Debug)]
pub(super) struct Tiers {
    client: Option<KeyedRate>,
    site: Option<KeyedRate>,
}

/// The limits on publications in a namespace.
#[derive(Debug)]
struct NamespaceLimits {
    channels: Option<KeyedRate>,
    users: Option<KeyedRate>,
}

/// Settings, and the limits that are made from them.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) settings: RateSettings,
    /// Counts how often the rate of sessions' commands has changed.
    pub(super) commands_generation: u16,
    connections: Tiers,
    polls: Tiers,
    pub(super) publications: Tiers,
    users: Option<KeyedRate>,
    pub(super) api_keys: Option<KeyedRate>,
    /// Of namespaces that are not among the named ones.
    rest: NamespaceLimits,
    namespaces: HashMap<Box<str>, NamespaceLimits>,
}

impl Rules {
    /// To be made while `ticks` stand: a limiter counts from the moment in which it is made.
    pub(super) fn new(settings: RateSettings, table: &Arc<Table>, ticks: &Ticks) -> Self {
        let keyed = |limit, rate| KeyedRate::new(limit, rate, table, ticks);
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
        Self {
            connections: tiers(Limit::IpConnections, Limit::SiteConnections, settings.ip_connections),
            polls: tiers(Limit::IpPolls, Limit::SitePolls, settings.ip_polls),
            publications: tiers(Limit::IpPublish, Limit::SitePublish, settings.ip_publications),
            users: keyed(Limit::UserPublish, settings.user_publications),
            api_keys: keyed(Limit::KeyPublish, settings.key_publications),
            rest: of_namespace(settings.namespaces.get("*").copied().unwrap_or(of_all)),
            namespaces: named
                .map(|(name, rates)| (name.clone(), of_namespace(*rates)))
                .collect(),
            settings,
            commands_generation: 0,
        }
    }

    pub(super) fn is_allowed(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.settings.allow.iter().any(|network| network.contains(&address))
    }

    pub(super) fn arrivals(&self, arrival: Arrival) -> &Tiers {
        match arrival {
            Arrival::Connection => &self.connections,
            Arrival::Poll => &self.polls,
        }
    }

    /// The buckets that a publication draws from by who publishes, and where.
    pub(super) fn by_name<'a>(
        &'a self,
        guest: Guest<'_>,
        channel: &ChannelName,
        table: &'a Table,
    ) -> impl Iterator<Item = (&'a KeyedRate, Key)> + use<'a> {
        let namespace = channel.namespace();
        let of_namespace = self.namespaces.get(namespace).unwrap_or(&self.rest);
        let (user, everywhere) = (guest.caller.user, None);
        let by_name = [
            (&self.users, user, everywhere),
            (&self.api_keys, guest.caller.api_key, everywhere),
            (&of_namespace.channels, Some(channel.as_str()), everywhere),
            (&of_namespace.users, user, Some(namespace)),
        ];
        let keyed = |(rate, name, place): (&'a Option<KeyedRate>, Option<&str>, Option<&str>)| {
            let (rate, name) = (rate.as_ref()?, name?);
            Some((rate, table.key((rate.limit(), name, place))))
        };
        by_name.map(keyed).into_iter().flatten()
    }
}

impl Tiers {
    /// The buckets of a client's network, and of the one around it.
    pub(super) fn of<'a>(
        &'a self,
        guest: Guest<'_>,
        table: &'a Table,
    ) -> impl Iterator<Item = (&'a KeyedRate, Key)> + use<'a> {
        let client = guest.network;
        let tiers = [(&self.client, client), (&self.site, client.and_then(Network::site))];
        tiers
            .into_iter()
            .filter_map(|(rate, network)| Some((rate.as_ref()?, network?)))
            .map(|(rate, network)| (rate, table.key((rate.limit(), network))))
    }
}
