//! The example of an app that mounts the edge, built, run, and talked to on three transports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;

use std::path::PathBuf;
use std::process::Stdio;

use command::{Folder, Server, ended, first_line, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

/// What the app's own authentication wants.
const KNOWN: &str = "authorization: Bearer demo\r\n";

/// Builds the example: a test by itself does not. Gives its path.
async fn example() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "embed"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().await.unwrap().success(), "the example does not build");
    // target/debug/deps/embed-… → target/debug/examples/embed
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/embed")
}

async fn start(folder: &Folder) -> Server {
    let mut command = Command::new(example().await);
    command
        .arg("127.0.0.1:0")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Server::start_by(command).await
}

/// The status and the text of an answer.
async fn ask(server: &Server, request: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn an_app_mounts_the_edge_beside_its_own_routes_and_behind_its_own_layers() {
    let folder = Folder::new();
    let server = start(&folder).await;

    let (status, page) = ask(&server, "GET /", "").await;
    assert_eq!((status, page.contains("/edge/v1/sse")), (200, true));
    for request in ["POST /orders/7", "GET /edge/v1/sse?channel=orders", "GET /edge/livez"] {
        let (status, text) = ask(&server, request, "").await;
        assert_eq!((status, text.as_str()), (401, "say who you are\n"), "{request}");
    }
    let (status, text) = ask(&server, "POST /orders/7", KNOWN).await;
    assert_eq!((status, text.starts_with("order 7 stands at ")), (200, true), "{text}");
    let (status, text) = ask(&server, "GET /edge/readyz", "cookie: token=demo\r\n").await;
    assert_eq!((status, text.as_str()), (200, "ok\n"));
    for request in ["GET /nothing", "GET /edge/nothing", "GET /v1/sse?channel=orders"] {
        let (status, text) = ask(&server, request, KNOWN).await;
        assert_eq!(
            (status, text.as_str()),
            (404, "this shop has no such page\n"),
            "{request}"
        );
    }
    let (status, problem) = ask(&server, "DELETE /edge/v1/history", KNOWN).await;
    assert_eq!(
        (status, problem.contains("method_not_allowed")),
        (405, true),
        "{problem}"
    );

    let url = format!("{}/edge", server.url());
    let mut readers = Vec::new();
    for transport in ["ws", "sse", "poll"] {
        let mut reader = folder
            .command(&["subscribe", "orders", "--since", "start", "--transport", transport])
            .args(["--url", &url, "--token", "demo"])
            .spawn()
            .unwrap();
        assert!(first_line(&mut reader).await.ends_with(" - 7\n"), "{transport}");
        readers.push(reader);
    }
    let (status, _) = ask(&server, "POST /orders/8", KNOWN).await;
    assert_eq!(status, 200);
    for reader in &mut readers {
        assert!(first_line(reader).await.ends_with(" - 8\n"));
    }

    assert_eq!(server.interrupt().await, Some(0), "it ends well, within its own bound");
    for mut reader in readers {
        let mut lines = BufReader::new(reader.stderr.take().unwrap()).lines();
        within("the reader's word of the drain", async {
            while !lines.next_line().await.unwrap().unwrap().contains("(draining)") {}
        })
        .await;
        command::interrupt(&reader).await;
        assert_eq!(ended(reader).await.code, Some(130));
    }
}
