//! `throughline check`: whether the configuration is well, and what it leads to, without serving.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::ExitCode;

use throughline::config::Config;
use throughline::engine::redis::check::{self as redis, Checked, Finding, Weight};
use throughline::http::HttpClient;
use throughline::server::Tls;
use throughline::session::outgoing::without_secrets;

use super::client::terminal::talk;
use super::configured::Configured;
use super::exit::{Exit, fail};

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    configured: Configured,
    /// Connect to what it names, too: Redis, which is tried with every command that a server needs and asked how it
    /// is set up, and issuers' key sets. What only may lose something is a warning, and ends with 0
    #[arg(long)]
    connect: bool,
}

pub(crate) async fn run(check: Check) -> ExitCode {
    let loaded = match check.configured.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(Exit::Config, error),
    };
    let mut said = Said::default();
    for doubt in loaded.config.doubts() {
        talk(format_args!("warning: {}", loaded.placed(doubt)));
    }
    said.files(&loaded.config);
    if check.connect {
        said.redis(&loaded.config).await;
        said.issuers(&loaded.config).await;
    }
    match said.worst {
        Some(Weight::Fault) => Exit::Config.into(),
        Some(Weight::Unreachable) => Exit::Unavailable.into(),
        Some(Weight::Warning) | None => {
            match loaded.file() {
                Some(path) => talk(format_args!("the configuration is well: {}", path.display())),
                None => talk("the configuration is well: no file, so the defaults and the environment"),
            }
            Exit::Done.into()
        }
    }
}

/// What was said so far.
#[derive(Debug, Default)]
struct Said {
    worst: Option<Weight>,
}

impl Said {
    fn say(&mut self, place: &str, finding: &Finding) {
        let Finding { weight, what, fix } = finding;
        let word = if *weight == Weight::Warning { "warning" } else { "error" };
        talk(format_args!("{word}: {place}: {what}"));
        if !fix.is_empty() {
            let indent = " ".repeat(word.len());
            talk(format_args!("{indent}  fix: {fix}"));
        }
        self.worst = self.worst.max(Some(*weight));
    }

    fn fault(&mut self, place: &str, what: String, fix: &str) {
        let finding = Finding {
            weight: Weight::Fault,
            what,
            fix: fix.to_owned(),
        };
        self.say(place, &finding);
    }

    /// Files that are there only for a server that starts.
    fn files(&mut self, config: &Config) {
        if let (Some(cert_file), Some(key_file)) = (&config.tls.cert_file, &config.tls.key_file)
            && let Err(error) = Tls::load(cert_file, key_file)
        {
            self.fault("tls", error.to_string(), "");
        }
        if let Some(snapshot) = &config.engine.snapshot
            && let Err(why) = try_place(snapshot)
        {
            self.fault(
                "engine.snapshot",
                why,
                "name a file in a folder that is there, and that the server's user may write to",
            );
        }
    }

    async fn redis(&mut self, config: &Config) {
        // A fault of the prefix was found before.
        let Ok(Some(settings)) = config.redis() else { return };
        match redis::check(&settings, config.ack_replicas_max()).await {
            Ok(all) => all.iter().for_each(|checked| self.checked(checked)),
            Err(error) => self.fault("engine.redis.url", error.to_string(), ""),
        }
    }

    fn checked(&mut self, checked: &Checked) {
        let place = format!("Redis at {}", checked.place);
        if let Some(about) = &checked.about {
            talk(format_args!("{place}: {about}"));
        }
        for finding in &checked.findings {
            self.say(&place, finding);
        }
    }

    async fn issuers(&mut self, config: &Config) {
        for (url, found) in config.auth.fetch_keys(&HttpClient::default()).await {
            let url = without_secrets(url);
            match found {
                Ok(0) => self.fault(
                    &url,
                    "no key here can be used".to_owned(),
                    "RS256, ES256 and EdDSA keys can be",
                ),
                Ok(1) => talk(format_args!("{url}: 1 key")),
                Ok(keys) => talk(format_args!("{url}: {keys} keys")),
                Err(why) => self.say(
                    &url,
                    &Finding {
                        weight: Weight::Unreachable,
                        what: format!("no keys can be had: {why}"),
                        fix: "until they can, every token of this issuer is refused; see `jwks_url`".to_owned(),
                    },
                ),
            }
        }
    }
}

/// Whether a file could be written there. What is there stays as it is.
fn try_place(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err(format!("{} is a folder", path.display()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let tried = folder.join(format!(".throughline-check-{}", std::process::id()));
    let opened = OpenOptions::new().write(true).create_new(true).open(&tried);
    opened.map_err(|error| format!("nothing can be written to {}: {error}", folder.display()))?;
    fs::remove_file(&tried).map_err(|error| format!("{} cannot be removed: {error}", tried.display()))
}
