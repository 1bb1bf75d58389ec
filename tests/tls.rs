//! TLS: what openssl, curl and the files of a certificate that changes see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use support::deadline::within;
use support::frames::{self, Frame};
use support::http::{self, Head};
use support::node::{Node, Setup};
use support::process::{Process, command, output, said};
use throughline::server::{Reload, Tls};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A folder with a certificate for `localhost` and its key.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let files = Self { folder };
        files.write_new();
        files
    }

    fn write_new(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        // Written beside and renamed, as tools that renew certificates do.
        for (path, text) in [
            (self.cert(), made.cert.pem()),
            (self.key(), made.signing_key.serialize_pem()),
        ] {
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
    }

    fn cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    fn load(&self) -> Arc<Tls> {
        Arc::new(Tls::load(&self.cert(), &self.key()).unwrap())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn node(tls: &Arc<Tls>) -> Node {
    Node::start(Setup {
        tls: Some(Arc::clone(tls)),
        ..Setup::window(100)
    })
}

/// What `openssl s_client` says of a connection on which it asks for one page.
async fn s_client(node: &Node, arguments: &[&str]) -> String {
    let address = node.address.to_string();
    let always = ["s_client", "-connect", &address, "-servername", "localhost"];
    let mut command = tokio::process::Command::new("openssl");
    command.args(always).args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = command.kill_on_drop(true).spawn().expect("openssl: run scripts/test");
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut input = running.stdin.take().unwrap();
    // It may have left already, if it was refused.
    let _ = input.write_all(request).await;
    let output = within("the end of openssl", async {
        let output = running.wait_with_output().await.unwrap();
        drop(input);
        output
    })
    .await;
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn openssl_sees_what_it_should() {
    let files = Files::new("openssl");
    let node = node(&files.load());
    let cert = files.cert();
    let session = files.folder.join("session");
    let new = s_client(
        &node,
        &[
            "-alpn",
            "http/1.1",
            "-CAfile",
            text(&cert),
            "-verify_return_error",
            "-sess_out",
            text(&session),
        ],
    )
    .await;
    for expected in [
        "TLSv1.3",
        "New, ",
        "ALPN protocol: http/1.1",
        "Verify return code: 0 (ok)",
        "200 OK",
    ] {
        assert!(new.contains(expected), "{expected:?} is missing in {new}");
    }
    let again = s_client(&node, &["-alpn", "http/1.1", "-sess_in", text(&session)]).await;
    assert!(again.contains("Reused, TLSv1.3") && again.contains("200 OK"), "{again}");
    let second = s_client(&node, &["-alpn", "h2,http/1.1"]).await;
    assert!(second.contains("ALPN protocol: h2"), "{second}");
    let older = s_client(&node, &["-tls1_2"]).await;
    assert!(older.contains("TLSv1.2") && older.contains("200 OK"), "{older}");
    for refused in [&["-tls1_1"][..], &["-alpn", "spdy/3"]] {
        let refused = s_client(&node, refused).await;
        assert!(!refused.contains("200 OK"), "{refused}");
    }
}

/// SSE, long-poll and publish by curl, over HTTP/2 and over HTTP/1.1; the stream goes on beside what the others do.
#[tokio::test]
async fn curl_publishes_polls_and_streams() {
    let files = Files::new("curl");
    let node = node(&files.load());
    let cert = files.cert();
    for (version, number) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = |path: &str| format!("https://localhost:{}{path}", node.address.port());
        let always = [
            "-q",
            "-sS",
            "-N",
            "--noproxy",
            "*",
            "--cacert",
            text(&cert),
            "-4",
            "-m",
            "50",
            version,
        ];
        let mut streaming = tokio::process::Command::new("curl");
        streaming.args(always).arg(url("/v1/sse?channel=a"));
        streaming.stdout(Stdio::piped()).kill_on_drop(true);
        let mut streaming = streaming.spawn().expect("curl: run scripts/test");
        let mut lines = BufReader::new(streaming.stdout.take().unwrap()).lines();
        let mut until = async |text: &str| {
            let found = async {
                loop {
                    let line = lines.next_line().await.unwrap().expect("the stream goes on");
                    if line.contains(text) {
                        return line;
                    }
                }
            };
            within(text, found).await
        };
        let subscribed = until("\"resume\"").await;
        let since = subscribed
            .split("\"position\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let curl = async |arguments: &[&str]| {
            said(
                "curl",
                &[&always[..], &["-w", " over %{http_version}"], arguments].concat(),
            )
            .await
        };
        let published = curl(&["-d", r#"{"channel":"a","data":"over TLS"}"#, &url("/v1/publish")]).await;
        assert!(published.ends_with(&format!("over {number}")), "{published}");
        until("over TLS").await;
        let polled = curl(&[&url(&format!("/v1/poll?channel=a&since={since}"))]).await;
        assert!(
            polled.contains("over TLS") && polled.ends_with(&format!("over {number}")),
            "{polled}"
        );
    }
}

/// A WebSocket over HTTP/1.1: its task writes into TLS itself, which has a buffer of its own, and must leave nothing in
/// it; neither a long message nor the last words.
#[tokio::test]
async fn a_websocket_goes_over_tls() {
    let files = Files::new("websocket");
    let mut node = node(&files.load());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.cert()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), socket);
    let mut socket = within("a handshake", connecting).await.unwrap();
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    socket
        .write_all(&http::get("/v1/ws?channel=a", &headers))
        .await
        .unwrap();
    let mut input = Vec::new();
    let head = loop {
        if let Some(head) = Head::take(&mut input).unwrap() {
            break head;
        }
        assert!(socket.read_buf(&mut input).await.unwrap() > 0);
    };
    assert_eq!(head.status, 101);
    let long = "x".repeat(200_000);
    let body = serde_json::json!({"channel": "a", "data": long}).to_string();
    let data = files.folder.join("data");
    std::fs::write(&data, body).unwrap();
    let from = format!("@{}", text(&data));
    let url = format!("https://{}/v1/publish", node.address);
    let mut seen = 0;
    for expected in ["welcome", "subscribed", &long, "closing"] {
        let frame = within(expected, async {
            loop {
                match frames::take(&mut input).unwrap() {
                    Some(frame) => return frame,
                    None => assert!(socket.read_buf(&mut input).await.unwrap() > 0),
                }
            }
        })
        .await;
        assert!(
            matches!(&frame, Frame::Text(text) if text.contains(expected)),
            "{frame:?}"
        );
        seen += 1;
        if seen == 2 {
            assert!(
                said("curl", &["-q", "-sSk", "--noproxy", "*", "-d", &from, &url])
                    .await
                    .contains("position")
            );
        }
        if seen == 3 {
            node.begin_shutdown();
        }
    }
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_tls() {
    let files = Files::new("plain");
    let node = node(&files.load());
    let url = format!("http://{}/livez", node.address);
    let told = said("curl", &["-q", "-sS", "--noproxy", "*", "-w", " %{http_code}", &url]).await;
    assert!(told.contains("https://") && told.ends_with(" 400"), "{told}");
}

/// The certificate's serial number, as a client sees it.
async fn serial(node: &Node) -> String {
    let shown = s_client(node, &[]).await;
    let begin = shown.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let end = shown.find("-----END CERTIFICATE").unwrap();
    shown[begin..end].to_owned()
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_dropped_connection_and_a_bad_one_is_not() {
    let files = Files::new("reload");
    let tls = files.load();
    let node = node(&tls);
    let before = serial(&node).await;
    let url = |path: &str| format!("https://{}{path}", node.address);
    let mut streaming = tokio::process::Command::new("curl");
    streaming.args(["-q", "-sSNk", "--noproxy", "*", "-m", "50", &url("/v1/sse?channel=a")]);
    streaming.stdout(Stdio::piped()).kill_on_drop(true);
    let mut streaming = streaming.spawn().expect("curl: run scripts/test");
    let mut lines = BufReader::new(streaming.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("\"resume\"") {}
    assert_eq!(tls.reload(), Ok(Reload::Unchanged));

    files.write_new();
    assert_eq!(tls.reload(), Ok(Reload::Changed));
    let after = serial(&node).await;
    assert_ne!(before, after);

    // Each wrong in its own way; what there is stays.
    let key = std::fs::read(files.key()).unwrap();
    std::fs::write(files.key(), b"no key").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("key.pem"));
    assert_eq!(tls.reload(), Ok(Reload::Unchanged), "said once");
    std::fs::remove_file(files.key()).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("key.pem"));
    let other = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    std::fs::write(files.key(), other.signing_key.serialize_pem()).unwrap();
    assert!(tls.reload().is_err(), "the key of another certificate");
    assert_eq!(serial(&node).await, after);
    std::fs::write(files.key(), key).unwrap();
    assert_eq!(tls.reload(), Ok(Reload::Changed));

    let published = output(
        "curl",
        &[
            "-q",
            "-sSk",
            "--noproxy",
            "*",
            "-d",
            r#"{"channel":"a","data":"still here"}"#,
            &url("/v1/publish"),
        ],
    )
    .await;
    assert!(published.status.success());
    let line = within("the publication", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            if line.contains("still here") {
                return line;
            }
        }
    });
    line.await;
}

#[tokio::test]
async fn the_binary_reloads_when_it_is_told() {
    let files = Files::new("binary");
    let mut starting = command(&[], &["serve", "--listen", "127.0.0.1:0"]);
    starting.env("THROUGHLINE_TLS__CERT_FILE", files.cert());
    starting.env("THROUGHLINE_TLS__KEY_FILE", files.key());
    let process = Process::start(starting).await;
    let url = format!("https://localhost:{}/livez", process.address.port());
    let ask = async || {
        let cert = files.cert();
        said("curl", &["-q", "-sS4", "--noproxy", "*", "--cacert", text(&cert), &url]).await
    };
    assert_eq!(ask().await, "ok\n");
    files.write_new();
    assert_eq!(ask().await, "", "not yet");
    process.signal("HUP");
    within("the new certificate", async { while ask().await != "ok\n" {} }).await;

    let config = wrong_config(&files);
    let wrong = output(
        env!("CARGO_BIN_EXE_throughline"),
        &["serve", "--listen", "127.0.0.1:0", "--config", text(&config)],
    )
    .await;
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("tls.key_file") && said.contains("nowhere.pem"), "{said}");
}

/// A configuration whose key is nowhere.
fn wrong_config(files: &Files) -> PathBuf {
    let path = files.folder.join("wrong.toml");
    let cert = files.cert();
    let text = format!("[tls]\ncert_file = {:?}\nkey_file = \"nowhere.pem\"\n", text(&cert));
    std::fs::write(&path, text).unwrap();
    path
}
