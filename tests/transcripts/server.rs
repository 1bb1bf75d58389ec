//! The real server, as its binary, on a port that the system chose.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::{Failure, PATIENCE};

/// A running server; killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
    /// What it says on standard error, line by line; ends when the process does.
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Server {
    /// Starts it, and reads its address from its start-up block.
    pub(crate) fn start(environment: &[(String, String)]) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command
            .spawn()
            .map_err(|error| format!("the server does not start: {error}"))?;
        let (sender, lines) = channel();
        if let Some(errors) = process.stderr.take() {
            std::thread::spawn(move || forward(errors, &sender));
        }
        let mut server = Self {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            process,
            lines,
            said: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(line) = server.hear(deadline) else {
                return Err(format!("the server did not say its address, but {:#?}", server.said));
            };
            if let Some(address) = address_in(&line) {
                server.address = address;
                return Ok(server);
            }
        }
    }

    /// The next line of its standard error; `None` when it ended, or at the deadline.
    fn hear(&mut self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).ok()?;
        self.said.push(line.clone());
        Some(line)
    }

    /// Sends it a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            ended => Err(format!("kill -s {name}: {ended:?}")),
        }
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Result<Option<i32>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while self.hear(deadline).is_some() {}
        if Instant::now() >= deadline {
            return Err(format!("the server did not end within {} s", PATIENCE.as_secs()));
        }
        let status = self.process.wait();
        status
            .map(|status| status.code())
            .map_err(|error| format!("the server cannot be waited for: {error}"))
    }

    /// What it said so far that no server should say.
    pub(crate) fn panics(&mut self) -> Vec<String> {
        self.said.extend(self.lines.try_iter());
        let panics = self.said.iter().filter(|line| line.contains("panicked at"));
        panics.cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn forward(errors: ChildStderr, lines: &Sender<String>) {
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// `http://127.0.0.1:PORT` anywhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}
