//! Restarts of the real binary: with a snapshot and a socket that is handed over nobody notices; without, all is said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "says what happened")]

mod support;

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use support::deadline::within;
use support::event_source::EventSource;
use support::folder::Folder;
use support::link::Receive;
use support::place::Place;
use support::poll::Poll;
use support::publisher::Publisher;
use support::push::Push;
use support::service::{Service, Start, copy_of, kept_socket};
use support::traffic::{ENVIRONMENT, Traffic, Until};
use support::websocket::WebSocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RESTARTS: usize = 10;

/// What is promised for a stop, whatever clients do.
const STOP_TIME: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_restarts_in_a_row_fail_no_connection_and_lose_nothing() {
    let folder = Folder::new("restarts");
    let file = folder.path().join("snapshot");
    let (socket, address) = kept_socket();
    let start = || {
        Service::start(Start {
            handed_over: Some(copy_of(&socket)),
            snapshot: Some(&file),
            environment: &ENVIRONMENT,
        })
    };
    let mut process = start();
    let mut traffic = Traffic::begin(address, "restarts", Until::Ended);
    for restart in 0..RESTARTS {
        println!("restart {restart}, {} publications", traffic.ledger.acked());
        traffic.goes_on(20).await;
        let began = Instant::now();
        process.signal("TERM").await;
        let ended = process.ends().await;
        assert!(ended.success(), "{ended}: {}", process.said());
        assert!(began.elapsed() < STOP_TIME);
        assert!(file.exists(), "{}", process.said());
        process = start();
    }
    traffic.goes_on(20).await;
    let (refusals, reads) = traffic.end().await;
    for read in &reads {
        assert!(read.closings >= 1, "restarts passed {read:?} by");
    }
    println!("{refusals} publications were told to come back; {reads:?}");
}

/// Where the newest publication of `channel` stands.
async fn publish(address: std::net::SocketAddr, channel: &str, key: &str) -> Place {
    let body = format!(r#"{{"channel":"{channel}","data":1}}"#);
    let mut published = Publisher::new(address).publish(&body, key).await.unwrap();
    published.remove(0).place
}

/// What a reader that comes back over each transport is told first of its channel.
async fn told_first(address: std::net::SocketAddr, since: &Place) -> [Push; 3] {
    let since = since.to_string();
    let query = [("channel", "a"), ("since", &*since), ("wait", "0")];
    let mut socket = WebSocket::open(address, Receive::Usual, &query).await.unwrap();
    assert_eq!(socket.push().await.unwrap().kind(), "welcome");
    let mut stream = EventSource::open(address, Receive::Usual, &query).await.unwrap();
    assert_eq!(stream.event().await.unwrap().kind, "welcome");
    let mut poll = Poll::new(address, Receive::Usual);
    poll.get(&query).await.unwrap();
    [
        socket.push().await.unwrap(),
        Push::parse(stream.event().await.unwrap().data).unwrap(),
        poll.answer().await.unwrap().pushes.remove(0),
    ]
}

/// A snapshot that was good for two lives would give out the same positions for other publications.
#[tokio::test]
async fn after_a_kill_readers_are_told_a_gap_and_never_that_all_is_complete() {
    let folder = Folder::new("killed");
    let file = folder.path().join("snapshot");
    let start = || {
        Service::start(Start {
            snapshot: Some(&file),
            ..Start::default()
        })
    };
    let mut process = start();
    let address = process.address().await;
    publish(address, "a", "1").await;
    process.signal("TERM").await;
    assert!(process.ends().await.success());

    let mut process = start();
    let address = process.address().await;
    let second = publish(address, "a", "2").await;
    assert_eq!(second.offset, 2, "the first one was loaded");
    assert!(!file.exists(), "what is served from is not on the disk");
    process.signal("KILL").await;
    process.ends().await;

    let mut process = start();
    let address = process.address().await;
    let other = publish(address, "a", "3").await;
    assert_ne!(other.epoch, second.epoch);
    for seen in [second.at(1), second] {
        let [web_socket, event_source, poll] = told_first(address, &seen).await;
        for subscribed in [web_socket, event_source] {
            assert_eq!(subscribed.text_of("resume"), "gap", "{}", subscribed.text);
        }
        assert_eq!(poll.kind(), "gap", "{}", poll.text);
        assert_eq!(poll.place("from"), Some(seen));
    }
}

#[tokio::test]
async fn a_damaged_snapshot_ends_the_start_with_what_to_do_about_it() {
    let folder = Folder::new("damaged");
    let file = folder.path().join("snapshot");
    fs::write(&file, "no snapshot at all").unwrap();
    let mut process = Service::start(Start {
        snapshot: Some(&file),
        ..Start::default()
    });
    assert_eq!(process.ends().await.code(), Some(78));
    let said = process.said();
    assert!(
        said.contains(file.to_str().unwrap()) && said.contains("Remove the file"),
        "{said}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"no snapshot at all");
}

#[tokio::test]
async fn two_processes_do_not_share_a_snapshot() {
    let folder = Folder::new("shared");
    let file = folder.path().join("snapshot");
    let start = || {
        Service::start(Start {
            snapshot: Some(&file),
            ..Start::default()
        })
    };
    let mut first = start();
    first.address().await;
    let mut second = start();
    assert_eq!(second.ends().await.code(), Some(78));
    assert!(second.said().contains("another process"), "{}", second.said());
}

#[tokio::test]
async fn a_unix_socket_can_be_handed_over_too() {
    let folder = Folder::new("unix");
    let path = folder.path().join("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let mut process = Service::start(Start {
        handed_over: Some(socket.try_clone().unwrap().into()),
        ..Start::default()
    });
    process.says("handed over").await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    process.signal("TERM").await;
    assert!(process.ends().await.success());
    assert!(path.exists(), "it belongs to whoever bound it");
}

#[tokio::test]
async fn a_socket_that_the_world_can_reach_is_refused_however_it_came() {
    let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let mut process = Service::start(Start {
        handed_over: Some(copy_of(&socket)),
        ..Start::default()
    });
    assert_eq!(process.ends().await.code(), Some(78));
    assert!(process.said().contains("--insecure"), "{}", process.said());
}

#[tokio::test]
async fn what_is_handed_over_must_be_a_listening_socket() {
    let folder = Folder::new("no socket");
    let file = fs::File::create(folder.path().join("file")).unwrap();
    let mut process = Service::start(Start {
        handed_over: Some(file.into()),
        ..Start::default()
    });
    assert_eq!(process.ends().await.code(), Some(78));
    assert!(process.said().contains("LISTEN_FDS"), "{}", process.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_told_of_start_life_and_stop() {
    let folder = Folder::new("notify");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut process = Service::start(Start {
        environment: &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")],
        ..Start::default()
    });
    let told = || {
        let mut bytes = [0; 256];
        let count = manager.recv(&mut bytes).expect("a word from the server");
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    process.signal("TERM").await;
    while told() != "STOPPING=1" {}
    assert!(process.ends().await.success());
}
