//! Where those go who connect: clients, or operators, who have a place of their own if there is one for them.

use std::sync::Arc;

use super::Settings;
use super::connection::House;
use super::listener::Listener;
use super::places::Places;
use crate::Edge;
use crate::config::Connections;
use crate::edge::{MetricsFor, Operations};

/// How many operators may be connected at once, at a place of their own.
const OPERATORS_MAX: usize = 64;

/// What connections of one kind have in common, and how many there may be of them.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) house: Arc<House>,
    pub(super) places: Places,
}

impl Hall {
    /// For clients, and for operators where they have no place of their own.
    pub(super) fn of_clients(edge: &Edge, settings: &Settings, operations: Operations) -> Self {
        let (site, lobby) = (edge.site(operations), edge.lobby(operations));
        Self {
            house: Arc::new(House::new(site, lobby, &settings.connections, settings.tls.clone())),
            places: Places::new(settings.connections.count_max),
        }
    }

    /// For operators, where this listens: however many clients there are, there is room. On this machine nobody needs a
    /// key or TLS; nobody comes through a proxy that speaks its own protocol.
    pub(super) fn of_operators(edge: &Edge, settings: &Settings, listener: &Listener) -> Self {
        let is_local = listener.address().is_ok_and(|address| address.is_local());
        let metrics = if is_local {
            MetricsFor::Anybody
        } else {
            MetricsFor::Operators
        };
        let connections = Connections {
            proxy_protocol: crate::config::ProxyProtocol::Off,
            proxy_protocol_from: Vec::new(),
            ..settings.connections.clone()
        };
        let tls = settings.tls.clone().filter(|_| !is_local);
        let house = House::new(edge.operations(metrics), edge.operations(metrics), &connections, tls);
        Self {
            house: Arc::new(house),
            places: Places::new(OPERATORS_MAX),
        }
    }
}
