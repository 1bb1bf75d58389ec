//! Stock clients that nobody here wrote receive ten thousand publications byte for byte, whole and cut off in between.
//!
//! Every test starts a server of its own and two copies of each of its clients: one connected straight, one through a
//! proxy that cuts its connection twice in the middle of the stream. What each received, every position and the exact
//! text of every push, is compared by hash with what was published.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod clients;

use std::net::SocketAddr;
use std::path::Path;

use clients::cutting_proxy::{Cut, CuttingProxy, Manner};
use clients::publisher::{BATCHES, Publisher};
use clients::reader::{Reader, Stock};
use clients::server::Server;
use clients::{scratch_folder, within};
use futures_util::future::join_all;

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
    receive_every_byte("curl", &[Stock::Curl]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_ws_receives_every_byte() {
    receive_every_byte("npm_ws", &[Stock::NpmWs]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_eventsource_receives_every_byte() {
    receive_every_byte("npm_eventsource", &[Stock::NpmEventSource]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_websockets_receives_every_byte() {
    receive_every_byte("python_websockets", &[Stock::PythonWebsockets]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_them_receive_the_same_bytes_of_one_stream() {
    receive_every_byte("all", &Stock::ALL).await;
}

/// Two copies of one client, and the proxy that cuts off the second.
struct Pair {
    whole: Reader,
    cut: Reader,
    proxy: CuttingProxy,
}

impl Pair {
    async fn start(stock: Stock, server: SocketAddr, folder: &Path) -> Pair {
        let proxy = CuttingProxy::start(server, CUTS.to_vec()).await;
        let file = |end: &str| folder.join(format!("{}-{end}", stock.name()));
        let mut pair = Pair {
            whole: Reader::start(stock, server, &file("whole")),
            cut: Reader::start(stock, proxy.address, &file("cut")),
            proxy,
        };
        pair.whole.ready().await;
        pair.cut.ready().await;
        pair
    }
}

async fn receive_every_byte(name: &str, stocks: &[Stock]) {
    let folder = scratch_folder(name);
    let server = Server::start(&folder).await;
    let pairs = stocks.iter().map(|stock| Pair::start(*stock, server.address, &folder));
    let mut pairs = join_all(pairs).await;

    let mut publisher = Publisher::connect(server.address).await;
    publisher.publish(0..BATCHES / 2).await;
    for Pair { proxy, .. } in &mut pairs {
        within("the first cut", proxy.cuts.wait_for(|cuts| *cuts >= 1))
            .await
            .unwrap();
    }
    publisher.publish(BATCHES / 2..BATCHES * 3 / 4).await;
    for Pair { cut, .. } in &mut pairs {
        cut.resumed().await;
    }
    publisher.publish(BATCHES * 3 / 4..BATCHES).await;

    let expected = publisher.read_back().await;
    for Pair { whole, cut, proxy } in pairs {
        assert_eq!(
            whole.received(&expected).await,
            0,
            "a connection that nobody cut was resumed"
        );
        assert_eq!(cut.received(&expected).await, CUTS.len(), "not every cut was resumed");
        assert_eq!(*proxy.cuts.borrow(), CUTS.len());
    }
}
