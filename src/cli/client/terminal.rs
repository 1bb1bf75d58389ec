//! What is said to whoever started us: answers on stdout, talk on stderr.

use std::fmt::Display;
use std::future;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::ExitCode;

use tokio::io::Interest;
use tokio::net::unix::pipe;

use super::super::exit::Exit;
use super::failure::Failure;

/// Writes a line to stdout.
///
/// Breaks off with the exit code where that is no longer possible: quietly and well if nobody reads any more.
pub(crate) fn print(line: &str) -> ControlFlow<ExitCode> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ControlFlow::Break(ExitCode::SUCCESS),
        Err(error) => {
            talk(format_args!("error: cannot write to stdout: {error}"));
            ControlFlow::Break(Exit::Io.into())
        }
    }
}

/// Ready when whoever read stdout has gone: else a pipe's end would be noticed only at the next line.
pub(crate) async fn nobody_reads() {
    // A file cannot be watched, and nobody goes away from it. Nothing is written by this handle, which leaves stdout
    // as it is.
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    if let Ok(stdout) = stdout.and_then(pipe::Sender::from_owned_fd_unchecked)
        && stdout.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    future::pending::<()>().await;
}

/// Writes a line to stderr. If that fails there is nobody left to tell.
pub(crate) fn talk(line: impl Display) {
    let line = visible(&line.to_string());
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says which argument makes no sense, and gives the exit code for it.
pub(crate) fn reject(argument: &str, why: &str) -> ExitCode {
    talk(format_args!("error: {argument}: {why}"));
    Exit::Usage.into()
}

/// Says why it ends here, and gives the exit code for it.
pub(crate) fn give_up(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Violation(_) => talk(failure),
        Failure::Unreachable { .. } | Failure::Insecure { .. } | Failure::Refused(_) | Failure::Broken(_) => {
            talk(format_args!("error: {failure}"));
        }
    }
    failure.exit().into()
}

/// Control characters made visible: a server's words may not steer the terminal.
fn visible(text: &str) -> String {
    escape(text, char::is_control)
}

/// One word, whatever the text: for a field that ends at a space.
pub(crate) fn word(text: &str) -> String {
    escape(text, |character| character.is_control() || character.is_whitespace())
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_server_do_not_steer_the_terminal() {
        assert_eq!(visible("a b\u{1b}[2J\n"), "a b\\u{1b}[2J\\u{a}");
    }

    #[test]
    fn a_word_has_no_space() {
        assert_eq!(word("like"), "like");
        assert_eq!(word("two words"), "two\\u{20}words");
    }
}
