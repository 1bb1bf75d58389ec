//! The edge inside somebody's axum app: beside the app's own routes, behind the app's own layers.
//!
//! `cargo run --example embed`, then open <http://127.0.0.1:8080/> or `curl -N
//! 'http://127.0.0.1:8080/edge/v1/sse?channel=orders'` and `curl -X POST http://127.0.0.1:8080/orders/7`.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use serde_json::value::to_raw_value;
use throughline::Edge;
use throughline::delivery::{ChannelName, Delivery, Since};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let edge = Edge::builder().build();
    let orders = ChannelName::parse("orders")?;

    // The app listens in the process, through the same log as everybody else.
    let (_, mut subscription) = edge.subscribe(orders, Since::Now).await?;
    tokio::spawn(async move {
        while let Some(delivery) = subscription.next().await {
            match delivery {
                Delivery::Publication(publication) => tracing::info!(position = %publication.position, "an order"),
                Delivery::Gap(gap) => tracing::warn!(from = %gap.from, to = %gap.to, "orders were missed"),
                Delivery::Ended(reason) => tracing::warn!(?reason, "no more orders"),
            }
        }
    });

    let app = Router::new()
        .route("/", get(page))
        .route("/orders/{number}", post(order))
        .with_state(edge.clone())
        .nest("/edge", edge.router())
        .layer(from_fn(log));
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    tracing::info!("open http://{}/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
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

/// The app's own layer sees what goes to the edge, too.
async fn log(request: Request, next: Next) -> Response {
    tracing::info!(method = %request.method(), path = request.uri().path(), "asked");
    next.run(request).await
}

/// A page that follows the orders, without any library.
async fn page() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Orders</title><h1>Orders</h1>\
         <button onclick=\"fetch('/orders/' + Math.ceil(Math.random() * 1000), { method: 'POST' })\">Order</button>\
         <ul id=list></ul><script>\
         new EventSource('/edge/v1/sse?channel=orders&since=start').onmessage = event => {\
           const item = document.createElement('li');\
           item.textContent = event.lastEventId + ': ' + JSON.parse(event.data).data;\
           list.prepend(item)\
         }</script>",
    )
}
