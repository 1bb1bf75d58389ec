//! Before a request: whose it is, by its address. After it: how the client stands with the limits.

use std::net::IpAddr;
use std::sync::{Arc, Once};

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;

use super::client_address::{ClientAddress, client_address};
use super::hosts::Hosts;
use super::origins::Origins;
use super::peer::Peer;
use crate::session::limits::{RateLimits, Visitor};

/// `RateLimit-Policy`
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `RateLimit`
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whom to believe, and whose pages may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The proxies whose word on their clients counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The origins whose pages may ask.
    pub origins: Origins,
    /// Under which names it may be asked.
    pub hosts: Hosts,
}

/// What every request passes: who is limited, and the rules, which may change while the server runs.
#[derive(Debug, Default)]
pub struct Door {
    limits: Option<Arc<RateLimits>>,
    rules: ArcSwap<Rules>,
}

impl Door {
    /// A door with these rules; without limits nobody is limited.
    pub fn new(limits: Option<Arc<RateLimits>>, rules: Rules) -> Self {
        Self {
            limits,
            rules: ArcSwap::from_pointee(rules),
        }
    }

    /// The limits, if there are any.
    pub fn limits(&self) -> Option<&Arc<RateLimits>> {
        self.limits.as_ref()
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// From now on these.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Says once that a proxy is probably not in the list, behind which everybody then is one client.
    fn hint(rules: &Rules, client: &ClientAddress, request: &Request) {
        static HINTED: Once = Once::new();
        let is_forwarded = request.headers().contains_key("x-forwarded-for");
        if rules.trusted_proxies.is_empty() && is_forwarded && is_near(client.address) {
            HINTED.call_once(|| {
                tracing::warn!(
                    peer = %client.address,
                    "a request says that it was forwarded, but `trusted_proxies` is empty: all clients behind this peer \
                     count as one; if it is your proxy, name its network there"
                );
            });
        }
    }

    fn visitor(&self, request: &Request) -> Visitor {
        let Some(limits) = &self.limits else {
            return Visitor::default();
        };
        let rules = self.rules();
        let client = request.extensions().get::<ClientAddress>().copied();
        if let Some(client) = &client {
            Self::hint(&rules, client, request);
        }
        match client {
            // A proxy may be on the list for its own sake, not for that of clients that it does not name.
            Some(ClientAddress {
                address,
                is_proxy: false,
            }) if limits.is_allowed(address) => Visitor::default(),
            client => Visitor::new(Arc::clone(limits), client.map(|client| client.address)),
        }
    }
}

/// Whether an address is likely to be one of the operator's own machines.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// The layer outside all others: puts the [`ClientAddress`] into the request, where it is known who the peer is.
pub async fn locate(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    if let Some(peer) = request.extensions().get::<Peer>() {
        let client = client_address(*peer, request.headers(), &door.rules().trusted_proxies);
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

/// The layer: puts a [`Visitor`] into the request, and what it met into the head of the answer.
pub async fn admission(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let visitor = door.visitor(&request);
    request.extensions_mut().insert(visitor.clone());
    let mut response = next.run(request).await;
    if let Some((policy, state)) = visitor.fields() {
        let headers = response.headers_mut();
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
    response
}

/// Whose request this is, by its extensions; without the layer, somebody's without limits.
pub fn visitor(extensions: &Extensions) -> Visitor {
    extensions.get::<Visitor>().cloned().unwrap_or_default()
}
