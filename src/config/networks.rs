//! Networks in CIDR notation; an address alone is a network of one.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error};

/// A list of them.
pub(super) fn several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| network(text)).collect()
}

/// A list of them that may be left out.
pub(super) fn several_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<IpNet>>, D::Error> {
    several(from).map(Some)
}

fn network<E: Error>(text: &str) -> Result<IpNet, E> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| {
        E::custom(format!(
            "{text:?} is no network; write it like 10.0.0.0/8 or 2001:db8::/32, or an address"
        ))
    })
}
