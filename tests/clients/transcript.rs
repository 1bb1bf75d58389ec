//! What a client should have received, or has: every publication's position and exact text, a line each.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The lines, and their SHA-256 in hexadecimal digits.
pub(crate) struct Transcript {
    lines: Vec<u8>,
    pub(crate) sha256: String,
}

impl Transcript {
    pub(crate) fn new(lines: Vec<u8>) -> Transcript {
        let sha256 = sha256(&lines);
        Transcript { lines, sha256 }
    }

    /// Fails, and says where the file of what was received first differs, unless the hash is this one's.
    pub(crate) fn assert_same(&self, sha256: &str, received: &Path) {
        if self.sha256 == sha256 {
            return;
        }
        let lines = std::fs::read(received).unwrap_or_default();
        let (expected, got) = first_difference(&self.lines, &lines);
        panic!(
            "{} differs from what was published.\nexpected: {expected}\nreceived: {got}",
            received.display()
        );
    }
}

/// One publication's lines.
pub(crate) fn entry(position: &str, text: &str) -> String {
    format!("{position}\n{text}\n")
}

fn first_difference(expected: &[u8], got: &[u8]) -> (String, String) {
    let mut left = expected.split(|byte| *byte == b'\n');
    let mut right = got.split(|byte| *byte == b'\n');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return ("the same lines".to_owned(), "the same lines, another hash".to_owned()),
            (one, other) if one == other => {}
            (one, other) => return (shown(one), shown(other)),
        }
    }
}

fn shown(line: Option<&[u8]>) -> String {
    line.map_or("(the end)".to_owned(), |line| {
        String::from_utf8_lossy(line).into_owned()
    })
}

/// By `sha256sum`, so that no crate is needed for it.
fn sha256(bytes: &[u8]) -> String {
    let mut process = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum is missing: run scripts/test");
    process
        .stdin
        .take()
        .expect("piped")
        .write_all(bytes)
        .expect("sha256sum reads");
    let output = process.wait_with_output().expect("sha256sum ends");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().next().expect("a hash").to_owned()
}
