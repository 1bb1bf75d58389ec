//! The real server, as its binary, on a port that the system chose.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::within;

/// A running server; killed on drop.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _process: Child,
}

impl Server {
    /// Starts it, and reads its address from its start-up block. Its standard error goes on into `folder/server.log`.
    pub(crate) async fn start(folder: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
        // Only this test's configuration, whatever is configured around here.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("THROUGHLINE_WINDOW__COUNT", "20000")
            .env("THROUGHLINE_WINDOW__BYTES", "67108864")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut log = File::create(folder.join("server.log")).expect("a log can be made");
        let address = within("the server's address", async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .expect("text")
                    .expect("the server ended before it said its address");
                keep(&mut log, &line);
                if let Some(address) = address_in(&line) {
                    return address;
                }
            }
        })
        .await;
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&mut log, &line);
            }
        });
        Server {
            address,
            _process: process,
        }
    }
}

fn keep(log: &mut File, line: &str) {
    std::io::Write::write_all(log, format!("{line}\n").as_bytes()).expect("a log can be written");
}

/// `http://127.0.0.1:PORT` anywhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}
