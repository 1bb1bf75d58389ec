//! Echoes over Throughline's own WebSocket codec and connection task, so that outside conformance suites can judge them.
//!
//! `cargo run --release --example ws_echo -- 127.0.0.1:9001`, then point the suite at `ws://127.0.0.1:9001/`.

use axum::Router;
use throughline::Edge;
use throughline::protocol::Limits;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    // Suites send larger messages, in more pieces, than a client of ours may.
    let limits = Limits {
        message_bytes_max: 64 * 1024 * 1024,
        message_fragments_max: u32::MAX,
        message_time_ms_max: 120_000,
        ..Limits::default()
    };
    let edge = Edge::builder().limits(limits).build();
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, Router::new().route("/", edge.websocket_echo())).await
}
