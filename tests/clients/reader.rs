//! A stock client at work: a child process that reports when it is subscribed, when it resumed, and what it received.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::publisher::COUNT;
use super::transcript::Transcript;
use super::{CHANNEL, curl, within};

/// Which client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stock {
    Curl,
    NpmWs,
    NpmEventSource,
    PythonWebsockets,
}

/// What a client says on its way.
#[derive(Debug)]
pub(crate) enum Report {
    Ready,
    Resumed,
    /// All publications were received; the SHA-256 of their positions and texts.
    Done(String),
    Failed(String),
}

/// One running client; killed on drop.
pub(crate) struct Reader {
    reports: mpsc::Receiver<Report>,
    transcript: PathBuf,
    resumed: usize,
    _client: JoinSet<()>,
}

impl Stock {
    pub(crate) const ALL: [Stock; 4] = [
        Stock::Curl,
        Stock::NpmWs,
        Stock::NpmEventSource,
        Stock::PythonWebsockets,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stock::Curl => "curl",
            Stock::NpmWs => "npm_ws",
            Stock::NpmEventSource => "npm_eventsource",
            Stock::PythonWebsockets => "python_websockets",
        }
    }

    /// The command that runs the client's script. None for curl, which needs none.
    fn script(self) -> Option<Command> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let (program, script, needed) = match self {
            Stock::Curl => return None,
            Stock::NpmWs => (PathBuf::from("node"), "ws.mjs", folder.join("node_modules/ws")),
            Stock::NpmEventSource => (
                PathBuf::from("node"),
                "eventsource.mjs",
                folder.join("node_modules/eventsource"),
            ),
            Stock::PythonWebsockets => (python(), "websockets_client.py", python()),
        };
        assert!(needed.exists(), "{} is missing: run scripts/test", needed.display());
        let mut command = Command::new(program);
        command.arg(folder.join(script));
        Some(command)
    }
}

/// The interpreter that has `websockets`: the one that `scripts/test` names, else the one that it made.
fn python() -> PathBuf {
    std::env::var_os("THROUGHLINE_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/python"),
        PathBuf::from,
    )
}

impl Reader {
    /// Starts the client; its transcript and its standard error become files whose names begin with `files`.
    pub(crate) fn start(stock: Stock, server: SocketAddr, files: &Path) -> Reader {
        let transcript = files.with_extension("transcript");
        let errors = files.with_extension("stderr");
        let (sender, reports) = mpsc::channel(16);
        let mut client = JoinSet::new();
        if let Some(mut script) = stock.script() {
            script
                .args([&format!("http://{server}"), CHANNEL, &COUNT.to_string()])
                .arg(&transcript);
            client.spawn(follow(script, errors, sender));
        } else {
            client.spawn(curl::follow(server, transcript.clone(), errors, sender));
        }
        Reader {
            reports,
            transcript,
            resumed: 0,
            _client: client,
        }
    }

    /// Waits until the client is subscribed.
    pub(crate) async fn ready(&mut self) {
        let report = self.next().await;
        assert!(
            matches!(report, Report::Ready),
            "{report:?} before the client was ready"
        );
    }

    /// Waits until the client, cut off, has resumed.
    pub(crate) async fn resumed(&mut self) {
        let report = self.next().await;
        assert!(
            matches!(report, Report::Resumed),
            "{report:?} where the client should have resumed"
        );
        self.resumed += 1;
    }

    /// Waits until the client has received all, byte for byte; how often it resumed.
    pub(crate) async fn received(mut self, expected: &Transcript) -> usize {
        loop {
            match self.next().await {
                Report::Resumed => self.resumed += 1,
                Report::Done(sha256) => {
                    expected.assert_same(&sha256, &self.transcript);
                    return self.resumed;
                }
                report @ (Report::Ready | Report::Failed(_)) => panic!("{report:?} before the client was done"),
            }
        }
    }

    async fn next(&mut self) -> Report {
        match within("the client's next report", self.reports.recv()).await {
            Some(Report::Failed(reason)) => panic!("the client failed: {reason}"),
            Some(report) => report,
            None => panic!("the client ended without a report"),
        }
    }
}

/// Runs a script and passes on what it reports.
async fn follow(mut script: Command, errors: PathBuf, reports: mpsc::Sender<Report>) {
    let log = File::create(&errors).expect("a log can be made");
    let mut client = child(&mut script, log)
        .spawn()
        .unwrap_or_else(|error| missing(&script, &error));
    let mut lines = BufReader::new(client.stdout.take().expect("piped")).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let report = match line.split_once(' ') {
            None if line == "READY" => Report::Ready,
            None if line == "RESUMED" => Report::Resumed,
            Some(("DONE", sha256)) => Report::Done(sha256.to_owned()),
            _ => Report::Failed(format!("it said {line:?}")),
        };
        let _ = reports.send(report).await;
    }
    let status = client.wait().await.expect("a child ends");
    if !status.success() {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        let _ = reports.send(Report::Failed(format!("{status}: {said}"))).await;
    }
}

/// As every client is run: without standard input, past any proxy, killed on drop.
pub(crate) fn child(command: &mut Command, log: File) -> &mut Command {
    command.env("no_proxy", "127.0.0.1").env("NO_PROXY", "127.0.0.1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
}

/// Fails because a tool is not installed.
pub(crate) fn missing(command: &Command, error: &std::io::Error) -> ! {
    panic!(
        "{} is missing ({error}): run scripts/test",
        command.as_std().get_program().display()
    );
}
