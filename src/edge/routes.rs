//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, any};

use super::{Edge, answers};
use crate::http::{admission, cors, count_refusals, locate};
use crate::{api, transport};

/// Where operators look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operations {
    /// Where clients come.
    Here,
    /// At a place of their own.
    Elsewhere,
}

/// Who may see the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsFor {
    /// Operators, where not everything is open.
    Operators,
    /// Whoever reaches them.
    Anybody,
}

impl Edge {
    /// The endpoints, to be merged into an app's own routes.
    pub fn router(&self) -> Router {
        self.guarded(self.endpoints(Operations::Here))
    }

    /// A WebSocket that says everything back, over the codec and the task of `/v1/ws`, for conformance suites to judge
    /// them by. It is not among the endpoints.
    pub fn websocket_echo(&self) -> MethodRouter {
        transport::websocket_echo_route().with_state(Arc::clone(&self.transports))
    }

    /// The endpoints, and an answer for everything that is none of them.
    pub(crate) fn site(&self, operations: Operations) -> Router {
        let node = Arc::clone(&self.node);
        let ending = middleware::from_fn_with_state(node, answers::end_connections);
        self.guarded(self.endpoints(operations).fallback(answers::not_found))
            .layer(ending)
    }

    /// What those are told for whom there is no room: whether the server lives.
    pub(crate) fn lobby(&self, operations: Operations) -> Router {
        let lobby = match operations {
            Operations::Here => self.health(),
            Operations::Elsewhere => Router::new(),
        };
        self.guarded(lobby.fallback(answers::full))
    }

    /// What operators look at, and nothing else.
    pub(crate) fn operations(&self, metrics: MetricsFor) -> Router {
        let node = Arc::clone(&self.node);
        let ending = middleware::from_fn_with_state(node, answers::end_connections);
        let routes = self.health().merge(self.metrics(metrics));
        self.guarded(routes.fallback(answers::no_operation)).layer(ending)
    }

    fn health(&self) -> Router {
        Router::new()
            .route("/livez", api::livez_route())
            .route("/readyz", api::readyz_route())
            .method_not_allowed_fallback(answers::method_not_allowed)
            .with_state(Arc::clone(&self.node))
    }

    fn metrics(&self, metrics: MetricsFor) -> Router {
        let route = match metrics {
            MetricsFor::Operators => api::metrics_route(),
            MetricsFor::Anybody => api::open_metrics_route(),
        };
        Router::new()
            .route("/metrics", route)
            .method_not_allowed_fallback(answers::method_not_allowed)
            .with_state(Arc::clone(&self.node))
    }

    /// The same routes, for pages that may ask alone; what is refused is counted.
    fn guarded(&self, routes: Router) -> Router {
        let counted = middleware::from_fn_with_state(Arc::clone(&self.node), count_refusals);
        let pages = middleware::from_fn_with_state(Arc::clone(&self.door), cors);
        routes.layer(pages).layer(counted)
    }

    fn endpoints(&self, operations: Operations) -> Router {
        let subscribing = Router::new()
            .route("/v1/ws", transport::websocket_route())
            .route("/v1/sse", transport::event_source_route())
            .route("/v1/poll", transport::poll_route())
            .method_not_allowed_fallback(answers::method_not_allowed)
            .with_state(Arc::clone(&self.transports));
        let asking = Router::new()
            .route("/v1/publish", api::publish_route())
            .route("/v1/history", api::history_route())
            .route("/v1/presence", api::presence_route())
            .method_not_allowed_fallback(answers::method_not_allowed)
            .with_state(Arc::clone(&self.node));
        let operating = Router::new()
            .route("/v1/disconnect", api::disconnect_route())
            .route("/v1/unsubscribe", api::unsubscribe_route())
            .route("/v1/channels", api::channels_route())
            .method_not_allowed_fallback(answers::method_not_allowed)
            .with_state(Arc::clone(&self.node));
        let governed = subscribing
            .merge(asking)
            .merge(operating)
            .layer(middleware::from_fn_with_state(Arc::clone(&self.door), admission));
        let serving = match operations {
            Operations::Here => self.health().merge(self.metrics(MetricsFor::Operators)),
            Operations::Elsewhere => Router::new()
                .route("/livez", any(answers::elsewhere))
                .route("/readyz", any(answers::elsewhere))
                .route("/metrics", any(answers::elsewhere)),
        };
        let located = middleware::from_fn_with_state(Arc::clone(&self.door), locate);
        governed.merge(serving).layer(located)
    }
}
