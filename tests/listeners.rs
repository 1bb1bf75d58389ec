//! Where the server listens, and how many it lets in: TCP, Unix sockets, a proxy in front, no files left.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::deadline::{until, within};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::process::{Process, command, said};
use throughline::config::ProxyProtocol;

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("listeners").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

async fn livez_of(path: &Path) -> String {
    let path = path.to_str().unwrap();
    said(
        "curl",
        &["-q", "-sS", "-m", "30", "--unix-socket", path, "http://localhost/livez"],
    )
    .await
}

/// A short path: the name of a socket has 108 bytes at most.
fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("throughline-{name}-{}.sock", std::process::id()))
}

#[tokio::test]
async fn it_listens_at_several_places_at_once() {
    let path = socket("several");
    let config = folder("several").join("throughline.toml");
    let text = format!(
        "listen = [\"127.0.0.1:0\", {:?}]\n[connections]\nunix_mode = \"600\"\n",
        unix(&path)
    );
    std::fs::write(&config, text).unwrap();
    let starting = command(&[], &["serve", "--config", config.to_str().unwrap()]);
    let mut process = Process::start(starting).await;
    assert_eq!(livez_of(&path).await, "ok\n");
    let url = format!("http://{}/livez", process.address);
    assert_eq!(said("curl", &["-q", "-sS", "--noproxy", "*", &url]).await, "ok\n");
    let found = std::fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    // Somebody listens there already.
    let second = command(&[], &["serve", "--listen", &unix(&path)])
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(69), "{told}");
    assert!(told.contains("another process listens there"), "{told}");
    assert_eq!(livez_of(&path).await, "ok\n");

    process.signal("TERM");
    let status = within("the end", process.child.wait()).await.unwrap();
    assert!(
        status.success() && !path.exists(),
        "{status}, and the socket's file is gone"
    );
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_another_file_is_not() {
    let path = socket("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let starting = command(&[], &["serve", "--listen", &unix(&path), "--listen", "127.0.0.1:0"]);
    let process = Process::start(starting).await;
    assert_eq!(livez_of(&path).await, "ok\n");
    drop(process);
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "precious").unwrap();
    let refused = command(&[], &["serve", "--listen", &unix(&path)])
        .output()
        .await
        .unwrap();
    assert_eq!(refused.status.code(), Some(69));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn one_port_is_shared_where_that_is_wanted() {
    let sharing = |port: &str| {
        let mut starting = command(&[], &["serve", "--listen", &format!("127.0.0.1:{port}")]);
        starting.env("THROUGHLINE_CONNECTIONS__REUSE_PORT", "true");
        starting
    };
    let first = Process::start(sharing("0")).await;
    let port = first.address.port().to_string();
    let second = Process::start(sharing(&port)).await;
    assert_eq!(first.address, second.address);
}

/// A head and a body, by a connection of its own.
async fn ask(address: SocketAddr, target: &str) -> (Head, String) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    link.send(&http::get(target, &[])).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().expect("an answer");
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// User and system time that a process has taken, in clock ticks.
fn ticks(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id().unwrap())).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let words: Vec<_> = rest.split_whitespace().collect();
    words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
}

