//! The law of the house: what every file must keep, checked by reading the files.

#![expect(clippy::unwrap_used, reason = "in a test, what is not as it should be is a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use throughline::config::{Connections, InputLimits};
use throughline::protocol::{Code, Ending, Problem, Push};

/// The most lines of code in a file, before its tests.
const FILE_LINES_MAX: usize = 400;

/// Modules by floor. Each may import from lower floors only, and never from a neighbour.
const FLOORS: [(&str, u8); 14] = [
    ("telemetry", 0),
    ("metrics", 0),
    ("delivery", 1),
    ("engine", 2),
    ("protocol", 2),
    ("session", 3),
    ("http", 4),
    ("transport", 5),
    ("api", 5),
    ("edge", 6),
    ("config", 7),
    ("server", 8),
    ("cli", 9),
    ("main", 10),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has Rust files");
    found
}

fn no_findings(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn code_before_tests(text: &str) -> impl Iterator<Item = &str> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .filter(is_code)
}

#[test]
fn every_file_says_its_idea_in_the_first_line() {
    let findings: Vec<_> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{}: begins without `//! `", path.display()))
        .collect();
    no_findings(&findings);
}

#[test]
fn no_file_holds_two_ideas_worth_of_code() {
    let findings: Vec<_> = rust_files("src")
        .into_iter()
        .map(|(path, text)| (path, code_before_tests(&text).count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines of code", path.display()))
        .collect();
    no_findings(&findings);
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The module of this crate that a path in `src` belongs to.
fn module_of(path: &Path) -> String {
    let below_src = path.strip_prefix("src").unwrap();
    let first = below_src
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a line of code names: `crate::x`, or `throughline::x` in the binary.
fn modules_named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for prefix in ["crate::", "throughline::"] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let words = match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            let word = |text: &str| {
                text.chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect::<String>()
            };
            named.extend(words.into_iter().map(word).filter(|word| !word.is_empty()));
        }
    }
    named
}

#[test]
fn a_module_imports_lower_floors_only() {
    let mut findings = Vec::new();
    for (path, text) in rust_files("src") {
        let own = module_of(&path);
        if own == "lib" {
            continue;
        }
        let Some(floor) = floor_of(&own) else {
            findings.push(format!(
                "{}: the module {own} has no floor in the table",
                path.display()
            ));
            continue;
        };
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for named in modules_named(line).into_iter().filter(|named| *named != own) {
                if floor_of(&named).is_some_and(|other| other >= floor) {
                    findings.push(format!("{}: {} on floor {floor} names {named}", path.display(), own));
                }
            }
        }
    }
    no_findings(&findings);
}

#[test]
fn the_core_knows_no_http_no_redis_no_json_and_no_clock() {
    let strangers = [
        "serde",
        "axum",
        "hyper",
        "redis",
        "tokio::",
        "http::",
        "SystemTime",
        "Instant",
        "getrandom",
        "tracing",
    ];
    let mut findings = Vec::new();
    for (path, text) in rust_files("src/delivery") {
        for line in text.lines().take_while(|line| line.trim() != "#[cfg(test)]") {
            let code = line.split("//").next().unwrap_or_default();
            let found = strangers.iter().filter(|stranger| code.contains(**stranger));
            findings.extend(found.map(|stranger| format!("{}: {stranger} in `{}`", path.display(), line.trim())));
        }
    }
    no_findings(&findings);
}

#[test]
fn a_test_that_is_left_out_says_why() {
    let bare = concat!("#[ign", "ore]");
    let findings: Vec<_> = ["src", "tests"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|(_, text)| text.contains(bare))
        .map(|(path, _)| format!("{}: {bare} without a reason", path.display()))
        .collect();
    no_findings(&findings);
}

#[test]
fn the_protocols_document_has_every_word_of_the_code() {
    let document = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let codes = Code::ALL.map(Code::as_str);
    let commands = [
        "subscribe",
        "unsubscribe",
        "publish",
        "history",
        "presence",
        "refresh",
        "ping",
    ];
    let words = Push::KINDS.iter().chain(&codes).chain(&commands);
    let findings: Vec<_> = words
        .filter(|word| !document.contains(&format!("`{word}`")))
        .map(|word| format!("docs/protocol.md does not have `{word}`"))
        .collect();
    no_findings(&findings);
}

#[test]
fn the_protocols_document_has_every_close_code() {
    let document = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let mut close_codes: Vec<u16> = Code::ALL
        .map(|code| Ending::from(Problem::new(code, "")).close_code)
        .to_vec();
    close_codes.extend([Ending::silent().close_code, 1000, 1002, 1007]);
    let findings: Vec<_> = close_codes
        .into_iter()
        .filter(|code| !document.contains(&code.to_string()))
        .map(|code| format!("docs/protocol.md does not have the close code {code}"))
        .collect();
    no_findings(&findings);
}

/// The names of a section's keys, as `Debug` gives them.
fn keys_of(section: &str, debugged: &str) -> Vec<String> {
    let (_, fields) = debugged.split_once(" { ").unwrap();
    let names = fields.split(", ").filter_map(|field| field.split_once(": "));
    names.map(|(name, _)| format!("`{section}.{name}`")).collect()
}

#[test]
fn the_page_of_limits_has_every_key_that_limits_anything() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut keys = keys_of("limits", &format!("{:?}", InputLimits::default()));
    keys.extend(keys_of("connections", &format!("{:?}", Connections::default())));
    assert!(keys.contains(&"`limits.body_bytes_max`".to_owned()), "{keys:?}");
    let findings: Vec<_> = keys
        .into_iter()
        .filter(|key| !page.contains(&**key))
        .map(|key| format!("docs/limits.md does not have {key}"))
        .collect();
    no_findings(&findings);
}
