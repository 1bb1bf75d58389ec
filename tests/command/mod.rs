//! The real binary, run in a folder of its own and without anybody's configuration.
#![allow(dead_code, reason = "each test uses its own part of this")]

pub(crate) mod proxy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// For anything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// That it ended so, and that its standard error has each of these words.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:#?}");
        }
    }
}

/// A folder that is there for one test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("throughline-command-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command line of the binary, to be run here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments)).await
    }

    /// Runs it with these variables.
    pub(crate) async fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        finish(command).await
    }

    /// Runs it with this on its standard input.
    pub(crate) async fn run_fed(&self, input: &[u8], arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let input = input.to_owned();
        tokio::spawn(async move {
            // A command that ends before it has read all closes the pipe.
            let _ = stdin.write_all(&input).await;
        });
        ended(process).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command) -> Ran {
    ended(command.spawn().unwrap()).await
}

/// Waits for the end of a process.
pub(crate) async fn ended(process: Child) -> Ran {
    let output = within("the command's end", process.wait_with_output()).await.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, coming).await;
    came.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// A running server; killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What it said until its address was known.
    pub(crate) said: String,
    process: Child,
}

impl Server {
    pub(crate) async fn start(folder: &Folder) -> Self {
        Self::start_by(folder.command(&["serve", "--listen", "127.0.0.1:0"])).await
    }

    pub(crate) async fn start_by(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = within("the server's address", async {
            loop {
                let line = lines
                    .next_line()
                    .await
                    .unwrap()
                    .unwrap_or_else(|| panic!("it ended: {said}"));
                said.push_str(&line);
                said.push('\n');
                if let Some(address) = address_in(&line) {
                    return address;
                }
            }
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { address, said, process }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ctrl-c; and how it ended.
    pub(crate) async fn interrupt(mut self) -> Option<i32> {
        interrupt(&self.process).await;
        within("the server's end", self.process.wait()).await.unwrap().code()
    }
}

/// Sends a process what ctrl-c sends.
pub(crate) async fn interrupt(process: &Child) {
    let id = process.id().unwrap().to_string();
    let sent = Command::new("sh").args(["-c", "kill -INT \"$0\"", &id]).status().await;
    assert!(sent.unwrap().success());
}

/// `http://127.0.0.1:PORT` anywhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// Reads one line of a process's standard output.
pub(crate) async fn first_line(process: &mut Child) -> String {
    let stdout = process.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    within("a line", async {
        while line.last() != Some(&b'\n') {
            line.push(stdout.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(line).unwrap()
}