/// Connections take all the places there are, and then some: `/livez` and `/readyz` answer, everything else is told
/// when to come back, nothing spins, and those who are in stay in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_left_health_is_still_answered() {
    const FILES: usize = 128;
    let starting = command(
        &["prlimit", &format!("--nofile={FILES}:{FILES}"), "--"],
        &["serve", "--listen", "127.0.0.1:0"],
    );
    let process = Process::start(starting).await;
    let mut streams = Vec::new();
    let full = within("a full house", async {
        loop {
            let mut link = Link::connect(process.address, Receive::Usual).await.unwrap();
            link.send(&http::get("/v1/sse?channel=a", &[])).await.unwrap();
            let head = Head::read(&mut link).await.unwrap().expect("an answer");
            if head.status != 200 {
                return head;
            }
            streams.push(link);
        }
    })
    .await;
    assert_eq!((full.status, full.header("connection")), (503, "close"));
    assert_eq!(full.header("retry-after"), "5");
    assert!((32..FILES).contains(&streams.len()), "{} connections", streams.len());

    // Many more, which say nothing: they take the lobby, and wait in the queue.
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Link::connect(process.address, Receive::Usual).await.unwrap());
    }
    let (head, body) = ask(process.address, "/livez").await;
    assert_eq!((head.status, body.as_str()), (200, "ok\n"));
    let before = ticks(&process);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = ticks(&process) - before;
    assert!(spent < 100, "it spins: {spent} hundredths of a second in two");
    drop(idle);
    assert_eq!(ask(process.address, "/readyz").await.0.status, 200);
    let (head, body) = ask(process.address, "/v1/poll?channel=a").await;
    assert!(head.status == 503 && body.contains("overloaded"), "{head:?} {body}");

    let first = streams.swap_remove(0);
    drop(first);
    within("a place", async {
        while ask(process.address, "/v1/poll?channel=a").await.0.status != 200 {}
    })
    .await;
    for stream in &mut streams {
        stream.input.clear();
    }
    let url = format!("http://{}/v1/publish", process.address);
    let publish = [
        "-q",
        "-sS",
        "--noproxy",
        "*",
        "-d",
        r#"{"channel":"a","data":"all"}"#,
        &url,
    ];
    within("a publication", async {
        while !said("curl", &publish).await.contains("position") {}
    })
    .await;
    for mut stream in streams {
        while !String::from_utf8_lossy(&stream.input).contains("\"all\"") {
            assert!(stream.read().await.unwrap());
        }
    }
}

/// Really out of files, because somebody else in the process has them: it waits, does not spin, and goes on.
#[tokio::test]
async fn a_real_lack_of_files_is_survived() {
    let mut starting = command(
        &["prlimit", "--nofile=256:256", "--"],
        &["serve", "--listen", "127.0.0.1:0"],
    );
    starting.env("THROUGHLINE_CONNECTIONS__COUNT_MAX", "100000");
    let process = Process::start(starting).await;
    let mut links = Vec::new();
    for _ in 0..300 {
        let mut link = Link::connect(process.address, Receive::Usual).await.unwrap();
        link.send(&http::get("/v1/sse?channel=a", &[])).await.unwrap();
        links.push(link);
    }
    let folder = format!("/proc/{}/fd", process.child.id().unwrap());
    until("the lack", || std::fs::read_dir(&folder).unwrap().count() >= 256).await;
    let before = ticks(&process);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = ticks(&process) - before;
    assert!(spent < 100, "it spins: {spent} hundredths of a second in two");
    links.truncate(10);
    let (head, _) = ask(process.address, "/livez").await;
    assert_eq!(head.status, 200);
}

const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x7f\0\0\x01\0\x01\0\x02";

/// Whether a connection that begins with these bytes is answered.
async fn is_answered(node: &Node, first: &[u8]) -> bool {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    let request = [first, &http::get("/livez", &[])].concat();
    link.send(&request).await.unwrap();
    matches!(Head::read(&mut link).await, Ok(Some(head)) if head.status == 200)
}

#[tokio::test]
async fn a_proxy_says_for_whom_it_connects_or_is_refused() {
    let mut setup = Setup::window(9);
    setup.connections.proxy_protocol = ProxyProtocol::V2;
    setup.connections.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
    let node = Node::start(setup.clone());
    assert!(is_answered(&node, PROXY_V2).await);
    assert!(
        is_answered(&node, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0").await,
        "the proxy's own question"
    );
    assert!(!is_answered(&node, b"").await, "without a header");
    assert!(
        !is_answered(&node, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n").await,
        "version 1"
    );
    setup.connections.proxy_protocol_from = vec!["10.0.0.0/8".parse().unwrap()];
    let node = Node::start(setup);
    assert!(!is_answered(&node, PROXY_V2).await, "from elsewhere");
}
