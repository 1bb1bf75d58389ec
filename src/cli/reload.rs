//! The configuration, read again while the server runs: all of it that may change changes, or nothing does.

use std::sync::Arc;

use throughline::config::{Address, Config, ConfigError, Fault, Loaded, is_taken_at_once};
use throughline::http::HttpClient;
use throughline::server::Tls;
use throughline::session::identity::FetchKeys;
use throughline::{Edge, Terms};

use super::configured::Configured;
use super::service_manager;
use crate::telemetry::Filter;

/// What it takes to read the configuration again.
pub(crate) struct Reload {
    /// Where it comes from.
    pub(crate) configured: Configured,
    /// The one that the server has begun with: what cannot change is still as it says.
    pub(crate) begun: Loaded<Config>,
    /// The one that holds.
    pub(crate) holds: Loaded<Config>,
    /// Where the server listens, which a change must not open to strangers.
    pub(crate) addresses: Vec<Address>,
    pub(crate) edge: Edge,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) filter: Filter,
}

impl Reload {
    /// Reads everything again, and says in the log and to the service manager what came of it.
    pub(crate) async fn again(&mut self) {
        service_manager::is_reloading();
        let metrics = self.edge.node().metrics();
        match self.read().await {
            Ok((loaded, terms)) => {
                metrics.note_config_applied();
                if let Some(tls) = &self.tls {
                    tls.reload_and_tell();
                }
                self.apply(loaded, terms);
                service_manager::has_reloaded("The configuration was read again.");
            }
            Err(error) => {
                metrics.note_config_refused();
                for fault in error.faults() {
                    tracing::error!("{fault}");
                }
                let count = error.faults().len();
                tracing::error!(
                    faults = count,
                    "the configuration stays as it was, for the one that was read is wrong"
                );
                service_manager::has_reloaded("The configuration stays as it was: what was read is wrong.");
            }
        }
    }

    /// Reads and checks it, files with keys too, and changes nothing.
    async fn read(&self) -> Result<(Loaded<Config>, Terms), ConfigError> {
        let (configured, addresses) = (self.configured.clone(), self.addresses.clone());
        let is_guarded = self.holds.config.is_guarded();
        let reading = tokio::task::spawn_blocking(move || {
            let openness = configured.openness();
            let loaded = configured.load_but_addresses()?;
            if is_guarded && !loaded.config.is_guarded() {
                // Behind a proxy strangers reach a loopback address, too; and a file that is empty or gone for a moment
                // says the same.
                let why = "the server is guarded, and with neither [auth] nor [hooks] it would be open to whoever comes; \
                           to open it, start it anew";
                return Err(loaded.placed(Fault::of_key("auth", why.to_owned())).into());
            }
            for address in &addresses {
                address
                    .check(loaded.config.openness(openness))
                    .map_err(|fault| loaded.placed(fault))?;
            }
            let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
            let terms = loaded
                .config
                .terms(&fetch, &addresses)
                .map_err(|fault| loaded.placed(fault))?;
            Ok((loaded, terms))
        });
        match reading.await {
            Ok(read) => read,
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }

    fn apply(&mut self, loaded: Loaded<Config>, terms: Terms) {
        let changed = loaded.changed_from(&self.holds);
        let taken: Vec<_> = changed.into_iter().filter(|key| is_taken_at_once(key)).collect();
        let needs_restart = |key: &String| !is_taken_at_once(key);
        let left: Vec<_> = loaded
            .changed_from(&self.begun)
            .into_iter()
            .filter(needs_restart)
            .collect();
        // What the app said before is forgotten with it, so only for something else.
        let is_of_hooks = |key: &String| key.starts_with("hooks.") || key == "limits.publication_bytes_max";
        let hooks = taken.iter().any(is_of_hooks).then(|| loaded.config.hooks());
        let (before, after) = match hooks {
            Some(Some(hooks)) => (Some(hooks), false),
            Some(None) => (None, true),
            None => (None, false),
        };
        // Guards come before those that they follow go: at no moment is it open.
        if before.is_some() {
            self.edge.set_hooks(before);
        }
        // Files that it names may have changed where it has not.
        let files = other_files(&loaded.config, &terms, &self.edge);
        let sessions_ended = self.edge.apply(terms);
        if after {
            self.edge.set_hooks(None);
        }
        if taken.iter().any(|key| key == "log.level") {
            self.filter.set(loaded.config.log.level.as_str());
        }
        let shown: Vec<_> = taken.into_iter().chain(files).collect();
        let shown = if shown.is_empty() {
            "nothing".to_owned()
        } else {
            shown.join(", ")
        };
        tracing::info!(changed = shown, sessions_ended, "the configuration was read again");
        if !left.is_empty() {
            tracing::warn!(keys = left.join(", "), "these keys hold after a restart only");
        }
        self.holds = loaded;
    }
}

/// The keys that name a file with other keys in it than before.
fn other_files(config: &Config, terms: &Terms, edge: &Edge) -> Vec<String> {
    let before = edge.node().authority();
    let others = match (&terms.authority, &before) {
        (Some(authority), Some(before)) => authority.other_keys_than(before),
        _ => Vec::new(),
    };
    let file = |at: usize| Some(format!("the file of {}", config.auth.file_key(at)?));
    others.into_iter().filter_map(file).collect()
}
