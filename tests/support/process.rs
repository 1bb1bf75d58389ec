//! The server as a process of its own, with the configuration that a test gives it.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::deadline::within;

/// A running server; killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    /// What it goes on to say. It is kept open, so that it can.
    _said: tokio::io::Lines<BufReader<ChildStderr>>,
}

/// The binary, with nobody else's configuration, under whatever `before` says.
pub(crate) fn command(before: &[&str], arguments: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_throughline");
    let words: Vec<&str> = before.iter().chain(&[binary]).chain(arguments).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

impl Process {
    /// Starts it; it must listen on a TCP port of 127.0.0.1.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = within("the server's address", async {
            loop {
                let line = said
                    .next_line()
                    .await
                    .expect("text")
                    .expect("it ended without an address");
                if let Some((_, rest)) = line.split_once("://127.0.0.1:") {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    return SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
                }
            }
        })
        .await;
        Self {
            address,
            child,
            _said: said,
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill").success());
    }
}

/// Runs a program to its end.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let ran = within(program, command.output()).await;
    ran.unwrap_or_else(|error| panic!("{program} is missing ({error}): run scripts/test"))
}

/// What it wrote to its standard output.
pub(crate) async fn said(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}
