//! What `stock_clients` is made of: a server, a proxy that cuts, a publisher, and the clients as child processes.

pub(crate) mod curl;
pub(crate) mod cutting_proxy;
pub(crate) mod payloads;
pub(crate) mod publisher;
pub(crate) mod reader;
pub(crate) mod server;
pub(crate) mod transcript;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// The one channel of these tests.
pub(crate) const CHANNEL: &str = "stock:clients";

const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for `what`, and fails by its name when it does not come.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(PATIENCE, coming).await;
    come.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// An empty folder for the transcripts and logs of one test.
pub(crate) fn scratch_folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("stock_clients")
        .join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old scratch folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("a scratch folder can be made");
    folder
}
