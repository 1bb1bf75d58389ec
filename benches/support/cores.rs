//! Which cores the servers run on, and which the subscribers. By `taskset`, so that no `unsafe` is needed.

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
    /// Every core for both, as far as this process is allowed to.
    pub(crate) fn shared() -> io::Result<Cores> {
        let allowed = list(&allowed()?);
        Ok(Cores {
            servers: allowed.clone(),
            subscribers: allowed,
        })
    }

    /// One core for a server, all others for the subscribers. None if there is one core only.
    pub(crate) fn apart() -> io::Result<Option<Cores>> {
        Ok(match &allowed()?[..] {
            [first, others @ ..] if !others.is_empty() => Some(Cores {
                servers: list(&[*first]),
                subscribers: list(others),
            }),
            _ => None,
        })
    }

    /// A command that will run on the servers' cores.
    pub(crate) fn server(&self, program: &OsStr) -> Command {
        let mut command = Command::new("taskset");
        command.arg("--cpu-list").arg(&self.servers).arg(program);
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

/// The cores that this process may use, before it moves.
fn allowed() -> io::Result<Vec<usize>> {
    // The parent was not moved: cargo, or the shell.
    let status = fs::read_to_string(format!("/proc/{}/status", std::os::unix::process::parent_id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = line.unwrap_or_default().trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parsed = first.parse().and_then(|first: usize| Ok(first..=last.parse()?));
        parsed.map_err(|error| io::Error::other(format!("no list of cores: {line:?}: {error}")))
    });
    Ok(ranges.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
