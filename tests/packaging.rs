//! What is shipped: the units as systemd reads them, and, where it is built, the static binary in an empty root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::folder::Folder;

/// The most that `systemd-analyze security` may find, of 100.
const EXPOSURE_MAX: &str = "15";

fn packaging(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file);
    fs::read_to_string(path).unwrap()
}

/// The units in a folder, where the server is the binary that was built here.
fn units(folder: &Folder) -> [PathBuf; 2] {
    let built = env!("CARGO_BIN_EXE_throughline");
    ["throughline.service", "throughline.socket"].map(|name| {
        let path = folder.path().join(name);
        fs::write(&path, packaging(name).replace("/usr/bin/throughline", built)).unwrap();
        path
    })
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn systemd_understands_the_units() {
    let folder = Folder::new("units");
    let said = succeeds(Command::new("systemd-analyze").arg("verify").args(units(&folder)));
    assert!(!said.contains("throughline."), "{said}");
}

#[test]
fn the_service_is_shut_in() {
    let folder = Folder::new("units");
    let [service, _] = units(&folder);
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let args = ["security", "--offline=yes", "--no-pager", &threshold];
    succeeds(Command::new("systemd-analyze").args(args).arg(service));
}

/// Nothing in the root but the binary and an empty folder for its snapshot, and nobody's rights: as in the image.
#[test]
fn the_static_binary_serves_drains_and_goes_on_in_an_empty_root() {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/try-empty-root");
    let said = succeeds(Command::new(script).arg("dev"));
    assert!(said.contains("serves, drains and goes on"), "{said}");
}
