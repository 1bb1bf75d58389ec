//! Stock clients that nobody here wrote receive ten thousand publications byte for byte, whole and cut off in between.
//!
//! Every test starts a server of its own and two copies of one client: one connected straight, one through a proxy
//! that cuts its connection twice in the middle of the stream. What each received, every position and the exact text of
//! every push, is compared by hash with what was published.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod clients;

use clients::cutting_proxy::{Cut, CuttingProxy, Manner};
use clients::publisher::{BATCHES, Publisher};
use clients::reader::{Reader, Stock};
use clients::server::Server;
use clients::{scratch_folder, within};

/// Where the proxy cuts: bytes towards the client, of its first and of its second connection.
const CUTS: [Cut; 2] = [
    Cut {
        after_bytes: 300_001,
        manner: Manner::Finish,
    },
    Cut {
        after_bytes: 500_003,
        manner: Manner::Reset,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_receives_every_byte() {
    receives_every_byte(Stock::Curl).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_ws_receives_every_byte() {
    receives_every_byte(Stock::NpmWs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_eventsource_receives_every_byte() {
    receives_every_byte(Stock::NpmEventSource).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_websockets_receives_every_byte() {
    receives_every_byte(Stock::PythonWebsockets).await;
}

async fn receives_every_byte(stock: Stock) {
    let folder = scratch_folder(stock.name());
    let server = Server::start(&folder).await;
    let mut proxy = CuttingProxy::start(server.address, CUTS.to_vec()).await;
    let mut whole = Reader::start(stock, server.address, &folder.join("whole"));
    let mut cut = Reader::start(stock, proxy.address, &folder.join("cut"));
    whole.ready().await;
    cut.ready().await;

    let mut publisher = Publisher::connect(server.address).await;
    publisher.publish(0..BATCHES / 2).await;
    within("the first cut", proxy.cuts.wait_for(|cuts| *cuts >= 1))
        .await
        .unwrap();
    publisher.publish(BATCHES / 2..BATCHES * 3 / 4).await;
    cut.resumed().await;
    publisher.publish(BATCHES * 3 / 4..BATCHES).await;

    let expected = publisher.read_back().await;
    assert_eq!(
        whole.received(&expected).await,
        0,
        "a connection that nobody cut was resumed"
    );
    assert_eq!(cut.received(&expected).await, CUTS.len(), "not every cut was resumed");
    assert_eq!(*proxy.cuts.borrow(), CUTS.len());
}
