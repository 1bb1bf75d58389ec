//! The edge inside somebody's axum app: beside the app's own routes, behind the app's own layers.
//!
//! `cargo run --example embed`, then open <http://127.0.0.1:8080/>, or:
//!
//! ```sh
//! curl -N 'http://127.0.0.1:8080/edge/v1/sse?channel=orders' -H 'Authorization: Bearer demo'
//! curl -X POST http://127.0.0.1:8080/orders/7 -H 'Authorization: Bearer demo'
//! ```
//!
//! Another address can be named: `cargo run --example embed 127.0.0.1:0`.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderValue, SET_COOKIE};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use serde_json::value::to_raw_value;
use throughline::Edge;
use throughline::delivery::{ChannelName, Delivery, Since, Subscription};

/// Over how long the readers are sent away, and how long they may take for it.
const DRAIN_WINDOW: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let edge = Edge::builder().build();

    // The app listens in the process, through the same log as everybody else.
    let orders = ChannelName::parse("orders")?;
    let (_, subscription) = edge.subscribe(orders, Since::Now).await?;
    tokio::spawn(follow(subscription));

    let listener = tokio::net::TcpListener::bind(&address).await?;
    tracing::info!("open http://{}/", listener.local_addr()?);
    axum::serve(listener, app(&edge))
        .with_graceful_shutdown(stop(edge))
        .await?;
    tracing::info!("stopped");
    Ok(())
}

/// The app's routes, the edge under a prefix of the app's choice, the app's layers around both.
fn app(edge: &Edge) -> Router {
    Router::new()
        .route("/orders/{number}", post(order))
        .with_state(edge.clone())
        .nest("/edge", edge.router())
        .layer(from_fn(authenticate))
        .route("/", get(page))
        .fallback(nothing_here)
        .layer(from_fn(log))
}

/// At ctrl-c: readers are told when to come back, before the connections are closed.
async fn stop(edge: Edge) {
    if tokio::signal::ctrl_c().await.is_ok() {
        tracing::info!("draining");
        if tokio::time::timeout(DRAIN_MAX, edge.drain(DRAIN_WINDOW)).await.is_err() {
            tracing::warn!("readers that would not leave are cut");
        }
    }
}

async fn follow(mut subscription: Subscription) {
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Publication(publication) => tracing::info!(position = %publication.position, "an order"),
            Delivery::Gap(gap) => tracing::warn!(from = %gap.from, to = %gap.to, "orders were missed"),
            Delivery::Ended(reason) => tracing::warn!(?reason, "no more orders"),
        }
    }
}

/// The app's own route publishes.
async fn order(State(edge): State<Edge>, Path(number): Path<u32>) -> Result<String, String> {
    let orders = ChannelName::parse("orders").map_err(|error| error.to_string())?;
    let data = to_raw_value(&number).map_err(|error| error.to_string())?;
    let published = edge
        .publish(orders, &data)
        .await
        .map_err(|problem| problem.to_string())?;
    Ok(format!("order {number} stands at {}\n", published.position))
}

/// The app's own authentication guards the edge, too: a header, or the cookie that the page sets, as a browser's
/// `EventSource` and `WebSocket` send no headers of one's own.
async fn authenticate(request: Request, next: Next) -> Response {
    let is_known = {
        let has = |name, expected: &str| {
            let value = request.headers().get(name).map(HeaderValue::as_bytes);
            value.is_some_and(|value| value == expected.as_bytes())
        };
        has(AUTHORIZATION, "Bearer demo") || has(COOKIE, "token=demo")
    };
    if is_known {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "say who you are\n").into_response()
}

/// The app's own layer sees what goes to the edge, too.
async fn log(request: Request, next: Next) -> Response {
    tracing::info!(method = %request.method(), path = request.uri().path(), "asked");
    next.run(request).await
}

/// What is neither the app's nor the edge's is the app's to answer.
async fn nothing_here() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "this shop has no such page\n")
}

/// A page that follows the orders, without any library.
async fn page() -> impl IntoResponse {
    let page = "<!doctype html><title>Orders</title><h1>Orders</h1>\
         <button onclick=\"fetch('/orders/' + Math.ceil(Math.random() * 1000), { method: 'POST' })\">Order</button>\
         <ul id=list></ul><script>\
         new EventSource('/edge/v1/sse?channel=orders&since=start').onmessage = event => {\
           const item = document.createElement('li');\
           item.textContent = event.lastEventId + ': ' + JSON.parse(event.data).data;\
           list.prepend(item)\
         }</script>";
    (
        [(SET_COOKIE, "token=demo; HttpOnly; SameSite=Strict; Path=/")],
        Html(page),
    )
}
