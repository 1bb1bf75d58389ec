//! The command line as people and scripts meet it: what it prints, what it says, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;

use std::net::SocketAddr;

use command::proxy::{Cutting, Secure, socket_to};
use command::{Folder, Server, ended, first_line, interrupt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An address that is taken, and where nobody listens.
fn nobody() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap().as_socket().unwrap());
    (socket, url)
}

/// From 1 to `last`, as text.
fn numbers(last: u32) -> Vec<String> {
    (1..=last).map(|number| number.to_string()).collect()
}

/// The data of a channel's publications, as `history` prints them.
async fn data(folder: &Folder, url: &str, channel: &str) -> Vec<String> {
    let ran = folder
        .run(&["history", channel, "--since", "start", "--limit", "1000", "--url", url])
        .await;
    ran.says(0, &[]);
    let data = |line: &str| line.splitn(4, ' ').nth(3).unwrap().to_owned();
    ran.stdout.lines().map(data).collect()
}

#[tokio::test]
async fn publish_takes_json_as_it_is_and_other_text_as_a_string() {
    let (folder, server) = started().await;
    let url = server.url();
    for (arguments, published) in [
        (vec![r#"{"a": 1.50}"#], r#"{"a":1.50}"#),
        (vec!["hello"], r#""hello""#),
        (vec!["-7"], "-7"),
        (vec!["42", "--text"], r#""42""#),
        (vec!["{", "--text"], r#""{""#),
        (vec!["x", "--event", "like"], r#""x""#),
    ] {
        let arguments = [vec!["publish", "news"], arguments, vec!["--url", &url]].concat();
        let ran = folder.run(&arguments).await;
        ran.says(0, &[]);
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(answer["channel"], "news");
        assert_eq!(
            data(&folder, &url, "news").await.last().unwrap(),
            published,
            "{arguments:?}"
        );
    }
    let ran = folder
        .run(&["history", "news", "--limit", "1", "--since", "last:1", "--url", &url])
        .await;
    assert_eq!(ran.stdout.split(' ').nth(2), Some("like"));
    let whole = folder
        .run_fed(b"{\"many\":\n[1,2]}\n", &["publish", "whole", "-", "--url", &url])
        .await;
    whole.says(0, &[]);
    assert_eq!(data(&folder, &url, "whole").await, [r#"{"many":[1,2]}"#]);
}

#[tokio::test]
async fn publish_names_what_is_wrong_and_what_to_do() {
    let (folder, server) = started().await;
    let url = server.url();
    for (arguments, code, words) in [
        (
            vec!["news", r#"{"text":"hi"#],
            65,
            vec!["not JSON", "line 1 column", "--text"],
        ),
        (vec!["news", "hi", "--json"], 65, vec!["not JSON", "--json"]),
        (vec!["a b", "1"], 1, vec!["bad_channel"]),
        (vec!["news"], 2, vec!["<DATA>"]),
        (vec!["news", "1", "--lines"], 2, vec!["cannot be used with"]),
        (vec!["news", "1", "--event", &"e".repeat(65)], 1, vec!["64"]),
    ] {
        let arguments = [vec!["publish"], arguments, vec!["--url", &url]].concat();
        folder.run(&arguments).await.says(code, &words);
    }
    let big = "x".repeat(300_000);
    let ran = folder
        .run_fed(big.as_bytes(), &["publish", "news", "-", "--url", &url])
        .await;
    ran.says(1, &["at most 262144", "too_large"]);
    let endless = vec![b'x'; 17 * 1024 * 1024];
    let ran = folder.run_fed(&endless, &["publish", "news", "-", "--url", &url]).await;
    ran.says(65, &["more than 16777216 bytes"]);
    let ran = folder.run_fed(b"\xff", &["publish", "news", "-", "--url", &url]).await;
    ran.says(65, &["not UTF-8", "byte 1"]);
}

#[tokio::test]
async fn flags_of_the_server_without_its_command_are_told_which() {
    let folder = Folder::new();
    for flags in [
        vec!["--config", "throughline.toml"],
        vec!["--config=throughline.toml"],
        vec!["--listen", "127.0.0.1:0", "--insecure"],
    ] {
        let hint = format!("throughline serve {}", flags[0].split('=').next().unwrap());
        folder.run(&flags).await.says(2, &["unexpected argument", &hint]);
    }
    let ran = folder.run(&["--konfig", "throughline.toml"]).await;
    ran.says(2, &["unexpected argument"]);
    assert!(!ran.stderr.contains("throughline serve --"), "{ran:?}");
}

#[tokio::test]
async fn a_key_makes_a_repetition_harmless() {
    let (folder, server) = started().await;
    let url = server.url();
    for duplicate in [false, true] {
        let ran = folder.run(&["publish", "news", "1", "--key", "k", "--url", &url]).await;
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(answer["duplicate"], duplicate);
    }
    folder
        .run(&["publish", "news", "2", "--key", "k", "--url", &url])
        .await
        .says(1, &["idempotency_mismatch"]);
}

#[tokio::test]
async fn lines_are_published_in_order() {
    let (folder, server) = started().await;
    let url = server.url();
    let input = numbers(1000).join("\n");
    let arguments = ["publish", "news", "-l", "--event", "n", "--url", &url];
    let ran = folder.run_fed(input.as_bytes(), &arguments).await;
    ran.says(0, &[]);
    assert_eq!(ran.stdout.lines().count(), 1000);
    assert_eq!(data(&folder, &url, "news").await, numbers(1000));
}

#[tokio::test]
async fn lines_go_on_after_a_lost_answer_and_nothing_is_there_twice() {
    let (folder, server) = started().await;
    let proxy = Cutting::start(server.address).await;
    let input = numbers(900).join("\n");
    let arguments = ["publish", "news", "--lines", "--url", &proxy.url()];
    let ran = folder.run_fed(input.as_bytes(), &arguments).await;
    ran.says(0, &["trying again"]);
    assert_eq!(proxy.cuts(), 1, "the answer that was to be lost was lost");
    assert!(
        ran.stdout.contains("\"duplicate\":true"),
        "it was stored before it was repeated: {ran:#?}"
    );
    assert_eq!(data(&folder, &server.url(), "news").await, numbers(900));

    let proxy = Cutting::start(server.address).await;
    let arguments = ["publish", "other", "--lines", "--no-keys", "--url", &proxy.url()];
    let ran = folder.run_fed(b"1\n", &arguments).await;
    ran.says(75, &["nothing was published"]);
}

#[tokio::test]
async fn a_line_that_is_wrong_ends_it_and_is_named() {
    let (folder, server) = started().await;
    let url = server.url();
    let arguments = ["publish", "news", "-l", "--key", "k", "--url", &url];
    let ran = folder.run_fed(b"1\n{\"a\"\n3\n", &arguments).await;
    ran.says(65, &["line 2: not JSON", "as far as line 1", "--key k"]);
    let ran = folder.run_fed(b"1\n2\n3\n", &arguments).await;
    ran.says(0, &[]);
    assert_eq!(
        data(&folder, &url, "news").await,
        ["1", "2", "3"],
        "line 1 is there once"
    );
    let big = format!("1\n{}\n3\n", "x".repeat(300_000));
    let ran = folder
        .run_fed(big.as_bytes(), &["publish", "big", "-l", "--url", &url])
        .await;
    ran.says(1, &["line 2 was refused", "too_large", "as far as line 1"]);
    let beyond = data(&folder, &url, "big").await.len() - 1;
    assert!(
        ran.stderr
            .contains(&format!("while {beyond} lines of the same request")),
        "{ran:#?}"
    );
}

#[tokio::test]
async fn subscribe_receives_on_each_transport_and_ends_by_count() {
    let (folder, server) = started().await;
    let url = server.url();
    let input = b"1\n2\n3\n";
    folder
        .run_fed(input, &["publish", "news", "-l", "--url", &url])
        .await
        .says(0, &[]);
    for transport in ["ws", "sse", "poll"] {
        let arguments = [
            "subscribe",
            "news",
            "--since",
            "start",
            "--count",
            "3",
            "--transport",
            transport,
        ];
        let ran = folder.run(&[&arguments[..], &["--url", &url]].concat()).await;
        ran.says(0, &["connected to"]);
        let ends: Vec<_> = ran
            .stdout
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        assert_eq!(ends, ["1", "2", "3"], "{transport}");
    }
    let arguments = [
        "subscribe",
        "news",
        "--since",
        "last:1",
        "--count",
        "1",
        "--json",
        "--url",
        &url,
    ];
    let ran = folder.run(&arguments).await;
    let pushes: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<&str> = pushes.iter().map(|push| push["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["welcome", "subscribed", "publication"]);
}

#[tokio::test]
async fn subscribe_waits_as_long_as_it_is_told() {
    let (folder, server) = started().await;
    let url = server.url();
    let arguments = ["subscribe", "news", "--wait", "1", "--url", &url];
    folder.run(&arguments).await.says(0, &[]);
    let ran = folder.run(&[&arguments[..], &["--count", "2"]].concat()).await;
    ran.says(75, &["2 are missing of --count"]);
}

#[tokio::test]
async fn ctrl_c_ends_subscribe_with_130() {
    let (folder, server) = started().await;
    let url = server.url();
    folder.run(&["publish", "news", "1", "--url", &url]).await.says(0, &[]);
    let mut process = folder
        .command(&["subscribe", "news", "--since", "start", "--url", &url])
        .spawn()
        .unwrap();
    assert!(first_line(&mut process).await.ends_with(" 1\n"));
    interrupt(&process).await;
    assert_eq!(ended(process).await.code, Some(130));
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_subscribe_quietly() {
    let (folder, server) = started().await;
    let url = server.url();
    folder.run(&["publish", "news", "1", "--url", &url]).await.says(0, &[]);
    for transport in ["ws", "sse", "poll"] {
        let arguments = [
            "subscribe",
            "news",
            "--since",
            "start",
            "--transport",
            transport,
            "--url",
            &url,
        ];
        let mut process = folder.command(&arguments).spawn().unwrap();
        first_line(&mut process).await;
        drop(process.stdout.take());
        let ran = ended(process).await;
        ran.says(0, &[]);
        assert_eq!(ran.stderr.lines().count(), 1, "nothing but `connected`: {ran:#?}");
    }
}

#[tokio::test]
async fn history_reads_forwards_and_backwards_and_says_where_to_go_on() {
    let (folder, server) = started().await;
    let url = server.url();
    let published = folder
        .run_fed(b"1\n2\n3\n4\n", &["publish", "news", "-l", "--url", &url])
        .await;
    let last: Value = serde_json::from_str(published.stdout.lines().last().unwrap()).unwrap();
    let last = last["position"].as_str().unwrap();
    let ran = folder
        .run(&["history", "news", "--since", "start", "--limit", "2", "--url", &url])
        .await;
    ran.says(0, &["there is more", "--since"]);
    assert_eq!(ran.stdout.lines().count(), 2);
    let ran = folder
        .run(&["history", "news", "--before", last, "--limit", "2", "--url", &url])
        .await;
    ran.says(0, &[]);
    let ends: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(ends, ["2", "3"]);
    let ran = folder.run(&["history", "news", "--json", "--url", &url]).await;
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (answer["publications"].as_array().unwrap().len(), &answer["top"]),
        (4, &last.into())
    );
    let gone = folder
        .run(&["history", "news", "--since", "other-3", "--url", &url])
        .await;
    gone.says(0, &["gap on news: lost other-3.."]);
    let wrong = folder.run(&["history", "news", "--since", "!", "--url", &url]).await;
    wrong.says(1, &["bad_cursor"]);
}

#[tokio::test]
async fn where_nobody_serves_that_is_said_with_what_to_do() {
    let folder = Folder::new();
    let (_taken, url) = nobody();
    for arguments in [["publish", "news", "1"].as_slice(), &["history", "news"]] {
        let ran = folder.run(&[arguments, &["--url", &url]].concat()).await;
        ran.says(69, &["cannot connect to", &url, "throughline serve", "--url"]);
    }
    let ran = folder.run_fed(b"1\n", &["publish", "news", "-l", "--url", &url]).await;
    ran.says(69, &["cannot connect to", "nothing was published"]);
    let arguments = ["subscribe", "news", "--wait", "1", "--url", &url];
    folder
        .run(&arguments)
        .await
        .says(69, &["reconnecting", "cannot connect to", "nobody served there"]);
    let by_variable = [("THROUGHLINE_URL", url.as_str())];
    folder
        .run_with(&by_variable, &["publish", "news", "1"])
        .await
        .says(69, &[&url]);
}

/// Answers everyone with the same bytes, and gives what it was asked.
async fn stranger(answer: &'static [u8]) -> (String, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 65536];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let _ = asked.send(String::from_utf8_lossy(&request[..read]).into_owned()).await;
            let _ = stream.write_all(answer).await;
        }
    });
    (url, receiver)
}

#[tokio::test]
async fn a_server_that_is_another_is_told_apart() {
    let folder = Folder::new();
    let page = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let (url, _asked) = stranger(page).await;
    for arguments in [
        ["publish", "news", "1"].as_slice(),
        &["history", "news"],
        &["subscribe", "news"],
    ] {
        let ran = folder.run(&[arguments, &["--url", &url]].concat()).await;
        ran.says(1, &["Not Found", "does not seem to be Throughline", "--url"]);
    }
    let well = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let (url, _asked) = stranger(well).await;
    for arguments in [["publish", "news", "1"].as_slice(), &["history", "news"]] {
        let ran = folder.run(&[arguments, &["--url", &url]].concat()).await;
        ran.says(70, &["protocol error", "--url"]);
    }
    let (url, _asked) = stranger(b"-ERR unknown command\r\n").await;
    for arguments in [
        ["publish", "news", "1"].as_slice(),
        &["history", "news"],
        &["subscribe", "news"],
    ] {
        let ran = folder.run(&[arguments, &["--url", &url]].concat()).await;
        ran.says(70, &["does not speak HTTP", "--url"]);
    }
}

#[tokio::test]
async fn a_token_is_sent_and_never_printed() {
    let folder = Folder::new();
    let refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let (url, mut asked) = stranger(refusal).await;
    let by_flag = folder
        .run(&["publish", "news", "1", "--token", "hunter2", "--url", &url])
        .await;
    let variable = [("THROUGHLINE_TOKEN", "hunter2")];
    let by_variable = folder.run_with(&variable, &["history", "news", "--url", &url]).await;
    let on_ws = folder.run_with(&variable, &["subscribe", "news", "--url", &url]).await;
    for ran in [by_flag, by_variable, on_ws] {
        ran.says(1, &["401"]);
        assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
        let asked = asked.recv().await.unwrap();
        assert!(asked.contains("authorization: Bearer hunter2\r\n"), "{asked}");
    }
    let help = folder.run_with(&variable, &["publish", "--help"]).await;
    assert!(!help.stdout.contains("hunter2"), "{help:#?}");
    let wrong = folder
        .run(&["publish", "news", "1", "--token", "hunter2\n\u{1}x", "--url", &url])
        .await;
    wrong.says(2, &["--token"]);
    assert!(!wrong.stderr.contains("hunter2"), "{wrong:#?}");
}

#[tokio::test]
async fn tls_believes_those_who_are_named_only() {
    let (folder, server) = started().await;
    let secure = Secure::start(server.address).await;
    let ca = folder.write("ca.pem", &secure.certificate);
    let (ca, url) = (ca.to_str().unwrap(), secure.url.as_str());
    folder
        .run(&["publish", "news", "1", "--url", url, "--cacert", ca])
        .await
        .says(0, &[]);
    for transport in ["ws", "sse", "poll"] {
        let arguments = [
            "subscribe",
            "news",
            "--since",
            "start",
            "--count",
            "1",
            "--transport",
            transport,
        ];
        let ran = folder
            .run(&[&arguments[..], &["--url", url, "--cacert", ca]].concat())
            .await;
        ran.says(0, &[url]);
    }
    let unverified = ["history", "news", "--url", url, "--insecure-skip-verify"];
    assert_eq!(folder.run(&unverified).await.stdout.lines().count(), 1);
    let healthy = ["healthcheck", "--url", url, "--insecure-skip-verify"];
    folder.run(&healthy).await.says(0, &["ready"]);
    let by_variable = [("SSL_CERT_FILE", ca)];
    folder
        .run_with(&by_variable, &["history", "news", "--url", url])
        .await
        .says(0, &[]);

    let other = folder.write("other.pem", &Secure::start(server.address).await.certificate);
    for command in ["history", "subscribe"] {
        let ran = folder
            .run(&[command, "news", "--url", url, "--cacert", other.to_str().unwrap()])
            .await;
        ran.says(69, &["no TLS with", "--cacert"]);
    }
    let empty = folder.write("empty.pem", "nothing\n");
    let ran = folder
        .run(&["history", "news", "--url", url, "--cacert", empty.to_str().unwrap()])
        .await;
    ran.says(2, &["--cacert", "BEGIN CERTIFICATE"]);
    let plain = server.url().replace("http:", "https:");
    folder
        .run(&["history", "news", "--url", &plain, "--insecure-skip-verify"])
        .await
        .says(69, &["no TLS with", "http://"]);
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_a_server_too() {
    let (folder, server) = started().await;
    let path = folder.path().join("t.sock");
    socket_to(&path, server.address);
    let url = format!("unix:{}", path.display());
    folder.run(&["publish", "news", "1", "--url", &url]).await.says(0, &[]);
    let arguments = ["subscribe", "news", "--since", "start", "--count", "1", "--url", &url];
    folder.run(&arguments).await.says(0, &[&url]);
    folder
        .run(&["healthcheck", "--url", &url])
        .await
        .says(0, &["ready", &url]);
    let ran = folder
        .run(&["publish", "news", "1", "--url", "unix:/no/such/socket"])
        .await;
    ran.says(69, &["unix:/no/such/socket"]);
}

#[tokio::test]
async fn healthcheck_says_yes_or_no() {
    let (folder, server) = started().await;
    folder
        .run(&["healthcheck", "--url", &server.url()])
        .await
        .says(0, &["ready"]);
    let listen = format!("0.0.0.0:{}", server.address.port());
    let configured = [("THROUGHLINE_LISTEN", listen.as_str())];
    folder
        .run_with(&configured, &["healthcheck"])
        .await
        .says(0, &["ready", "127.0.0.1"]);
    let draining = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let (url, _asked) = stranger(draining).await;
    folder
        .run(&["healthcheck", "--url", &url])
        .await
        .says(1, &["not ready", "503"]);
    // It is accepted by the system, and never by anybody.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ran = folder.run(&["healthcheck", "--url", &url, "--timeout", "1"]).await;
    ran.says(1, &["no answer within 1000 ms"]);
    folder
        .run_with(&[("THROUGHLINE_LISTEN", "127.0.0.1:0")], &["healthcheck"])
        .await
        .says(1, &["--url"]);
}

#[tokio::test]
async fn an_address_in_use_is_said_with_what_to_do() {
    let (folder, server) = started().await;
    let ran = folder.run(&["serve", "--listen", &server.address.to_string()]).await;
    ran.says(69, &["cannot listen on", "--listen"]);
}

#[tokio::test]
async fn what_the_binary_tells_of_itself() {
    let folder = Folder::new();
    let ran = folder.run(&["version", "--json"]).await;
    let version: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["protocol"], "v1");
    assert!(version["rustc"].as_str().unwrap().starts_with("rustc "), "{version}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = folder.run(&["completions", shell]).await;
        ran.says(0, &[]);
        assert!(ran.stdout.contains("healthcheck"), "{shell}");
    }
    assert!(folder.run(&["man"]).await.stdout.contains(".TH throughline 1"));
    folder.run(&["man", "pages"]).await.says(0, &["pages"]);
    for page in ["throughline.1", "throughline-publish.1", "throughline-config-show.1"] {
        assert!(folder.path().join("pages").join(page).exists(), "{page}");
    }
    let help = folder.run(&["--help"]).await;
    for code in ["0 ", "1 ", "2 ", "65", "69", "70", "73", "74", "75", "78", "130"] {
        assert!(help.stdout.contains(&format!("\n  {code}")), "{code}: {help:#?}");
    }
    let near = folder.run(&["publsh"]).await;
    near.says(2, &["'publish'"]);
}

async fn started() -> (Folder, Server) {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    (folder, server)
}
