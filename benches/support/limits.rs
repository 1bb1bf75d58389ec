//! The limit of open files, raised without `unsafe`: a shell raises its own and becomes this program again.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes sure that this many files may be open here and in child processes, which inherit the limit.
/// Where the soft limit is too low, the program starts again from `main`.
pub(crate) fn raise_open_files(needed: usize) -> io::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap_or_default();
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        let advice = "lower THROUGHLINE_BENCH_IDLE, or raise the hard limit";
        return Err(io::Error::other(format!(
            "{needed} open files are needed, {hard} are allowed: {advice}"
        )));
    }
    let again = r#"ulimit -Sn "$(ulimit -Hn)" && exec "$0" "$@""#;
    Err(Command::new("bash")
        .args(["-c", again])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .exec())
}
