//! Chromium over TLS: SSE, long-poll and WebSocket on one HTTP/2 connection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use support::node::{Node, Setup};
use support::process::output;
use throughline::server::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What three readers of 300,000 bytes each receive, at least.
const BYTES: usize = 900_000;

/// What a connection may cost that the browser opened and did not use, or used for its own icon.
const UNUSED_BYTES_MAX: usize = 50_000;

/// Passes connections on, and counts for each what goes to the client.
async fn counting_proxy(upstream: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(upstream).await.unwrap();
            let nth = {
                let mut counts = counted.lock().unwrap();
                counts.push(0);
                counts.len() - 1
            };
            tokio::spawn(relay(client, server, Arc::clone(&counted), nth));
        }
    });
    (address, counts)
}

async fn relay(client: TcpStream, server: TcpStream, counts: Arc<Mutex<Vec<usize>>>, nth: usize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from_server.read(&mut bytes).await {
            counts.lock().unwrap()[nth] += len;
            if to_client.write_all(&bytes[..len]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = down => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_reads_by_three_transports_on_one_connection() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let node = Node::start(Setup {
        tls: Some(Arc::new(Tls::load(&cert, &key).unwrap())),
        ..Setup::window(100)
    });
    let (proxy, counts) = counting_proxy(node.address).await;

    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let needed = clients.join("node_modules/playwright-core");
    assert!(needed.exists(), "{} is missing: run scripts/test", needed.display());
    let script = clients.join("browser.mjs");
    let origin = format!("https://localhost:{}", proxy.port());
    let profile = folder.join("profile");
    let arguments = [&script, Path::new(&origin), &cert, &profile].map(|path| path.to_str().unwrap());
    let ran = output("node", &arguments).await;
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(
        report,
        serde_json::json!({
            "sse": true, "websocket": true, "poll": true,
            "subprotocol": "throughline.v1", "protocols": ["h2"],
        })
    );
    let counts = counts.lock().unwrap().clone();
    let used: Vec<usize> = counts
        .iter()
        .copied()
        .filter(|bytes| *bytes > UNUSED_BYTES_MAX)
        .collect();
    assert_eq!(used.len(), 1, "bytes by connection: {counts:?}");
    assert!(used[0] > BYTES, "bytes by connection: {counts:?}");
}
