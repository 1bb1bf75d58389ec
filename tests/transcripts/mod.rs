//! What replays a transcript: reads its lines, starts a server, speaks and listens on bare sockets.

pub(crate) mod coverage;
mod event_stream;
mod frames;
mod http;
mod pattern;
mod peer;
mod replay;
mod script;
mod server;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything that a transcript waits for may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What went wrong, in words.
type Failure = String;

/// With this variable, only the transcripts are replayed whose path contains its value.
const ONLY: &str = "THROUGHLINE_TRANSCRIPT";

/// Replays every transcript of a folder of `fixtures/protocol`, and fails by the names of all that failed.
pub(crate) fn replay_folder(folder: &str) {
    let mut paths = files_in(&root().join(folder));
    assert!(!paths.is_empty(), "there is no transcript in {folder}");
    if let Ok(only) = std::env::var(ONLY) {
        paths.retain(|path| shown_path(path).contains(&only));
    }
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| replay::replay_file(path)))
            .collect();
        let ended = running.into_iter().map(|replay| match replay.join() {
            Ok(ended) => ended,
            Err(_) => Err("the replay itself broke, as said above".to_owned()),
        });
        ended.filter_map(Result::err).collect()
    });
    let (failed, all) = (failures.len(), paths.len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} transcripts failed\n\n{}",
        failures.join("\n\n")
    );
}

/// Replays a transcript that stands in no file of `fixtures/protocol`.
pub(crate) fn replay_text(name: &str, text: &str) -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transcripts");
    let path = folder.join(name).with_extension("txt");
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    replay::replay_file(&path)
}

/// `fixtures/protocol`.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/protocol")
}

/// The transcripts of a folder, by name.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths = entries(folder);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path as it is named in a failure.
fn shown_path(path: &Path) -> String {
    let short = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
    short.display().to_string()
}
