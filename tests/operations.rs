//! Operators at a place of their own: health and metrics are there and nowhere else, however many clients there are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;

use support::deadline::within;
use support::folder::Folder;
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::process;
use support::service::{Service, Start};
use support::tokens::{SECRET, api_key, hash};
use support::websocket::WebSocket;

async fn ask(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(&http::get(target, headers)).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().expect("an answer");
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head.status, String::from_utf8(body).unwrap())
}

/// A server with this in its file: where clients come, and where operators look.
async fn start(folder: &Folder, config: &str) -> (Service, SocketAddr, SocketAddr) {
    let file = folder.path().join("throughline.toml");
    std::fs::write(&file, config).unwrap();
    let mut service = Service::start(Start {
        environment: &[("THROUGHLINE_CONFIG", file.to_str().unwrap())],
        ..Start::default()
    });
    let clients = service.address().await;
    service.says("metrics").await;
    let said = service.said();
    let (_, row) = said.split_once("  metrics ").unwrap();
    let port = row.split_once("/metrics").unwrap().0.rsplit_once(':').unwrap().1;
    let operators = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    (service, clients, operators)
}

fn guarded() -> String {
    format!(
        "[[auth.issuers]]\nsecret = \"{SECRET}\"\n[[auth.api_keys]]\nname = \"prometheus\"\nhash = \"{}\"\n\
         scopes = [\"operator\"]\nchannels = []\n",
        hash(&api_key('p'))
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_look_at_their_own_place_and_clients_find_nothing_of_it() {
    let folder = Folder::new("operations");
    let config = format!("operations.listen = \"127.0.0.1:0\"\n{}", guarded());
    let (_service, clients, operators) = start(&folder, &config).await;
    assert_ne!(clients, operators);
    for path in ["/livez", "/readyz", "/metrics"] {
        // On this machine nobody needs a key.
        let (status, body) = ask(operators, path, &[]).await;
        assert_eq!(status, 200, "{path}: {body}");
        let (status, body) = ask(clients, path, &[]).await;
        assert_eq!(status, 404, "{path}: {body}");
        assert!(body.contains("operations.listen"), "{body}");
        let foreign = [("origin", "https://evil.example")];
        assert_eq!(ask(operators, path, &foreign).await.0, 403);
    }
    for path in ["/v1/poll?channel=a", "/v1/history?channel=a", "/"] {
        let (status, body) = ask(operators, path, &[]).await;
        assert_eq!(status, 404, "{path}: {body}");
        assert!(body.contains("/metrics"), "{body}");
    }
    assert_eq!(ask(clients, "/v1/poll?channel=a", &[]).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_strangers_reach_it_metrics_need_a_key_and_an_open_server_does_not_start() {
    let folder = Folder::new("operations everywhere");
    let config = format!("operations.listen = \"0.0.0.0:0\"\n{}", guarded());
    let (_service, _, operators) = start(&folder, &config).await;
    assert_eq!(ask(operators, "/readyz", &[]).await.0, 200);
    assert_eq!(ask(operators, "/metrics", &[]).await.0, 401);
    let key = api_key('p');
    assert_eq!(ask(operators, "/metrics", &[("x-api-key", &key)]).await.0, 200);

    let mut open = Service::start(Start {
        environment: &[("THROUGHLINE_OPERATIONS__LISTEN", "0.0.0.0:0")],
        ..Start::default()
    });
    assert_eq!(open.ends().await.code(), Some(78));
    let said = open.said();
    assert!(
        said.contains("THROUGHLINE_OPERATIONS__LISTEN") && said.contains("--insecure"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_find_room_where_clients_find_none_and_hear_of_the_drain() {
    let folder = Folder::new("operations room");
    let config = "operations.listen = \"127.0.0.1:0\"\n[connections]\ncount_max = 1\n[drain]\nwindow_ms = 1000\n";
    let (mut service, clients, operators) = start(&folder, config).await;
    let mut client = WebSocket::open(clients, Receive::Usual, &[("channel", "a")])
        .await
        .unwrap();
    client.push().await.unwrap();
    assert_eq!(ask(clients, "/v1/poll?channel=a", &[]).await.0, 503);
    assert_eq!(
        ask(clients, "/readyz", &[]).await.0,
        503,
        "the lobby has no health either"
    );
    assert_eq!(ask(operators, "/readyz", &[]).await.0, 200);
    let (_, metrics) = ask(operators, "/metrics", &[]).await;
    assert!(
        metrics.contains("throughline_connections{transport=\"ws\"} 1"),
        "{metrics}"
    );
    // A client that does not leave keeps the drain going for as long as it may.
    service.signal("TERM").await;
    within("the drain", async {
        loop {
            let (status, body) = ask(operators, "/readyz", &[]).await;
            if status == 503 && body.contains("draining") {
                break;
            }
        }
    })
    .await;
    assert_eq!(ask(operators, "/livez", &[]).await.0, 200);
    drop(client);
    assert!(service.ends().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_check_asks_there() {
    let folder = Folder::new("operations socket");
    let socket = folder.path().join("operations.sock");
    let file = folder.path().join("throughline.toml");
    std::fs::write(&file, format!("operations.listen = \"unix:{}\"\n", socket.display())).unwrap();
    let config = file.to_str().unwrap();
    let arguments = ["healthcheck", "--config", config];
    let refused = within("a refusal", process::command(&[], &arguments).output())
        .await
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let mut service = Service::start(Start {
        environment: &[("THROUGHLINE_CONFIG", config)],
        ..Start::default()
    });
    service.says("metrics").await;
    let asked = within("an answer", process::command(&[], &arguments).output())
        .await
        .unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let said = service.said();
    assert!(
        said.contains(&format!(
            "curl --unix-socket '{}' http://localhost/metrics",
            socket.display()
        )),
        "{said}"
    );
}
