//! The process's own HTTP client, against servers that answer well, late, too much, elsewhere, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::deadline::{PATIENCE, until, within};
use throughline::http::HttpClient;
use throughline::session::outgoing::{Answer, Ask, NoAnswer, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What a server does with the requests of one connection, one after the other.
#[derive(Debug, Clone)]
enum Does {
    Answers(String),
    AnswersAndCloses(String),
    /// Answers, closes, and notes that the other side has seen it.
    AnswersAndLeaves(String),
    /// Answers the first request of a connection, and closes it when it has read the second.
    AnswersOnce(String),
    /// Says this much, and then nothing more for good.
    Hangs(&'static str),
}

/// A server that does the same on every connection, and what it saw.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    /// Connections that were closed on both sides.
    left: Arc<AtomicUsize>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            left: Arc::default(),
        };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        let left = Arc::clone(&server.left);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let serving = serve(socket, does.clone(), Arc::clone(&requests));
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    serving.await;
                    left.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/hook?a=b", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut socket: TcpStream, does: Does, requests: Arc<Mutex<Vec<String>>>) {
    let mut answered = 0;
    while let Some(request) = request(&mut socket).await {
        requests.lock().await.push(request);
        answered += 1;
        match &does {
            Does::AnswersOnce(_) if answered > 1 => return,
            Does::AnswersAndLeaves(answer) => {
                socket.write_all(answer.as_bytes()).await.unwrap();
                socket.shutdown().await.unwrap();
                assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "nothing more is sent");
                return;
            }
            Does::Answers(answer) | Does::AnswersOnce(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
            Does::AnswersAndCloses(answer) => return socket.write_all(answer.as_bytes()).await.unwrap(),
            Does::Hangs(beginning) => {
                socket.write_all(beginning.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A whole request; `None`: the client is done with the connection.
async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                return Some(text);
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Asks with a body, and with bounds that nothing ordinary meets.
async fn ask(client: &HttpClient, url: &str, time_max: Duration) -> Result<Answer, NoAnswer> {
    let request = Request {
        url,
        headers: &[("x-more", b"1"), ("cookie", b"a=b")],
        body: Some(Bytes::from_static(b"{}")),
        time_max,
        answer_bytes_max: Some(1024),
    };
    within("an answer", client.ask(request)).await
}

#[tokio::test]
async fn it_sends_what_it_is_told_and_keeps_its_connection() {
    let server = Server::start(Does::Answers(ok("yes"))).await;
    let client = HttpClient::default();
    for _ in 0..10 {
        let answer = ask(&client, &server.url(), PATIENCE).await.unwrap();
        assert_eq!((answer.status, &*answer.body), (200, b"yes".as_slice()));
    }
    assert_eq!(server.connections(), 1);
    let requests = server.requests.lock().await;
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("post /hook?a=b http/1.1"), "{head}");
    assert_eq!(body, "{}");
    for line in [
        "x-more: 1",
        "cookie: a=b",
        "accept: application/json",
        "user-agent: throughline/0.1.0",
    ] {
        assert!(head.lines().any(|known| known == line), "{line}\n{head}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    let server = Server::start(Does::AnswersAndLeaves(ok("yes"))).await;
    let client = HttpClient::default();
    for asked in 1..=20 {
        assert_eq!(ask(&client, &server.url(), PATIENCE).await.unwrap().status, 200);
        until("the end of the connection", || {
            server.left.load(Ordering::SeqCst) == asked
        })
        .await;
    }
    assert_eq!((server.connections(), server.requests.lock().await.len()), (20, 20));
}

/// Whoever has read a request may have done what it asks for, whether it answers or not: it is not told again.
#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again() {
    let server = Server::start(Does::AnswersOnce(ok("yes"))).await;
    let client = HttpClient::default();
    assert_eq!(ask(&client, &server.url(), PATIENCE).await.unwrap().status, 200);
    let unanswered = ask(&client, &server.url(), PATIENCE).await;
    assert!(matches!(unanswered, Err(NoAnswer::Broken(_))), "{unanswered:?}");
    assert_eq!((server.connections(), server.requests.lock().await.len()), (1, 2));
    // On connections that are closed at any moment, too: each request arrives once at most.
    let server = Server::start(Does::AnswersAndCloses(ok("yes"))).await;
    for _ in 0..50 {
        let _ = ask(&client, &server.url(), PATIENCE).await;
    }
    assert!(server.requests.lock().await.len() <= 50);
}

/// Who asks for no body is not held up by one that is long, or does not end.
#[tokio::test]
async fn where_the_status_is_enough_the_body_is_not_awaited() {
    let endless = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    let long = format!(
        "HTTP/1.1 202 Accepted\r\ncontent-length: 9000000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let client = HttpClient::default();
    for does in [Does::Hangs(endless), Does::Answers(long)] {
        let server = Server::start(does).await;
        let request = Request {
            url: &server.url(),
            headers: &[],
            body: Some(Bytes::from_static(b"{}")),
            time_max: PATIENCE,
            answer_bytes_max: None,
        };
        let answer = within("an answer", client.ask(request)).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (202, 0));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let elsewhere = Server::start(Does::Answers(ok("no"))).await;
    let moved = format!(
        "HTTP/1.1 307 Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url()
    );
    let server = Server::start(Does::Answers(moved)).await;
    let answer = ask(&HttpClient::default(), &server.url(), PATIENCE).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn whoever_is_late_at_any_point_is_given_up() {
    let short = Duration::from_millis(200);
    for beginning in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let server = Server::start(Does::Hangs(beginning)).await;
        let answer = ask(&HttpClient::default(), &server.url(), short).await;
        assert_eq!(answer, Err(NoAnswer::Late(short)), "{beginning:?}");
        assert_eq!(server.requests.lock().await.len(), 1);
    }
}

#[tokio::test]
async fn a_long_answer_is_not_read() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n800\r\n{}\r\n",
        "x".repeat(0x800)
    );
    for answer in [ok(&"x".repeat(1025)), chunked] {
        let server = Server::start(Does::Answers(answer)).await;
        let answer = ask(&HttpClient::default(), &server.url(), PATIENCE).await;
        assert_eq!(answer, Err(NoAnswer::TooLong(1024)));
    }
    let server = Server::start(Does::Answers(ok(&"x".repeat(1024)))).await;
    assert!(ask(&HttpClient::default(), &server.url(), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn what_breaks_off_and_what_is_no_http_is_broken() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned();
    for answer in [cut, "220 mail.example ESMTP\r\n".to_owned(), String::new()] {
        let server = Server::start(Does::AnswersAndCloses(answer.clone())).await;
        let said = ask(&HttpClient::default(), &server.url(), PATIENCE).await;
        assert!(matches!(said, Err(NoAnswer::Broken(_))), "{answer:?} {said:?}");
    }
}

#[tokio::test]
async fn where_nobody_is_nobody_can_be_reached() {
    let client = HttpClient::default();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let refused = ask(&client, &format!("http://127.0.0.1:{port}/"), PATIENCE).await;
    assert!(
        matches!(&refused, Err(NoAnswer::Unreachable(why)) if why.contains("refused")),
        "{refused:?}"
    );
    // Somebody who does not speak TLS.
    let server = Server::start(Does::AnswersAndCloses("HTTP/1.1 400 Oh\r\n\r\n".to_owned())).await;
    let plain = ask(&client, &format!("https://{}/", server.address), Duration::from_secs(5)).await;
    assert!(plain.is_err(), "{plain:?}");
    for url in ["", "/hook", "ftp://127.0.0.1/", "http://"] {
        let malformed = ask(&client, url, PATIENCE).await;
        assert!(malformed.is_err(), "{url}");
    }
}
