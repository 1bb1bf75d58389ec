//! The golden transcripts of `fixtures/protocol`, replayed over the real server; their language is in the README there.
//!
//! A test replays one folder, all of its files at the same time, each against a server of its own, and names every
//! file and line that failed.

#[path = "transcripts/mod.rs"]
mod player;

use player::coverage::{Words, folders, missing};
use player::{replay_folder, replay_text};
use throughline::protocol::{Code, Push};

/// The folders of `fixtures/protocol`; each has its test.
const FOLDERS: [&str; 11] = [
    "drain",
    "event_stream",
    "history",
    "http",
    "identity",
    "limits",
    "namespaces",
    "poll",
    "presence",
    "publish",
    "websocket",
];

/// Codes that no client can provoke over the wire, and why.
const UNREACHABLE_CODES: [(Code, &str); 3] = [
    (Code::Denied, "no operator can send anybody away yet"),
    (Code::EngineUnavailable, "the memory engine is never away"),
    (
        Code::Overloaded,
        "the memory engine is full only after a million idempotency keys within five minutes",
    ),
];

/// Every code with which a WebSocket is closed today; 1011 stands for an error of our own, which nothing provokes.
const CLOSE_CODES: [&str; 12] = [
    "1000", "1001", "1002", "1003", "1007", "1009", "1012", "1013", "4400", "4401", "4403", "4429",
];

/// The commands that are carried out, and some that are not.
const COMMANDS: [&str; 8] = [
    "subscribe",
    "unsubscribe",
    "publish",
    "history",
    "ping",
    "presence",
    "refresh",
    "nonsense",
];

#[test]
fn drain() {
    replay_folder("drain");
}

#[test]
fn event_stream() {
    replay_folder("event_stream");
}

#[test]
fn history() {
    replay_folder("history");
}

#[test]
fn http() {
    replay_folder("http");
}

#[test]
fn limits() {
    replay_folder("limits");
}

#[test]
fn namespaces() {
    replay_folder("namespaces");
}

#[test]
fn identity() {
    replay_folder("identity");
}

#[test]
fn poll() {
    replay_folder("poll");
}

#[test]
fn presence() {
    replay_folder("presence");
}

#[test]
fn publish() {
    replay_folder("publish");
}

#[test]
fn websocket() {
    replay_folder("websocket");
}

#[test]
fn what_goes_wrong_names_its_line() {
    let ends_well = "http GET /livez\n<raw ok<*>\n";
    replay_text("right", ends_well).unwrap();
    for (name, wrong, line) in [
        ("status", "\n# Health.\nhttp GET /livez 404\n", 3),
        ("body", "http GET /livez\n<raw no\n", 2),
        ("header", "http GET /livez\n= content-type: image/png\n", 2),
        ("push", "ws /v1/ws\n< {\"type\":\"welcome\"}\n", 2),
        ("connection", "other< {}\n", 1),
        ("language", "http GET /livez\nsleep 1\n", 2),
    ] {
        let failure = replay_text(name, wrong).unwrap_err();
        assert!(failure.contains(&format!("{name}.txt:{line}:")), "{failure}");
    }
}

#[test]
fn every_folder_has_its_test() {
    assert_eq!(folders(), FOLDERS);
}

#[test]
fn every_word_that_can_be_provoked_is_in_a_transcript() {
    let words = Words::of_all_transcripts();
    let is_reachable = |code: &Code| UNREACHABLE_CODES.iter().all(|(unreachable, _)| unreachable != code);
    let reachable = Code::ALL.into_iter().filter(is_reachable).map(Code::as_str);
    assert_eq!(missing(reachable, &words.codes), [""; 0], "error codes");
    assert_eq!(missing(Push::KINDS, &words.pushes), [""; 0], "pushes and replies");
    assert_eq!(missing(CLOSE_CODES, &words.closes), [""; 0], "close codes");
    assert_eq!(missing(COMMANDS, &words.commands), [""; 0], "commands");
    assert_eq!(
        missing(["fresh", "complete", "gap"], &words.resumes),
        [""; 0],
        "values of `resume`"
    );
}
