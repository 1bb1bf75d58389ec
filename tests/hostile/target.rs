//! The server that is attacked: a process of its own, which must serve on and whose memory is looked at.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::deadline::within;
use crate::support::http::{self, Head};
use crate::support::link::{Link, Receive};
use crate::support::websocket::WebSocket;

/// How much more memory one attack by one client may leave behind or hold: what `docs/limits.md` allows for the
/// connection that costs most, and as much again for what the allocator keeps.
pub(crate) const GROWTH_KIB_MAX: u64 = 24 * 1024;

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    process: Child,
    before_kib: u64,
}

/// What was answered to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) bytes: usize,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(&self, status: u16, code: &str) -> &Self {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert!(
            self.bytes < 4096,
            "what was sent is not sent back: {} bytes",
            self.bytes
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, what: &str) {
        let detail = self.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(what), "{detail:?} does not say {what:?}");
    }
}

impl Target {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = within("the server's address", async {
            loop {
                let line = lines.next_line().await.expect("text").expect("it has not ended");
                if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    return SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
                }
            }
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut target = Self {
            address,
            process,
            before_kib: 0,
        };
        // What the first requests and connections make is not the attack's.
        for _ in 0..50 {
            target.serve_all_transports().await;
        }
        target.before_kib = target.memory_kib();
        target
    }

    /// Anonymous resident memory.
    fn memory_kib(&self) -> u64 {
        let id = self.process.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        kib.expect("the kernel says RssAnon in kB")
    }

    /// How many sockets it has open.
    pub(crate) fn sockets(&self) -> usize {
        let id = self.process.id().expect("it runs");
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
        let is_socket = |file: &std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        };
        files.filter_map(Result::ok).filter(is_socket).count()
    }

    /// How much more it holds than before the attack.
    pub(crate) fn growth_kib(&self) -> u64 {
        self.memory_kib().saturating_sub(self.before_kib)
    }

    /// One request, of whatever bytes, and its answer.
    pub(crate) async fn answer(&self, request: &[u8]) -> Answer {
        let mut link = self.link().await;
        // A server that has heard enough may close while more is being sent.
        let _ = link.send(request).await;
        answer(&mut link).await
    }

    pub(crate) async fn publish(&self, body: &str) -> Answer {
        self.answer(&http::post("/v1/publish", &[], body.as_bytes())).await
    }

    pub(crate) async fn link(&self) -> Link {
        Link::connect(self.address, Receive::Usual).await.expect("a connection")
    }

    pub(crate) async fn websocket(&self, query: &[(&str, &str)]) -> WebSocket {
        let socket = WebSocket::open(self.address, Receive::Usual, query).await;
        socket.expect("a WebSocket")
    }

    async fn serve_all_transports(&self) {
        let published = self.publish(r#"{"channel":"probe","data":"alive"}"#).await;
        assert_eq!(published.status, 200, "{published:?}");
        let polled = self
            .answer(&http::get("/v1/poll?channel=probe&since=last:1", &[]))
            .await;
        assert_eq!(polled.body["pushes"][1]["data"], "alive", "{polled:?}");
        let mut socket = self.websocket(&[("channel", "probe"), ("since", "last:1")]).await;
        while within("a publication", socket.push()).await.expect("a push").kind() != "publication" {}
        socket.close().await.expect("a close in good order");
        let stream = self.answer(&http::get("/v1/sse?channel=$", &[])).await;
        stream.is(400, "bad_channel");
    }

    /// After the attack: everything is answered, and memory is within its bound.
    pub(crate) async fn is_unharmed(&mut self) {
        self.is_unharmed_within(GROWTH_KIB_MAX).await;
    }

    /// The same after many at once, for each of which the allocator may keep what it cost.
    pub(crate) async fn is_unharmed_within(&mut self, growth_kib_max: u64) {
        within("the server after the attack", self.serve_all_transports()).await;
        assert!(self.process.try_wait().expect("it can be asked").is_none(), "it runs");
        let growth = self.growth_kib();
        assert!(
            growth <= growth_kib_max,
            "{growth} KiB more than before; at most {growth_kib_max}"
        );
    }
}

/// Reads one answer; interim ones (100) aside.
pub(crate) async fn answer(link: &mut Link) -> Answer {
    within("an answer", async {
        loop {
            let head = Head::read(link)
                .await
                .expect("a head")
                .expect("an answer before the end");
            if head.status == 100 {
                continue;
            }
            let body = head.body().expect("a length").read_to_end(link).await.expect("a body");
            return Answer {
                status: head.status,
                bytes: body.len(),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            };
        }
    })
    .await
}

/// Waits until the server has closed the connection, in whatever way; says what came before.
pub(crate) async fn closed(link: &mut Link) -> Vec<u8> {
    within("the end of the connection", async {
        while matches!(link.read().await, Ok(true)) {}
    })
    .await;
    std::mem::take(&mut link.input)
}
