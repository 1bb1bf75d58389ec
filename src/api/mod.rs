//! What back ends and operators ask for over HTTP.

mod health;
mod history;
mod metrics;
mod operate;
mod presence;
mod publish;

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};

use crate::session::Node;

/// `POST /v1/publish`
pub fn publish_route() -> MethodRouter<Arc<Node>> {
    post(publish::publish)
}

/// `GET /v1/history`
pub fn history_route() -> MethodRouter<Arc<Node>> {
    get(history::history)
}

/// `GET /v1/presence`
pub fn presence_route() -> MethodRouter<Arc<Node>> {
    get(presence::presence)
}

/// `POST /v1/disconnect`, for operators
pub fn disconnect_route() -> MethodRouter<Arc<Node>> {
    post(operate::disconnect)
}

/// `POST /v1/unsubscribe`, for operators
pub fn unsubscribe_route() -> MethodRouter<Arc<Node>> {
    post(operate::unsubscribe)
}

/// `GET /v1/channels`, for operators
pub fn channels_route() -> MethodRouter<Arc<Node>> {
    get(operate::channels)
}

/// `GET /livez`: the process runs.
pub fn livez_route() -> MethodRouter<Arc<Node>> {
    get(health::livez)
}

/// `GET /metrics`, for Prometheus; for operators, where not everything is open.
pub fn metrics_route() -> MethodRouter<Arc<Node>> {
    get(metrics::metrics)
}

/// The same for whoever reaches it.
pub fn open_metrics_route() -> MethodRouter<Arc<Node>> {
    get(metrics::open_metrics)
}

/// `GET /readyz`: it takes new sessions and publications.
pub fn readyz_route() -> MethodRouter<Arc<Node>> {
    get(health::readyz)
}
