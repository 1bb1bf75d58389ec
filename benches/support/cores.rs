//! Which cores the servers run on, and which the subscribers. By `taskset` and `setpriv`, so that no `unsafe` is needed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::process::{Command, Stdio};

/// Two lists of cores, as the kernel writes them: `0,2-3`.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    servers: String,
    subscribers: String,
}

impl Cores {
    /// All for both.
    pub(crate) fn shared(all: &[usize]) -> Cores {
        Cores {
            servers: list(all),
            subscribers: list(all),
        }
    }

    /// One core for a server, the others for the subscribers. None if there is one only.
    pub(crate) fn apart(all: &[usize]) -> Option<Cores> {
        let (first, others) = all.split_first()?;
        (!others.is_empty()).then(|| Cores {
            servers: list(&[*first]),
            subscribers: list(others),
        })
    }

    /// A command that will run on the servers' cores, and not outlive this process, however that ends.
    pub(crate) fn server(&self, program: &OsStr) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &self.servers]);
        command.arg(program);
        command
    }

    /// Moves this process to the subscribers' cores.
    pub(crate) fn move_here(&self) -> io::Result<()> {
        let moved = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &self.subscribers])
            .arg(std::process::id().to_string())
            .stdout(Stdio::null())
            .status()?;
        if moved.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("taskset failed: {moved}")))
        }
    }
}

/// The cores that this process may use.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for range in line.unwrap_or_default().trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse()) else {
            return Err(io::Error::other(format!("no list of cores: {line:?}")));
        };
        cores.extend(first..=last);
    }
    Ok(cores)
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
