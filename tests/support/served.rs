//! The real server as a process of its own, which can be ended in good order or killed.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::deadline::within;

/// A running server; killed on drop.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    process: Child,
    /// What it said until it told its address.
    began: String,
    said: Arc<Mutex<String>>,
}

impl Served {
    /// What it has said on its standard error since it told its address.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// All that it has said on its standard error.
    pub(crate) fn said_from_the_start(&self) -> String {
        format!("{}{}", self.began, self.said())
    }

    /// Starts it with these variables and no others of its own, and reads its address from its start-up block.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut began = String::new();
        let address = within("the server's address", async {
            loop {
                let line = lines.next_line().await.expect("text");
                let line = line.expect("the server ended before it said its address");
                began.push_str(&line);
                began.push('\n');
                if let Some(address) = address_in(&line) {
                    return address;
                }
            }
        })
        .await;
        // What else it says must not fill the pipe.
        let said = Arc::new(Mutex::new(String::new()));
        let saying = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut said = saying.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self {
            address,
            process,
            began,
            said,
        }
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        let pid = self.process.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(told.unwrap().success());
        let ended = within("the end of the server", self.process.wait()).await;
        assert!(ended.unwrap().success());
    }
}

/// `http://127.0.0.1:PORT` anywhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}
