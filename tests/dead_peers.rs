//! Peers that vanish without a word are gone within two heartbeats and ten seconds, on every transport.
//!
//! The clients run in a network of their own, whose cable is then cut. That needs root; without it the test fails, for
//! it has not shown anything.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::deadline::within;
use support::node::{Node, Setup};
use support::process::output;
use throughline::transport::Timings;
use tokio::process::{Child, Command};

const HEARTBEAT: Duration = Duration::from_secs(3);

/// Both ends of the cable.
const OURS: &str = "10.213.77.1";
const THEIRS: &str = "10.213.77.2";

/// A network with one cable to ours; taken away on drop.
struct Network {
    name: String,
    cable: String,
}

fn ip(arguments: &str) -> std::process::Output {
    let words: Vec<_> = arguments.split(' ').collect();
    let ran = std::process::Command::new("ip").args(words).output();
    ran.expect("`ip` is missing: run scripts/test")
}

fn must(arguments: &str) {
    let ran = ip(arguments);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.success(),
        "ip {arguments}: {told} (this test needs root and network namespaces)"
    );
}

impl Network {
    fn new() -> Self {
        let id = std::process::id();
        let network = Self {
            name: format!("throughline{id}"),
            cable: format!("tl{id}"),
        };
        let Self { name, cable } = &network;
        must(&format!("netns add {name}"));
        must(&format!("link add {cable}a type veth peer name {cable}b netns {name}"));
        must(&format!("addr add {OURS}/30 dev {cable}a"));
        must(&format!("link set {cable}a up"));
        must(&format!("-n {name} addr add {THEIRS}/30 dev {cable}b"));
        must(&format!("-n {name} link set {cable}b up"));
        must(&format!("-n {name} link set lo up"));
        network
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command
    }

    /// From now on nothing that is sent arrives, and nobody is told: both ends take each other for somebody who is not
    /// there. (A link that is down would tell the system.)
    fn cut(&self) {
        let Self { name, cable } = self;
        let nobody = "lladdr 02:00:00:00:00:99 nud permanent";
        must(&format!("neigh replace {THEIRS} {nobody} dev {cable}a"));
        must(&format!("-n {name} neigh replace {OURS} {nobody} dev {cable}b"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("link del {}a", self.cable));
        ip(&format!("netns del {}", self.name));
    }
}

/// A WebSocket that reads and answers pings, by hand, so that it needs nothing but Python.
const WEBSOCKET: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"GET /v1/ws?channel=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
while True:
    got = s.recv(65536)
    if not got:
        break
    if b"\x89\x00" in got:
        s.sendall(b"\x8a\x80\0\0\0\0")
"#;

async fn sessions_are(node: &Node, count: usize) {
    while node.sessions() != count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_vanishes_is_gone_in_time() {
    let network = Network::new();
    let heartbeat_ms = u64::try_from(HEARTBEAT.as_millis()).unwrap();
    let node = Node::start_at(
        OURS.parse().unwrap(),
        Setup {
            timings: Timings {
                heartbeat_ms,
                write_timeout_ms: heartbeat_ms,
            },
            ..Setup::window(9)
        },
    );
    let url = |path: &str| format!("http://{}{path}", node.address);
    let curl = ["-q", "-sSN", "--noproxy", "*"];
    let http2 = ["-q", "-sSN", "--noproxy", "*", "--http2-prior-knowledge"];
    let port = node.address.port().to_string();
    let since = position(&node).await;
    // Polls that wait for longer than the deadline, during which nothing is sent.
    let poll = url(&format!("/v1/poll?channel=a&wait=55&since={since}"));
    let sse = url("/v1/sse?channel=a");
    let clients = [
        network.run("curl", &[&curl[..], &[&sse]].concat()),
        network.run("curl", &[&curl[..], &[&poll]].concat()),
        network.run("curl", &[&http2[..], &[&sse]].concat()),
        network.run("curl", &[&http2[..], &[&poll]].concat()),
        network.run("python3", &["-c", WEBSOCKET, OURS, &port]),
    ];
    let mut clients: Vec<Child> = clients
        .into_iter()
        .map(|mut client| client.spawn().expect("a client"))
        .collect();
    within("all sessions", sessions_are(&node, clients.len())).await;
    // They live on while they are there.
    tokio::time::sleep(3 * HEARTBEAT).await;
    assert_eq!(node.sessions(), clients.len());

    network.cut();
    let began = Instant::now();
    let deadline = 2 * HEARTBEAT + Duration::from_secs(10);
    let gone = tokio::time::timeout(deadline, sessions_are(&node, 0)).await;
    assert!(
        gone.is_ok(),
        "{} are there after {:?}",
        node.sessions(),
        began.elapsed()
    );

    // The fault was one: the clients were not told, and nothing comes through.
    for client in &mut clients {
        assert!(client.try_wait().unwrap().is_none(), "a client has heard of it");
    }
    let arguments = ["-q", "-sS", "--noproxy", "*", "--connect-timeout", "2", "-m", "3"];
    let health = url("/livez");
    let again = network.run("curl", &[&arguments[..], &[&health]].concat()).status();
    assert!(!again.await.unwrap().success(), "the cable is not cut");
}

/// Where the channel begins.
async fn position(node: &Node) -> String {
    let body = r#"{"channel":"a","data":1}"#;
    let url = format!("http://{}/v1/publish", node.address);
    let published = output("curl", &["-q", "-sS", "--noproxy", "*", "-d", body, &url]).await;
    let told: serde_json::Value = serde_json::from_slice(&published.stdout).unwrap();
    told["position"].as_str().unwrap().to_owned()
}
