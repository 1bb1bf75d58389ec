//! The real server as a service manager runs it, on a socket that the test keeps or on one of its own; killed on drop.
#![allow(clippy::print_stdout, reason = "a test that fails says what the server said")]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::deadline::within;

/// What it is started with.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// A socket that is handed over to it; absent: it binds a port of its own.
    pub(crate) handed_over: Option<OwnedFd>,
    pub(crate) snapshot: Option<&'a Path>,
    /// Configuration, and whatever else its environment says.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    lines: watch::Receiver<usize>,
}

impl Service {
    pub(crate) fn start(start: Start<'_>) -> Self {
        let mut command = Command::new("sh");
        // Only this test's configuration, whatever is configured around here.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        let script = if let Some(socket) = start.handed_over {
            command.stdin(Stdio::from(socket)).env("LISTEN_FDS", "1");
            "exec 3<&0 0</dev/null; LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" serve"
        } else {
            command.stdin(Stdio::null());
            "exec \"$0\" serve --listen 127.0.0.1:0"
        };
        if let Some(file) = start.snapshot {
            command.env("THROUGHLINE_ENGINE__SNAPSHOT", file);
        }
        let mut child = command
            .args(["-c", script, env!("CARGO_BIN_EXE_throughline")])
            // The start-up block as people see it.
            .env("THROUGHLINE_LOG__FORMAT", "pretty")
            .envs(start.environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's binary starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (more, lines) = watch::channel(0);
        let mut read = BufReader::new(child.stderr.take().expect("piped")).lines();
        let keep = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok(Some(line)) = read.next_line().await {
                keep.lock().expect("nobody panics here").push(line);
                more.send_modify(|lines| *lines += 1);
            }
        });
        Self { child, said, lines }
    }

    /// All that it said on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("nobody panics here").join("\n")
    }

    /// Waits until it has said this.
    pub(crate) async fn says(&mut self, what: &str) {
        let said = Arc::clone(&self.said);
        let has_said = |_: &usize| {
            let said = said.lock().expect("nobody panics here");
            said.iter().any(|line| line.contains(what))
        };
        let has_come = within(what, self.lines.wait_for(has_said)).await.is_ok();
        assert!(has_come, "it ended without {what:?}:\n{}", self.said());
    }

    /// The port of its own, from its start-up block.
    pub(crate) async fn address(&mut self) -> SocketAddr {
        self.says("health").await;
        self.address_said()
    }

    /// The same, where it has been said.
    pub(crate) fn address_said(&self) -> SocketAddr {
        let said = self.said();
        let (_, rest) = said.split_once("http://127.0.0.1:").expect("an address");
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
    }

    /// Sends it a signal: `TERM`, say.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(sent.expect("there is a kill").success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let ended = within("the end of the server", self.child.wait())
            .await
            .expect("a child");
        // What it said last is read to its end.
        while self.lines.changed().await.is_ok() {}
        ended
    }
}

impl Drop for Service {
    /// A test that fails says what the server said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the server said:\n{}", self.said());
        }
    }
}

/// A socket that a test keeps, as a service manager does.
pub(crate) fn kept_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port that is free");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

pub(crate) fn copy_of(socket: &TcpListener) -> OwnedFd {
    socket.try_clone().expect("a descriptor is free").into()
}
