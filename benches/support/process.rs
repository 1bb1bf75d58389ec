//! A server as a process of its own, and what the kernel says of its CPU time and memory.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::bare;
use super::cores::Cores;

const START_PATIENCE: Duration = Duration::from_secs(20);

/// A running server; killed on drop.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// CPU time that a process has used.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CpuTime {
    /// Exact, summed over its threads.
    pub(crate) total_ns: u64,
    /// By the clock's ticks: good for the ratio of the two.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

impl Process {
    /// The server itself, as its binary.
    pub(crate) fn throughline(cores: &Cores) -> io::Result<Process> {
        Process::throughline_with(cores, &[])
    }

    /// The same, with variables of its configuration.
    pub(crate) fn throughline_with(cores: &Cores, variables: &[(&str, String)]) -> io::Result<Process> {
        let mut command = cores.server(env!("CARGO_BIN_EXE_throughline").as_ref());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        unconfigure(&mut command);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Process::start(command)
    }

    /// The bare loop of `write()`: this program again, with a hidden argument.
    pub(crate) fn bare(cores: &Cores) -> io::Result<Process> {
        let mut command = cores.server(env::current_exe()?.as_os_str());
        command.arg(bare::ARGUMENT);
        unconfigure(&mut command);
        Process::start(command)
    }

    fn start(mut command: Command) -> io::Result<Process> {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let errors = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("no standard error"))?;
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::spawn(move || {
            // To its end: a full pipe would stop the server.
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    let _ = sender.try_send(address);
                }
            }
        });
        let address = receiver.recv_timeout(START_PATIENCE);
        let address = address.map_err(|_| io::Error::other("a server did not say its address"));
        // The process is owned before any error, so that it never outlives this one.
        let mut process = Process {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        process.address = address?;
        Ok(process)
    }

    pub(crate) fn cpu_time(&self) -> io::Result<CpuTime> {
        let mut time = CpuTime::default();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            time.total_ns += nth_number(&text, 0)?;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        time.user_ticks = nth_number(after_name, 11)?;
        time.system_ticks = nth_number(after_name, 12)?;
        Ok(time)
    }

    /// User memory: `RssAnon`, in bytes.
    pub(crate) fn memory_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap_or_default();
        Ok(nth_number(line, 0)? * 1024)
    }
}

/// The server as it is, whatever is configured around here.
fn unconfigure(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("THROUGHLINE_")) {
        command.env_remove(name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl CpuTime {
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total_ns: self.total_ns - earlier.total_ns,
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }
}

/// `http://127.0.0.1:PORT` anywhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

fn nth_number(text: &str, index: usize) -> io::Result<u64> {
    let word = text.split_whitespace().nth(index).unwrap_or_default();
    word.parse()
        .map_err(|_| io::Error::other(format!("no number at {index} of {text:?}")))
}
